"""A user's own tasks, in TOML: one table a task.

[intent]
kind = "classification"          # or another of KINDS
train = "intent-train.tsv"       # .tsv, .csv, .jsonl or .parquet in --data-dir; test may be missing
dev = "intent-dev.tsv"
text = "utterance"               # a column; two for a pair: ["question1", "question2"]
label = "intent"
labels = ["book", "cancel"]      # names or numbers; or how many: 3 means 0, 1 and 2
"""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from minbert.data.examples import columns_of
from minbert.errors import UserError
from minbert.task.kinds import classification, multi_labels, scores
from minbert.task.siamese import check_pair_loss
from minbert.task.task import Task


@dataclass(frozen=True)
class Kind:
    """How a table's keys become a Task."""

    make: Callable[..., Task]
    sentences: int
    own: tuple[str, ...]  # keys beside COMMON
    needed: tuple[str, ...] = ()


KINDS = {
    "classification": Kind(classification, 1, ("labels",), ("labels",)),
    "pair-classification": Kind(classification, 2, ("labels", "encoding", "loss"), ("labels",)),
    "pair-similarity": Kind(scores, 2, ("range", "encoding", "loss")),
    "regression": Kind(scores, 1, ("range",)),
    "multi-label": Kind(multi_labels, 1, ("labels",), ("labels",)),
}
KEPT_AS = "tasks.toml"  # in the folder of a run, which then needs nothing else to be understood
NEEDED = ("kind", "train", "dev", "text", "label")
COMMON = (*NEEDED, "test", "id", "metric", "weight", "title")
OTHER_THAN_WORDS = ("text", "labels", "range", "weight")  # keys whose values are not one word
NUMBERS = (int, float)  # compared with type(): a bool is an int too


def read_task_file(path: Path, data_dir: Path | None) -> dict[str, Task]:
    """The tasks of a file, their kinds, keys and columns checked before any data is read.

    data_dir None: the columns are not looked at, for who has only some of the files.
    """
    tables = _tables(path)
    tasks = {}
    for name, table in tables.items():
        where = f"{path}: [{name}]"
        if not name.isidentifier():
            raise UserError(f"{where}: write a name of letters, digits and _")
        if not isinstance(table, dict):
            raise UserError(f"{path}: {name} stands outside of a [table]")
        if hasattr(nn.ModuleDict(), name):  # heads are kept in one
            raise UserError(f"{where}: PyTorch has that name for itself; write {name}_task, say")
        try:
            tasks[name] = _task(name, table)
            if data_dir is not None:
                _check_columns(tasks[name], data_dir)
        except (UserError, ValueError) as error:
            raise UserError(f"{where} {error}") from error
    return tasks


def kept_task_file(folder: Path) -> Path | None:
    """That of a run, from the run's folder or from one inside it: seed-1/sst/best at the deepest.

    args.json beside it tells a run's copy from a file in a folder that runs happen to be in.
    """
    places = (folder, *folder.resolve().parents[:3])
    runs = (place for place in places if (place / "args.json").is_file())
    return next((place / KEPT_AS for place in runs if (place / KEPT_AS).is_file()), None)


def _tables(path: Path) -> dict[str, Any]:
    try:
        import tomllib
    except ModuleNotFoundError as error:
        raise UserError("task files need Python 3.11 or later") from error
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if not tables:
        raise UserError(f"{path}: no task in it; write one as [name]")
    return tables


def _task(name: str, table: dict[str, Any]) -> Task:
    """Raises ValueError for a kind, key or value that does not fit."""
    kind = KINDS.get(str(table.get("kind")))
    if kind is None:
        raise ValueError(f"kind = {table.get('kind')!r}: write one of {', '.join(KINDS)}")
    known = (*COMMON, *kind.own)
    if unknown := [key for key in table if key not in known]:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(known)}"
        raise ValueError(f"{unknown[0]!r} is not a key of {table['kind']}; {hint}")
    if missing := [key for key in (*NEEDED, *kind.needed) if key not in table]:
        raise ValueError(f"{missing[0]} is missing")
    _check_values(table)
    texts = [table["text"]] if isinstance(table["text"], str) else table["text"]
    if len(texts) != kind.sentences:
        raise ValueError(f"text = {table['text']!r}: {table['kind']} has {kind.sentences}")
    if "labels" in table:
        _check_labels(table["labels"], kind.make is classification)
    renamed = {"loss": "pair_loss"}
    taken = ("labels", "range", "id", "metric", "weight", "title", "encoding", "loss")
    options = {renamed.get(key, key): table[key] for key in taken if key in table}
    options.setdefault("id", "")
    files = {split: table[split] for split in ("train", "dev", "test") if split in table}
    task = kind.make(name=name, files=files, texts=texts, label=table["label"], **options)
    if task.encoding not in ("", "cross", "siamese"):
        raise ValueError(f"encoding = {task.encoding!r}: write cross or siamese")
    if task.pair_loss:
        check_pair_loss(task, task.pair_loss)
        if task.encoding != "siamese":
            raise ValueError(f'loss = {task.pair_loss!r} goes with encoding = "siamese"')
    return replace(task, columns=replace(task.columns, own=True))


def _check_values(table: dict[str, Any]) -> None:
    """Raises ValueError for a value of a type that its key cannot have."""
    for key, value in table.items():
        if key not in OTHER_THAN_WORDS and not isinstance(value, str):
            raise ValueError(f'{key} = {value!r}: write a word in quotes, "..."')
    texts = [table["text"]] if isinstance(table["text"], str) else table["text"]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f'text = {texts!r}: write a column, "a", or two, ["a", "b"]')
    weight = table.get("weight", 1)
    if type(weight) not in NUMBERS or not 0 <= weight < math.inf:
        raise ValueError(f"weight = {weight!r}: write a number from 0, without quotes")
    ends = table.get("range", [0, 5])
    if not isinstance(ends, list) or [type(end) in NUMBERS for end in ends] != [True, True]:
        raise ValueError(f"range = {ends!r}: write the lowest and the highest score, [0, 5]")
    if not -math.inf < ends[0] < ends[1] < math.inf:
        raise ValueError(f"range = {ends!r}: write the lowest score first")


def _check_labels(labels: Any, countable: bool) -> None:
    """Raises ValueError for anything but names or numbers, or (countable) how many there are."""
    counted = countable and type(labels) is int  # a bool is an int too
    types = {type(label) for label in labels} if isinstance(labels, list) else {None}
    if not counted and not types <= {str} and not types <= set(NUMBERS):
        how = "write names or numbers in brackets" + (", or how many" if countable else "")
        raise ValueError(f"labels = {labels!r}: {how}")
    if (labels if counted else len(labels)) < 2:
        raise ValueError(f"labels = {labels!r}: write two or more")
    if not counted and len(set(labels)) < len(labels):
        again = next(label for label in labels if labels.count(label) > 1)
        raise ValueError(f"labels: {again!r} is there twice")


def _check_columns(task: Task, data_dir: Path) -> None:
    for split, name in task.files.items():
        path = data_dir / name
        if not path.is_file():
            raise UserError(f"{split} = {name!r}: no such file in {data_dir}")
        wanted = [*task.columns.texts, *([task.columns.id] if task.columns.id else [])]
        if split != "test":
            wanted.append(task.columns.label)
        there = columns_of(path)
        for column in wanted:
            if column not in there:
                raise UserError(f"no column {column!r} in {path}; it has {', '.join(there)}")
