"""Prediction files: the course's exact form for its tasks, CSV for all others; both are read."""

import csv
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from minbert.data.delimited import delimited_line, delimited_rows
from minbert.data.encoded import EncodedSplit
from minbert.data.examples import Example, is_cmu, read_examples
from minbert.data.items import objects
from minbert.data.tables import JSON, column_names, kind_of
from minbert.data.textfile import text_lines
from minbert.data.unlabelled import read_unlabelled
from minbert.errors import UserError
from minbert.files import write_text
from minbert.task.dev_rows import check_dev_rows
from minbert.task.task import Prediction, Task

FORMULA = re.compile(r"'*[=+\-@].", re.DOTALL)  # a cell that a spreadsheet may run, guarded or not
COURSE_HEADER = re.compile(r"\s*id\s*\t", re.IGNORECASE)
ID_CELL = re.compile(r' *"?id"? *([,\t]|$)', re.IGNORECASE)  # how other files' headers begin


def write_predictions(
    directory: Path, task: Task, split_name: str, split: EncodedSplit, outputs: np.ndarray
) -> Path:
    """Write a split's predictions and, as JSON lines beside them, the logits; return the first.

    The course's tasks have its form (see docs), `id , prediction \\n`; all others have CSV, which
    keeps any name and id; `guard_formula` makes them safe. outputs: (n, task.outputs), in the
    split's order; of words (n,) arrays (words, task.outputs), where a word that was not read has
    null.
    """
    path = directory / task.prediction_file.format(split=split_name)
    ids = split.id_strings()
    written = map(task.format_prediction, task.decode(outputs))
    rows = list(zip(ids, written, strict=True))
    if task.columns.course:
        text = f"id \t {task.prediction_header} \n" + "".join(f"{i} , {p} \n" for i, p in rows)
    else:
        safe = [tuple(map(guard_formula, row)) for row in rows]
        lines = [("id", task.prediction_header), *safe]
        text = "".join(delimited_line(line, ",") for line in lines)
    write_text(path, text)
    logits = [{"id": i, "logits": as_json(row)} for i, row in zip(ids, outputs, strict=True)]
    beside = directory / logits_file(task.name, split_name)
    write_text(beside, "".join(json.dumps(row) + "\n" for row in logits))
    return path


def logits_file(task: str, split: str) -> str:
    """Return the name of the file with the logits of a task's split."""
    return f"{task}-{split}-logits.jsonl"


def as_json(logits: np.ndarray) -> list[Any]:
    """Return a row's logits as lists; None for those of a word that was not read."""
    if logits.ndim == 2:
        return [None if np.isnan(word).any() else word.tolist() for word in logits]
    return logits.tolist()


def guard_formula(cell: str) -> str:
    """Put a `'` before what a spreadsheet would take as a formula: =1+1, +a, -a, @a, but not -1."""
    return cell if is_number(cell) or not FORMULA.match(cell) else "'" + cell


def without_guard(cell: str) -> str:
    """Take away what `guard_formula` put before a cell."""
    return cell[1:] if cell[:1] == "'" and FORMULA.match(cell[1:]) else cell


def is_number(text: str) -> bool:
    """Return whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_predictions(
    path: Path, parse: Callable[[str], Prediction] = float, lower: bool = True
) -> tuple[dict[str, Prediction], int]:
    """Return predictions by id, and how many ids are repeated; the first of them counts.

    The file is in the course's form or clean CSV or TSV, with a header whose first column is "id",
    or none. parse: makes a number of a prediction, if predictions are names of classes. lower: ids
    are lower-cased. Raises UserError for a row that is neither.
    """
    result: dict[str, Prediction] = {}
    duplicates = 0
    for number, cells in prediction_rows(path):
        try:
            id_, text = (cell.strip() for cell in cells)
            value = parse(text)
        except ValueError as error:
            found = ",".join(cells)[:60]
            raise UserError(
                f"{path}:{number}: expected `id , prediction`, found {found!r} ({error})"
            ) from error
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{path}:{number}: prediction {text!r} is not a number")
        id_ = id_.lower() if lower else id_
        duplicates += id_ in result
        result.setdefault(id_, value)
    return result, duplicates


def prediction_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of a prediction file's rows, without its header."""
    lines = list(text_lines(path))
    first = lines[0]
    # the course's files have a tab above, and commas below
    row = next(filter(str.strip, lines[1:]), "")
    if COURSE_HEADER.match(first) and "," in row and "\t" not in row:
        for number, line in enumerate(lines[1:], start=2):
            if line.strip():
                yield number, line.rsplit(",", 1)
        return
    header = ID_CELL.match(first)
    likely = separator_of(first)
    # a header may be of the other kind than its rows
    separator = likely if not header or likely in row else separator_of(row)
    rows = delimited_rows(path, iter(lines), separator, "csv")
    names = next(rows)[1] if header else []
    for number, cells in rows:
        # an --output of evaluate.py; a run's own predictions have two columns
        if "label" in names and len(cells) == len(names) > 2:
            yield number, [cells[0], cells[names.index("label")]]
        else:
            yield number, [without_guard(cell) for cell in cells]


def separator_of(line: str) -> str:
    """Return what is between the cells of a prediction file's line: it stands after the id."""
    found = re.search(r"[,\t]", line)
    return found[0] if found else ","


def gold_task(gold: Path, tasks: list[Task], header: list[str]) -> Task:
    """Return the task whose columns the gold file has.

    Of several it is the one whose file it is, or else the one that is named like the file, and of
    these the one whose predictions have the header. Raises UserError if there is none, and if those
    that are left would read it differently.
    """
    if not gold.is_file():
        raise UserError(f"--gold {gold}: no such file")
    fitting = [t for t in tasks if {*t.columns.texts, t.columns.label} <= {*names_by(gold, t)}]
    if not fitting:
        names = ", ".join(column_names(gold, tasks[0].columns.dialect))
        known = ", ".join(t.name for t in tasks)
        raise UserError(
            f"{gold}: its columns fit none of the tasks {known}: {names[:60]}; "
            f"--task-file names those of your own"
        )
    named = [t for t in fitting if is_named_like(gold, t)]
    own = [t for t in fitting if split_of(gold, t)]
    likely = own or named or fitting
    likely = [t for t in likely if t.prediction_header in header] or likely
    readings = {
        (replace(t.columns, texts=(), parse_label=float), t.display_names, t.main_metric)
        for t in likely
    }
    if len(readings) > 1:
        several = ", ".join(t.name for t in likely)
        raise UserError(f"{gold}: the file of {several}: --task says whose predictions these are")
    return likely[0]


def is_named_like(gold: Path, task: Task) -> bool:
    """Return whether a file's name has the name of a task's dev file, up to -dev, as a word."""
    name = task.paths("dev", Path())[0].name.split("-dev")[0]
    letter = r"[^\W_]"  # or digit: `old` is no word of gold.csv
    return re.search(f"(?<!{letter}){re.escape(name)}(?!{letter})", gold.name) is not None


def names_by(gold: Path, task: Task) -> list[str]:
    """Return the columns of a file as a task's dialect finds them; [] for one of another dialect.

    CoNLL files name no columns: for a task that labels words the ending must be the task's.
    """
    if task.per_word and kind_of(gold) not in (*JSON, ".parquet", *task.endings):
        return []
    try:
        if is_cmu(gold, task.columns):
            return [*task.columns.texts, task.columns.label]
        return list(task.columns.dialect.names) or column_names(gold, task.columns.dialect)
    except UserError:
        return []


def split_of(gold: Path, task: Task) -> tuple[str, Path] | None:
    """Return which split of a task a file belongs to, and the data directory; None if to none."""
    found, path = None, gold.absolute()
    for split, names in task.files.items():
        for name in map(Path, names):
            if name.is_absolute():
                if name == path:
                    found = split, path.parent
            elif path.parts[-len(name.parts) :] == name.parts:
                found = split, path.parents[len(name.parts) - 1]
    return found


def gold_examples(gold: Path, task: Task, ids_by_name: bool) -> list[Example]:
    """Return the rows with labels that a gold file stands for: those of its split of the task.

    One of several files of a split stands for all; a training file for its dev rows. ids_by_name:
    the rows of a task without ids have those of a column called id, as in an --output.
    """
    split, data_dir = split_of(gold, task) or ("", gold.parent)
    files = task.paths(split, data_dir) if split else (gold,)
    examples, _ = read_examples(files, task.columns, labelled=True)
    if split == "train" and task.dev_ids is not None:
        check_dev_rows(task, examples, str(gold))
        examples = [example for example in examples if example.id in task.dev_ids]
    if task.columns.id or not ids_by_name:
        return examples
    ids = {}
    for place, path in enumerate(files):
        if is_cmu(path, task.columns):  # which has no ids
            continue
        found, rows = read_unlabelled(path, task.columns, str(path))
        ids |= {(place, row.line): row.id for row in rows if found.id}
    return [replace(e, id=ids.get((e.file, e.line), e.id)) for e in examples]


def header_of(path: Path) -> list[str]:
    """Return the cells of a prediction file's first line."""
    first = next(text_lines(path)).strip()
    return [name.strip() for name in next(csv.reader([first], delimiter=separator_of(first)))]


def check_header(path: Path, header: list[str], task: Task, tasks: list[Task]) -> None:
    """Raise UserError for predictions whose column has the name of another task's."""
    known = [t.prediction_header for t in tasks if t.prediction_header in header]
    if known and task.prediction_header not in known:
        raise UserError(
            f"{path}: predictions of another task: the column is {known[0]}, and the gold file's "
            f"is {task.prediction_header}"
        )


def score_predictions(path: Path, gold: Path, tasks: list[Task]) -> dict[str, float | int | str]:
    """Return metrics over the ids that both files have; count missing, extra and repeated ids."""
    if kind_of(path) in (*JSON, ".parquet"):
        raise UserError(f"{path}: predictions to score are CSV or TSV: name a .csv for --output")
    header = header_of(path)
    task = gold_task(gold, tasks, header)
    check_header(path, header, task, tasks)
    lower = task.columns.course
    # an --output of evaluate.py has names for people, a run's predictions have numbers
    is_label = "label" in header and task.prediction_header not in header
    parse = partial(task.parse_prediction, is_label=is_label)
    predictions, duplicates = read_predictions(path, parse, lower)
    labels = {example.id: example.label for example in gold_examples(gold, task, is_label)}
    both = [id_ for id_ in labels if id_ in predictions]
    if not both:
        raise UserError(f"{path}: not one id of {gold} is in it; do the files belong together?")
    got, expected = [predictions[id_] for id_ in both], [labels[id_] for id_ in both]
    if task.per_word:
        for id_, predicted, gold_tags in zip(both, got, expected, strict=True):
            if len(predicted) != len(gold_tags):
                what = f"{len(predicted)} tags, {gold} has {len(gold_tags)}"
                raise UserError(f"{path}: id {id_!r} has {what}")
        got, expected = objects(got), objects(list(map(np.array, expected)))
    else:
        got, expected = np.array(got), np.array(expected, dtype=np.float32)
    scores = {name: metric(got, expected) for name, metric in task.metrics.items()}
    missing, extra = len(labels) - len(both), len(predictions) - len(both)
    counts = {"scored": len(both), "missing": missing, "extra": extra, "duplicate": duplicates}
    return {"task": task.name, **scores, **counts}
