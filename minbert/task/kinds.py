"""The kinds of tasks there are: what the built-in ones and those of a task file are made of."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minbert.data.examples import Columns
from minbert.losses import binary_cross_entropy, cross_entropy, mean_squared_error, multi_label
from minbert.metrics import Metric, accuracy, f1, label_f1, macro_f1, pearson, spearman
from minbert.task.task import Task

MOST_LABELS = 24  # of a multi-label task: a row's set is a number that fp32 holds exactly
SEPARATOR = ";"  # between a row's labels
Label = str | int | float  # as a task file writes it


def classification(
    name: str, files: dict[str, str], texts: Sequence[str], label: str,
    labels: int | Sequence[Label], id: str = "id", metric: str = "accuracy", **more: Any,
) -> Task:  # fmt: skip
    """One class a row, of a sentence or of a pair. labels: how many, or their names or numbers.

    A pair of two classes has one logit, the second class's, and its F1; else f1 is the macro F1.
    """
    counted = isinstance(labels, int)
    classes, names = (labels, ()) if counted else (len(labels), shown_labels(labels))
    one = len(texts) == 2 and classes == 2
    parse = class_label(classes) if counted else listed_label(labels)
    metrics = led_by(metric, {"accuracy": accuracy, "f1": f1 if one else macro_f1})
    if not one and metric == "accuracy":
        metrics.pop("f1")  # of more classes only for who asks, and not in the course's scores
    columns = Columns(tuple(texts), label, parse, id, repr(labels))
    return Task(
        name=name, files=files, columns=columns,
        outputs=1 if one else classes,
        loss=binary_cross_entropy if one else cross_entropy,
        decode=positive if one else largest,
        metrics=metrics, names=names, **presented(name, label, more),
    )  # fmt: skip


def scores(
    name: str, files: dict[str, str], texts: Sequence[str], label: str,
    range: tuple[float, float] = (0, 5), id: str = "id", metric: str = "pearson", **more: Any,
) -> Task:  # fmt: skip
    """A number a row, of a sentence (regression) or of a pair (similarity)."""
    columns = Columns(tuple(texts), label, score_label(*range), id, repr(range))
    return Task(
        name=name, files=files, columns=columns,
        outputs=1, loss=mean_squared_error, decode=value,
        metrics=led_by(metric, {"pearson": pearson, "spearman": spearman}), top=range[1],
        **presented(name, label, more),
    )  # fmt: skip


def multi_labels(
    name: str, files: dict[str, str], texts: Sequence[str], label: str, labels: Sequence[Label],
    id: str = "id", metric: str = "f1", **more: Any,
) -> Task:  # fmt: skip
    """Any number of labels a row, their names with `;` between; a row's set is one number.

    Raises ValueError for more labels than such a number holds.
    """
    if len(labels) > MOST_LABELS:
        raise ValueError(f"labels: {len(labels)} of them; a multi-label task has {MOST_LABELS}")
    columns = Columns(tuple(texts), label, label_set(labels), id, repr(labels))
    return Task(
        name=name, files=files, columns=columns,
        outputs=len(labels), loss=multi_label, decode=set_above_half,
        metrics=led_by(metric, {"f1": label_f1, "accuracy": accuracy}), names=shown_labels(labels),
        many=True, **presented(name, label, more),
    )  # fmt: skip


def led_by(first: str, known: dict[str, Metric]) -> dict[str, Metric]:
    """The same metrics, the main one first. Raises ValueError for one that does not fit."""
    if first not in known:
        raise ValueError(f"metric = {first!r}: write {' or '.join(known)}")
    return {first: known[first], **known}


def presented(name: str, label: str, more: dict[str, Any]) -> dict[str, Any]:
    """How a task shows itself, unless `more` says otherwise."""
    own = {"title": name, "prediction_file": name + "-{split}-output.csv"}
    return {**own, "prediction_header": f"Predicted_{label}", **more}


def class_label(classes: int) -> Callable[[str], float]:
    """A parser that takes 0 .. classes-1, also written 1.0."""

    def parse(text: str) -> float:
        value = float(text)
        if value not in range(classes):
            raise ValueError(f"expected a whole number from 0 to {classes - 1}")
        return value

    return parse


def shown_labels(labels: Sequence[Label]) -> tuple[str, ...]:
    """As predictions have them; 1.0 is 1."""
    return tuple(str(label).removesuffix(".0") for label in labels)


def place_of(text: str, labels: Sequence[Label]) -> int | None:
    """Where a text stands among labels: one of the names, or a number, however it is written."""
    if isinstance(labels[0], str):
        return labels.index(text) if text in labels else None
    try:
        return labels.index(float(text))
    except ValueError:  # no number, or another one
        return None


def listed_label(labels: Sequence[Label]) -> Callable[[str], float]:
    """A parser that takes one of the labels, as its place among them."""

    def parse(text: str) -> float:
        place = place_of(text, labels)
        if place is None:
            raise ValueError(f"expected one of {', '.join(shown_labels(labels))}")
        return float(place)

    return parse


def label_set(labels: Sequence[Label]) -> Callable[[str], float]:
    """A parser that takes `a;c` as 2^0 + 2^2; `-` is the empty set."""

    def parse(text: str) -> float:
        places = set()
        for part in [] if text == "-" else text.split(SEPARATOR):
            place = place_of(part.strip(), labels)
            if place is None:
                there = ", ".join(shown_labels(labels))
                raise ValueError(f"{part.strip()!r} is not one of {there}; `-` is none")
            places.add(place)
        return float(sum(2**place for place in places))

    return parse


def score_label(low: float, high: float) -> Callable[[str], float]:
    """A parser that takes any number in [low, high]."""

    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise ValueError(f"expected a number from {low:g} to {high:g}, the task's `range`")
        return value

    return parse


def largest(outputs: np.ndarray) -> np.ndarray:
    """(n, C) logits -> the class with the largest."""
    return outputs.argmax(-1)


def positive(outputs: np.ndarray) -> np.ndarray:
    """(n, 1) logits -> 1.0 where the probability is above one half."""
    return (outputs[:, 0] > 0).astype(np.float64)


def value(outputs: np.ndarray) -> np.ndarray:
    """(n, 1) -> (n,), as they are."""
    return outputs[:, 0].astype(np.float64)


def set_above_half(outputs: np.ndarray) -> np.ndarray:
    """(n, C) logits -> the set of those with a probability above one half, as a number."""
    return (outputs > 0) @ 2.0 ** np.arange(outputs.shape[1])
