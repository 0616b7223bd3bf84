"""Killed, interrupted and damaged runs, as processes: nothing is lost, everything goes on."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import pretrain_mlm
import train_multitask
from minbert import UserError
from minbert.files import read_json_lines as read_log
from minbert.run import rundir
from minbert.run.runlog import READ_EVERY, RunLog
from tests.conftest import arguments, run, weights

ROOT = Path(__file__).resolve().parents[1]


def start(world: Path, *extra: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train_multitask.py"), *arguments(world, *extra)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a terminal's: under nohup the tests themselves have SIGHUP ignored, and hand that down
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )


def wait_for_step(folder: Path, step: int, seconds: float = 60) -> None:
    """Until the run has logged this step."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (folder / "log.jsonl").is_file():
            steps = [line.get("step", 0) for line in read_log(folder / "log.jsonl")]
            if max(steps, default=0) >= step:
                return
        time.sleep(0.01)
    raise AssertionError(f"{folder} did not come to step {step}")


def assert_same_run(world: Path, one: str, other: str) -> None:
    for name in ("last", "best"):
        a, b = weights(world / "runs" / one / name), weights(world / "runs" / other / name)
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    for line_a, line_b in zip(*(steps_of(world / "runs" / n) for n in (one, other)), strict=True):
        assert line_a == line_b


def steps_of(folder: Path) -> list[dict[str, object]]:
    lines = read_log(folder / "log.jsonl")
    return [{**x, "time": 0, "seconds": 0} for x in lines if x["event"] in ("step", "dev")]


def test_kill_9_and_resume_ends_in_the_same_weights_and_log(world: Path) -> None:
    run(world, "--name", "whole")
    process = start(world, "--name", "cut", "--save-minutes", "0")
    wait_for_step(world / "runs/cut", 12)
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL
    process.communicate()
    train_multitask.main(["--resume", str(world / "runs/cut")])
    assert_same_run(world, "whole", "cut")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_saves_and_says_how_to_go_on(world: Path, number: signal.Signals) -> None:
    run(world, "--name", "whole", "--epochs", "6", "--lr", "0")
    process = start(world, "--name", "cut", "--epochs", "6", "--lr", "0")
    wait_for_step(world / "runs/cut", 5)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert "go on with" not in out and f"go on with --resume {world / 'runs/cut'}\n" in err
    saved = json.loads((world / "runs/cut/last/state.json").read_text())["step"]
    assert saved >= 5
    train_multitask.main(["--resume", str(world / "runs/cut")])
    assert_same_run(world, "whole", "cut")


def interrupt_at(monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Ctrl-C at the call-th step of this process."""
    original, calls = train_multitask.learning_rate, []

    def interrupted(*args: object) -> float:
        calls.append(args)
        if len(calls) == call:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(train_multitask, "learning_rate", interrupted)


def test_several_runs_go_on_together(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also with --quiet the answer to Ctrl-C names the folder that holds all of them."""
    interrupt_at(monkeypatch, 3)
    more = ["--seeds", "2", "--mode", "single", "--quiet"]
    with pytest.raises(KeyboardInterrupt):
        run(world, "--name", "cut", *more)
    assert f"go on with --resume {world / 'runs/cut'}\n" in capsys.readouterr().err


@pytest.mark.parametrize("script", [train_multitask, pretrain_mlm])
def test_other_data_is_no_way_to_go_on(world: Path, script: ModuleType) -> None:
    more = ["--held-out", "2"] if script is pretrain_mlm else []
    script.main([*arguments(world, "--name", "run", "--tasks", "sst"), *more])
    shutil.copytree(world / "data", world / "fewer")
    lines = (world / "data/ids-sst-train.csv").read_text().splitlines()
    (world / "fewer/ids-sst-train.csv").write_text("\n".join(lines[:25]) + "\n")
    with pytest.raises(UserError, match=r"runs/run is a run of 10 steps, .* would be 6"):
        script.main(["--resume", str(world / "runs/run"), "--data-dir", str(world / "fewer")])
    assert script.main(["--resume", str(world / "runs/run")]) == 0


@pytest.mark.parametrize("change", ["labels", "order"])
@pytest.mark.parametrize("script", [train_multitask, pretrain_mlm])
def test_data_of_the_same_size_is_not_the_same(
    world: Path, script: ModuleType, change: str
) -> None:
    """Labels swapped or rows reordered; what only moved goes on."""
    more = ["--held-out", "2"] if script is pretrain_mlm else []
    script.main([*arguments(world, "--name", "run", "--tasks", "sst"), *more])
    shutil.copytree(world / "data", world / "moved")
    shutil.copytree(world / "data", world / "other")
    file = world / "other/ids-sst-train.csv"
    header, *rows = file.read_text().splitlines()
    if change == "labels":
        rows = [row[:-1] + str((int(row[-1]) + 1) % 5) for row in rows]
    file.write_text("\n".join([header, *(rows if change == "labels" else rows[::-1])]) + "\n")
    resume = ["--resume", str(world / "runs/run"), "--data-dir"]
    with pytest.raises(UserError, match=r"ids-sst-train.csv: not what .*runs/run began with"):
        script.main([*resume, str(world / "other")])
    assert script.main([*resume, str(world / "moved")]) == 0


def test_a_flipped_bit_in_a_checkpoint_is_seen(world: Path) -> None:
    run(world, "--name", "run")
    for name in ("model.safetensors", "heads.safetensors", "optimizer.safetensors", "state.json",
                 "heads.json", "config.json", "tokenizer.json"):  # fmt: skip
        file = world / "runs/run/last" / name
        whole = file.read_bytes()
        file.write_bytes(whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:])
        with pytest.raises(UserError, match=f"{name}: damaged") as error:
            train_multitask.main(["--resume", str(world / "runs/run")])
        assert "\n" not in str(error.value)
        file.write_bytes(whole)
    assert train_multitask.main(["--resume", str(world / "runs/run")]) == 0


def test_weights_that_are_not_finite_are_not_saved(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of the last step before a checkpoint is finite, its gradients are not."""
    monkeypatch.setattr(train_multitask, "clip_scale", lambda *_: torch.tensor(torch.nan))
    with pytest.raises(UserError, match=r"weights are not finite after step 1 of 20") as error:
        run(world, "--name", "nan", "--save-minutes", "0")
    assert "\n" not in str(error.value)
    assert all(torch.isfinite(w).all() for w in weights(world / "runs/nan/last").values())


def test_a_second_ctrl_c_does_not_cut_the_saving(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate, write = train_multitask.learning_rate, train_multitask.Run.write

    def interrupted(step: int, *rest: Any) -> float:
        if step == 3:
            signal.raise_signal(signal.SIGINT)
        return rate(step, *rest)

    def interrupted_too(run_: train_multitask.Run, folder: Path) -> None:
        if run_.state.step == 4:
            signal.raise_signal(signal.SIGINT)
        write(run_, folder)

    monkeypatch.setattr(train_multitask, "learning_rate", interrupted)
    monkeypatch.setattr(train_multitask.Run, "write", interrupted_too)
    with pytest.raises(KeyboardInterrupt):
        run(world, "--name", "cut")
    assert json.loads((world / "runs/cut/last/state.json").read_text())["step"] == 4


def test_interrupted_evaluation_is_repeated(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after an update but before its dev scores: the resumed run takes them first."""
    run(world, "--name", "whole")
    score_tasks, calls = train_multitask.score_tasks, []

    def interrupted(*args: object) -> object:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return score_tasks(*args)

    monkeypatch.setattr(train_multitask, "score_tasks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(world, "--name", "cut")
    monkeypatch.undo()
    train_multitask.main(["--resume", str(world / "runs/cut")])
    assert_same_run(world, "whole", "cut")


def test_a_run_stopped_before_its_first_checkpoint_starts_over(world: Path) -> None:
    run(world, "--name", "whole")
    run(world, "--name", "cut")
    for name in ("last", "best"):
        shutil.rmtree(world / "runs/cut" / name)
    train_multitask.main(["--resume", str(world / "runs/cut")])
    assert_same_run(world, "whole", "cut")


def test_single_mode_resumes_the_task_it_was_in(world: Path) -> None:
    run(world, "--mode", "single", "--name", "whole")
    run(world, "--mode", "single", "--name", "cut")
    shutil.rmtree(world / "runs/cut/sts")
    before = (world / "runs/cut/sst/last/model.safetensors").stat().st_mtime_ns
    train_multitask.main(["--resume", str(world / "runs/cut")])
    assert (world / "runs/cut/sst/last/model.safetensors").stat().st_mtime_ns == before
    assert_same_run(world, "whole/sts", "cut/sts")


def test_a_damaged_checkpoint_is_named(world: Path) -> None:
    run(world, "--name", "run")
    file = world / "runs/run/last/optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"optimizer\.safetensors: missing or cut short"):
        train_multitask.main(["--resume", str(world / "runs/run")])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--lr", "0.5"], "--lr 0.5 differs from the run's 1e-05: leave it out"),
        (["--resume", "nowhere"], "no args.json in nowhere"),
        (["--name", "other"], "--name other differs"),
    ],
)
def test_resume_with_other_arguments(world: Path, extra: list[str], message: str) -> None:
    run(world, "--name", "run", "--epochs", "1")
    with pytest.raises(UserError, match=message):
        train_multitask.main(["--resume", str(world / "runs/run"), *extra])


def test_a_taken_name_is_refused_and_a_made_one_counted(world: Path) -> None:
    for _ in range(2):
        run(world, "--epochs", "1")
    assert (world / "runs/parallel-sst-sts-2/best").is_dir()
    with pytest.raises(UserError, match="exists: --resume parallel-sst-sts goes on"):
        run(world, "--name", "parallel-sst-sts")


@pytest.mark.parametrize("extra", [["--model", "/nowhere"], ["--data-dir", "nowhere"]])
@pytest.mark.parametrize("mode", ["parallel", "single"])
def test_a_start_that_failed_leaves_its_name_free(
    world: Path, extra: list[str], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for _ in range(2):  # the same mistake has the same answer
        with pytest.raises(UserError, match=r"not found|no such file"):
            run(world, "--name", "one", "--mode", mode, *extra)
    assert run(world, "--name", "one", "--mode", mode, "--epochs", "1") == 0


def test_a_run_killed_before_its_first_checkpoint_starts_anew(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the same command, whatever of its first files is there, and with its own task file."""
    run(world, "--name", "whole", "--epochs", "1")
    for left in ((), ("args.json",), ("args.json", "tasks.toml", "log.jsonl"), ("args.json.new",)):
        folder = world / "runs/cut"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in left:
            (folder / name).write_text("")
        capsys.readouterr()
        run(world, "--name", "cut", "--epochs", "1")
        assert ("it starts anew" in capsys.readouterr().out) == bool(left)
        assert_same_run(world, "whole", "cut")


def test_evaluations_and_ends_are_logged_once(world: Path) -> None:
    """Killed after an evaluation's line, before its checkpoint; and gone on with at its end."""
    run(world, "--name", "run", "--epochs", "1")
    log = world / "runs/run/log.jsonl"
    train_multitask.main(["--resume", str(world / "runs/run")])
    events = [line["event"] for line in read_log(log)]
    assert events.count("end") == 1 and events.count("dev") == 2
    RunLog(log, 10, assessed=0).file.close()  # the checkpoint of step 10 knows of none since 0
    stages = [line["stage"] for line in read_log(log) if line["event"] == "dev"]
    assert stages == ["before training"]


def test_a_log_that_is_gone_is_said(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(world, "--name", "run", "--epochs", "1")
    (world / "runs/run/log.jsonl").unlink()
    train_multitask.main(["--resume", str(world / "runs/run")])
    assert "log.jsonl: gone; it begins anew at step 10" in capsys.readouterr().out


def test_a_start_elsewhere_is_not_gone_into(world: Path) -> None:
    """Another command that has not yet found its weights and data."""
    with rundir.alone_in(world / "runs/parallel-sst-sts"):
        assert rundir.new_run(world / "runs", "", "parallel-sst-sts").name == "parallel-sst-sts-2"


def test_two_commands_do_not_train_in_one_folder(world: Path) -> None:
    process = start(world, "--name", "one", "--epochs", "1000")
    wait_for_step(world / "runs/one", 3)
    with pytest.raises(UserError, match="runs/one is being trained by another process"):
        train_multitask.main(["--resume", str(world / "runs/one")])
    assert process.poll() is None  # and it was not disturbed
    process.kill()
    process.wait()


@pytest.mark.parametrize("read_every", [1, 1000])
def test_nan_loss_stops_with_one_line_and_keeps_last(
    world: Path, read_every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(READ_EVERY, "cpu", read_every)
    run(world, "--name", "fine", "--epochs", "1")
    kept = weights(world / "runs/fine/last")
    with pytest.raises(UserError, match=r"loss of sst is nan at step \d+.*lower --lr") as error:
        train_to_nan(world)
    assert "\n" not in str(error.value)
    assert all(torch.isfinite(w).all() for w in weights(world / "runs/nan/last").values())
    assert kept.keys() == weights(world / "runs/nan/last").keys()


def test_losses_read_later_are_the_same(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, with an evaluation, a checkpoint and the end between two readings."""
    run(world, "--name", "one")
    monkeypatch.setitem(READ_EVERY, "cpu", 7)
    run(world, "--name", "other")
    assert_same_run(world, "one", "other")


def train_to_nan(world: Path) -> None:
    original = train_multitask.learning_rate
    train_multitask.learning_rate = lambda step, *rest: float("nan") if step == 3 else 0.0
    try:
        run(world, "--name", "nan")
    finally:
        train_multitask.learning_rate = original
