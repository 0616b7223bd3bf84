"""Machines that other work keeps busy: what is measured of them, and what a run says."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

import pretrain_mlm
import train_multitask
from minbert.training import threads
from minbert.training.threads import BusyWatch, describe_busy, waiting_seconds
from tests.conftest import arguments


@pytest.mark.parametrize(
    ("waiting", "count", "advice"),
    [
        (0.0, 2, None),
        (0.3, 16, None),  # what a quiet machine's other programs take
        (0.5, 2, "--threads 1"),  # one core of two is shared with one other program
        (1.6, 2, "--threads 1"),
        (0.9, 16, "--threads 15"),
        (14.0, 16, "--threads 2"),
        (0.6, 1, "that much slower"),
    ],
)
def test_a_machine_is_busy_when_half_a_thread_waits(
    waiting: float, count: int, advice: str | None
) -> None:
    said = describe_busy(waiting, count)
    assert said == "" if advice is None else said and advice in said


def test_a_busy_machine_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    waited, now = [100.0], [0.0]
    monkeypatch.setattr(threads, "waiting_seconds", lambda: waited[0])
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    watch, said = BusyWatch(), []
    for quiet in (True, True, False, False):
        now[0] += 31
        waited[0] += 0.5 if quiet else 31 * 0.7
        said.append(watch.check())
    assert said[:2] == ["", ""] and said[3] == ""
    assert said[2].startswith("this machine is busy: 0.7 of 2 threads wait for a core")


def test_a_system_that_does_not_say_is_no_busy_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(threads, "THREADS", tmp_path)
    assert waiting_seconds() is None
    watch = BusyWatch()
    watch.since -= 60
    assert watch.check() == ""


def test_waiting_is_of_all_threads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, text in (("1", "7000000000 2500000000 9\n"), ("2", "0 500000000 1\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "schedstat").write_text(text)
    monkeypatch.setattr(threads, "THREADS", tmp_path)
    assert waiting_seconds() == 3.0


@pytest.mark.parametrize("main", [train_multitask.main, pretrain_mlm.main])
def test_a_run_says_that_its_machine_is_busy(
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    main: Callable[[list[str]], int],
) -> None:
    said = ["this machine is busy"]
    monkeypatch.setattr(BusyWatch, "check", lambda _: said.pop() if said else "")
    more = ["--held-out", "2"] if main is pretrain_mlm.main else []
    main([*arguments(world), "--epochs", "1", *more])
    assert "this machine is busy\n" in capsys.readouterr().out
