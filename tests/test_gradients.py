"""Gradients of several tasks in one step: added, or projected off each other."""

from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import train_multitask
from experiments.run_records import record_of
from minbert.run import fine_tuning
from minbert.tensors import load_tensors
from minbert.training import gradients as combining
from minbert.training.gradients import TaskGradients, cosines, projected_sum
from tests.conftest import logged, run
from tests.flags import Outcome, watched

SAME = """
[same]
kind = "pair-classification"
train = "quora-train.csv"
dev = "quora-dev.csv"
text = ["sentence1", "sentence2"]
label = "is_duplicate"
labels = 2
"""


def test_projected_gradients_do_not_go_against_each_other() -> None:
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0])
    assert cosines({"a": a, "b": b})["a b"] == pytest.approx(-(0.5**0.5))
    # a - (a.b/|b|^2) b = (.5, .5); b - (a.b/|a|^2) a = (0, 1)
    torch.testing.assert_close(projected_sum({"a": a, "b": b}, [0]), torch.tensor([0.5, 1.5]))
    same = {"a": a, "b": torch.tensor([1.0, 1.0])}
    torch.testing.assert_close(projected_sum(same, [0]), torch.tensor([2.0, 1.0]))
    assert torch.equal(projected_sum({"a": a, "nothing": torch.zeros(2)}, [0]), a)


def test_gradients_of_many_weights_are_projected_exactly() -> None:
    a, b = torch.randn(2, 10**7, generator=torch.manual_seed(0))
    b -= a
    exact = torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0)
    found = cosines({"a": a, "b": b, "again": a})
    assert found["a b"] == pytest.approx(float(exact), abs=1e-6)
    assert found["a again"] == pytest.approx(1, abs=1e-6)
    expected = projected_sum({"a": a.double(), "b": b.double()}, [0])
    torch.testing.assert_close(projected_sum({"a": a, "b": b}, [0]), expected.float())


def test_two_tasks_without_a_gradient_in_the_same_step_have_the_cosine_0(world: Path) -> None:
    """NaN in the log would end the run at its report, when all has been trained."""
    pairs = ["--tasks", "quora,same", "--pair-encoding", "siamese", "--pair-loss", "mnr"]
    (world / "own.toml").write_text(SAME)
    own = ["--task-file", str(world / "own.toml"), "--batch-size", "2", "--skip-predictions"]
    assert run(world, "--name", "run", "--mode", "joint", "--steps", "4", *pairs, *own) == 0
    lines = logged(world / "runs/run", "step")
    nothing = [x["step"] for x in lines if x["loss"] is None]
    both = {step for step in nothing if nothing.count(step) == 2}
    found = {x["step"]: x["cosines"]["quora same"] for x in lines if "cosines" in x}
    assert both and all(found[step] == 0 for step in both)


def test_a_frozen_encoder_has_no_gradients_to_compare(world: Path) -> None:
    frozen = ["--mode", "joint", "--fine-tune-mode", "last-linear-layer", "--steps", "2"]
    run(world, "--name", "run", *frozen, "--skip-predictions")
    steps = logged(world / "runs/run", "step")
    assert len(steps) == 4 and not any("cosines" in line for line in steps)


def test_a_parameter_that_no_task_reaches_stays_without_gradient() -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    gradients = TaskGradients([unused, used])
    for name, factor in (("a", 1.0), ("b", 3.0)):
        (used.sum() * factor).backward()
        gradients.take(name)
        assert used.grad is None
    gradients.put("sum", [0])
    assert unused.grad is None and used.grad.tolist() == [4.0, 4.0]


@pytest.mark.parametrize(("combine", "expected"), [("sum", [0.0, 1.0]), ("pcgrad", [0.5, 1.5])])
def test_gradients_are_combined_as_said(combine: str, expected: list[float]) -> None:
    p = nn.Parameter(torch.zeros(2))
    gradients = TaskGradients([p])
    for name, gradient in (("a", [1.0, 0.0]), ("b", [-1.0, 1.0])):
        p.grad = torch.tensor(gradient)
        gradients.take(name)
    gradients.put(combine, [0])
    torch.testing.assert_close(p.grad, torch.tensor(expected))


def test_what_is_combined_is_the_encoder_s(
    world: Path, monkeypatch: pytest.MonkeyPatch, no_dropout: None
) -> None:
    """The heads have the gradients of their own tasks, whatever becomes of the others'."""
    options = ["--mode", "joint", "--steps", "1", "--clip", "0", "--hidden-dropout-prob", "0"]
    run(world, "--name", "sum", *options)
    nothing = lambda by_task, seed: torch.zeros_like(next(iter(by_task.values())))  # noqa: E731
    monkeypatch.setattr(combining, "projected_sum", nothing)
    run(world, "--name", "pcgrad", *options, "--combine", "pcgrad")
    added, projected = (
        load_tensors(world / "runs" / name / "last/optimizer.safetensors")
        for name in ("sum", "pcgrad")
    )
    heads = [key for key in added if key.startswith("exp_avg/heads.")]
    encoder = [key for key in added if key.startswith("exp_avg/encoder.")]
    assert heads and all(added[key].any() for key in heads)
    assert all(torch.equal(added[key], projected[key]) for key in heads)
    assert encoder and not any(projected[key].any() for key in encoder)


def test_gradients_of_three_tasks_are_projected_in_random_order() -> None:
    """And each against the others as they were."""
    gradients = dict(zip("abc", torch.randn(3, 4, generator=torch.manual_seed(1)), strict=True))

    def without(g: torch.Tensor, others: str) -> torch.Tensor:
        for name in others:
            other = gradients[name]
            g = g - (g @ other).clamp(max=0) / (other @ other) * other
        return g

    a, b, c = gradients.values()
    possible = [
        without(a, x) + without(b, y) + without(c, z)
        for x in ("bc", "cb") for y in ("ac", "ca") for z in ("ab", "ba")
    ]  # fmt: skip
    found = [projected_sum(gradients, [seed]) for seed in range(30)]
    assert any(not torch.allclose(g, found[0], atol=1e-4) for g in found)
    assert all(any(torch.allclose(g, p, atol=1e-6) for p in possible) for g in found)
    assert torch.equal(found[3], projected_sum(gradients, [3]))


def test_every_step_of_a_seed_is_projected_in_an_order_of_its_own(world: Path) -> None:
    """A run that was stopped goes on with the same ones, as they depend on nothing else."""
    outcome = Outcome(world)
    with watched(outcome, train_multitask.TaskGradients, "put"):
        options = ["--mode", "joint", "--combine", "pcgrad", "--seed", "7", "--steps", "3"]
        run(world, "--skip-predictions", *options)
    assert [order for (_, _, order), _ in outcome.seen["put"]] == [[7, 0], [7, 1], [7, 2]]


def test_the_time_of_a_step_is_shared_by_its_tasks(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of 4 seconds, and 30 before the first one: together the minutes of a record."""
    for module, seconds in ((train_multitask, 4), (fine_tuning, 30)):
        clock = SimpleNamespace(monotonic=count(0, seconds).__next__)
        monkeypatch.setattr(module, "time", clock)
    run(world, "--name", "run", "--mode", "joint", "--steps", "2", "--skip-predictions")
    found = [line["seconds"] for line in logged(world / "runs/run", "step")]
    assert found == pytest.approx([2.0] * 4, abs=0.5)
    assert record_of(world / "runs/run").minutes == pytest.approx(38 / 60, abs=0.02)
