"""A user's own tasks, in TOML: one table a task.

[intent]
kind = "classification"          # or another of KINDS
train = "intent-train.tsv"       # .tsv, .csv, .jsonl or .parquet in --data-dir; test may be missing
dev = "intent-dev.tsv"
text = "utterance"               # a column; two for a pair: ["question1", "question2"]
label = "intent"
labels = ["book", "cancel"]      # names, or how many: 3 means 0, 1 and 2
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minbert.data.examples import columns_of
from minbert.errors import UserError
from tasks.base import Task
from tasks.kinds import classification, multi_labels, scores
from tasks.siamese import check_pair_loss


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
        try:
            tasks[name] = _task(name, table)
            if data_dir is not None:
                _check_columns(tasks[name], data_dir)
        except (UserError, ValueError) as error:
            raise UserError(f"{where} {error}") from error
        except TypeError as error:
            raise UserError(f"{where} a value has the wrong type ({error})") from error
    return tasks


def kept_task_file(folder: Path) -> Path | None:
    """That of a run, from the run's folder or from one inside it."""
    kept = (place / KEPT_AS for place in (folder, *folder.resolve().parents[:2]))
    return next((path for path in kept if path.is_file()), None)


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
    kind = KINDS.get(table.get("kind", ""))
    if kind is None:
        raise ValueError(f"kind = {table.get('kind')!r}: write one of {', '.join(KINDS)}")
    known = (*COMMON, *kind.own)
    if unknown := [key for key in table if key not in known]:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(known)}"
        raise ValueError(f"{unknown[0]!r} is not a key of {table['kind']}; {hint}")
    if missing := [key for key in (*NEEDED, *kind.needed) if key not in table]:
        raise ValueError(f"{missing[0]} is missing")
    texts = [table["text"]] if isinstance(table["text"], str) else table["text"]
    if len(texts) != kind.sentences:
        raise ValueError(f"text = {table['text']!r}: {table['kind']} has {kind.sentences}")
    labels = table.get("labels", 2)
    if (labels if isinstance(labels, int) else len(set(labels))) < 2:
        raise ValueError(f"labels = {labels!r}: write two or more")
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
    return task


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
