"""Prediction files: the course's bytes out, those and clean CSV in; logits beside them, keyed by id."""

import csv
import json
from pathlib import Path

import numpy as np

from minbert.data.encoded import EncodedSplit
from minbert.data.examples import read_examples
from minbert.errors import UserError
from tasks.base import Task


def write_predictions(
    directory: Path,
    task: Task,
    split_name: str,
    split: EncodedSplit,
    predictions: np.ndarray,
    outputs: np.ndarray,
) -> Path:
    """`id \\t Predicted_... \\n`, rows `id , prediction \\n`; and <task>-<split>-logits.jsonl."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / task.prediction_file.format(split=split_name)
    ids = split.id_strings()
    with path.open("w", encoding="utf-8") as file:
        file.write(f"id \t {task.prediction_header} \n")
        file.writelines(
            f"{id_} , {prediction} \n" for id_, prediction in zip(ids, predictions, strict=True)
        )
    with (directory / f"{task.name}-{split_name}-logits.jsonl").open("w", encoding="utf-8") as file:
        for id_, row in zip(ids, outputs.tolist(), strict=True):
            file.write(json.dumps({"id": id_, "logits": row}) + "\n")
    return path


def read_predictions(path: Path) -> dict[str, float]:
    """id -> prediction, from the course's format or clean CSV / TSV (either spelling of the header)."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    result: dict[str, float] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        cells = next(
            csv.reader([line], delimiter="\t" if "\t" in line and "," not in line else ",")
        )
        try:
            id_, prediction = (cell.strip() for cell in cells)
            value = float(prediction)
        except ValueError as error:
            raise UserError(
                f"{path}:{number}: expected `id , prediction`, found {line[:60]!r}"
            ) from error
        if id_.lower() in result:
            raise UserError(f"{path}:{number}: id {id_!r} is there twice")
        result[id_.lower()] = value
    return result


def score_predictions(path: Path, gold: Path, tasks: list[Task]) -> dict[str, float | int | str]:
    """Join by id; metrics over the ids that both have, and how many are missing or extra."""
    predictions = read_predictions(path)
    header = gold.read_text(encoding="utf-8-sig").split("\n", 1)[0] if gold.is_file() else ""
    fitting = [t for t in tasks if all(c in header for c in (*t.columns.texts, t.columns.label))]
    named = [t for t in fitting if t.files["dev"].split("-dev")[0] in gold.name]
    if not fitting:
        raise UserError(f"{gold}: missing, or its columns fit none of the tasks: {header[:60]!r}")
    task = (named or fitting)[0]
    examples, _ = read_examples(gold, task.columns, labelled=True)
    labels = {example.id: example.label for example in examples}
    both = [id_ for id_ in labels if id_ in predictions]
    if not both:
        raise UserError(f"{path}: not one id of {gold} is in it; do the files belong together?")
    got = np.array([predictions[id_] for id_ in both])
    expected = np.array([labels[id_] for id_ in both])
    scores = {name: metric(got, expected) for name, metric in task.metrics.items()}
    missing, extra = len(labels) - len(both), len(predictions) - len(both)
    return {"task": task.name, **scores, "scored": len(both), "missing": missing, "extra": extra}
