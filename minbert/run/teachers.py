"""Teachers' outputs on every training row, computed once, before the training (distillation)."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor, from_numpy

from minbert.data.encoded import Splits, limit_rows
from minbert.data.items import item_labels, visible_items
from minbert.errors import UserError
from minbert.files import has_its_hash, remove_unfinished, replaced_file, write_hash
from minbert.inference import MultitaskModel
from minbert.manifest import sha256_of
from minbert.model.multitask import CONFIGS, HEADS
from minbert.run.runlog import say_if_unfinished
from minbert.run.train_args import Args, data_source
from minbert.run_files import (
    TASKS_FILE,
    TEACHER_OUTPUTS,
    command_folder,
    folders_of_run,
    read_arguments,
)
from minbert.task.evaluation import task_outputs
from minbert.task.loading import load_task
from minbert.task.task import Task, Tasks
from minbert.training import distributed
from minbert.training.device import choose_device, choose_precision
from minbert.weights.resolve import resolve, saved_directory

CACHE = ".teachers"  # in --output-dir, as that of ids: for all runs


def teacher_files(args: Args, folder: Path, tasks: Tasks) -> dict[str, Path]:
    """Return where a run keeps its teachers' outputs, with which it goes on without the teachers.

    The runs of one command share them. A file's name has a hash of the rows that it is of: other
    rows have another file. Raises UserError for a teacher that is no run, if its outputs have to
    be made.
    """
    paths = {}
    command = command_folder(folder.absolute())  # "." has no parents
    places = [place / TEACHER_OUTPUTS for place in (folder, command)]
    for name, teacher in args.teacher.items():
        file = f"{name}-{rows_key(args, tasks[name])[:16]}.npy"
        names = (file, f"{name}.npy")  # older runs have the second, which does not tell its rows
        there = [place / one for place in places for one in names if (place / one).is_file()]
        if not there:
            others = [path for place in places for path in place.glob(f"{name}-*.npy")]
            if others and not saved_directory(Path(teacher)).is_dir():
                raise UserError(
                    f"{others[0]}: not of the training rows as they are read now, and the teacher "
                    f"{teacher} is gone: give the run the data that it began with"
                )
            teacher_folder(name, Path(teacher))
        paths[name] = there[0] if there else places[-1] / file
    return paths


def make_teacher_outputs(args: Args, tasks: Tasks, paths: dict[str, Path]) -> None:
    """Write the teachers' outputs (I, C) on the training sets into these files, if need be.

    I: the rows or words that the run trains on, in its order. Only process 0 writes.
    """
    for name, path in paths.items():
        if distributed.all_gather(not has_its_hash(path))[0]:
            say_if_unfinished(args.teacher[name])
            cache = cache_path(args, tasks[name], Path(args.teacher[name]))
            if distributed.all_gather(not has_its_hash(cache))[0]:  # all compute it together
                outputs = teacher_outputs(args, tasks[name], Path(args.teacher[name]))
                if cache_path(args, tasks[name], Path(args.teacher[name])) != cache:
                    what = "the run or the training rows changed while they were read"
                    raise UserError(f"--teacher {name}: {what}; give the command again")
                write_outputs(cache, outputs)
            distributed.barrier()
            write_outputs(path, np.load(cache))
        distributed.barrier()


def write_outputs(path: Path, outputs: np.ndarray) -> None:
    """Write outputs, and their hash beside them, in the first process."""
    if distributed.rank() == 0:
        remove_unfinished(path.parent)
        with replaced_file(path) as file:
            np.save(file, outputs)
        write_hash(path)


def load_teacher_outputs(paths: dict[str, Path], splits: Splits) -> dict[str, Tensor]:
    """Read what `make_teacher_outputs` has written: for each item of the training sets, (I, C).

    The windows of a long text have the teacher's output for all of it. Raises UserError for another
    number of outputs, and for a teacher that has cut words off which are trained on.
    """
    outputs = {}
    for name, path in paths.items():
        found, split = np.load(path), splits[name]
        expected = len(item_labels(split))
        if len(found) != expected:
            what = f"{len(found)} outputs, where {expected} are needed"
            raise UserError(f"--teacher {name}: {what}; remove {path}")
        if np.isnan(found[visible_items(split)]).any():
            raise UserError(
                f"--teacher {name}: with its length and vocabulary it cut off words that this run "
                f"trains on: lower --max-length, or give a teacher of longer rows"
            )
        outputs[name] = from_numpy(found[split.owners] if len(split.owners) else found)
    return outputs


def teacher_folder(task: str, run: Path) -> Path:
    """Return the folder of a teacher's model. Raises UserError if it is no run."""
    if not saved_directory(run).is_dir():
        raise UserError(
            f"--teacher {task}={run}: no such run; give a run's folder, its path without a comma"
        )
    directory = resolve(run)
    needed = [directory / name for name in ("model.safetensors", HEADS, CONFIGS)]
    if missing := [file for file in needed if not file.is_file()]:
        raise UserError(f"--teacher {task}={run}: no {missing[0]}; give a run's folder")
    return directory


def rows_key(args: Args, task: Task) -> str:
    """Return a hash of the rows that a task is trained on, and of how they are read."""
    rows = (task.columns, args.limit.get(task.name), sorted(task.dev_ids or ()))
    key = hashlib.sha256(repr(rows).encode())
    for file in task.paths("train", Path(args.data_dir)):
        key.update(sha256_of(file).encode())
    return key.hexdigest()


def cache_path(args: Args, task: Task, run: Path) -> Path:
    """Return the file of a teacher's outputs that all runs share.

    Its name has a hash of the teacher's files, of the rows that it reads and of how it computes.
    Raises UserError for a teacher that is no run.
    """
    directory = teacher_folder(task.name, run)
    files = [file for file in sorted(directory.iterdir()) if file.is_file()]
    runs = folders_of_run(directory)[:1]
    kept = [place / TASKS_FILE for place in runs]  # the oldest runs have none
    files += filter(Path.is_file, kept)
    lengths = [read_arguments(place).get("max_length") for place in runs]
    device = choose_device(args.device)  # --precision auto is another one on another machine
    precision = choose_precision(args.precision, device)
    how = (rows_key(args, task), precision, device.type, lengths)
    key = hashlib.sha256(repr(how).encode())
    for file in files:
        key.update(sha256_of(file).encode())
    return Path(args.output_dir) / CACHE / f"{task.name}-{key.hexdigest()[:16]}.npy"


def teacher_outputs(args: Args, task: Task, run: Path) -> np.ndarray:
    """Compute a teacher's outputs on the rows that a task is trained on.

    The teacher reads them with its own tokenizer, length, kind of pairs and `long`. Raises
    UserError for a run that has another task of that name, or none.
    """
    teacher = MultitaskModel.load(run, args.device, args.precision)
    if task.name not in teacher.tasks:
        raise UserError(f"--teacher {task.name}={run}: it has {', '.join(teacher.tasks)}")
    theirs = teacher.tasks[task.name]
    if (theirs.is_pair, theirs.per_word) != (task.is_pair, task.per_word):
        raise UserError(f"--teacher {task.name}={run}: its {task.name} has other texts")
    if (theirs.problem_type, theirs.outputs, theirs.class_names, theirs.low, theirs.high) != (
        task.problem_type, task.outputs, task.class_names, task.low, task.high,
    ):  # fmt: skip
        raise UserError(f"--teacher {task.name}={run}: its {task.name} has other labels")
    head = teacher.network.heads[task.name].config
    if head.siamese and not head.classifier and theirs.is_classification:
        raise UserError(
            f"--teacher {task.name}={run}: a cosine is no probability; give one with a "
            f"classifier, or --pair-encoding cross"
        )
    source = replace(
        data_source(args),
        max_length=teacher.max_length,
        siamese_tasks=teacher.network.siamese_tasks,
    )
    with distributed.first_before_others():
        rows = load_task(replace(task, long=theirs.long), "train", teacher.tokenizer, source)
    split = limit_rows(rows, args.limit.get(task.name))
    print(f"{task.name}: {run} reads its {len(split):,} training rows once")
    return task_outputs(teacher.network, theirs, split, f"{task.name}: teacher").numpy()
