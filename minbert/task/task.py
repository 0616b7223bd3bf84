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
    names: tuple[str, ...] = ()  # of the classes, if they are not numbers
    called: tuple[str, ...] = ()  # if they are: what an exported model should call them
    top: float = 1.0  # the largest score: what a cosine of 1 stands for
    many: bool = False  # a row has a set of classes: the sum of 2^class
    encoding: str = ""  # of pairs unless --pair-encoding says otherwise: cross or siamese
    pair_loss: str = ""  # of siamese pairs unless --pair-loss says otherwise
    weight: float = 1.0  # of its loss beside the other tasks'

    @property
    def main_metric(self) -> str:
        return next(iter(self.metrics))

    @property
    def is_classification(self) -> bool:
        return not self.is_correlation

    @property
    def problem_type(self) -> str:
        """By transformers' names, which go by the loss; the one logit of a pair is a yes or no."""
        if self.is_correlation:
            return "regression"
        yes_or_no = self.many or self.outputs == 1
        return "multi_label_classification" if yes_or_no else "single_label_classification"

    def shown(self, prediction: float) -> str:
        """A prediction as people write it: the names of its classes, or the number."""
        if self.many:
            own = (name for i, name in enumerate(self.names) if int(prediction) >> i & 1)
            return ";".join(own) or "-"
        return self.names[int(prediction)] if self.names else str(prediction)

    @property
    def is_correlation(self) -> bool:
        return self.main_metric in ("pearson", "spearman")
