"""Tasks in TOML, one table for each: a user's own tasks, and those that a run keeps a copy of.

[intent]
kind = "classification"          # or another of KINDS
train = "intent-train.tsv"       # .tsv, .csv, .jsonl or .parquet in --data-dir; or a list of files
dev = "intent-dev.tsv"
text = "utterance"               # a column; two for a pair: ["question1", "question2"]
label = "intent"
labels = ["book", "cancel"]      # names or numbers; or how many: 3 means 0, 1 and 2
"""

import difflib
import json
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from minbert.data.examples import is_cmu
from minbert.data.tables import check_columns, column_names
from minbert.errors import DAMAGED, UserError
from minbert.run_files import ARGS, DEV_ROWS, TASKS_FILE, TEACHER_OUTPUTS, folders_of_run
from minbert.task.course import COURSE_TASKS
from minbert.task.dev_rows import with_dev_rows
from minbert.task.kinds import classification, multi_labels, regression, texts_of
from minbert.task.predictions import logits_file
from minbert.task.siamese import CROSS, ENCODINGS, check_pair_loss
from minbert.task.table_checks import (
    LONGEST_NAME,
    check_class_weight,
    check_display_names,
    check_label_ends,
    check_labels,
    check_no_empty_name,
    check_prediction_header,
    check_table,
)
from minbert.task.tagging import tagging
from minbert.task.task import Table, Task, Tasks


@dataclass(frozen=True)
class Kind:
    """A kind of task: which keys it has, and what makes a Task of them."""

    make: Callable[[str, Table], Task]
    sentences: int  # in a row
    own: tuple[str, ...]  # keys that not all kinds have
    needed: tuple[str, ...] = ()  # keys of `own` that must be there
    defaults: Table = field(default_factory=dict)  # of keys that other kinds need


CLASSES = ("labels", "display_names", "class_weight")
PAIR = ("encoding", "loss")
WORDS = {"text": "tokens", "label": "tags"}  # a CoNLL file has no names of its own
KINDS = {
    "classification": Kind(classification, 1, (*CLASSES, "long"), ("labels",)),
    "pair-classification": Kind(classification, 2, (*CLASSES, *PAIR), ("labels",)),
    "pair-similarity": Kind(regression, 2, ("range", *PAIR)),
    "regression": Kind(regression, 1, ("range", "long")),
    "multi-label": Kind(multi_labels, 1, ("labels", "class_weight", "long"), ("labels",)),
    "token-classification": Kind(tagging, 1, CLASSES, ("labels",), WORDS),
}
NOT_HERE = {  # what else to say of a key that other kinds have
    "encoding": "; that of the files is charset",
    "long": "; of other rows what is too long is cut at its end",
}
TAKEN = {  # names that no task may have, and why
    **dict.fromkeys(("best", "last"), "a run keeps a model in a folder of that name"),
    TEACHER_OUTPUTS: "a run keeps what teachers say in a folder of that name",
    "mean": "--best-by mean is the mean of all tasks",
}
NEEDED = ("kind", "train", "text", "label")
DIALECT = ("quoting", "columns", "delimiter", "charset", "bad_rows")  # of the files
COMMON = (
    *NEEDED, "dev", "test", "id", "metric", "weight", "title", "prediction_file",
    "prediction_header", "course", *DIALECT,
)  # fmt: skip


def read_task_file(path: Path, data_dir: Path | None, chosen: Collection[str] = ()) -> Tasks:
    """Return the tasks of a file; their kinds, keys and columns are checked.

    data_dir: where the tasks' files are. None, as for a run's own task file: the tasks' files are
    not looked at, and rules that are newer than some runs are not checked. chosen: the tasks whose
    files are needed; (): all. Raises UserError with the table and key of a mistake.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    return read_tasks(text, str(path), data_dir, chosen)


def read_tasks(text: str, path: str, data_dir: Path | None, chosen: Collection[str] = ()) -> Tasks:
    """Return the tasks of a task file's text, as `read_task_file` does; path: for messages."""
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if not tables:
        raise UserError(f"{path}: no task in it; write one as [name]")
    tasks = {}
    for name, table in tables.items():
        where = f"{path}: [{name}]"
        size = len(name if data_dir is None else name.encode())  # older runs counted letters
        if not name.isidentifier() or size > LONGEST_NAME:
            most = f"at most {LONGEST_NAME} bytes of letters, digits and _, the first no digit"
            raise UserError(f"{path}: [{name[:60]}]: write a name of {most}")
        if not isinstance(table, dict):
            raise UserError(f"{path}: {name} stands outside of a [table]")
        if data_dir is not None and name.casefold() in TAKEN:  # which older runs may have
            raise UserError(f"{where}: {TAKEN[name.casefold()]}; write {name}_task, say")
        if hasattr(nn.ModuleDict(), name):  # which the heads are kept in
            raise UserError(f"{where}: PyTorch has that name for itself; write {name}_task, say")
        try:
            tasks[name] = make_task(name, table)
            if data_dir is not None:
                check_label_ends(table.get("labels"))
                check_no_empty_name(table)
                check_prediction_header(table.get("prediction_header", ""))
                if not chosen or name in chosen:
                    _check_columns(tasks[name], data_dir)
        except (UserError, OSError, ValueError) as error:
            raise UserError(f"{where} {error}") from error
    if data_dir is not None:  # a run has checked those of the tasks that it trains
        check_prediction_files({n: t for n, t in tasks.items() if not chosen or n in chosen}, path)
    return tasks


def check_prediction_files(tasks: Mapping[str, Task], path: str) -> None:
    """Raise UserError for two tasks whose predictions would be in one file; path: the task file.

    Beside the predictions are the logits.
    """
    of_logits = {logits_file(name, "{split}") for name in tasks}
    of_file: dict[str, str] = {}
    for name, task in tasks.items():
        if task.prediction_file in of_logits:
            raise UserError(f"{path}: prediction_file of [{name}] is one of logits; name another")
        other = of_file.setdefault(task.prediction_file, name)
        if other != name:
            raise UserError(
                f"{path}: prediction_file of [{name}] is that of [{other}], too; name another"
            )


def task_file_text(tasks: Iterable[Task]) -> str:
    """Return the text of a task file with these tasks, which `read_tasks` reads."""
    return "\n".join(
        f"[{task.name}]\n" + "".join(f"{k} = {_toml(v)}\n" for k, v in task.table.items())
        for task in tasks
    )


def text_of_run(task_file: str, tasks: Mapping[str, Task]) -> str:
    """Return what a run keeps as its tasks.toml: a copy of its task file, then its other tasks.

    task_file: "" for none. One that has changed since it was read is not copied.
    """
    copied, known = "", {}
    if task_file:
        with suppress(UserError, OSError, UnicodeDecodeError):
            text = Path(task_file).read_text(encoding="utf-8-sig")
            now = read_tasks(text, task_file, None)
            if all(now[name].table == tasks[name].table for name in now.keys() & tasks.keys()):
                copied, known = text, now
    rest = [task for name, task in tasks.items() if name not in known]
    return "\n".join(filter(None, (copied, task_file_text(rest))))


def defines_same(task_file: str, run: Path, names: Iterable[str]) -> bool:
    """Return whether a task file, with the built-in tasks, has these tasks as a run keeps them.

    Raises UserError as `tasks_of_run`.
    """
    try:
        now = read_task_file(Path(task_file), None)
    except UserError:  # the run does not need the file: it has a copy of its tasks
        return False
    known = read_tasks(COURSE_TASKS, "the course's tasks", None) | now
    kept = tasks_of_run(run, names)
    return all(name in known and known[name].table == kept[name].table for name in names)


def _toml(value: Any) -> str:
    """Return a value in TOML: text, numbers and lists are written as in JSON, tables inline."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_toml(k)} = {_toml(v)}' for k, v in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def tasks_of_run(folder: Path, names: Iterable[str]) -> Tasks:
    """Return these tasks as a run's own tasks.toml has them, for its folder or one inside it.

    The file is at most three folders up, as from seed-1/sst/best, and beside an args.json: that
    distinguishes it from a file in a folder that contains runs. In the oldest runs it has
    the user's own tasks only, and COURSE_TASKS has the others. Raises UserError for a task that is
    in neither.
    """
    files = (place / TASKS_FILE for place in folders_of_run(folder))
    kept = next((file for file in files if file.is_file()), None)
    known = read_task_file(kept, None) if kept else {}
    if any(name not in known for name in names):
        known = read_tasks(COURSE_TASKS, "the course's tasks", None) | known
    unknown = [name for name in names if name not in known]
    if unknown and not kept:
        raise UserError(
            f"{folder}: what its task {unknown[0]!r} is stands in its run's folder: copy that, or "
            f"its {TASKS_FILE}, {ARGS} and, if it has one, {DEV_ROWS} to {folder.parent}"
        )
    if unknown:
        raise UserError(f"{folder}: head {unknown[0]!r} is of no task in {TASKS_FILE}; {DAMAGED}")
    tasks = {name: known[name] for name in names}
    return with_dev_rows(tasks, kept.parent) if kept else tasks


def make_task(name: str, table: Table) -> Task:
    """Make a task of a table. Raises ValueError for a kind, key or value that does not fit."""
    kind = KINDS.get(str(table.get("kind")))
    if kind is None:
        others = [key for key in table if key not in COMMON]
        if "kind" not in table and (near := difflib.get_close_matches("kind", others, n=1)):
            raise ValueError(f"{near[0]!r} is not a key; did you mean kind?")
        raise ValueError(f"kind = {table.get('kind')!r}: write one of {', '.join(KINDS)}")
    table = {**table, **{key: kind.defaults[key] for key in kind.defaults if key not in table}}
    known = (*COMMON, *kind.own)
    if unknown := [key for key in table if key not in known]:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(known)}"
        if kinds := [name for name, other in KINDS.items() if unknown[0] in other.own]:
            hint = f"it is a key of {', '.join(kinds)}{NOT_HERE.get(unknown[0], '')}"
        raise ValueError(f"{unknown[0]!r} is not a key of {table['kind']}; {hint}")
    if missing := [key for key in (*NEEDED, *kind.needed) if key not in table]:
        raise ValueError(f"{missing[0]} is missing")
    check_table(table)
    if len(texts_of(table)) != kind.sentences:
        needed = f"{kind.sentences} text column{'s' if kind.sentences > 1 else ''}"
        raise ValueError(f"text = {table['text']!r}: {table['kind']} has {needed}")
    if "labels" in table:
        check_labels(table["labels"], kind.make in (classification, tagging))
    if "display_names" in table:
        check_display_names(table)
    task = kind.make(name, table)
    if "class_weight" in table:
        check_class_weight(table["class_weight"], task.classes)
    if task.pair_encoding not in ("", *ENCODINGS):
        raise ValueError(
            f"encoding = {task.pair_encoding!r}: write one of {', '.join(ENCODINGS)}; that of the "
            f"files is charset"
        )
    if task.pair_loss:
        check_pair_loss(task, task.pair_loss, task.pair_encoding, f"loss = {task.pair_loss!r}")
        if task.pair_encoding in ("", CROSS):
            raise ValueError(f'loss = {task.pair_loss!r} goes with encoding = "siamese" or "both"')
    return task


def _check_columns(task: Task, data_dir: Path) -> None:
    """Raise UserError for a file that is missing or lacks one of the task's columns."""
    for split in task.files:
        for path in task.paths(split, data_dir):
            if not path.is_file():
                if split == "test" and task.columns.course:  # whose runs go on without it
                    continue
                inside = path.is_relative_to(data_dir)
                name = str(path.relative_to(data_dir) if inside else path)
                raise UserError(f"{split} = {name!r}: no such file in {data_dir}")
            dialect = task.columns.dialect
            if is_cmu(path, task.columns):  # which names no columns
                continue
            needed = task.columns.needed(labelled=split != "test")
            check_columns(path, needed, column_names(path, dialect), dialect)
