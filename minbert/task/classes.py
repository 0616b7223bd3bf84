"""A task's labels, counted, and how well each of its classes is found. C classes, n rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minbert.task.labels import multi_hot
from minbert.task.tagging import type_counts, types_of
from minbert.task.task import Task

FEW = 10  # training rows of a class, below which it is named in a warning
MOST_LISTED = 20  # classes in a line or table for people


@dataclass(frozen=True)
class ClassScore:
    """How well a class is found among the rows of a split."""

    label: str
    rows: int  # that are of it, or have it in their set; of words its entities
    precision: float  # of the rows it was predicted for; 0 if there are none
    recall: float  # of its own rows; 0 if there are none
    f1: float

    @property
    def note(self) -> str:
        """What should not be overlooked."""
        if not self.rows:
            return "none"
        return "" if self.recall else "never found"


def class_counts(task: Task, labels: np.ndarray) -> np.ndarray:
    """Return how many of these rows are of each class, or have it in their set, (C,)."""
    if task.multi_label:
        return multi_hot(labels, len(task.classes)).sum(0)
    return np.bincount(labels.astype(np.int64), minlength=len(task.classes))


def display_counts(task: Task, labels: np.ndarray) -> dict[str, int]:
    """Return `class_counts` by the classes' names for people; of words the entities by type.

    labels: (n,), by row.
    """
    if task.per_word:
        return dict(zip(types_of(task), type_counts(task, labels, labels)[2].tolist(), strict=True))
    return dict(zip(task.display_classes, class_counts(task, labels).tolist(), strict=True))


def class_scores(task: Task, predictions: np.ndarray, labels: np.ndarray) -> list[ClassScore]:
    """Return precision, recall and F1 of each class over a whole split; of scores, nothing.

    In token classification those of each type of entity.
    """
    if not task.classes:
        return []
    names = task.display_classes
    if task.per_word:
        names, (found, predicted, gold) = types_of(task), type_counts(task, predictions, labels)
    else:
        if task.multi_label:
            both = predictions.astype(np.int64) & labels.astype(np.int64)
        else:
            both = labels[predictions == labels]
        found, predicted, gold = (class_counts(task, rows) for rows in (both, predictions, labels))
    numbers = (found / np.maximum(predicted, 1), found / np.maximum(gold, 1))
    f1 = 2 * found / np.maximum(predicted + gold, 1)
    return [
        ClassScore(*row)
        for row in zip(names, *(x.tolist() for x in (gold, *numbers, f1)), strict=True)
    ]


def scores_to_show(scores: Sequence[ClassScore]) -> list[ClassScore]:
    """Return the classes to list: all in their order, or of too many those with the lowest F1.

    Classes without rows come after all others.
    """
    if len(scores) <= MOST_LISTED:
        return list(scores)
    return sorted(scores, key=lambda score: (not score.rows, score.f1))[:MOST_LISTED]


def label_summary(task: Task, labels: np.ndarray) -> dict[str, Any]:
    """Return the rows of each class, by its name in files; of scores lowest, mean and highest.

    In token classification it is `display_counts`. labels: (n,), by row.
    """
    if task.per_word:
        return display_counts(task, labels)
    if task.classes:
        return dict(zip(task.classes, class_counts(task, labels).tolist(), strict=True))
    ends = {"lowest": float(labels.min()), "mean": float(labels.mean())}
    return {**ends, "highest": float(labels.max())}


def describe_labels(task: Task, labels: np.ndarray) -> str:
    """Return `label_summary` for people: billing 12, delivery 30, other 5."""
    if task.classes:
        return _listed([f"{n} {x:,}" for n, x in display_counts(task, labels).items()])
    return ", ".join(f"{n} {task.describe(x)}" for n, x in label_summary(task, labels).items())


def describe_rare_classes(task: Task, labels: np.ndarray) -> str:
    """Return a line that names the classes with fewer than FEW training rows, "" if none has.

    For words they are the types with fewer than FEW entities.
    """
    if not task.classes:
        return ""
    rare = [
        f"{name} {count}" for name, count in display_counts(task, labels).items() if count < FEW
    ]
    if not rare:
        return ""
    what = "places in the training rows" if task.per_word else "training rows"
    return f"{task.name}: classes with fewer than {FEW} {what}: {_listed(rare)}"


def _listed(parts: list[str]) -> str:
    """Join what is not too long to read."""
    more = len(parts) - MOST_LISTED
    return ", ".join(parts[:MOST_LISTED]) + (f" and {more:,} more" if more > 0 else "")
