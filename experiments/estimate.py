"""How long a job will take: its steps, and the time of a few of them, measured here and now."""

import tempfile
from pathlib import Path
from typing import Any

import pretrain_mlm
import train_multitask
from minbert.cli import parse_given
from minbert.printable import silence
from minbert.run import dry_run
from minbert.run.rundir import open_run, with_task_file
from minbert.task.task import Tasks
from tasks import TASKS

SCRIPTS = {"pretrain_mlm": pretrain_mlm, "train_multitask": train_multitask}


def resolved(script: str, argv: list[str]) -> tuple[Any, Tasks]:
    """Return the arguments that a script has with these words, and the tasks that it knows."""
    module = SCRIPTS[script]
    given, known = with_task_file(parse_given(module.Args, argv, ""), module.Args, TASKS)
    return module.resolve_arguments(given, known), known


def estimate(script: str, argv: list[str]) -> dry_run.Forecast:
    """Return what a script's --dry-run finds, without a word."""
    module = SCRIPTS[script]
    preview = dry_run.preview_mlm if module is pretrain_mlm else dry_run.preview
    given = parse_given(module.Args, [*argv, "--dry-run"], "")
    with tempfile.TemporaryDirectory() as folder, silence(True):
        args, tasks, _ = open_run(
            given, module.Args, TASKS, module.resolve_arguments, module.default_name
        )
        return preview(args, tasks, module.train_step, Path(folder))[1]
