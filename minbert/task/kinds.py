"""The kinds of tasks: each is a function that makes a Task of a table's keys."""

import codecs
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from minbert.data.examples import Columns
from minbert.data.long_texts import HEAD_ONLY
from minbert.data.tables import Dialect
from minbert.data.unusable import MAX_BAD_SHARE
from minbert.losses import binary_cross_entropy, cross_entropy, mean_squared_error, multi_label
from minbert.metrics import (
    Metric,
    accuracy,
    f1,
    label_f1,
    macro_f1,
    mae,
    pearson,
    rmse,
    spearman,
)
from minbert.task.labels import (
    EMPTY_SET,
    SEPARATOR,
    class_parser,
    label_names,
    label_parser,
    label_set_parser,
    score_parser,
)
from minbert.task.task import SPLITS, Table, Task

CORRELATIONS = {"pearson": pearson, "spearman": spearman}
ERRORS = {"mae": mae, "rmse": rmse}  # in the labels' unit
LEARNED_RANGE = 5.0  # scores are learned as if they went from 0 to 5, as STS's do
DEV_SHARE = 0.1  # of the training rows, in a task without a dev set
MAX_LABELS = 24  # of a multi-label task: fp32 holds integers up to 2^24 exactly


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
        columns=columns(table, class_parser(classes) if counted else label_parser(labels), labels),
        outputs=1 if one_logit else classes,
        loss=binary_cross_entropy if one_logit else cross_entropy,
        decode=positive if one_logit else largest,
        metrics=metrics, class_names=names, **common(name, table),
    )  # fmt: skip


def regression(name: str, table: Table) -> Task:
    """Make a task that gives every sentence (regression) or pair (similarity) a number.

    Its loss has the same size for every `range`, so that none drowns the other tasks.
    """
    low, high = table.get("range", (0, 5))
    metrics = main_first(table.get("metric", "pearson"), CORRELATIONS)
    if not table.get("course"):  # whose scores are those of the paper
        metrics |= ERRORS
    task = Task(
        columns=columns(table, score_parser(low, high), (low, high)),
        outputs=1, loss=mean_squared_error, decode=value, low=float(low), high=float(high),
        metrics=metrics, **common(name, table),
    )  # fmt: skip
    return in_unit(task, (high - low) / LEARNED_RANGE)


def in_unit(task: Task, unit: float) -> Task:
    """Return a regression task with the loss ((output - label) / unit)^2."""
    if task.unit == unit:
        return task
    return replace(task, unit=unit, loss=partial(mean_squared_error, unit=unit))


def multi_labels(name: str, table: Table) -> Task:
    """Make a task that gives every sentence a set of labels, written with `;` between them.

    A set is one number, the sum of 2^class. Raises ValueError for more labels than it can hold.
    """
    labels, metric = table["labels"], table.get("metric", "f1")
    words = [label for label in labels if isinstance(label, str)]
    if odd := [word for word in words if SEPARATOR in word or word.strip() == EMPTY_SET]:
        raise ValueError(f"labels: {odd[0]!r}: `;` stands between a row's labels, `-` for none")
    if len(labels) > MAX_LABELS:
        many = f"labels: {len(labels)} of them"
        raise ValueError(f"{many}; a multi-label task has at most {MAX_LABELS}")
    return Task(
        columns=replace(columns(table, label_set_parser(labels), labels), empty_set=EMPTY_SET),
        outputs=len(labels), loss=multi_label, decode=set_above_half,
        metrics=main_first(metric, {"f1": label_f1, "accuracy": accuracy}),
        class_names=label_names(labels), multi_label=True, **common(name, table),
    )  # fmt: skip


def common(name: str, table: Table) -> dict[str, Any]:
    """Return the fields of a Task that mean the same for every kind."""
    return {
        "name": name,
        "table": table,
        "files": files_of(table),
        "dev_share": dev_share(table),
        "long": table.get("long", HEAD_ONLY),
        "title": table.get("title", name),
        "prediction_file": table.get("prediction_file", name + "-{split}-output.csv"),
        "prediction_header": table.get("prediction_header", f"Predicted_{table['label']}"),
        "display_names": tuple(table.get("display_names", ())),
        "pair_encoding": table.get("encoding", ""),
        "pair_loss": table.get("loss", ""),
        "weight": table.get("weight", 1.0),
    }


def files_of(table: Table) -> dict[str, tuple[str, ...]]:
    """Return the names of each split's files: a table has one name, or a list of them."""
    given = {split: table.get(split) for split in SPLITS}
    return {
        split: (names,) if isinstance(names, str) else tuple(names)
        for split, names in given.items()
        if isinstance(names, str | list)
    }


def dev_share(table: Table) -> float:
    """Return the share of the training rows that are the dev set; 0 if it has its own files."""
    dev = table.get("dev", DEV_SHARE)
    return 0.0 if isinstance(dev, str | list) else float(dev)


def columns(table: Table, parse: Callable[[str], float], labels: Any) -> Columns:
    """Return the columns that make an Example; `labels` are those that `parse` knows.

    The kind tells what number each is: a class's place, or a power of two.
    """
    id_, course = table.get("id", ""), table.get("course", False)
    return Columns(
        texts_of(table), table["label"], parse, id_, repr((table.get("kind"), labels)),
        course=course, dialect=dialect_of(table), bad_rows=table.get("bad_rows", MAX_BAD_SHARE),
    )  # fmt: skip


def dialect_of(table: Table) -> Dialect:
    """Return the form of the task's files."""
    quoting, names = table.get("quoting", "auto"), tuple(table.get("columns", ()))
    return Dialect(quoting, names, table.get("delimiter", ""), charset_of(table))


def charset_of(table: Table) -> str:
    """Return how the files' bytes become text; "" for UTF-8, by whatever name."""
    name = table.get("charset", "utf-8")
    return "" if codecs.lookup(name).name in ("utf-8", "utf-8-sig") else name


def texts_of(table: Table) -> tuple[str, ...]:
    """Return the columns of a row's sentences."""
    return (table["text"],) if isinstance(table["text"], str) else tuple(table["text"])


def main_first(main: str, known: dict[str, Metric]) -> dict[str, Metric]:
    """Return the metrics with the main one first. Raises ValueError if that is not one of them."""
    if main not in known:
        why = "of an error less is better; " if main in ERRORS else ""
        raise ValueError(f"metric = {main!r}: {why}write {' or '.join(known)}")
    return {main: known[main], **known}


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
