"""Prediction files, written and scored: the course's exact form for its tasks, CSV for others."""

import json
import math
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from minbert.data.delimited import Row, delimited_line, delimited_rows
from minbert.data.encoded import EncodedSplit
from minbert.data.examples import Example
from minbert.data.items import object_array
from minbert.data.tables import OBJECT_ENDINGS, file_ending
from minbert.data.textfile import first_text, text_lines
from minbert.errors import UserError
from minbert.files import write_text
from minbert.task.gold import gold_rows, gold_task
from minbert.task.labels import as_number
from minbert.task.task import Prediction, Task

FORMULA = re.compile(r"'*[=+\-@].", re.DOTALL)  # a cell that a spreadsheet may run, guarded or not
COURSE_HEADER = re.compile(r"\s*id\s*\t", re.IGNORECASE)
ID_CELL = re.compile(r' *"?id"? *([,\t]|$)', re.IGNORECASE)  # how other files' headers begin


def write_predictions(
    directory: Path, task: Task, split_name: str, split: EncodedSplit, outputs: np.ndarray
) -> None:
    """Write a split's predictions and, as JSON lines beside them, the logits.

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
    is_number = as_number(cell) is not None
    return cell if is_number or not FORMULA.match(cell) else "'" + cell


def without_guard(cell: str) -> str:
    """Take away what `guard_formula` put before a cell."""
    return cell[1:] if cell[:1] == "'" and FORMULA.match(cell[1:]) else cell


def read_predictions(
    path: Path, parse: Callable[[str], Prediction] = float, lower: bool = True
) -> tuple[dict[str, Prediction], int]:
    """Return predictions by id, and how many ids are repeated; the first of them counts.

    The file is in the course's form, or is CSV or TSV with or without a header that begins with
    "id". parse: returns the value of a prediction's text, such as a class's name. lower: ids are
    lower-cased. Raises UserError for a row in neither form.
    """
    result: dict[str, Prediction] = {}
    duplicates = 0
    for number, cells in prediction_rows(path):
        where = f"{path}:{number}: expected `id , prediction`, found {','.join(cells)[:60]!r}"
        if len(cells) != 2:
            mend = "; separate them by tabs or commas" if ";" in cells[0] else ""
            raise UserError(f"{where}: {len(cells)} fields{mend}")
        id_, text = (cell.strip() for cell in cells)
        try:
            value = parse(text)
        except ValueError as error:
            raise UserError(f"{where} ({error})") from error
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{path}:{number}: prediction {text!r} is not a number")
        id_ = id_.lower() if lower else id_
        duplicates += id_ in result
        result.setdefault(id_, value)
    return result, duplicates


def prediction_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of a prediction file's rows, without its header."""
    lines, begin = lines_of(path)
    # the course's files have a tab above, and commas below
    row = next(filter(str.strip, lines[begin + 1 :]), "")
    if COURSE_HEADER.match(lines[begin]) and "," in row and "\t" not in row:
        for number, line in enumerate(lines[begin + 1 :], start=begin + 2):
            if line.strip():
                yield number, line.rsplit(",", 1)
        return
    names, rows = named_rows(path, lines, begin)
    for number, cells in rows:
        # an --output of evaluate.py; a run's own predictions have two columns
        if "label" in names and len(cells) == len(names) > 2:
            yield number, [cells[0], cells[names.index("label")]]
        else:
            yield number, [without_guard(cell) for cell in cells]


def lines_of(path: Path) -> tuple[list[str], int]:
    """Return a prediction file's lines, and the place of the first that is not blank."""
    lines = list(text_lines(path))
    begin = next(place for place, line in enumerate(lines) if line.strip())
    return [""] * begin + lines[begin:], begin


def named_rows(path: Path, lines: list[str], begin: int) -> tuple[list[str], Iterator[Row]]:
    """Return the names of the columns in a file's lines, [] without a header, and its rows.

    begin: the place of the first line that is not blank.
    """
    header, likely = ID_CELL.match(lines[begin]), separator_of(lines[begin])
    row = next(filter(str.strip, lines[begin + 1 :]), "")
    # a header may be of the other kind than its rows
    separator = likely if not header or likely in row else separator_of(row)
    rows = delimited_rows(path, iter(lines), separator, "csv")
    return [name.strip() for name in next(rows)[1]] if header else [], rows


def is_output(header: list[str]) -> bool:
    """Return whether a file with these columns is an --output of evaluate.py, or made like one."""
    return {"label", "text"} <= {*header}


def check_texts(path: Path, gold: Path, labelled: dict[str, Example], lower: bool) -> None:
    """Raise UserError for a row of an --output whose texts are not those of the gold row of its id.

    Ids may be the line numbers of two different files. Blanks are ignored. lower: ids are
    lower-cased.
    """
    names, rows = named_rows(path, *lines_of(path))
    for number, cells in rows:
        row, id_ = dict(zip(names, cells, strict=False)), cells[0].strip()
        example = labelled.get(id_.lower() if lower else id_)
        if example is None:
            continue
        for name, text in (("text", example.text), ("pair", example.pair)):
            if text is not None and row.get(name, text).split() != text.split():
                raise UserError(
                    f"{path}:{number}: id {id_!r} has the text {row[name][:60]!r}, but another in "
                    f"{gold}; for --gold name the file that was the --input, with labels"
                )


def separator_of(line: str) -> str:
    """Return what is between the cells of a prediction file's line: it stands after the id."""
    found = re.search(r"[,\t]", line)
    return found[0] if found else ","


def header_of(path: Path) -> list[str]:
    """Return the cells of a prediction file's first line."""
    first = first_text(path).strip()
    rows = delimited_rows(path, iter([first]), separator_of(first), "csv")
    return [name.strip() for name in next(rows)[1]]


def check_header(path: Path, header: list[str], task: Task, tasks: list[Task]) -> None:
    """Raise UserError for predictions whose column has the name of another task's."""
    known = [t.prediction_header for t in tasks if t.prediction_header in header]
    if known and task.prediction_header not in known:
        raise UserError(
            f"{path}: predictions of another task: the column is {known[0]}, and the gold file's "
            f"is {task.prediction_header}"
        )


def score_predictions(path: Path, gold: Path, tasks: list[Task]) -> dict[str, float | int | str]:
    """Return metrics over the ids that both files have; count missing, extra and repeated ids.

    Rows that cannot be used, as without a label, are not scored: predictions of them are not extra.
    """
    for one in (path, gold):
        if one.exists() and not one.is_file() and not one.is_dir():
            raise UserError(f"{one}: a pipe is read once, and this more often: save it in a file")
    if file_ending(path) in OBJECT_ENDINGS:
        raise UserError(f"{path}: predictions to score are CSV or TSV: name a .csv for --output")
    header = header_of(path)
    task = gold_task(gold, tasks, [] if is_output(header) else header)
    if not is_output(header):
        check_header(path, header, task, tasks)
    lower = task.columns.course
    # an --output of evaluate.py has names for people, a run's predictions have numbers
    is_label = is_output(header) or ("label" in header and task.prediction_header not in header)
    parse = partial(task.parse_prediction, is_label=is_label)
    predictions, duplicates = read_predictions(path, parse, lower)
    labelled, left_out = gold_rows(gold, task, is_label, predictions.keys())
    if is_output(header):
        check_texts(path, gold, labelled, lower)
    labels = {id_: example.label for id_, example in labelled.items()}
    predictions = {id_: p for id_, p in predictions.items() if id_ not in left_out}
    both = [id_ for id_ in labels if id_ in predictions]
    if not both:
        raise UserError(f"{path}: not one id of {gold} is in it; do the files belong together?")
    got, expected = [predictions[id_] for id_ in both], [labels[id_] for id_ in both]
    if task.per_word:
        for id_, predicted, gold_tags in zip(both, got, expected, strict=True):
            if len(predicted) != len(gold_tags):
                what = f"{len(predicted)} tags, {gold} has {len(gold_tags)}"
                raise UserError(f"{path}: id {id_!r} has {what}")
        got, expected = object_array(got), object_array(list(map(np.array, expected)))
    else:
        got, expected = np.array(got), np.array(expected, dtype=np.float32)
    scores = {name: metric(got, expected) for name, metric in task.metrics.items()}
    missing, extra = len(labels) - len(both), len(predictions) - len(both)
    counts = {"scored": len(both), "missing": missing, "extra": extra, "duplicate": duplicates}
    return {"task": task.name, **scores, **counts}
