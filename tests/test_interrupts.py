"""Ctrl-C where an evaluation changes weights and counters; how often a run is saved."""

import json
import sys
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
import torch

import train_multitask
from minbert.run import keeper
from minbert.run.checkpoint import Best, TrainState
from minbert.run.keeper import Keeper
from minbert.run.runlog import RunLog
from minbert.run.steps import READ_EVERY, Progress, StepRecord, StepRecords
from minbert.training import averaging
from tests.conftest import run
from tests.processes import assert_same_run


def test_the_mean_is_never_saved_as_the_weights(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C comes when the mean is scored and the weights are about to be put back."""
    options = ["--epochs", "1", "--average", "0.5", "--lr", "1e-2", "--skip-predictions"]
    run(world, "--name", "whole", *options)

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(averaging, "put_back", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(world, "--name", "cut", *options)
    train_multitask.main(["--resume", str(world / "runs/cut")])
    assert_same_run(world, "whole", "cut")


class InterruptedAt:
    """Raises KeyboardInterrupt at a line of the functions `evaluate` and `count_evaluation`."""

    def __init__(self, line: int) -> None:
        self.line, self.seen = line, 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> "InterruptedAt | None":
        if event == "call":
            return self if frame.f_code.co_name in ("evaluate", "count_evaluation") else None
        self.seen += event == "line"
        if self.seen == self.line:
            sys.settrace(None)
            raise KeyboardInterrupt
        return self


def test_an_evaluation_that_is_repeated_has_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever Ctrl-C comes in it, --patience and the stages have one evaluation more or none."""
    monkeypatch.setattr(train_multitask, "check_finite", lambda run: None)
    monkeypatch.setattr(train_multitask, "evaluate_weights", lambda *_: {"sst": 0.5})
    args, before, counted = SimpleNamespace(mode="parallel"), sys.gettrace(), []
    records = SimpleNamespace(flush=lambda: None)
    for line in range(1, 20):
        state = TrainState(steps=20, step=10, best=Best(0.6, 5, {}))
        try:
            sys.settrace(InterruptedAt(line))
            train_multitask.evaluate(
                SimpleNamespace(state=state, args=args, averaged_steps=0, records=records), ""
            )
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        counted.append((len(state.stages), state.since_best, state.assessed == 10))
    assert set(counted) == {(0, 0, False), (1, 1, True)}


@pytest.mark.parametrize("written", [0, 1, 4])
def test_ctrl_c_while_losses_are_written_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """As on a GPU, where several steps wait for their losses to be read."""
    monkeypatch.setitem(READ_EVERY, "cpu", 5)
    log = RunLog(tmp_path / "log.jsonl", -1, -1, tensorboard=False)
    device = torch.device("cpu")
    records = StepRecords(log, Progress(100, 0, quiet=True, device=device), device)
    write, left = log.write, iter(range(written))

    def interrupted(*args: object, **values: object) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        write(*args, **values)

    def record(step: int, task: str) -> StepRecord:
        return StepRecord(step, task, torch.tensor(float(step)), 0.1, 1, 2, 3, 0.5)

    for step in (1, 2, 3, 4):  # of joint training a step has a record for each task
        records.add([record(step, "sst"), record(step, "sts")])
    assert not (tmp_path / "log.jsonl").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(log, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            records.add([record(5, "sst")])
    records.flush()
    steps = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps] == [1, 1, 2, 2, 3, 3, 4, 4, 5]


def test_a_run_is_saved_when_so_many_minutes_have_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With steps of 90 seconds and --save-minutes 5, every fourth step is the first one due."""
    now, saved = [0.0], []
    monkeypatch.setattr(keeper, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(keeper, "save_checkpoint", lambda *_: saved.append(now[0] / 60))
    keeping = Keeper(SimpleNamespace(), save_minutes=5)
    for _ in range(12):
        with keeping.step():
            now[0] += 90
        if keeping.due:
            keeping.save()
    assert saved == [6, 12, 18]


def test_all_processes_save_when_one_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([True, False])  # of all processes: is saving due, has a signal come
    monkeypatch.setattr(keeper.distributed, "any_rank", lambda flag: next(answers))
    keeping = Keeper(SimpleNamespace(), save_minutes=5)
    with keeping.step():
        pass
    assert keeping.due


@pytest.mark.parametrize(("rank", "order"), [
    (0, ["work", "barrier", "barrier"]), (1, ["barrier", "work", "barrier"]),
])  # fmt: skip
def test_the_first_process_works_alone_and_before_the_others(
    monkeypatch: pytest.MonkeyPatch, rank: int, order: list[str]
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(keeper.distributed, "rank", lambda: rank)
    monkeypatch.setattr(keeper.distributed, "barrier", lambda: seen.append("barrier"))
    with keeper.distributed.first_before_others():
        seen.append("work")
    assert seen == order


def test_a_system_without_hang_ups_trains(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no SIGHUP."""
    monkeypatch.delattr("signal.SIGHUP")
    assert run(world, "--steps", "1", "--skip-predictions") == 0


def test_losses_are_read_before_all_processes_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """While they are as far as each other: later, a part of a loss may not come."""
    monkeypatch.setattr(keeper.distributed, "any_rank", lambda flag: True)
    flushed: list[bool] = []
    records = SimpleNamespace(flush=lambda: flushed.append(True))
    keeping = Keeper(SimpleNamespace(records=records), save_minutes=5)
    with pytest.raises(KeyboardInterrupt), keeping.step():
        pass
    assert flushed == [True]
