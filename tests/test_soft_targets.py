"""Soft targets: of a teacher beside the labels, and of the model under another dropout."""

import pytest
import torch

from minbert.task.kinds import classification, multi_labels, regression
from minbert.task.soft_losses import distillation_targets, hard_targets, r_drop_loss, soft_loss

TASKS = {
    "softmax": classification("t", dict(kind="classification", train="", dev="", text="x",
                                        label="y", labels=3)),
    "sigmoid": classification("t", dict(kind="pair-classification", train="", dev="",
                                        text=["a", "b"], label="y", labels=2)),
    "sets": multi_labels("t", dict(kind="multi-label", train="", dev="", text="x", label="y",
                                   labels=["a", "b", "c"])),
    "scores": regression("t", dict(kind="regression", train="", dev="", text="x", label="y")),
}  # fmt: skip


def labels_of(kind: str) -> torch.Tensor:
    labels = {"softmax": [0, 2, 1, 1], "sigmoid": [0, 1, 1, 0], "sets": [0, 5, 7, 2]}
    return torch.tensor(labels.get(kind, [0.5, 4, 2.25, 5]), dtype=torch.float32)


@pytest.mark.parametrize("kind", TASKS)
def test_against_labels_the_soft_loss_is_the_task_s(kind: str) -> None:
    task, labels = TASKS[kind], labels_of(kind)
    outputs = torch.randn(4, task.outputs, generator=torch.manual_seed(1))
    teacher = torch.randn(4, task.outputs)
    expected = task.loss(outputs, labels)
    torch.testing.assert_close(soft_loss(task, outputs, hard_targets(task, labels)), expected)
    w1 = distillation_targets(task, labels, teacher, 1.0)
    torch.testing.assert_close(soft_loss(task, outputs, w1), expected)


@pytest.mark.parametrize("kind", TASKS)
def test_a_teacher_alone_is_the_best_target_of_itself(kind: str) -> None:
    """At w = 0 the gradient vanishes where the outputs are the teacher's."""
    task, teacher = TASKS[kind], torch.randn(4, TASKS[kind].outputs)
    outputs = teacher.clone().requires_grad_()
    soft_loss(task, outputs, distillation_targets(task, labels_of(kind), teacher, 0.0)).backward()
    assert outputs.grad.abs().max() < 1e-6
    half = distillation_targets(task, labels_of(kind), teacher, 0.5)
    both = [distillation_targets(task, labels_of(kind), teacher, w) for w in (0.0, 1.0)]
    torch.testing.assert_close(half, sum(both) / 2)


@pytest.mark.parametrize("kind", TASKS)
def test_two_dropouts_disagree_by_both_divergences(kind: str) -> None:
    task = TASKS[kind]
    one, other = torch.randn(2, 4, task.outputs, generator=torch.manual_seed(2))
    assert r_drop_loss(task, one, one) == 0
    if kind == "scores":
        expected = (one - other).square().mean()
    else:
        made = (
            torch.distributions.Categorical if kind == "softmax" else torch.distributions.Bernoulli
        )
        p, q = made(logits=one), made(logits=other)
        both = torch.distributions.kl_divergence(p, q) + torch.distributions.kl_divergence(q, p)
        expected = both.mean() / 2
    torch.testing.assert_close(r_drop_loss(task, one, other), expected)
