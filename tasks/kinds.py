"""The kinds of tasks there are: what the built-in ones and those of a task file are made of."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minbert.data.examples import Columns
from minbert.losses import binary_cross_entropy, cross_entropy, mean_squared_error, multi_label
from minbert.metrics import Metric, accuracy, f1, label_f1, pearson, spearman
from tasks.base import Task

MOST_LABELS = 24  # of a multi-label task: a row's set is a number that fp32 holds exactly
SEPARATOR = ";"  # between a row's labels


def classification(
    name: str, files: dict[str, str], texts: Sequence[str], label: str,
    labels: int | Sequence[str], id: str = "id", metric: str = "accuracy", **more: Any,
) -> Task:  # fmt: skip
    """One class a row, of a sentence or of a pair. labels: how many, or their names.

    A pair of two classes has one logit, the second class's.
    """
    classes, names = (labels, ()) if isinstance(labels, int) else (len(labels), tuple(labels))
    one = len(texts) == 2 and classes == 2
    parse = named_label(names) if names else class_label(classes)
    known: dict[str, Metric] = {"accuracy": accuracy} | ({"f1": f1} if one else {})
    columns = Columns(tuple(texts), label, parse, id, repr(labels))
    return Task(
        name=name, files=files, columns=columns,
        outputs=1 if one else classes,
        loss=binary_cross_entropy if one else cross_entropy,
        decode=positive if one else largest,
        metrics=led_by(metric, known), names=names, **presented(name, label, more),
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
    name: str, files: dict[str, str], texts: Sequence[str], label: str, labels: Sequence[str],
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
        metrics=led_by(metric, {"f1": label_f1, "accuracy": accuracy}), names=tuple(labels),
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


def named_label(names: Sequence[str]) -> Callable[[str], float]:
    """A parser that takes one of the names, as its place among them."""

    def parse(text: str) -> float:
        if text not in names:
            raise ValueError(f"expected one of {', '.join(names)}")
        return float(names.index(text))

    return parse


def label_set(names: Sequence[str]) -> Callable[[str], float]:
    """A parser that takes `a;c` as 2^0 + 2^2; `-` is the empty set."""

    def parse(text: str) -> float:
        parts = [] if text == "-" else [part.strip() for part in text.split(SEPARATOR)]
        if unknown := [part for part in parts if part not in names]:
            raise ValueError(f"{unknown[0]!r} is not one of {', '.join(names)}; `-` is none")
        return float(sum(2 ** names.index(part) for part in set(parts)))

    return parse


def score_label(low: float, high: float) -> Callable[[str], float]:
    """A parser that takes any number in [low, high]."""

    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise ValueError(f"expected a number from {low:g} to {high:g}")
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
