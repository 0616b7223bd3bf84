"""Which task's batch comes when, in the modes beyond the paper's, and where a run ends."""

from pathlib import Path

import numpy as np
import pytest

from minbert import UserError
from minbert.training.mixing import Plan, annealed_shares
from tests.conftest import logged, run

SIZES = {"sst": 50, "quora": 800, "sts": 100}


def annealed(epochs: int = 3, powers: tuple[float, float] = (1.0, 0.2)) -> Plan:
    return Plan("annealed", SIZES, epochs, {}, seed=5, powers=powers)


def test_tasks_are_drawn_by_size_at_first_and_almost_alike_at_the_end() -> None:
    plan = annealed(epochs=40)
    drawn = [plan.draws(step)[0].task for step in range(plan.steps)]
    for part, a in ((drawn[: plan.steps // 20], 0.98), (drawn[-plan.steps // 20 :], 0.22)):
        expected = np.array(list(SIZES.values())) ** a
        expected = expected / expected.sum()
        found = np.array([part.count(task) for task in SIZES]) / len(part)
        np.testing.assert_allclose(found, expected, atol=4 * np.sqrt(0.25 / len(part)))


def test_the_power_falls_linearly() -> None:
    weights = np.array([[50, 800, 100]]) ** np.array([[1.0], [0.8], [0.6], [0.4], [0.2]])
    shares = annealed_shares((50, 800, 100), (1.0, 0.2), steps=5)
    np.testing.assert_allclose(shares, weights / weights.sum(1, keepdims=True))


@pytest.mark.parametrize("powers", [(1.0, 0.2), (0.5, 0.5), (0.0, 0.0)])
def test_epochs_are_passes_over_the_largest_set(powers: tuple[float, float]) -> None:
    passes = annealed(epochs=3, powers=powers).passes()
    assert abs(passes["quora"] - 3) < 0.15
    assert passes["sst"] > 3 and passes["sts"] > 3
    if powers == (0.0, 0.0):
        assert abs(passes["sst"] - 48) < 3  # as in parallel mode


def test_above_1_small_sets_come_late() -> None:
    for powers, low, high in (((2.0, 0.2), 0.02, 0.25), ((1.0, 0.7), 0.35, 0.5)):
        plan = annealed(epochs=30, powers=powers)
        in_first_half = sum(step < plan.steps / 2 for step in plan.steps_with("sst"))
        assert low < in_first_half / plan.count_steps("sst") < high


def test_every_batch_of_a_task_comes_once_before_any_comes_twice() -> None:
    plan = annealed()
    for task, b in SIZES.items():
        draws = [d for step in range(plan.steps) for d in plan.draws(step) if d.task == task]
        assert [(d.epoch, d.batch) for d in draws] == [divmod(i, b) for i in range(len(draws))]
    other = Plan("annealed", SIZES, 3, {}, seed=6, powers=(1.0, 0.2))
    steps = range(200)
    assert [plan.draws(s) for s in steps] != [other.draws(s) for s in steps]


@pytest.mark.parametrize("steps", [0, 11, 45])
@pytest.mark.parametrize("mode", ["parallel", "annealed", "shuffle", "joint", "sequential"])
def test_the_steps_of_a_task_are_those_that_are_drawn(mode: str, steps: int) -> None:
    batches = {"a": 3, "b": 7}
    plan = Plan(mode, batches, 2, {"a": 2, "b": 1}, 1, (1.0, 0.2), steps)
    drawn = [{d.task for d in plan.draws(step)} for step in range(plan.steps)]
    for task in batches:
        assert plan.count_steps(task) == sum(task in tasks for tasks in drawn)
        assert list(plan.steps_with(task)) == [i for i, tasks in enumerate(drawn) if task in tasks]
        own = [d for step in range(plan.steps) for d in plan.draws(step) if d.task == task]
        if mode != "shuffle":  # whose batches come in another order in each pass
            in_order = [divmod(i, batches[task]) for i in range(len(own))]
            assert [(d.epoch, d.batch) for d in own] == in_order


@pytest.mark.parametrize("mode", ["parallel", "annealed", "shuffle", "joint"])
def test_a_run_ends_after_steps(world: Path, mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And says before how many passes each set will get."""
    run(world, "--name", "run", "--mode", mode, "--steps", "7", "--skip-predictions")
    drawn = [line["task"] for line in logged(world / "runs/run", "step")]
    sst, sts = drawn.count("sst") / 5, drawn.count("sts") / 3  # batches of the sets
    assert f"passes over each set: sst {sst:.1f}, sts {sts:.1f}\n" in capsys.readouterr().out
    assert {line["step"] for line in logged(world / "runs/run", "step")} == set(range(1, 8))
    assert logged(world / "runs/run", "dev")[-1]["step"] == 7


@pytest.mark.parametrize(
    ("words", "sst", "sts"),
    [
        ("--mode single --steps 7", 1.4, 2.3),
        ("--mode single --epochs sst=1,sts=3", 1.0, 3.0),
        ("--mode single --fine-tune-mode last-linear-layer --epochs 2", 2.0, 2.0),
        ("--tasks sst", 2.0, None),
        ("--mode sequential", 2.0, 2.0),
    ],
)
def test_every_run_says_how_many_passes_each_set_gets(
    world: Path, capsys: pytest.CaptureFixture[str], words: str, sst: float, sts: float | None
) -> None:
    """And its dry run says the same, in one line for all tasks."""
    options = [*words.split(), "--skip-predictions"]
    both = [f"sst {sst}"] + ([f"sts {sts}"] if sts else [])
    run(world, "--name", "run", *options)
    told = capsys.readouterr().out
    for line in both if "single" in words else [", ".join(both)]:
        assert f"passes over each set: {line}\n" in told
    run(world, *options, "--dry-run")
    assert f"passes over each set: {', '.join(both)}\n" in capsys.readouterr().out


@pytest.mark.parametrize("mode", ["annealed", "shuffle"])
def test_the_order_of_tasks_is_drawn_by_the_seed(world: Path, mode: str) -> None:
    orders = []
    for seed in ("1", "2"):
        run(world, "--name", seed, "--seed", seed, "--mode", mode, "--skip-predictions")
        orders.append([line["task"] for line in logged(world / "runs" / seed, "step")])
    assert orders[0] != orders[1]


def test_single_tasks_have_epochs_of_their_own(world: Path) -> None:
    run(world, "--name", "run", "--mode", "single", "--epochs", "sst=1,sts=3")
    steps = {task: len(logged(world / "runs/run" / task, "step")) for task in ("sst", "sts")}
    assert steps == {"sst": 5, "sts": 9}
    for task, rows in (("sst", 40), ("sts", 60)):  # batches need not be full
        lines = logged(world / "runs/run" / task, "step")
        assert sum(line["examples"] for line in lines) == rows
    with pytest.raises(UserError, match="goes with --mode single, and has each of its tasks"):
        run(world, "--mode", "single", "--epochs", "sst=1")
    with pytest.raises(UserError, match="goes with --mode single"):
        run(world, "--epochs", "sst=1,sts=3")
