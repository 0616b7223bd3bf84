"""Weights of a task's classes, for those that have few rows (`class_weight`).

A row of weight 3 counts as three rows. The weights are divided by their mean over the training
rows, so that the loss keeps its size beside the other tasks'. A batch's loss is a plain mean over
its rows: the losses of its parts (--accumulate, several processes) add up to it. C classes, n rows.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from minbert import losses
from minbert.task.classes import class_counts
from minbert.task.table_checks import BALANCED
from minbert.task.task import SINGLE_LABEL, Task


def class_weights(task: Task, labels: np.ndarray) -> np.ndarray:
    """Return the weights of a task's `class_weight` by its training labels (n,): (C,).

    Those of a multi-label task are (2, C): of a row without the class, and of one with it.
    "balanced" is n / (classes count), as scikit-learn has it; each label of a multi-label task is
    two classes.
    """
    given, counts = task.table["class_weight"], class_counts(task, labels)
    # (classes, choices): one choice between all, or of each label whether it is absent or present
    counts = np.stack([len(labels) - counts, counts]) if task.multi_label else counts[:, None]
    if given == BALANCED:
        weights = len(labels) / (len(counts) * np.maximum(counts, 1))
    else:
        weights = np.ones(counts.shape)
        for place, name in enumerate(task.classes):
            at = (1, place) if task.multi_label else (place, 0)
            weights[at] = given.get(name, 1)
    weights = weights * len(labels) / (weights * counts).sum(0)
    return weights if task.multi_label else weights[:, 0]


def with_class_weights(task: Task, labels: np.ndarray, device: torch.device) -> Task:
    """Return a task whose loss has the weights that its table asks for, by its training labels."""
    if "class_weight" not in task.table:
        return task
    weights = torch.from_numpy(class_weights(task, labels)).float().to(device)
    return replace(task, class_weights=weights, loss=partial(task.loss, weights=weights))


def row_weights(task: Task, labels: Tensor) -> Tensor | None:
    """Return the weight of each row, (S,), or of each of its outputs, (S, C); None: all are 1.

    labels: (S,). The outputs of a softmax are weighted together, sigmoids one by one.
    """
    if task.class_weights is None:
        return None
    if task.multi_label:
        present = losses.multi_hot(labels, task.outputs)
        return losses.weights_of_sets(task.class_weights, present)
    weights = losses.weights_of_rows(task.class_weights, labels)
    return weights if task.problem_type == SINGLE_LABEL else weights[:, None]
