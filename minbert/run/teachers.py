"""What trained runs say of every training row, computed once, before the training."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor, from_numpy

from minbert.data.encoded import EncodedSplit, limit_rows
from minbert.data.items import item_labels, read_items
from minbert.errors import UserError
from minbert.files import has_its_hash, replaced_file, sha256_of, write_hash
from minbert.inference import MultitaskModel
from minbert.model.multitask import CONFIGS, HEADS
from minbert.run.train_args import Args, data_source
from minbert.task.evaluation import predict_task
from minbert.task.loading import load_task
from minbert.task.task import Task
from minbert.training import distributed
from minbert.weights.resolve import resolve

FOLDER = ".teachers"  # in --output-dir, as the caches of ids


def teachers_files(args: Args, tasks: dict[str, Task]) -> dict[str, Path]:
    """Return the files that the teachers' outputs are kept in. Raises UserError for no run."""
    return {name: cache_path(args, tasks[name], Path(run)) for name, run in args.teacher.items()}


def make_outputs(args: Args, tasks: dict[str, Task], paths: dict[str, Path]) -> None:
    """Write the teachers' outputs (I, C) on the training sets into these files, if need be.

    I: the rows or words that the run trains on, in its order. Of several processes the first one
    writes.
    """
    for name, path in paths.items():
        if distributed.all_gather(not has_its_hash(path))[0]:  # all compute it together
            outputs = outputs_of(args, tasks[name], Path(args.teacher[name]))
            if distributed.rank() == 0:
                with replaced_file(path) as file:
                    np.save(file, outputs)
                write_hash(path)
        distributed.barrier()


def load_outputs(paths: dict[str, Path], splits: dict[str, EncodedSplit]) -> dict[str, Tensor]:
    """Read what `make_outputs` has written: for each item of the training sets, (I, C).

    The windows of a long text have the teacher's output for all of it. Raises UserError for another
    number of outputs, and for a teacher that has cut words off which are trained on.
    """
    outputs = {}
    for name, path in paths.items():
        found, split = np.load(path), splits[name]
        expected = len(item_labels(split))
        if len(found) != expected:
            what = f"{len(found)} outputs for {expected} training rows"
            raise UserError(f"--teacher {name}: {what}; remove {path}")
        if np.isnan(found[read_items(split)]).any():
            raise UserError(
                f"--teacher {name}: it read shorter rows than --max-length; train with its length"
            )
        outputs[name] = from_numpy(found[split.owners] if len(split.owners) else found)
    return outputs


def cache_path(args: Args, task: Task, run: Path) -> Path:
    """Return where a teacher's outputs are kept: by its weights, and by the rows they are of."""
    if not run.is_dir():
        raise UserError(f"--teacher {task.name}={run}: no such run; give a run's folder")
    directory = resolve(run)
    files = [directory / name for name in ("model.safetensors", HEADS, CONFIGS)]
    files += task.paths("train", Path(args.data_dir))
    if missing := [file for file in files if not file.is_file()]:
        raise UserError(f"--teacher {task.name}={run}: no {missing[0]}; give a run's folder")
    about = (task.name, args.limit.get(task.name), args.precision, sorted(task.dev_ids or ()))
    key = hashlib.sha256(repr(about).encode())
    for file in files:
        key.update(sha256_of(file).encode())
    return Path(args.output_dir) / FOLDER / f"{task.name}-{key.hexdigest()[:16]}.npy"


def outputs_of(args: Args, task: Task, run: Path) -> np.ndarray:
    """Compute a teacher's outputs on the rows that a task is trained on.

    The teacher reads them with its own tokenizer, length, kind of pairs and `long`. Raises
    UserError for a run that has another task of that name, or none.
    """
    teacher = MultitaskModel.load(run, args.device, args.precision)
    if task.name not in teacher.tasks:
        raise UserError(f"--teacher {task.name}={run}: it has {', '.join(teacher.tasks)}")
    own = teacher.tasks[task.name]
    if (own.problem_type, own.outputs, own.class_names, own.low, own.high) != (
        task.problem_type, task.outputs, task.class_names, task.low, task.high,
    ):  # fmt: skip
        raise UserError(f"--teacher {task.name}={run}: its {task.name} has other labels")
    siamese = frozenset([task.name] if teacher.network.heads[task.name].config.siamese else [])
    source = replace(data_source(args), max_length=teacher.max_length, siamese=siamese)
    split = limit_rows(
        load_task(replace(task, long=own.long), "train", teacher.tokenizer, source),
        args.limit.get(task.name),
    )
    print(f"{task.name}: {run} reads its {len(split):,} training rows once")
    network = teacher.network
    outputs = predict_task(network, own, split, network.encoder.device, f"{task.name}: teacher")
    return outputs.numpy()
