"""A run's folder: who may have its name, and what goes on in it."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

import evaluate
import pretrain_mlm
import train_multitask
from minbert import UserError, export
from minbert.files import HOST
from minbert.locks import locked
from minbert.manifest import sha256_of
from minbert.report import __main__ as report
from minbert.run import rundir
from minbert.run_files import command_folder
from tests.conftest import arguments, run
from tests.forked import Command
from tests.processes import assert_same_run, wait_for_step


@pytest.mark.parametrize("more", [[], ["--seeds", "2"]])
def test_of_two_commands_of_one_name_one_wins_wholly(
    world: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    """Both have found the name free; the second comes to the lock when the first has finished."""
    alone_in, first = rundir.alone_in, ["--name", "run", "--epochs", "1", *more]

    def after_the_other(folder: Path, resumed: bool) -> AbstractContextManager[None]:
        monkeypatch.setattr(rundir, "alone_in", alone_in)
        run(world, *first, "--lr", "1e-3")
        return alone_in(folder, resumed)

    original = rundir.new_run

    def chosen(*args: Any) -> Path:
        found = original(*args)
        monkeypatch.setattr(rundir, "alone_in", after_the_other)
        monkeypatch.setattr(rundir, "new_run", original)
        return found

    monkeypatch.setattr(rundir, "new_run", chosen)
    with pytest.raises(UserError, match="another command has begun that run"):
        run(world, *first, "--lr", "2e-3")
    for path in (world / "runs/run").rglob("args.json"):
        assert json.loads(path.read_text())["lr"] == 1e-3
    assert "--lr 0.001" in (world / "runs/run/README.md").read_text()


def interrupted(*args: Any) -> None:
    raise KeyboardInterrupt


def test_a_run_that_never_began_is_given_its_command_again(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_multitask, "set_up", interrupted)
        run(world, "--name", "run")
    resume = ["--output-dir", str(world / "runs"), "--resume", "run"]
    (world / "empty/run").mkdir(parents=True)
    monkeypatch.chdir(world / "empty")  # whose folder of that name is none of a run
    with pytest.raises(UserError, match=r"runs/run stopped before its first checkpoint: give its"):
        train_multitask.main(resume)
    busy = pytest.raises(UserError, match="runs/run is being started by another command")
    with locked(world / "runs/run/.lock", wait=False), busy:
        train_multitask.main(resume)
    assert run(world, "--name", "run", "--epochs", "1", "--skip-predictions") == 0


def test_a_mistake_is_not_kept_by_a_command_that_goes_on(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_multitask, "set_up", interrupted)
        run(world, "--name", "two", "--seeds", "2", "--steps", "2", "--skip-predictions")
    folder = world / "runs/two"
    for words, message in (
        (["--data-dir", "typo"], "typo/ids-sst-train.csv: no such file"),
        (["--device", "gpu"], "--device gpu: write auto"),
    ):
        with pytest.raises(UserError, match=message):
            train_multitask.main(["--resume", str(folder), *words])
    with pytest.raises(UserError, match=r"first checkpoint: --resume \S+/two begins it"):
        train_multitask.main(["--resume", str(folder / "seed-11711")])
    assert train_multitask.main(["--resume", str(folder)]) == 0


@pytest.mark.parametrize("mode", ["parallel", "single"])
def test_a_run_that_is_moved_while_it_trains(
    world: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Nothing is saved where it was, and it goes on where it is."""
    options = ("--mode", mode, "--epochs", "1", "--skip-predictions")
    run(world, "--name", "whole", *options)
    step, places = train_multitask.train_step, [world / "runs/old", world / "runs/new"]

    def moved(run_: train_multitask.FineTuning, number: int) -> None:
        if number == 3:
            places[0].rename(places[1])
        step(run_, number)

    with monkeypatch.context() as patch:
        patch.setattr(train_multitask, "train_step", moved)
        with pytest.raises(UserError, match=r"old.*args\.json is gone.*--resume its new folder"):
            run(world, "--name", "old", *options)
    assert not places[0].exists()
    train_multitask.main(["--resume", str(places[1])])
    own = "/sst" if mode == "single" else ""
    assert_same_run(world, f"whole{own}", f"new{own}")


@pytest.mark.parametrize("text", ['{"lr": 1e-5}', '{"seed": "x"}', "[]", "{"])
def test_another_program_s_arguments_are_no_command(world: Path, text: str) -> None:
    """In the working directory, where many programs have a file of this name."""
    run(world, "--name", "run", "--epochs", "1", "--skip-predictions")
    (world / "args.json").write_text(text)
    assert command_folder(world / "runs/run") == world / "runs/run"


@pytest.mark.parametrize("mode", ["parallel", "single"])
def test_what_killed_processes_left_is_removed(world: Path, mode: str) -> None:
    """Of a run, and of the folder around several."""
    run(world, "--name", "run", "--mode", mode)
    folder = world / "runs/run"
    gone = subprocess.Popen(["true"])
    gone.wait()
    for name in (f"args.json.{HOST}.{gone.pid}.new", f"x/x.csv.{HOST}.{gone.pid}.new"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("half")
    running = folder / f"README.md.{HOST}.{os.getppid()}.new"  # another process writes it just now
    elsewhere = folder / f"README.md.other-machine.{gone.pid}.new"  # and one on another machine
    for path in (running, elsewhere):
        path.write_text("half")
    last = next(folder.rglob("last"))
    shutil.copytree(last, last.with_name(".last.old"))
    train_multitask.main(["--resume", str(folder)])
    assert {*folder.rglob("*.new")} == {running, elsewhere} and not [*folder.rglob(".last.old")]


def test_a_name_that_no_file_can_have(world: Path) -> None:
    with pytest.raises(UserError, match="not UTF-8; choose another"):
        run(world, "--name", "a\udcff")
    with pytest.raises(UserError, match=r"--data-dir .*not UTF-8; choose another"):
        run(world, "--data-dir", "donn\udce9es")
    assert not (world / "runs").exists()


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
    half = "args.json.other-machine.1.new"
    for left in ((), ("args.json",), ("args.json", "tasks.toml", "log.jsonl"), (half,)):
        folder = world / "runs/cut"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in left:
            (folder / name).write_text("")
        capsys.readouterr()
        run(world, "--name", "cut", "--epochs", "1")
        assert ("it starts anew" in capsys.readouterr().out) == bool(left)
        assert_same_run(world, "whole", "cut")


def test_a_dev_file_that_is_changed_meanwhile_does_not_cost_the_end(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its texts are not shown: with other lines they would be others, or none.

    Nor does a training file that is gone, and the card has the hashes of those it began with.
    """
    dev, step = world / "data/ids-sst-dev.csv", train_multitask.train_step
    train = world / "data/ids-sst-train.csv"
    began_with = [sha256_of(path) for path in (train, dev)]

    def edited(run_: train_multitask.FineTuning, number: int) -> None:
        dev.write_text("".join(dev.read_text().splitlines(keepends=True)[:2]))
        train.unlink(missing_ok=True)
        step(run_, number)

    monkeypatch.setattr(train_multitask, "train_step", edited)
    assert run(world, "--name", "run", "--epochs", "1") == 0
    said = "ids-sst-dev.csv: changed since the run began; the report shows no texts of it"
    assert said in capsys.readouterr().out
    found = json.loads((world / "runs/run/findings.json").read_text())
    assert found["sst"]["worst"] == [] and found["sts"]["worst"]
    assert (world / "runs/run/report.html").is_file()
    card = (world / "runs/run/README.md").read_text()
    assert all(f"| `{digest}` |" in card for digest in began_with)


def test_a_card_of_pre_training_has_the_hashes_that_it_began_with(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [world / "one.txt", world / "two.txt"]
    for file in files:
        file.write_text(f"{file.stem} red cat\nold dog\n" * 5)
    began_with, step = [sha256_of(file) for file in files], pretrain_mlm.train_step

    def edited(run_: Any, number: int) -> None:
        files[0].write_text("green\n")
        files[1].unlink(missing_ok=True)
        step(run_, number)

    monkeypatch.setattr(pretrain_mlm, "train_step", edited)
    options = ["--corpus", *map(str, files), "--epochs", "1", "--held-out", "0"]
    pretrain_mlm.main(arguments(world, "--name", "mlm", *options))
    card = (world / "runs/mlm/README.md").read_text()
    for file, digest in zip(files, began_with, strict=True):
        assert f"| {file.name} | `{digest}` |" in card


def test_a_start_elsewhere_is_not_gone_into(world: Path) -> None:
    """Another command that has not yet found its weights and data."""
    with rundir.alone_in(world / "runs/parallel-sst-sts", resumed=True):
        chosen = rundir.new_run(world / "runs", "", "parallel-sst-sts", Path())
        assert chosen.name == "parallel-sst-sts-2"


def test_two_commands_do_not_train_in_one_folder(world: Path) -> None:
    process = Command("train", arguments(world, "--name", "one", "--epochs", "1000"), world)
    wait_for_step(world / "runs/one", 3)
    with pytest.raises(UserError, match="runs/one is being trained by another process"):
        train_multitask.main(["--resume", str(world / "runs/one")])
    assert process.is_running()  # and it was not disturbed
    process.signal(signal.SIGKILL)
    assert process.finish().code == -signal.SIGKILL


def test_a_run_of_the_other_script(world: Path) -> None:
    run(world, "--name", "tuned", "--epochs", "1", "--skip-predictions")
    places = ["--output-dir", str(world / "runs"), "--data-dir", str(world / "data")]
    with pytest.raises(UserError, match=r"tuned: a run of train_multitask\.py, which goes on with"):
        pretrain_mlm.main(["--resume", "tuned", *places])
    pretrain_mlm.main(arguments(world, "--name", "mlm", "--epochs", "1"))
    with pytest.raises(UserError, match=r"mlm: a run of pretrain_mlm\.py, which goes on with"):
        train_multitask.main(["--resume", "mlm", *places])


def test_nothing_is_written_where_a_run_would_replace_it(world: Path) -> None:
    """best/ and last/ are replaced as wholes: what another command put there would be gone."""
    run(world, "--epochs", "1", "--name", "run")
    trained = world / "runs/run"
    best = trained / "best"
    scripts: dict[str, tuple[Callable[[list[str]], int], list[str]]] = {
        "scores": (evaluate.main, ["--checkpoint", str(trained), "--output", f"{best}/mine"]),
        "texts": (
            evaluate.main,
            ["--checkpoint", str(best), "--text", "a film", "--output", f"{best}/a.csv"],
        ),
        "reference": (evaluate.main, ["--model", str(best), "--emit", f"{best}/r.npz"]),
        "page": (report.main, [str(trained), "--output", f"{trained}/last/page.html"]),
        "export": (export.main, [str(trained), f"{best}/hub"]),
        "training": (train_multitask.main, [*arguments(world), "--output-dir", f"{best}/runs"]),
        "pre-training": (
            pretrain_mlm.main,
            ["--model", str(world / "model"), "--data-dir", str(world), "--output-dir", str(best)],
        ),
    }
    before = sorted(trained.rglob("*"))
    for name, (main, argv) in scripts.items():
        with pytest.raises(UserError, match="replaces as a whole; choose another place"):
            main(argv)
        assert sorted(trained.rglob("*")) == before, name


def test_a_folder_of_several_runs_is_no_model(world: Path) -> None:
    run(world, "--name", "two", "--seeds", "2", "--epochs", "1", "--skip-predictions")
    with pytest.raises(UserError, match=r"two: a folder of several runs; name one, as .*/seed-"):
        evaluate.main(["--checkpoint", str(world / "runs/two")])
