"""Losses against soft targets: knowledge distillation from a teacher, and R-Drop.

S sequences, pairs or words, C outputs. Targets are probabilities in classification, (S, C), and
numbers in regression, (S, 1).
"""

from torch import Tensor
from torch.nn import functional as F

from minbert.losses import multi_hot
from minbert.task.task import REGRESSION, SINGLE_LABEL, Task


def soft_outputs(task: Task, outputs: Tensor) -> Tensor:
    """Return what outputs say in the form of targets, (S, C) -> (S, C)."""
    if task.problem_type == REGRESSION:
        return outputs.float()
    if task.problem_type == SINGLE_LABEL:
        return outputs.float().softmax(-1)
    return outputs.float().sigmoid()


def hard_targets(task: Task, labels: Tensor) -> Tensor:
    """Return labels (S,) in the form of targets, (S, C)."""
    if task.problem_type == SINGLE_LABEL:
        return F.one_hot(labels.long(), task.outputs).float()
    if task.multi_label:
        return multi_hot(labels, task.outputs)
    return labels.float()[:, None]


def distillation_targets(task: Task, labels: Tensor, teacher: Tensor, w: float) -> Tensor:
    """Return w label + (1 - w) teacher, (S, C): distillation with teacher annealing.

    BAM, Clark et al. (2019), section 3. labels (S,); teacher: the outputs of a teacher, (S, C).
    """
    return w * hard_targets(task, labels) + (1 - w) * soft_outputs(task, teacher)


def soft_loss(
    task: Task, outputs: Tensor, targets: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Return the mean loss against targets; with those of labels it is the task's own loss.

    weights: of the rows, from `row_weights`.
    """
    outputs = outputs.float()
    if task.problem_type == REGRESSION:
        return F.mse_loss(outputs / task.unit, targets / task.unit)
    if task.problem_type == SINGLE_LABEL:
        if weights is None:
            return F.cross_entropy(outputs, targets)
        return (weights * F.cross_entropy(outputs, targets, reduction="none")).mean()
    return F.binary_cross_entropy_with_logits(outputs, targets, weights)


def r_drop_loss(task: Task, one: Tensor, other: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the R-Drop loss of two outputs (S, C) of the same rows (Liang et al., 2021).

    In classification the mean of both Kullback-Leibler divergences, in regression the squared
    difference in the task's unit. weights: of the rows, from `row_weights`.
    """
    one, other = one.float(), other.float()
    if task.problem_type == REGRESSION:
        return F.mse_loss(one / task.unit, other / task.unit)
    p, q = soft_outputs(task, one), soft_outputs(task, other)
    if task.problem_type == SINGLE_LABEL:  # KL(p, q) + KL(q, p) = sum of (p - q) (log p - log q)
        logs = one.log_softmax(-1) - other.log_softmax(-1)
        each = ((p - q) * logs).sum(-1)
    else:  # of a class that is there or not, log p - log q + log (1-q) - log (1-p) = one - other
        each = (p - q) * (one - other)
    return (each if weights is None else weights * each).mean() / 2
