"""What a task is: files, columns, a head size, and three small functions."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from minbert.data.examples import Columns
from minbert.metrics import Metric


@dataclass(frozen=True)
class Task:
    """Data plus three small functions: loss, decode, metrics."""

    name: str
    files: dict[str, str]  # train / dev / test -> file name in --data-dir
    columns: Columns
    outputs: int  # size of the head's output
    loss: Callable[[Tensor, Tensor], Tensor]  # (S, outputs), (S,) -> mean loss
    decode: Callable[[np.ndarray], np.ndarray]  # (n, outputs) -> (n,) predictions
    metrics: dict[str, Metric]  # the first is the main one
    prediction_file: str  # with {split}: the course's name
    prediction_header: str  # the course's column name
    title: str

    @property
    def main_metric(self) -> str:
        return next(iter(self.metrics))

    @property
    def is_classification(self) -> bool:
        return self.main_metric == "accuracy"

    @property
    def is_correlation(self) -> bool:
        return self.main_metric in ("pearson", "spearman")


def class_label(classes: int) -> Callable[[str], float]:
    """A parser that takes 0 .. classes-1, also written 1.0."""

    def parse(text: str) -> float:
        value = float(text)
        if value not in range(classes):
            raise ValueError(f"expected a whole number from 0 to {classes - 1}")
        return value

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
