"""Prediction files: the course's bytes out, those and clean CSV in; logits beside them."""

import csv
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from minbert.data.encoded import EncodedSplit
from minbert.data.examples import columns_of, read_examples
from minbert.errors import UserError
from minbert.files import write_text
from minbert.task.task import Task

HEADER = re.compile(r"\W*id\W", re.IGNORECASE)


def write_predictions(
    directory: Path, task: Task, split_name: str, split: EncodedSplit, outputs: np.ndarray
) -> Path:
    """Write `id \\t Predicted_... \\n` and rows `id , prediction \\n`; logits in a file beside.

    outputs: (n, task.outputs), in the split's order.
    """
    path = directory / task.prediction_file.format(split=split_name)
    ids = split.id_strings()
    written = map(task.format_prediction, task.decode(outputs))
    rows = [f"{id_} , {p} \n" for id_, p in zip(ids, written, strict=True)]
    write_text(path, f"id \t {task.prediction_header} \n" + "".join(rows))
    logits = [{"id": i, "logits": row} for i, row in zip(ids, outputs.tolist(), strict=True)]
    beside = directory / f"{task.name}-{split_name}-logits.jsonl"
    write_text(beside, "".join(json.dumps(row) + "\n" for row in logits))
    return path


def read_predictions(
    path: Path, parse: Callable[[str], float] = float, lower: bool = True
) -> tuple[dict[str, float], int]:
    """Return id -> prediction, and how many ids came twice (the first counts).

    The course's format or clean CSV / TSV, either spelling of the header, or none. parse: what
    makes a number of a prediction, if it is the name of a class. lower: ids are lower-cased.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    result: dict[str, float] = {}
    duplicates = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip() or (number == 1 and HEADER.match(line)):
            continue
        delimiter = "\t" if "\t" in line and "," not in line else ","
        try:
            id_, text = (c.strip() for c in next(csv.reader([line], delimiter=delimiter)))
            value = parse(text)
        except ValueError as error:
            raise UserError(
                f"{path}:{number}: expected `id , prediction`, found {line[:60]!r} ({error})"
            ) from error
        if not math.isfinite(value):
            raise UserError(f"{path}:{number}: prediction {text!r} is not a number")
        id_ = id_.lower() if lower else id_
        duplicates += id_ in result
        result.setdefault(id_, value)
    return result, duplicates


def gold_task(gold: Path, tasks: list[Task]) -> Task:
    """Return the task whose columns the gold file has; its name decides between two that fit."""
    if not gold.is_file():
        raise UserError(f"--gold {gold}: no such file")
    there = columns_of(gold)
    fitting = [t for t in tasks if {*t.columns.texts, t.columns.label} <= set(there)]
    if not fitting:
        raise UserError(f"{gold}: its columns fit none of the tasks: {', '.join(there)[:60]}")
    named = [t for t in fitting if t.files["dev"].split("-dev")[0] in gold.name]
    return (named or fitting)[0]


def score_predictions(path: Path, gold: Path, tasks: list[Task]) -> dict[str, float | int | str]:
    """Join by id: metrics over the ids both have, and how many are missing, extra, duplicate."""
    task = gold_task(gold, tasks)
    # a score may lie outside of the labels' range; the name of a class is one of theirs
    parse = task.columns.parse_label if task.class_names else float
    predictions, duplicates = read_predictions(path, parse, lower=task.columns.course)
    examples, _ = read_examples(gold, task.columns, labelled=True)
    labels = {example.id: example.label for example in examples}
    both = [id_ for id_ in labels if id_ in predictions]
    if not both:
        raise UserError(f"{path}: not one id of {gold} is in it; do the files belong together?")
    got = np.array([predictions[id_] for id_ in both])
    expected = np.array([labels[id_] for id_ in both], dtype=np.float32)
    scores = {name: metric(got, expected) for name, metric in task.metrics.items()}
    missing, extra = len(labels) - len(both), len(predictions) - len(both)
    counts = {"scored": len(both), "missing": missing, "extra": extra, "duplicate": duplicates}
    return {"task": task.name, **scores, **counts}
