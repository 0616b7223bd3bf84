"""The kinds of tasks: each is a function that makes a Task of a table's keys."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minbert.data.examples import Columns
from minbert.data.tables import Layout
from minbert.losses import binary_cross_entropy, cross_entropy, mean_squared_error, multi_label
from minbert.metrics import Metric, accuracy, f1, label_f1, macro_f1, pearson, spearman
from minbert.task.task import Table, Task

MAX_LABELS = 24  # of a multi-label task: fp32 holds integers up to 2^24 exactly
SEPARATOR = ";"  # between the labels of a multi-label row
Label = str | int | float  # a label as a task file has it


def classification(name: str, table: Table) -> Task:
    """Make a task that gives every sentence or pair one class.

    `labels`: the number of classes, or their names or numbers. A pair task of two classes has one
    logit, that of class 1, and f1 is the F1 of class 1; in all others f1 is the macro F1.
    """
    labels, metric = table["labels"], table.get("metric", "accuracy")
    counted = isinstance(labels, int)
    classes, names = (labels, ()) if counted else (len(labels), label_names(labels))
    one_logit = len(texts_of(table)) == 2 and classes == 2
    metrics = main_first(metric, {"accuracy": accuracy, "f1": f1 if one_logit else macro_f1})
    if not one_logit and metric == "accuracy":
        metrics.pop("f1")  # macro F1 is not one of the course's scores: only on request
    return Task(
        columns=columns(table, class_label(classes) if counted else listed_label(labels), labels),
        outputs=1 if one_logit else classes,
        loss=binary_cross_entropy if one_logit else cross_entropy,
        decode=positive if one_logit else largest,
        metrics=metrics, class_names=names, **common(name, table),
    )  # fmt: skip


def scores(name: str, table: Table) -> Task:
    """Make a task that gives every sentence (regression) or pair (similarity) a number."""
    low, high = table.get("range", (0, 5))
    metric = table.get("metric", "pearson")
    return Task(
        columns=columns(table, score_label(low, high), (low, high)),
        outputs=1, loss=mean_squared_error, decode=value, max_score=high,
        metrics=main_first(metric, {"pearson": pearson, "spearman": spearman}),
        **common(name, table),
    )  # fmt: skip


def multi_labels(name: str, table: Table) -> Task:
    """Make a task that gives every sentence a set of labels, written with `;` between them.

    A set is one number, the sum of 2^class. Raises ValueError for more labels than it can hold.
    """
    labels, metric = table["labels"], table.get("metric", "f1")
    if odd := [x for x in labels if isinstance(x, str) and (SEPARATOR in x or x.strip() == "-")]:
        raise ValueError(f"labels: {odd[0]!r}: `;` stands between a row's labels, `-` for none")
    if len(labels) > MAX_LABELS:
        raise ValueError(f"labels: {len(labels)} of them; a multi-label task has {MAX_LABELS}")
    return Task(
        columns=columns(table, label_set(labels), labels),
        outputs=len(labels), loss=multi_label, decode=set_above_half,
        metrics=main_first(metric, {"f1": label_f1, "accuracy": accuracy}),
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
    """Return the columns that make an Example; `labels` are those that `parse` knows."""
    id_, course = table.get("id", ""), table.get("course", False)
    layout = Layout(table.get("quoting", "auto"), tuple(table.get("columns", ())))
    return Columns(texts_of(table), table["label"], parse, id_, repr(labels), course, layout)


def texts_of(table: Table) -> tuple[str, ...]:
    """Return the columns of a row's sentences."""
    return (table["text"],) if isinstance(table["text"], str) else tuple(table["text"])


def main_first(main: str, known: dict[str, Metric]) -> dict[str, Metric]:
    """Return the metrics with the main one first. Raises ValueError if that is not one of them."""
    if main not in known:
        raise ValueError(f"metric = {main!r}: write {' or '.join(known)}")
    return {main: known[main], **known}


def class_label(classes: int) -> Callable[[str], float]:
    """Return a parser of class numbers, 0 .. classes-1, which may be written as 1.0."""

    def parse(text: str) -> float:
        value = float(text)
        if value not in range(classes):
            raise ValueError(f"expected a whole number from 0 to {classes - 1}")
        return value

    return parse


def label_names(labels: Sequence[Label]) -> tuple[str, ...]:
    """Return labels as predictions have them: as words, 1 for 1.0."""
    return tuple(x if isinstance(x, str) else str(x).removesuffix(".0") for x in labels)


def place_of(text: str, labels: Sequence[Label]) -> int | None:
    """Return the place of a text among labels, None if it is none; numbers are compared as such."""
    if isinstance(labels[0], str):
        return labels.index(text) if text in labels else None
    try:
        return labels.index(float(text))
    except ValueError:  # not a number, or not one of the labels
        return None


def listed_label(labels: Sequence[Label]) -> Callable[[str], float]:
    """Return a parser of labels: their names or numbers become their places, from 0."""

    def parse(text: str) -> float:
        place = place_of(text, labels)
        if place is None:
            raise ValueError(f"expected one of {', '.join(label_names(labels))}")
        return float(place)

    return parse


def label_set(labels: Sequence[Label]) -> Callable[[str], float]:
    """Return a parser of sets of labels: `a;c` becomes 2^0 + 2^2, `-` is the empty set."""

    def parse(text: str) -> float:
        places = set()
        for part in [] if text == "-" else text.split(SEPARATOR):
            place = place_of(part.strip(), labels)
            if place is None:
                names = ", ".join(label_names(labels))
                raise ValueError(f"{part.strip()!r} is not one of {names}; `-` is none")
            if place in places:  # as in [1, 0, 0]: one 0 or 1 a class
                raise ValueError(f"{part.strip()!r} is there twice; write the labels of the row")
            places.add(place)
        parts = text.split(SEPARATOR)
        if len(parts) == len(labels) > 1 and {*parts} <= {"0", "1"}:
            raise ValueError("one 0 or 1 a class? write the labels of the row")
        return float(sum(2**place for place in places))

    return parse


def score_label(low: float, high: float) -> Callable[[str], float]:
    """Return a parser of numbers in [low, high]."""

    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise ValueError(f"expected a number from {low:g} to {high:g}, the task's `range`")
        return value

    return parse


def largest(outputs: np.ndarray) -> np.ndarray:
    """Return the class with the largest logit, (n, C) -> (n,)."""
    return outputs.argmax(-1)


def positive(outputs: np.ndarray) -> np.ndarray:
    """Return 1.0 where a logit's probability is above one half, else 0.0, (n, 1) -> (n,)."""
    return (outputs[:, 0] > 0).astype(np.float64)


def value(outputs: np.ndarray) -> np.ndarray:
    """Return the scores unchanged, (n, 1) -> (n,)."""
    return outputs[:, 0].astype(np.float64)


def set_above_half(outputs: np.ndarray) -> np.ndarray:
    """Return the sum of 2^class over classes with a probability above one half, (n, C) -> (n,)."""
    return (outputs > 0) @ 2.0 ** np.arange(outputs.shape[1])
