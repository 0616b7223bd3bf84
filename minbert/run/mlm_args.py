"""The arguments of pretrain_mlm.py."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any

from minbert.data.tokenizer import LONGEST, SHORTEST
from minbert.errors import UserError
from minbert.parsers import comma_list, limit_by_task
from minbert.run.common_args import (
    CommonArgs,
    check_accumulate,
    check_tasks,
    data_arg,
    joined_names,
    limits_of,
    resolve_kernels,
    saving_arg,
    tasks_arg,
    training_arg,
)
from minbert.task.task import Tasks


@dataclass(frozen=True)
class Args(CommonArgs):
    """The arguments of pre-training alone, and its own default of --tasks."""

    script = "pretrain_mlm.py"

    tasks: tuple[str, ...] = tasks_arg(
        ("sst", "sts"), "train on the training sentences of these tasks", parse=comma_list
    )
    corpus: tuple[str, ...] = data_arg(
        (), "train on these text files instead", parse=str, nargs="+", metavar="FILE"
    )
    limit: dict[str, int] | None = data_arg(
        None,
        "train on the texts of so many rows of each task: 160 or, by task, quora=16000",
        parse=limit_by_task,
    )
    epochs: int = training_arg(50, "passes over the text", low=1, high=10**6)
    lr: float = training_arg(1e-5, "learning rate", low=0, high=1)
    batch_size: int = training_arg(32, "rows in a batch", low=1, high=10**6)
    max_length: int = data_arg(
        512,
        "longest sequence in tokens; a longer text becomes several",
        low=SHORTEST,
        high=LONGEST,
    )
    mask_rate: float = training_arg(0.15, "share of the tokens to guess", low=0.01, high=0.9)
    whole_word: bool = training_arg(False, "mask all pieces of a word or none", parse=bool)
    held_out: int = data_arg(
        1000, "rows to evaluate on, at most a twentieth; 0: all are trained on", low=0, high=10**7
    )
    keep: str = saving_arg(
        "last",
        "what --model RUN means: the last epoch, as in the paper, or the best on held-out rows",
        choices=["last", "best"],
    )


def resolve_arguments(given: dict[str, Any], tasks: Tasks) -> Args:
    """Return the arguments, checked.

    tasks: all that are known, by name. Raises UserError for what does not go together.
    """
    args = Args(**given)
    check_tasks(args, tasks)
    if args.corpus and (args.tasks != Args.tasks or args.task_file):
        other = "--task-file" if args.task_file else "--tasks"
        raise UserError(f"--corpus and {other}: write one, to train on files or tasks' sentences")
    places = [os.path.realpath(file) for file in args.corpus]
    if again := [
        f for f, place in zip(args.corpus, places, strict=True) if places.count(place) > 1
    ]:
        raise UserError(f"--corpus {again[0]}: given twice")
    if missing := [file for file in args.corpus if not Path(file).is_file()]:
        what = "not a plain file" if Path(missing[0]).exists() else "no such file"
        if Path(missing[0]).is_dir():
            what = "a folder; name its files, as in FOLDER/*.txt"
        raise UserError(f"--corpus {missing[0]}: {what}")
    if args.limit:
        if args.corpus:
            raise UserError("--limit is of the tasks' rows: not with --corpus")
        args = replace(args, limit=limits_of(args.tasks, "limit", args.limit))
    if args.keep == "best" and args.held_out == 0:
        raise UserError("--keep best chooses by the held-out rows: not with --held-out 0")
    check_accumulate(args.accumulate, args.batch_size)
    return resolve_kernels(args, given)


def default_name(args: Args) -> str:
    """Return what a run is called unless --name says otherwise."""
    stems = [Path(file).stem for file in args.corpus] or args.tasks
    return f"mlm-{joined_names(stems)}"


def task_flags(args: Args) -> str:
    """Return the flags by which train_multitask.py trains on the same tasks; "" for the default."""
    task_file = f" --task-file {quote(args.task_file)}" if args.task_file else ""
    is_default = args.tasks == Args.tasks and not task_file  # the file may have more tasks
    return task_file + ("" if is_default else f" --tasks {','.join(args.tasks)}")
