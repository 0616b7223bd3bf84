"""How long a job will take: its steps, and the time of a few of them, measured here and now."""

import io
import tempfile
import time
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pretrain_mlm
import train_multitask
from minbert.training.arguments import parse_given
from tasks.dryrun import seconds_a_step
from tasks.evaluation import encode_features
from tasks.options import FROZEN
from tasks.options import resolve_arguments as resolve_multitask


@dataclass(frozen=True)
class Estimate:
    """Of the training steps; evaluation and saving come on top."""

    steps: int
    minutes: float


def estimate(script: str, argv: list[str]) -> Estimate:
    """Set the run up in a folder of its own, take a few steps, throw it away."""
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):
        if script == "pretrain_mlm":
            given = parse_given(pretrain_mlm.Args, argv, "")
            run: Any = pretrain_mlm.set_up(pretrain_mlm.resolve_arguments(given), Path(folder))
            seconds = seconds_a_step(partial(pretrain_mlm.train_step, run), run.records.flush)
            return Estimate(run.steps, run.steps * seconds / 60)
        args = resolve_multitask(parse_given(train_multitask.Args, argv, ""))
        frozen = args.fine_tune_mode == FROZEN
        run = train_multitask.set_up(replace(args, fine_tune_mode="full-model"), Path(folder))
        if frozen:
            return Estimate(run.plan.steps, _features_minutes(run))
        seconds = seconds_a_step(partial(train_multitask.train_step, run), run.records.flush)
        return Estimate(run.plan.steps, run.plan.steps * seconds / 60)


def _features_minutes(run: Any) -> float:
    """A frozen encoder reads every row once; its heads' steps cost next to nothing."""
    rows = sum(len(split) for part in (run.train, run.dev) for split in part.values())
    started = time.monotonic()
    encode_features(run.model.encoder, run.dev, run.model.encoder.device)
    return (time.monotonic() - started) / sum(map(len, run.dev.values())) * rows / 60
