"""--seeds, --dry-run, --quiet, --json, --tensorboard, --checkpoint-activations."""

import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import evaluate
import pretrain_mlm
import train_multitask
from minbert import BertModel, UserError
from minbert.files import read_json_lines as read_log
from minbert.model import encoder
from minbert.progress import duration
from minbert.run import dry_run
from minbert.run.fine_tuning import FineTuning
from minbert.run.runlog import scalars
from tests.conftest import TINY, arguments, logged, run, weights
from tests.flags import Outcome, watched
from tests.models import packed


def test_seeds_give_mean_and_spread(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(world, "--name", "three", "--seeds", "3", "--seed", "5", "--json")
    out = capsys.readouterr().out
    line = json.loads(out.splitlines()[-1])
    values = [scores["sts"] for scores in line["scores"]]
    assert len(values) == 3 and "over 3 seeds" in out
    assert f"{statistics.fmean(values):7.3f}  {statistics.stdev(values):7.4f}" in out
    folder = world / "runs/three"
    for number, seed in enumerate((5, 6, 7)):
        saved = json.loads((folder / f"seed-{seed}/args.json").read_text())
        assert saved["seed"] == seed and saved["seeds"] == 1
        end = read_log(folder / f"seed-{seed}/log.jsonl")[-1]
        assert end["best"]["scores"] == line["scores"][number]
    run(world, "--name", "alone", "--seed", "6")  # the same run as one of the three
    one, other = weights(world / "runs/alone/last"), weights(folder / "seed-6/last")
    assert all(torch.equal(w, other[name]) for name, w in one.items())


@pytest.mark.parametrize(
    ("command", "mistake", "message"),
    [
        ("--mode single", "--teacher sts=nowhere", "nowhere: no such run"),
        ("--seeds 2", "--reinit-layers 9", "this model has 2 layers"),
        ("--seeds 2", "--device gpu", "write auto, cpu"),
        ("--seeds 2", "--model {world}/cut", "model.safetensors: damaged"),
        (
            "--mode single --tasks sst,quora --pair-encoding siamese",
            "--pair-loss mnr --limit quora=1", "needs at least two pairs with label 1",
        ),
    ],
)  # fmt: skip
def test_a_mistake_in_a_later_run_shows_before_the_first(
    world: Path, command: str, mistake: str, message: str
) -> None:
    """And the name stays free for the command without it."""
    os.truncate(shutil.copytree(world / "model", world / "cut") / "model.safetensors", 999)
    words = ["--name", "several", "--epochs", "1", "--skip-predictions", *command.split()]
    with pytest.raises(UserError, match=message):
        run(world, *words, *mistake.format(world=world).split())
    assert not list((world / "runs").rglob("log.jsonl"))
    assert run(world, *words) == 0


def test_runs_of_a_command_read_each_file_once(world: Path) -> None:
    """As long as the model can, not as long as --max-length says: it has fewer positions."""
    run(world, "--name", "two", "--seeds", "2", "--steps", "2", "--max-length", "512")
    assert len(list((world / "runs/.ids").glob("*.npz"))) == 6  # two tasks, three splits


def test_seeds_of_single_tasks_go_on(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(world, "--name", "all", "--seeds", "2", "--mode", "single", "--epochs", "1")
    folder = world / "runs/all/seed-11712/sts"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    table = capsys.readouterr().out.split("Dev scores of the best step")[-1]
    assert train_multitask.main(["--resume", str(world / "runs/all")]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    out = capsys.readouterr().out
    assert f"{folder} is finished" in out and out.endswith(table)
    shutil.rmtree(folder / "best")  # which is made again
    assert train_multitask.main(["--resume", str(world / "runs/all")]) == 0
    assert (folder / "best/model.safetensors").is_file()


def test_a_dry_run_says_everything_and_leaves_nothing(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(world, "--dry-run")
    out = capsys.readouterr().out
    assert "steps: 20, " in out and "memory: " in out and "  epochs: 2" in out
    assert "  sst: 40 and 12, " in out and "  sts: 20 and 6, " in out
    assert not [path for path in (world / "runs").iterdir() if path.name != ".ids"]
    run(world, "--dry-run", "--mode", "single")
    assert "steps: 16, " in capsys.readouterr().out  # 2 epochs of 5 and 3 batches
    three = ("--tasks", "sst,quora,sts", "--steps", "2")  # fewer steps than tasks
    run(world, "--dry-run", "--mode", "single", *three)
    assert "steps: 6, " in capsys.readouterr().out
    run(world, "--dry-run", "--mode", "sequential", "--sub-epochs", "sst=2,sts=1", "--seeds", "3")
    assert "steps: 78, " in capsys.readouterr().out  # of 3 seeds, 2 epochs, 2 x 5 + 3 batches
    run(world, "--dry-run", "--fine-tune-mode", "last-linear-layer", "--quiet", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["minutes"] > 0 and found["gib"] > 0 and found["steps"] == 20
    pretrain_mlm.main([*arguments(world), "--dry-run", "--held-out", "2"])
    out = capsys.readouterr().out
    assert re.search(r"held out: 78 and 2, .* to which padding would add [1-9]\d?%\n", out)


@pytest.mark.parametrize(
    ("options", "minutes"),
    [((), 1.0), (("--seeds", "3"), 3.0), (("--mode", "joint"), 0.5), (("--mode", "annealed"), 0.9)],
)
def test_a_dry_run_says_how_long_and_how_large(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys, options: tuple[str, ...], minutes: float
) -> None:
    """Of steps of 3 seconds and a process of 2 GiB."""
    monkeypatch.setattr(dry_run, "seconds_per_step", lambda *_: 3.0)
    monkeypatch.setattr("sys.platform", "linux")
    peak = SimpleNamespace(ru_maxrss=2 * 2**20)  # in KiB there
    monkeypatch.setattr("resource.getrusage", lambda who: peak)
    run(world, "--dry-run", "--json", *options)
    *text, line = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert found["minutes"] == pytest.approx(minutes) and found["gib"] == 2.0
    assert f", {duration(60 * minutes)}, without evaluation" in "\n".join(text)


def test_a_dry_run_has_what_takes_most_memory(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights' mean, and the batch with the most tokens, which R-Drop reads twice."""
    longest, average, found, means = dry_run.longest_step, dry_run.add_to_average, [], []

    def watched(run: FineTuning) -> int:
        step = longest(run)
        found.append(next(iter(run.plan.draws(step))).task)
        return step

    monkeypatch.setattr(dry_run, "longest_step", watched)
    monkeypatch.setattr(dry_run, "add_to_average", lambda *a: means.append(average(*a)))
    run(world, "--dry-run", "--batch-size", "4", "--r-drop", "sst=0")
    run(world, "--dry-run", "--batch-size", "4", "--r-drop", "sst=1", "--average", "0.3")
    run(world, "--dry-run", "--batch-size", "4", "--r-drop", "sst=1", "--pair-encoding", "sts=both")
    assert found == ["sts", "sst", "sts"] and len(means) == 1


@pytest.mark.parametrize("main", [train_multitask.main, pretrain_mlm.main])
def test_quiet_and_json_are_one_line(
    world: Path, capsys: pytest.CaptureFixture[str], main: object
) -> None:
    more = ["--held-out", "2"] if main is pretrain_mlm.main else []
    main([*arguments(world), "--quiet", "--json", *more])
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert Path(found["run"]).is_dir() and (found.get("scores") or found.get("held_out"))
    left = world / "runs/again/args.json"  # of a start that was stopped before its first save
    left.parent.mkdir()
    left.write_text("")
    main([*arguments(world), "--quiet", "--name", "again", *more])
    assert capsys.readouterr().out == ""


def test_tensorboard_has_the_log_s_numbers(world: Path) -> None:
    run(world, "--name", "run", "--tensorboard")
    board = EventAccumulator(str(world / "runs/run/tensorboard"))
    board.Reload()
    log = read_log(world / "runs/run/log.jsonl")
    for task in ("sst", "sts"):
        steps = [(x["step"], x["loss"]) for x in log if x.get("task") == task]
        seen = [(x.step, x.value) for x in board.Scalars(f"step/{task}/loss")]
        assert [s for s, _ in seen] == [s for s, _ in steps]
        assert all(a[1] == pytest.approx(b[1], rel=1e-6) for a, b in zip(seen, steps, strict=True))
    scores = [x["scores"]["sts"]["pearson"] for x in log if x["event"] == "dev"]
    assert [x.value for x in board.Scalars("dev/sts/pearson")] == pytest.approx(scores, rel=1e-6)


def test_tensorboard_keeps_the_step_that_a_run_goes_on_from(world: Path, monkeypatch) -> None:
    step = train_multitask.train_step

    def interrupted(run_: train_multitask.FineTuning, number: int) -> None:
        if number == 4:
            raise KeyboardInterrupt
        step(run_, number)

    with monkeypatch.context() as patch:
        patch.setattr(train_multitask, "train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(world, "--name", "run", "--tensorboard", "--eval-every", "4")
    train_multitask.main(["--resume", str(world / "runs/run")])
    train_multitask.main(["--resume", str(world / "runs/run")])  # it is finished
    log = read_log(world / "runs/run/log.jsonl")
    board = EventAccumulator(str(world / "runs/run/tensorboard"))
    board.Reload()
    for task in ("sst", "sts"):
        steps = [x["step"] for x in log if x.get("task") == task]
        assert [x.step for x in board.Scalars(f"step/{task}/loss")] == steps
    evaluated = [x["step"] for x in log if x["event"] == "dev"]
    assert [x.step for x in board.Scalars("dev/sts/pearson")] == evaluated and 4 in evaluated


def test_scalars_are_the_numbers_by_name() -> None:
    line = {"step": 3, "scores": {"sst": {"accuracy": 0.5}}, "overall": 0.5, "stage": "epoch 1"}
    assert scalars("dev", line) == {"dev/sst/accuracy": 0.5, "dev/overall": 0.5}
    named_task = {"scores": {"task": {"f1": 0.25}, "scores": {"f1": 0.75}}}
    assert scalars("dev", named_task) == {"dev/task/f1": 0.25, "dev/scores/f1": 0.75}


def test_without_tensorboard_one_line_says_what_to_install(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match="pip install tensorboard"):
        run(world, "--tensorboard")
    assert not (world / "runs").exists()


@pytest.mark.parametrize("first_only", [True, False])
def test_checkpointed_activations_give_the_same_gradients(
    tiny: BertModel, first_only: bool
) -> None:
    """Dropout and all: the layers run twice with the same random numbers."""
    tiny.train()
    batch, gradients = packed((5, 9, 12)), []
    for on in (False, True):
        tiny.checkpoint_activations = on
        torch.manual_seed(1)
        outcome = Outcome(Path())
        with watched(outcome, encoder, "checkpoint"):
            out = tiny.pooled_output(batch) if first_only else tiny.hidden_states(batch)[-1]
        assert outcome.calls["checkpoint"] == on * TINY.num_hidden_layers
        tiny.zero_grad()
        out.square().sum().backward()
        gradients.append([p.grad.clone() for p in tiny.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_training_does_not_wait_for_the_compiler_s_imports(world: Path) -> None:
    """1.5 s of start-up: initialising meta tensors and PyTorch's optimizers would ask for it."""
    code = (
        "import sys, train_multitask\n"
        "train_multitask.main(sys.argv[1:])\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    argv = [*arguments(world, "--skip-predictions"), "--quiet"]
    subprocess.run([sys.executable, "-c", code, *argv], check=True, cwd=Path(__file__).parents[1])


@pytest.mark.parametrize("gone", ["best-sst/model.safetensors", "report.html"])
def test_what_a_finished_run_of_several_lacks_is_made_anew(world: Path, gone: str) -> None:
    options = ["--seeds", "2", "--epochs", "1", "--save-task-best", "--skip-predictions"]
    run(world, "--name", "two", *options)
    path = world / "runs/two/seed-11712" / gone
    shutil.rmtree(path.parent) if path.parent.name == "best-sst" else path.unlink()
    assert train_multitask.main(["--resume", str(world / "runs/two")]) == 0
    assert path.is_file()


def test_the_table_of_several_seeds_is_that_of_the_first(world: Path, capsys) -> None:
    run(world, "--name", "two", "--seeds", "2", "--epochs", "1", "--lr", "1e-2", "--json")
    *printed, line = capsys.readouterr().out.splitlines()
    first, second = json.loads(line)["scores"]
    (row,) = [text.split()[1:] for text in printed if text.startswith("parallel ")]
    assert row == [f"{first[task]:.3f}" for task in ("sst", "sts")]
    assert row != [f"{second[task]:.3f}" for task in ("sst", "sts")]
    (before,) = [text.split()[2:] for text in printed if text.startswith("before training ")]
    found = logged(world / "runs/two/seed-11711", "dev")[0]["scores"]
    assert before == [f"{found['sst']['accuracy']:.3f}", f"{found['sts']['pearson']:.3f}"]
    (advice,) = [text for text in printed if text.startswith("next: python evaluate.py ")]
    assert evaluate.main(shlex.split(advice)[3:]) == 0


def test_what_padding_adds_is_up_to_the_longest_of_a_batch() -> None:
    split = SimpleNamespace(lengths=np.array([2, 4, 6, 8]))
    assert dry_run.padding_factor(split, 4) == 1.6
    assert dry_run.padding_factor(split, 2) in (1.2, 1.4)  # by how the batches are drawn
