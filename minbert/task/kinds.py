"""The kinds of tasks there are: each makes a Task of a table's keys."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minbert.data.examples import Columns
from minbert.losses import binary_cross_entropy, cross_entropy, mean_squared_error, multi_label
from minbert.metrics import Metric, accuracy, f1, label_f1, macro_f1, pearson, spearman
from minbert.task.task import Table, Task

MOST_LABELS = 24  # of a multi-label task: a row's set is a number that fp32 holds exactly
SEPARATOR = ";"  # between a row's labels
Label = str | int | float  # as a task file writes it


def classification(name: str, table: Table) -> Task:
    """Make a task of one class a row, of a sentence or of a pair.

    `labels` says how many classes there are, or their names or numbers. A pair of two classes has
    one logit, the second class's, and its F1; else f1 is the macro F1.
    """
    labels, metric = table["labels"], table.get("metric", "accuracy")
    counted = isinstance(labels, int)
    classes, names = (labels, ()) if counted else (len(labels), label_names(labels))
    one = len(texts_of(table)) == 2 and classes == 2
    metrics = led_by(metric, {"accuracy": accuracy, "f1": f1 if one else macro_f1})
    if not one and metric == "accuracy":
        metrics.pop("f1")  # of more classes only for who asks, and not in the course's scores
    return Task(
        columns=columns(table, class_label(classes) if counted else listed_label(labels), labels),
        outputs=1 if one else classes,
        loss=binary_cross_entropy if one else cross_entropy,
        decode=positive if one else largest,
        metrics=metrics, class_names=names, **common(name, table),
    )  # fmt: skip


def scores(name: str, table: Table) -> Task:
    """Make a task of a number a row, of a sentence (regression) or of a pair (similarity)."""
    low, high = table.get("range", (0, 5))
    metric = table.get("metric", "pearson")
    return Task(
        columns=columns(table, score_label(low, high), (low, high)),
        outputs=1, loss=mean_squared_error, decode=value, max_score=high,
        metrics=led_by(metric, {"pearson": pearson, "spearman": spearman}),
        **common(name, table),
    )  # fmt: skip


def multi_labels(name: str, table: Table) -> Task:
    """Make a task of any number of labels a row, their names with `;` between.

    A row's set is one number. Raises ValueError for more labels than such a number holds.
    """
    labels, metric = table["labels"], table.get("metric", "f1")
    if len(labels) > MOST_LABELS:
        raise ValueError(f"labels: {len(labels)} of them; a multi-label task has {MOST_LABELS}")
    return Task(
        columns=columns(table, label_set(labels), labels),
        outputs=len(labels), loss=multi_label, decode=set_above_half,
        metrics=led_by(metric, {"f1": label_f1, "accuracy": accuracy}),
        class_names=label_names(labels), multi_label=True, **common(name, table),
    )  # fmt: skip


def common(name: str, table: Table) -> dict[str, Any]:
    """Return the fields of a Task that mean the same for every kind."""
    return {
        "name": name,
        "table": table,
        "files": {split: table[split] for split in ("train", "dev", "test") if split in table},
        "title": table.get("title", name),
        "prediction_file": table.get("prediction_file", name + "-{split}-output.csv"),
        "prediction_header": table.get("prediction_header", f"Predicted_{table['label']}"),
        "display_names": tuple(table.get("display_names", ())),
        "encoding": table.get("encoding", ""),
        "pair_loss": table.get("loss", ""),
        "weight": table.get("weight", 1.0),
    }


def columns(table: Table, parse: Callable[[str], float], labels: Any) -> Columns:
    """Return which columns make an Example; `labels` is what `parse` goes by."""
    id_, course = table.get("id", ""), table.get("course", False)
    return Columns(texts_of(table), table["label"], parse, id_, repr(labels), course)


def texts_of(table: Table) -> tuple[str, ...]:
    """Return the columns of a row's sentences."""
    return (table["text"],) if isinstance(table["text"], str) else tuple(table["text"])


def led_by(first: str, known: dict[str, Metric]) -> dict[str, Metric]:
    """Return the same metrics, the main one first. Raises ValueError for one that does not fit."""
    if first not in known:
        raise ValueError(f"metric = {first!r}: write {' or '.join(known)}")
    return {first: known[first], **known}


def class_label(classes: int) -> Callable[[str], float]:
    """Return a parser that takes 0 .. classes-1, also written 1.0."""

    def parse(text: str) -> float:
        value = float(text)
        if value not in range(classes):
            raise ValueError(f"expected a whole number from 0 to {classes - 1}")
        return value

    return parse


def label_names(labels: Sequence[Label]) -> tuple[str, ...]:
    """Return labels as predictions have them; 1.0 is 1."""
    return tuple(str(label).removesuffix(".0") for label in labels)


def place_of(text: str, labels: Sequence[Label]) -> int | None:
    """Return where a text stands among labels, which are names or numbers, however written."""
    if isinstance(labels[0], str):
        return labels.index(text) if text in labels else None
    try:
        return labels.index(float(text))
    except ValueError:  # no number, or another one
        return None


def listed_label(labels: Sequence[Label]) -> Callable[[str], float]:
    """Return a parser that takes one of the labels, as its place among them."""

    def parse(text: str) -> float:
        place = place_of(text, labels)
        if place is None:
            raise ValueError(f"expected one of {', '.join(label_names(labels))}")
        return float(place)

    return parse


def label_set(labels: Sequence[Label]) -> Callable[[str], float]:
    """Return a parser that takes `a;c` as 2^0 + 2^2; `-` is the empty set."""

    def parse(text: str) -> float:
        places = set()
        for part in [] if text == "-" else text.split(SEPARATOR):
            place = place_of(part.strip(), labels)
            if place is None:
                there = ", ".join(label_names(labels))
                raise ValueError(f"{part.strip()!r} is not one of {there}; `-` is none")
            places.add(place)
        return float(sum(2**place for place in places))

    return parse


def score_label(low: float, high: float) -> Callable[[str], float]:
    """Return a parser that takes any number in [low, high]."""

    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise ValueError(f"expected a number from {low:g} to {high:g}, the task's `range`")
        return value

    return parse


def largest(outputs: np.ndarray) -> np.ndarray:
    """Choose the class with the largest of (n, C) logits, (n,)."""
    return outputs.argmax(-1)


def positive(outputs: np.ndarray) -> np.ndarray:
    """Return 1.0 where the probability of (n, 1) logits is above one half, (n,)."""
    return (outputs[:, 0] > 0).astype(np.float64)


def value(outputs: np.ndarray) -> np.ndarray:
    """Return (n, 1) scores as they are, (n,)."""
    return outputs[:, 0].astype(np.float64)


def set_above_half(outputs: np.ndarray) -> np.ndarray:
    """Return the set of classes with a probability above one half as a number, (n, C) -> (n,)."""
    return (outputs > 0) @ 2.0 ** np.arange(outputs.shape[1])
