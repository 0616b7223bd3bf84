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
from tasks import TASKS


@dataclass(frozen=True)
class Estimate:
    """Steps and minutes of training; evaluation and saving come on top."""

    steps: int
    minutes: float


def estimate(script: str, argv: list[str]) -> Estimate:
    """Set the run up in a folder of its own, take a few steps, throw it away."""
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):
        module = {"pretrain_mlm": pretrain_mlm, "train_multitask": train_multitask}[script]
        args = module.resolve_arguments(parse_given(module.Args, argv, ""), TASKS)
        tasks = {name: TASKS[name] for name in args.tasks}
        if module is pretrain_mlm:
            run: Any = pretrain_mlm.set_up(args, Path(folder), tasks)
            seconds = seconds_a_step(run, pretrain_mlm.train_step)
            return Estimate(run.steps, run.steps * seconds / 60)
        run = set_up_to_measure(args, train_multitask.set_up, Path(folder), tasks)
        found = forecast(run, args, train_multitask.train_step)
        return Estimate(found.steps, found.minutes)
