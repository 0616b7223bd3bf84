"""Two processes under torchrun work as one: the same weights, stopped or not."""

import json
import math
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import pretrain_mlm
import train_multitask
from minbert.data.encoded import EncodedSplit
from minbert.files import read_json_lines as read_log
from minbert.run import rundir
from minbert.run.train_args import Args
from minbert.task.evaluation import compute_outputs
from minbert.training import distributed
from tasks.sample import TASK_FILE
from tests.conftest import arguments, cut, run, weights
from tests.forked import together
from tests.processes import finish, two, wait_for_step


def assert_near(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """1e-6: sums of gradients in another order, over 20 steps."""
    assert one.keys() == other.keys()
    for name, w in one.items():
        torch.testing.assert_close(w, other[name], rtol=0, atol=1e-6, msg=name)


STILL = ("--hidden-dropout-prob", "0", "--precision", "fp32", "--skip-predictions")


def in_two(world: Path, script: str, argv: list[str]) -> str:
    """Run a script in two processes; return what they print, which the first one does alone."""
    outcomes = [process.finish() for process in together(script, argv, [world, world])]
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes
    return "".join(outcome.out for outcome in outcomes)


@pytest.mark.parametrize("extra", [(), ("--accumulate", "2", "--batch-size", "13")])
def test_two_processes_equal_one(still: Path, extra: tuple[str, ...]) -> None:
    """Batches of 13 of 40 rows end with one of a single row: the other process has none.

    torchrun starts the one pair of processes, `together` the other, and those of later tests.
    """
    words = (*STILL, "--no-skip-predictions", *extra)
    run(still, "--name", "one", *words)
    argv = arguments(still, "--name", "two", *words)
    out = in_two(still, "train", argv) if extra else finish(two("train_multitask.py", argv))
    assert out.count("before training:") == 1
    for name in ("last", "best"):
        assert_near(weights(still / "runs/one" / name), weights(still / "runs/two" / name))
    one, two_ = (read_log(still / "runs" / name / "log.jsonl") for name in ("one", "two"))
    assert [line["event"] for line in one] == [line["event"] for line in two_]
    steps = [(a, b) for a, b in zip(one, two_, strict=True) if a["event"] == "step"]
    assert len(steps) >= 14 and all(abs(a["loss"] - b["loss"]) < 1e-5 for a, b in steps)
    assert all(a["tokens"] == b["tokens"] for a, b in steps)
    name = "predictions/sst-dev-logits.jsonl"
    rows = [read_log(still / "runs" / who / name) for who in ("one", "two")]
    assert [r["id"] for r in rows[0]] == [r["id"] for r in rows[1]]
    logits = [[r["logits"] for r in of_run] for of_run in rows]
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-5)
    assert (still / "runs/two/README.md").is_file()


@pytest.mark.thorough
def test_siamese_and_frozen_runs_are_shared_too(still: Path) -> None:
    for kind in (
        ["--pair-encoding", "siamese"],
        ["--pair-encoding", "both"],
        ["--fine-tune-mode", "last-linear-layer"],
    ):
        run(still, "--name", f"one-{kind[1]}", *STILL, *kind)
        name = f"two-{kind[1]}"
        both = arguments(still, "--name", name, *STILL, "--no-skip-predictions", *kind)
        in_two(still, "train", both)
        one, other = (weights(still / f"runs/{n}-{kind[1]}/last") for n in ("one", "two"))
        assert_near(one, other)


@pytest.mark.parametrize(
    "words",
    [
        "--mode annealed --average 0.5 --task-weight sst=2 --layer-decay 0.8 --no-correct-bias",
        "--mode joint --combine pcgrad --heads-first 2 --accumulate 2 --reinit-layers 1",
        "--teacher {teacher} --r-drop sst=1,sts=0.5 --steps 12 --mode annealed --average 0.5",
        "--mode annealed --sampling-power 0.5 --pool-layers 1,2 --pooling mean",
        "--mode joint --combine pcgrad --pair-encoding siamese --towers separate --steps 6",
    ],
)
def test_recipes_in_two_processes_equal_one(still: Path, words: str) -> None:
    teacher = still / "runs/teacher"
    if "{teacher}" in words:
        run(still, "--name", "teacher", *STILL)
    options = [*STILL, *words.format(teacher=teacher).split()]
    run(still, "--name", "one", *options)
    shutil.rmtree(still / "runs/.teachers", ignore_errors=True)  # two make it themselves
    in_two(still, "train", arguments(still, "--name", "two", *options))
    for folder in ("last", "best"):
        one, other = (weights(still / "runs" / name / folder) for name in ("one", "two"))
        assert_near(one, other)
    # with the moments is the weights' mean, if there is one
    one, other = (load_file(still / f"runs/{n}/last/optimizer.safetensors") for n in ("one", "two"))
    assert_near(one, other)


@pytest.mark.thorough
def test_several_runs_in_two_processes_have_their_teachers_in_common(still: Path) -> None:
    run(still, "--name", "teacher", *STILL)
    options = [*STILL, "--no-skip-predictions", "--seeds", "2", "--steps", "4"]
    options += ["--teacher", str(still / "runs/teacher")]
    run(still, "--name", "one", *options)
    in_two(still, "train", arguments(still, "--name", "two", *options))
    for seed in ("seed-11711", "seed-11712"):
        one, other = (weights(still / f"runs/{name}/{seed}/last") for name in ("one", "two"))
        assert_near(one, other)
    assert not (still / "runs/two/seed-11711/teachers").exists()


def test_pre_training_in_two_processes_equals_one(still: Path) -> None:
    base = arguments(still, "--precision", "fp32", "--held-out", "2", "--batch-size", "9")
    pretrain_mlm.main([*base, "--name", "one"])
    pretrain_mlm.main([*base, "--name", "parts", "--accumulate", "4"])
    in_two(still, "pretrain", [*base, "--name", "two"])
    one, parts, other = (
        load_file(still / f"runs/{name}/last/model.safetensors") for name in ("one", "parts", "two")
    )
    assert_near(one, parts)
    assert_near(one, other)


def test_stopped_with_two_goes_on_with_one(still: Path) -> None:
    """And Ctrl-C, which every process gets, stops all after the same step."""
    run(still, "--name", "whole", "--epochs", "9", *STILL)
    argv = arguments(still, "--name", "cut", "--epochs", "9", *STILL)
    both = together("train", argv, [still, still])
    wait_for_step(still / "runs/cut", 5)
    for process in both:
        process.signal(signal.SIGINT)
    assert [process.finish().code for process in both] == [130, 130]
    saved = json.loads((still / "runs/cut/last/state.json").read_text())["step"]
    assert 5 <= saved < 90
    train_multitask.main(["--resume", str(still / "runs/cut")])
    # 90 steps, not 20: Adam's division carries the difference in the sums on
    for name, w in weights(still / "runs/whole/last").items():
        torch.testing.assert_close(w, weights(still / "runs/cut/last")[name], rtol=0, atol=5e-6)


def test_stopped_with_one_goes_on_with_two(still: Path) -> None:
    """And with what saves memory, which changes nothing but the order of sums."""
    run(still, "--name", "whole", *STILL)
    cut(still, 8, "--name", "cut", *STILL)
    resume = ["--resume", str(still / "runs/cut"), "--accumulate", "2", "--checkpoint-activations"]
    in_two(still, "train", resume)
    assert_near(weights(still / "runs/whole/last"), weights(still / "runs/cut/last"))


def test_stopped_with_two_goes_on_with_two_exactly(world: Path) -> None:
    """Dropout too: each process draws its own, by the number of the step.

    Only the second one is told to stop: both do, after the same step. In an evaluation it would
    stop at once and alone, so there is none on the way.
    """
    more = ("--epochs", "3", "--eval-every", "30")
    in_two(world, "train", arguments(world, "--name", "whole", *more))
    both = together("train", arguments(world, "--name", "cut", *more), [world, world])
    wait_for_step(world / "runs/cut", 5)
    both[1].signal(signal.SIGINT)
    for outcome in [process.finish() for process in both]:
        assert outcome.code == 130 and "Traceback" not in outcome.err
    assert 5 <= json.loads((world / "runs/cut/last/state.json").read_text())["step"] < 30
    in_two(world, "train", ["--resume", str(world / "runs/cut")])
    for name, w in weights(world / "runs/whole/last").items():
        assert torch.equal(w, weights(world / "runs/cut/last")[name]), name


def test_the_first_process_alone_keeps_the_task_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.toml").write_text(TASK_FILE)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    args, kept = Args(task_file=str(tmp_path / "own.toml")), tmp_path / "run/tasks.toml"
    assert rundir.save_arguments(tmp_path / "run", args, {}).task_file == str(kept)
    assert not kept.parent.exists()
    monkeypatch.setattr(distributed, "rank", lambda: 0)
    assert rundir.save_arguments(tmp_path / "run", args, {}).task_file == str(kept)
    assert kept.read_text() == TASK_FILE


def test_tasks_without_a_head_s_parameters_have_no_gradients_to_add(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """--mode joint adds the heads' gradients by themselves; a task scored by cosine has none."""
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    distributed.sum_gradients([])


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_shares_are_all_rows_once(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: count)
    rows, seen, weight = np.arange(5) + 100, [], 0.0
    for place in range(count):
        monkeypatch.setattr(distributed, "rank", lambda place=place: place)
        for part, share in distributed.micro_batches(rows, 2):
            assert len(part)  # a process without rows of its own has one of weight zero
            seen += part.tolist() if share else []
            weight += share
    assert sorted(seen) == rows.tolist() and weight == pytest.approx(1)


ROWS = 300  # of 40 tokens, so that they are several batches for an evaluation


def test_every_process_has_the_outputs_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of batches that others computed: all rows of the tests' files are one batch."""
    words, ends = np.zeros(ROWS * 40, np.int32), 40 * np.arange(ROWS + 1)
    names, none = np.arange(ROWS).astype(bytes), np.full(ROWS, 40, np.int32)
    split = EncodedSplit(names, np.zeros(ROWS, np.float32), words, ends, none)
    shares: dict[int, tuple] = {}

    def all_gather(mine: tuple) -> list[tuple]:
        shares[distributed.rank()] = mine
        return [shares.get(rank, mine) for rank in (0, 1)]

    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_gather", all_gather)
    for rank in (0, 1, 0):  # the first knows what the second has when it is asked again
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        found = compute_outputs(lambda b: torch.tensor(b.items), split, torch.device("cpu"))
    assert found.tolist() == [*range(ROWS)]
    assert all(len(items) > 50 for items, _ in shares.values())


def test_held_out_scores_are_of_the_rows_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, shares = np.arange(ROWS), {0: [], 1: []}
    run = SimpleNamespace(
        model=MagicMock(side_effect=lambda rows, _: torch.eye(5)[rows % 3]), held_out=rows,
        text=SimpleNamespace(lengths_of=lambda rows: np.full(len(rows), 40)),
    )  # fmt: skip

    def all_reduce_sum(mine: float) -> float:
        own, others = shares[distributed.rank()], shares[1 - distributed.rank()]
        own.append(mine)
        return mine + (others[len(own) - 1] if others else 0)

    def masked(_run: object, rows: np.ndarray, *_: int) -> SimpleNamespace:
        return SimpleNamespace(batch=rows, indices=None, targets=torch.tensor(rows % 5))

    monkeypatch.setattr(pretrain_mlm, "masked_rows", masked)
    expected = pretrain_mlm.held_out_scores(run)
    assert expected[1] == ROWS and expected[0]["accuracy"] == 0.2  # three of fifteen
    assert expected[0]["perplexity"] == pytest.approx(math.exp(expected[0]["loss"]))
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_reduce_sum", all_reduce_sum)
    for rank in (0, 1):  # the second knows what the first has
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        found = pretrain_mlm.held_out_scores(run)
    assert found == (pytest.approx(expected[0]), ROWS)


def test_every_process_draws_its_own_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        seeds += [distributed.own_seed(7, step) for step in (0, 1)]
    assert len({*seeds}) == 4
