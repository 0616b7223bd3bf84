"""Several processes: whatever goes wrong in one ends all, and what cannot work is one line."""

import shutil
import signal
import socket
import subprocess
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import evaluate
from minbert import UserError
from minbert.cli import parse_given
from minbert.files import read_json, read_json_lines
from minbert.run import rundir
from minbert.run.checkpoint import TrainState
from minbert.run.resolve_args import resolve_arguments
from minbert.run.several import finished_state
from minbert.run.train_args import Args
from minbert.training import distributed
from minbert.training.device import choose_device
from tasks import TASKS
from tests.conftest import arguments, run, weights
from tests.forked import together
from tests.processes import SECONDS, killed_at_the_end, two, wait_for_step

BROKEN = """
import os, signal
import train_multitask
from minbert.run import steps
from minbert.training import distributed
from minbert.cli import run_script

steps.READ_EVERY["cpu"] = {read_every}
rate = train_multitask.learning_rate

def broken(step, *rest):
    if step == 3 and distributed.rank() == 1:
        {fault}
    return rate(step, *rest)

train_multitask.learning_rate = broken
run_script(train_multitask.main)
"""


def start_broken(world: Path, fault: str, read_every: int = 1) -> subprocess.Popen[str]:
    """Start two processes; in the fourth step the second one does what `fault` says.

    read_every: losses are read every so many steps, on a GPU not at each.
    """
    script = world / "broken.py"
    script.write_text(BROKEN.format(fault=fault, read_every=read_every))
    return two(str(script), arguments(world, "--name", "cut", "--epochs", "500"))


def test_a_bug_in_one_process_ends_both_and_is_shown(world: Path) -> None:
    started = start_broken(world, 'raise ValueError("a bug of one process")')
    with killed_at_the_end(started):
        wait_for_step(world / "runs/cut", 3)
        before = time.monotonic()
        _, err = started.communicate(timeout=SECONDS)
    assert started.returncode != 0 and time.monotonic() - before < 20
    assert "ValueError: a bug of one process" in err


def test_one_killed_process_ends_the_other_which_saves(world: Path) -> None:
    """The next saving is minutes away, and the run goes on to the same bits."""
    argv = arguments(world, "--epochs", "6", "--name")
    for process in together("train", [*argv, "whole"], [world, world]):
        assert process.finish().code == 0
    both = together("train", [*argv, "cut"], [world, world])
    wait_for_step(world / "runs/cut", 3)
    both[1].signal(signal.SIGKILL)
    outcome = both[0].finish()
    assert outcome.code == 2 and "process 0 of 2: another process ended" in outcome.err
    assert both[1].finish().code == -signal.SIGKILL
    saved = read_json(world / "runs/cut/last/state.json")["step"]
    assert saved >= 3 and f"stopped at step {saved} of" in outcome.err
    for process in together("train", ["--resume", "runs/cut"], [world, world]):
        assert process.finish().code == 0
    whole, cut = (weights(world / "runs" / name / "last") for name in ("whole", "cut"))
    assert all(torch.equal(w, cut[name]) for name, w in whole.items())


@pytest.mark.thorough
def test_a_lost_process_takes_only_the_losses_that_were_not_read(world: Path) -> None:
    started = start_broken(world, "os.kill(os.getpid(), signal.SIGKILL)", read_every=7)
    with killed_at_the_end(started):
        _, err = started.communicate(timeout=SECONDS)
    assert "stopped at step 3 of" in err
    assert read_json(world / "runs/cut/last/state.json")["step"] == 3
    steps = [x for x in read_json_lines(world / "runs/cut/log.jsonl") if x["event"] == "step"]
    assert [(x["step"], x["loss"]) for x in steps] == [(1, None), (2, None), (3, None)]


def test_waiting_too_long_is_not_called_the_end_of_a_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    gloo = "[../gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 21600000ms for recv"
    message = "another process did not answer for 6:00:00"
    with pytest.raises(UserError, match=message), distributed.process_group():
        raise RuntimeError(gloo)


def test_processes_that_cannot_connect_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        names = {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
        for name, value in (names | {"MASTER_PORT": str(taken.getsockname()[1])}).items():
            monkeypatch.setenv(name, value)
        message = "connect at 127.0.0.1:.*address already in use; set MASTER_PORT to a free"
        with pytest.raises(UserError, match=message), distributed.process_group():
            pytest.fail("the port is taken")


def test_processes_wait_for_hours_for_the_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads and encodes all files, which may take longer than gloo's own half hour."""
    given: dict[str, Any] = {}
    for name in ("WORLD_SIZE", *distributed.TORCHRUN_VARIABLES):
        monkeypatch.setenv(name, "0")
    monkeypatch.setattr(distributed, "has_own_gpu", lambda: False)
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **more: given.update(more))
    with distributed.process_group():
        assert given["timeout"] >= timedelta(hours=3)


def test_machines_that_share_no_disk_are_told_so(world: Path) -> None:
    """One has a checkpoint, the other only the arguments: they would train two models."""
    run(world, "--name", "run", "--epochs", "1")
    machines = [world / "one", world / "other"]
    for machine in machines:
        shutil.copytree(world / "runs", machine / "runs")
    for name in ("last", "best"):
        shutil.rmtree(machines[1] / "runs/run" / name)
    (machines[1] / "runs/run/log.jsonl").unlink()
    both = together("train", ["--resume", "runs/run"], machines)
    for outcome in [process.finish() for process in both]:
        assert outcome.code == 2 and outcome.err.count("\n") == 1
        where = "process 1 starts at step 0, process 0 at 10: a run's folder must be one"
        assert where in outcome.err


def test_the_first_process_says_whether_a_run_is_finished(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If others passed over other runs, two runs would be trained as one."""
    args = resolve_arguments(parse_given(Args, arguments(world, "--resume", "x"), ""), TASKS)
    first = TrainState(steps=5, step=5)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    for said in (first, None):
        monkeypatch.setattr(distributed, "all_gather", lambda mine, said=said: [said, mine])
        assert finished_state(args, world / "nothing-here") is said


def test_a_new_run_s_folder_must_be_seen_by_all(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rundir, "VISIBLE_WITHIN_S", 0)
    monkeypatch.setattr(distributed, "all_gather", lambda mine: [(0, -1), mine])
    with pytest.raises(UserError, match="run: process 1 has none: a run's folder must be one"):
        rundir.check_shared(world / "run", TrainState(steps=5))


def test_evaluation_is_for_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="works in one process: start it with python"):
        evaluate.main(["--checkpoint", "run"])


@pytest.mark.parametrize("loss", ["mnr", "cosent"])
def test_some_losses_need_whole_batches(
    world: Path, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    more = ("--tasks", "quora", "--pair-encoding", "siamese", "--pair-loss", loss)
    with pytest.raises(UserError, match=f"{loss} needs whole batches: use one process"):
        run(world, *more)


def test_a_user_s_mistake_is_one_line_here_too(world: Path) -> None:
    argv = arguments(world, "--data-dir", str(world / "nowhere"))
    for outcome in [process.finish() for process in together("train", argv, [world, world])]:
        assert outcome.code == 2 and outcome.err.count("\n") == 1
        assert "error: " in outcome.err and "nowhere" in outcome.err


def test_an_environment_of_no_torchrun_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with (
        pytest.raises(UserError, match="WORLD_SIZE is set, RANK is not: start several"),
        distributed.process_group(),
    ):
        pass


def test_every_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    for place in ("0", "1", "2"):
        monkeypatch.setenv("LOCAL_RANK", place)
        assert choose_device("cpu").type == "cpu"
        if place != "2":
            assert choose_device("auto").type == "cuda"
    with pytest.raises(UserError, match="more processes than GPUs: write --nproc-per-node 2, or"):
        choose_device("auto")


def test_a_gpu_beyond_the_last_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UserError, match="--device cuda:2: this machine's GPUs end at cuda:1"):
        choose_device("cuda:2")
