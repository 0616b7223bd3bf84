"""What a task is: a table of keys, and what its kind makes of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from minbert.data.examples import Columns
from minbert.data.tables import file_ending
from minbert.metrics import Metric
from minbert.task.labels import EMPTY_SET, SEPARATOR, as_number

REGRESSION, SINGLE_LABEL = "regression", "single_label_classification"  # transformers' words
Table = dict[str, Any]  # a task's keys and values in a task file
Prediction = float | np.ndarray  # of a row: a number, or of each of its words the number of a tag


SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Task:
    """A task: its data, and its functions loss, decode and metrics."""

    name: str
    table: Table  # what all other fields are made from; a run keeps it in its tasks.toml
    files: dict[str, tuple[str, ...]]  # train / dev / test -> file names in --data-dir
    columns: Columns
    outputs: int  # size of the head's output
    loss: Callable[[Tensor, Tensor], Tensor]  # (I, outputs), (I,) -> mean loss over rows or words
    decode: Callable[[np.ndarray], np.ndarray]  # (n, outputs) -> (n,) predictions, by row
    metrics: dict[str, Metric]  # the first is the main one
    prediction_file: str  # file name with {split} in it
    prediction_header: str  # the name of the predictions' column
    title: str
    class_names: tuple[str, ...] = ()  # in the data and in predictions; (): classes are numbers
    display_names: tuple[str, ...] = ()  # of classes that are numbers: for people and exports
    low: float = 0.0  # lowest label, which a siamese cosine of 0 means
    high: float = 1.0  # highest label, which a siamese cosine of 1 means
    unit: float = 1.0  # regression: the loss is ((output - label) / unit)^2; a fifth of the range
    multi_label: bool = False  # a label is a set of classes, as the sum of 2^class
    per_word: bool = False  # token classification: a class for each word; predictions are arrays
    pair_encoding: str = ""  # of pairs: cross, siamese or both; --pair-encoding overrides it
    pair_loss: str = ""  # of siamese pairs; --pair-loss overrides it
    weight: float = 1.0  # factor of the task's loss
    long: str = "head"  # which part of too long a text is read, see long_texts.py
    dev_share: float = 0.0  # share of the training rows that is the dev set; 0: dev has own files
    dev_ids: frozenset[str] | None = None  # ids of those rows, once they are drawn
    dev_entries: frozenset[str] = frozenset()  # "id hash" of each, which tells of changed texts
    class_weights: Tensor | None = None  # factors in the loss, see balance.py

    def paths(self, split: str, data_dir: Path) -> tuple[Path, ...]:
        """Return the files that a split's rows are in, one after the other; () if there are none.

        Those of dev may be train's: `load_task` tells which rows are whose.
        """
        place = "train" if split == "dev" and self.dev_share else split
        return tuple(data_dir / name for name in self.files.get(place, ()))

    @property
    def endings(self) -> set[str]:
        """The endings of its files, such as .csv."""
        return {file_ending(Path(name)) for names in self.files.values() for name in names}

    @property
    def is_pair(self) -> bool:
        """Whether a row has two sentences."""
        return len(self.columns.texts) == 2

    @property
    def main_metric(self) -> str:
        """The name of the metric that `best/` is chosen by."""
        return next(iter(self.metrics))

    @property
    def is_regression(self) -> bool:
        """Whether the labels are scores, not classes: the main metric is a correlation."""
        return self.main_metric in ("pearson", "spearman")

    @property
    def is_classification(self) -> bool:
        """Whether the labels are classes, not scores."""
        return not self.is_regression

    @property
    def problem_type(self) -> str:
        """The name of the loss in transformers; a single logit is a set of one label there."""
        if self.is_regression:
            return REGRESSION
        sigmoid = self.multi_label or self.outputs == 1
        return "multi_label_classification" if sigmoid else SINGLE_LABEL

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes as files have them: their names or numbers; () for scores."""
        if self.is_regression:
            return ()
        return self.class_names or tuple(map(str, range(max(2, self.outputs))))

    @property
    def display_classes(self) -> tuple[str, ...]:
        """The classes as people read them."""
        return self.display_names or self.classes

    def format_prediction(self, prediction: Prediction) -> str:
        """Return a prediction as files have it: the names of its classes, or the number."""
        if isinstance(prediction, np.ndarray):
            return " ".join(self.classes[int(tag)] for tag in prediction)
        if self.multi_label:
            names = (name for i, name in enumerate(self.class_names) if int(prediction) >> i & 1)
            return SEPARATOR.join(names) or EMPTY_SET
        if self.is_classification and not self.columns.course:  # whose form has 1.0
            return self.classes[int(prediction)]
        return self.class_names[int(prediction)] if self.class_names else str(prediction)

    def parse_prediction(self, text: str, is_label: bool = False) -> Prediction:
        """Read a prediction that a file has, also by a class's name for people.

        is_label: a text that is both such a name and a class's number is read as the name. Raises
        ValueError for what is no prediction.
        """
        if self.per_word:
            return np.array([self.parse_one(tag, is_label) for tag in text.split(" ")])
        return self.parse_one(text, is_label)

    def parse_one(self, text: str, is_label: bool) -> float:
        """Read a predicted class, set of classes or score. Raises ValueError for what is none."""
        if text in self.display_names and (is_label or text not in self.classes):
            return float(self.display_names.index(text))
        if self.is_classification:
            return self.columns.parse_label(text)
        score = as_number(text)  # it may lie outside the labels' range
        if score is None:
            raise ValueError(f"{text!r} is no number")
        return score

    def display_label(self, prediction: Prediction) -> str:
        """Return a prediction for people: the names of its classes, or the number."""
        if isinstance(prediction, np.ndarray):
            return " ".join(self.display_classes[int(tag)] for tag in prediction)
        if self.is_classification and not self.multi_label:
            return self.display_classes[int(prediction)]
        return self.format_prediction(prediction)

    def describe(self, prediction: float) -> str:
        """Return a prediction or label for people, a score to `decimal_places`."""
        if not self.is_regression:
            return self.display_label(prediction)
        return f"{round(prediction, self.decimal_places) + 0.0:.15g}"  # -0 + 0 is 0

    @property
    def decimal_places(self) -> int:
        """How many of them tell scores apart: two, and more if their range is small."""
        return max(2, 2 - math.floor(math.log10(self.high - self.low)))


Tasks = dict[str, Task]  # by name


def main_scores(tasks: list[Task], scores: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return each task's main metric, out of all its metrics."""
    return {task.name: scores[task.name][task.main_metric] for task in tasks}


def has_2024_form(tasks: list[Task]) -> bool:
    """Return whether the mean of these tasks has a form of its own in the course of 2024.

    It is defined for the course's tasks, and differs from the mean where there is a correlation.
    """
    return any(t.is_regression for t in tasks) and all(t.columns.course for t in tasks)
