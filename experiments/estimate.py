"""How long a job will take: its steps, and the time of a few of them, measured here and now."""

import io
import tempfile
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pretrain_mlm
import train_multitask
from minbert.cli import parse_given
from minbert.run.dry_run import forecast, seconds_a_step, set_up_to_measure
from minbert.run.train_args import resolve_arguments as resolve_multitask


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
            seconds = seconds_a_step(run, pretrain_mlm.train_step)
            return Estimate(run.steps, run.steps * seconds / 60)
        args = resolve_multitask(parse_given(train_multitask.Args, argv, ""))
        run = set_up_to_measure(args, train_multitask.set_up, Path(folder))
        found = forecast(run, args, train_multitask.train_step)
        return Estimate(found.steps, found.minutes)
