"""Killed and interrupted runs, as processes: nothing is lost, everything goes on."""

import json
import os
import shutil
import signal
from errno import EIO, ENOSPC, EPIPE
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
import torch

import pretrain_mlm
import train_multitask
from minbert import UserError
from minbert.run import checkpoint
from minbert.run.beginning import Run
from minbert.run.steps import READ_EVERY, Progress, StepRecord
from tests.conftest import arguments, cut, run, weights
from tests.forked import Command
from tests.processes import assert_same_run, wait_for_step
from tests.test_teachers import teach


@pytest.mark.parametrize("recipe", [[], ["--mode=annealed", "--steps=20", "--average=0.9"]])
def test_kill_9_and_resume_ends_in_the_same_weights_and_log(world: Path, recipe: list[str]) -> None:
    """As the paper has it, and a distilled, averaged, annealed run."""
    options = [*recipe, *teach(world)] if recipe else []
    run(world, "--name", "whole", *options)
    argv = arguments(world, "--name", "cut", "--save-minutes", "0", *options)
    process = Command("train", argv, world)
    wait_for_step(world / "runs/cut", 12)
    process.signal(signal.SIGKILL)
    assert process.finish().code == -signal.SIGKILL
    train_multitask.main(["--resume", str(world / "runs/cut")])
    assert_same_run(world, "whole", "cut")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_saves_and_says_how_to_go_on(world: Path, number: signal.Signals) -> None:
    run(world, "--name", "whole", "--epochs", "6", "--lr", "0")
    argv = arguments(world, "--name", "cut", "--epochs", "6", "--lr", "0")
    process = Command("train", argv, world)
    wait_for_step(world / "runs/cut", 5)
    process.signal(number)
    outcome = process.finish()
    assert outcome.code == 130 and "Traceback" not in outcome.err
    said = f"go on with --resume {world / 'runs/cut'}\n"
    assert "go on with" not in outcome.out and said in outcome.err
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
    rate, write = train_multitask.learning_rate, train_multitask.FineTuning.write

    def interrupted(step: int, *rest: Any) -> float:
        if step == 3:
            signal.raise_signal(signal.SIGINT)
        return rate(step, *rest)

    def interrupted_too(run_: train_multitask.FineTuning, folder: Path) -> None:
        if run_.state.step == 4:
            signal.raise_signal(signal.SIGINT)
        write(run_, folder)

    monkeypatch.setattr(train_multitask, "learning_rate", interrupted)
    monkeypatch.setattr(train_multitask.FineTuning, "write", interrupted_too)
    monkeypatch.setattr("sys.stderr", mock.Mock(write=mock.Mock(side_effect=BrokenPipeError)))
    with pytest.raises(KeyboardInterrupt):  # also where nobody reads how to go on
        run(world, "--name", "cut")
    assert json.loads((world / "runs/cut/last/state.json").read_text())["step"] == 4


@pytest.mark.parametrize(
    ("mode", "number"), [("joint", EPIPE), ("parallel", EIO), ("joint", ENOSPC)]
)
def test_a_reader_that_ends_costs_nothing(
    world: Path, monkeypatch: pytest.MonkeyPatch, mode: str, number: int
) -> None:
    """As `head`, or as tee, which Ctrl-C ends before the step is done; a terminal, a full disk."""
    run(world, "--name", "whole", "--mode", mode)
    shown = Progress.step

    def unheard(progress: Progress, record: StepRecord, *rest: Any) -> None:
        if record.step == 5:
            raise OSError(number, os.strerror(number))
        shown(progress, record, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "step", unheard)
        with pytest.raises(OSError, match=os.strerror(number)):
            run(world, "--name", "cut", "--mode", mode)
    assert json.loads((world / "runs/cut/last/state.json").read_text())["step"] == 5
    train_multitask.main(["--resume", str(world / "runs/cut")])
    assert_same_run(world, "whole", "cut")


def test_a_signal_does_not_cut_the_saving_after_the_terminal_is_gone(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = train_multitask.FineTuning.write

    def unheard(progress: Progress, record: StepRecord, *rest: Any) -> None:
        if record.step == 5:
            raise OSError(EIO, os.strerror(EIO))

    def hung_up(run_: train_multitask.FineTuning, folder: Path) -> None:
        if run_.state.step == 5:
            signal.raise_signal(signal.SIGTERM)
        write(run_, folder)

    monkeypatch.setattr(Progress, "step", unheard)
    monkeypatch.setattr(train_multitask.FineTuning, "write", hung_up)
    with pytest.raises(OSError, match=os.strerror(EIO)):
        run(world, "--name", "cut")
    assert json.loads((world / "runs/cut/last/state.json").read_text())["step"] == 5


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
    log = world / "runs/cut/log.jsonl"
    log.write_text(log.read_text().split("\n")[0] + "\n")
    train_multitask.main(["--resume", str(world / "runs/cut")])
    assert_same_run(world, "whole", "cut")


def test_a_run_whose_last_is_gone_does_not_train_over_its_best(world: Path) -> None:
    for script, name in ((train_multitask, "run"), (pretrain_mlm, "mlm")):
        script.main(arguments(world, "--name", name))
        folder = world / "runs" / name
        shutil.rmtree(folder / "last")
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        mend = rf"; --model \S+{name} starts a new run from best/$" if name == "run" else "$"
        with pytest.raises(UserError, match=f"last: gone, .* the run cannot go on{mend}"):
            script.main(["--resume", str(folder)])
        assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("script", [train_multitask, pretrain_mlm])
def test_what_is_due_is_saved_before_an_evaluation(
    world: Path, monkeypatch: pytest.MonkeyPatch, script: ModuleType
) -> None:
    evaluate, saved = script.evaluate, []

    def watched(run: Run, stage: str) -> None:
        if run.state.step:
            saved.append(json.loads((run.folder / "last/state.json").read_text())["step"])
            assert saved[-1] == run.state.step > run.state.assessed
        evaluate(run, stage)

    monkeypatch.setattr(script, "evaluate", watched)
    script.main(arguments(world, "--name", "run", "--save-minutes", "0"))
    assert saved


def test_single_mode_resumes_the_task_it_was_in(world: Path) -> None:
    run(world, "--mode", "single", "--name", "whole")
    run(world, "--mode", "single", "--name", "cut")
    shutil.rmtree(world / "runs/cut/sts")
    before = (world / "runs/cut/sst/last/model.safetensors").stat().st_mtime_ns
    train_multitask.main(["--resume", str(world / "runs/cut")])
    assert (world / "runs/cut/sst/last/model.safetensors").stat().st_mtime_ns == before
    assert_same_run(world, "whole/sts", "cut/sts")


@pytest.mark.parametrize("read_every", [1, 1000])
def test_nan_loss_stops_with_one_line_and_keeps_last(
    world: Path, read_every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(READ_EVERY, "cpu", read_every)
    with pytest.raises(UserError, match=r"loss of sst is nan at step \d+.*lower --lr") as error:
        train_to_nan(world)
    assert "\n" not in str(error.value)
    assert all(torch.isfinite(w).all() for w in weights(world / "runs/nan/last").values())


def test_losses_read_later_are_the_same(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, with an evaluation, a checkpoint and the end between two readings."""
    run(world, "--name", "one")
    monkeypatch.setitem(READ_EVERY, "cpu", 7)
    run(world, "--name", "other")
    assert_same_run(world, "one", "other")


def train_to_nan(world: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        rate = lambda step, *rest: float("nan") if step == 3 else 0.0  # noqa: E731
        patch.setattr(train_multitask, "learning_rate", rate)
        run(world, "--name", "nan")


def test_a_state_that_cannot_be_written_is_no_checkpoint(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk: it is told, and the whole one that was there stays."""
    save = checkpoint.save_training_state

    def full(directory: Path, model: Any, optimizer: Any, state: checkpoint.TrainState) -> None:
        if state.step:
            raise OSError(28, "No space left on device")
        save(directory, model, optimizer, state)

    monkeypatch.setattr(checkpoint, "save_training_state", full)
    with pytest.raises(OSError, match=r"No space left on device: .*runs/run/last'"):
        run(world, "--name", "run", "--epochs", "1", "--skip-predictions")
    assert json.loads((world / "runs/run/last/state.json").read_text())["step"] == 0


def test_a_run_under_nohup_outlives_its_terminal(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = train_multitask.learning_rate

    def hung_up(step: int, *rest: Any) -> float:
        if step == 3:
            signal.raise_signal(signal.SIGHUP)
        return rate(step, *rest)

    monkeypatch.setattr(train_multitask, "learning_rate", hung_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert run(world, "--name", "run", "--epochs", "1", "--skip-predictions") == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    except KeyboardInterrupt:
        pytest.fail("the closed terminal has ended the run")
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_test_file_that_breaks_meanwhile_does_not_keep_a_run_from_its_end(world: Path) -> None:
    """It can be trained without predictions, which are made when the file is mended."""
    cut(world, 3, "--name", "cut", "--epochs", "1")
    path, folder = world / "data/sts-test-student.csv", world / "runs/cut"
    whole = path.read_text()
    path.write_text(whole.replace("id\t", "number\t", 1))
    with pytest.raises(UserError, match="sts-test-student"):
        train_multitask.main(["--resume", str(folder)])
    assert train_multitask.main(["--resume", str(folder), "--skip-predictions"]) == 0
    assert not (folder / "predictions").exists()
    path.write_text(whole.replace("ttest", "mended"))
    assert train_multitask.main(["--resume", str(folder), "--no-skip-predictions"]) == 0
    assert "mended" in (folder / "predictions/sts-test-output.csv").read_text()
