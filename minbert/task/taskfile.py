"""Tasks in TOML, one table a task: a user's own ones, and those that a run carries.

[intent]
kind = "classification"          # or another of KINDS
train = "intent-train.tsv"       # .tsv, .csv, .jsonl or .parquet in --data-dir; test may be missing
dev = "intent-dev.tsv"
text = "utterance"               # a column; two for a pair: ["question1", "question2"]
label = "intent"
labels = ["book", "cancel"]      # names or numbers; or how many: 3 means 0, 1 and 2
"""

import difflib
import json
import math
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from minbert.data.examples import columns_of
from minbert.errors import UserError
from minbert.task.course import COURSE_TASKS
from minbert.task.kinds import classification, multi_labels, scores, texts_of
from minbert.task.siamese import check_pair_loss
from minbert.task.task import Table, Task


@dataclass(frozen=True)
class Kind:
    """How a table's keys become a Task."""

    make: Callable[[str, Table], Task]
    sentences: int
    own: tuple[str, ...]  # keys beside COMMON
    needed: tuple[str, ...] = ()


CLASSES = ("labels", "display_names")
PAIR = ("encoding", "loss")
KINDS = {
    "classification": Kind(classification, 1, CLASSES, ("labels",)),
    "pair-classification": Kind(classification, 2, (*CLASSES, *PAIR), ("labels",)),
    "pair-similarity": Kind(scores, 2, ("range", *PAIR)),
    "regression": Kind(scores, 1, ("range",)),
    "multi-label": Kind(multi_labels, 1, ("labels",), ("labels",)),
}
TASKS_FILE = "tasks.toml"  # in the folder of a run, which then needs nothing else to be understood
NEEDED = ("kind", "train", "dev", "text", "label")
FILES = ("prediction_file", "prediction_header")  # what predictions are called
COMMON = (*NEEDED, "test", "id", "metric", "weight", "title", *FILES, "course")
NOT_ONE_WORD = ("text", "labels", "range", "weight", "display_names", "course")
NUMBERS = (int, float)  # compared with type(): a bool is an int too


def read_task_file(path: Path, data_dir: Path | None) -> dict[str, Task]:
    """Return the tasks of a file, their kinds, keys and columns checked before any data is read.

    data_dir None: the columns are not looked at, for who has only some of the files.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    return read_tasks(text, str(path), data_dir)


def read_tasks(text: str, path: str, data_dir: Path | None) -> dict[str, Task]:
    """Return the tasks of a file's text, as `read_task_file`."""
    try:
        tables = tomllib.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if not tables:
        raise UserError(f"{path}: no task in it; write one as [name]")
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
            tasks[name] = make_task(name, table)
            if data_dir is not None:
                _check_columns(tasks[name], data_dir)
        except (UserError, ValueError) as error:
            raise UserError(f"{where} {error}") from error
    return tasks


def task_file_text(tasks: Iterable[Task]) -> str:
    """Write tasks in the form that `read_tasks` reads."""
    return "\n".join(
        f"[{task.name}]\n" + "".join(f"{k} = {_toml(v)}\n" for k, v in task.table.items())
        for task in tasks
    )


def _toml(value: Any) -> str:
    """Write a value of a table: JSON's form of words, numbers and lists is TOML's too."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    # DEL is the one character that JSON leaves as it is and TOML does not
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def tasks_of_run(folder: Path, names: Iterable[str]) -> dict[str, Task]:
    """Return these tasks as a run carries them, from its folder or one inside it.

    The run's tasks.toml is at most three folders up: seed-1/sst/best. args.json beside it tells a
    run's file from one in a folder that runs happen to be in. Runs of before 2026-12 have one for
    tasks of a user's own alone: the others are the course's, as they were then. Raises UserError
    for a task that is in neither.
    """
    places = (folder, *folder.resolve().parents[:3])
    files = (p / TASKS_FILE for p in places if (p / "args.json").is_file())
    kept = next((file for file in files if file.is_file()), None)
    known = read_task_file(kept, None) if kept else {}
    if any(name not in known for name in names):
        known = read_tasks(COURSE_TASKS, "the course's tasks", None) | known
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"{folder}: head {unknown[0]!r} is of no known task")
    return {name: known[name] for name in names}


def make_task(name: str, table: Table) -> Task:
    """Make a task of a table. Raises ValueError for a kind, key or value that does not fit."""
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
    if len(texts_of(table)) != kind.sentences:
        raise ValueError(f"text = {table['text']!r}: {table['kind']} has {kind.sentences}")
    if "labels" in table:
        _check_labels(table["labels"], kind.make is classification)
    if "display_names" in table:
        _check_display_names(table)
    task = kind.make(name, table)
    if task.encoding not in ("", "cross", "siamese"):
        raise ValueError(f"encoding = {task.encoding!r}: write cross or siamese")
    if task.pair_loss:
        check_pair_loss(task, task.pair_loss)
        if task.encoding != "siamese":
            raise ValueError(f'loss = {task.pair_loss!r} goes with encoding = "siamese"')
    return task


def _check_values(table: Table) -> None:
    """Raise ValueError for a value of a type that its key cannot have."""
    for key, value in table.items():
        if key not in NOT_ONE_WORD and not isinstance(value, str):
            raise ValueError(f'{key} = {value!r}: write a word in quotes, "..."')
    texts = [table["text"]] if isinstance(table["text"], str) else table["text"]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f'text = {texts!r}: write a column, "a", or two, ["a", "b"]')
    if type(table.get("course", False)) is not bool:
        raise ValueError(f"course = {table['course']!r}: write true or false")
    if "{split}" not in table.get("prediction_file", "{split}"):
        raise ValueError(f"prediction_file = {table['prediction_file']!r}: {{split}} is missing")
    weight = table.get("weight", 1)
    if type(weight) not in NUMBERS or not 0 <= weight < math.inf:
        raise ValueError(f"weight = {weight!r}: write a number from 0, without quotes")
    ends = table.get("range", [0, 5])
    if not isinstance(ends, list) or [type(end) in NUMBERS for end in ends] != [True, True]:
        raise ValueError(f"range = {ends!r}: write the lowest and the highest score, [0, 5]")
    if not -math.inf < ends[0] < ends[1] < math.inf:
        raise ValueError(f"range = {ends!r}: write the lowest score first")


def _check_display_names(table: Table) -> None:
    """Raise ValueError for anything but a name for each of classes that are counted."""
    names, labels = table["display_names"], table["labels"]
    words = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not words or type(labels) is not int or len(names) != labels:
        raise ValueError(f"display_names = {names!r}: write a name for each of `labels = NUMBER`")


def _check_labels(labels: Any, countable: bool) -> None:
    """Raise ValueError for anything but names or numbers, or (countable) how many there are."""
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
    """Raise UserError for a file that is missing or lacks one of the task's columns."""
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
