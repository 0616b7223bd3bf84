"""How long a job will take: its steps, and the time of a few of them, measured here and now."""

import tempfile
from pathlib import Path
from typing import Any

import pretrain_mlm
import train_multitask
from minbert.cli import parse_given
from minbert.printable import silence
from minbert.run.dry_run import Forecast, forecast, forecast_mlm, set_up_to_measure
from minbert.run.rundir import with_task_file
from minbert.task.dev_rows import draw_dev_rows
from minbert.task.task import Tasks
from tasks import TASKS

SCRIPTS = {"pretrain_mlm": pretrain_mlm, "train_multitask": train_multitask}


def resolved(script: str, argv: list[str]) -> tuple[Any, Tasks]:
    """Return the arguments that a script has with these words, and the tasks that it knows."""
    module = SCRIPTS[script]
    given, known = with_task_file(parse_given(module.Args, argv, ""), module.Args, TASKS)
    return module.resolve_arguments(given, known), known


def estimate(script: str, argv: list[str]) -> Forecast:
    """Set the run up in a folder of its own, take a few steps, throw it away, without a word."""
    module = SCRIPTS[script]
    with tempfile.TemporaryDirectory() as folder, silence(True):
        args, known = resolved(script, [*argv, "--quiet"])
        tasks = draw_dev_rows(
            {name: known[name] for name in args.tasks}, Path(args.data_dir), args.model
        )
        if module is pretrain_mlm:
            run = pretrain_mlm.set_up(args, Path(folder), tasks)
            return forecast_mlm(run, pretrain_mlm.train_step)
        run = set_up_to_measure(args, Path(folder), tasks)
        return forecast(run, args, train_multitask.train_step)
