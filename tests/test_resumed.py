"""--resume: which data and arguments a run goes on with, and what of it stays."""

import io
import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import evaluate
import minbert.model.encoder
import pretrain_mlm
import train_multitask
from minbert import UserError
from minbert.cli import parse_given
from minbert.files import read_json_lines as read_log
from minbert.manifest import write_manifest
from minbert.model.encoder import BertModel
from minbert.run import beginning, checkpoint, keeper
from minbert.run.mlm_args import resolve_arguments as resolve_mlm_arguments
from minbert.run.resolve_args import resolve_arguments
from minbert.run.resumed import check_data, resumed_arguments
from tasks import TASKS
from tests.conftest import TINY, arguments, cut, run, weights
from tests.flag_checks import CHECKS
from tests.flags import Outcome, watched
from tests.processes import assert_same_run
from tests.test_stopping import interrupt_at


def test_a_corpus_that_only_moved_goes_on(world: Path) -> None:
    (world / "a.txt").write_text("red cat runs\n" * 60)
    (world / "b.txt").write_text("old dog sleeps\n" * 60)
    base = arguments(world, "--name", "run", "--mask-rate", "0.5", "--corpus", str(world / "a.txt"))
    base = [w for i, w in enumerate(base) if "--tasks" not in (w, base[i - 1])]
    pretrain_mlm.main(base)
    (world / "a.txt").rename(world / "moved.txt")
    resume = ["--resume", str(world / "runs/run"), "--corpus"]
    assert pretrain_mlm.main([*resume, str(world / "moved.txt")]) == 0
    with pytest.raises(UserError, match=r"b.txt: not what .*runs/run began with"):
        pretrain_mlm.main([*resume, str(world / "b.txt")])
    more_files = "files to train and evaluate on: 1 when it began, now 2"
    with pytest.raises(UserError, match=more_files):
        pretrain_mlm.main([*resume, str(world / "moved.txt"), str(world / "b.txt")])


def test_pre_training_knows_its_files_by_task(world: Path) -> None:
    """And goes on with runs that numbered them, by their place."""
    pretrain_mlm.main([*arguments(world, "--name", "run", "--tasks", "sst,sts"), "--held-out", "2"])
    state, _ = checkpoint.read_state(world / "runs/run/last")
    assert list(state.data) == ["sst train", "sts train"]
    files = {"sst train": Path("one.csv"), "sts train": Path("two.csv")}
    numbered, now = {"0": "a", "1": "b"}, {"sst train": "a", "sts train": "b"}
    check_data(Path("run"), numbered, files, now)
    with pytest.raises(UserError, match=r"two.csv: not what run began with"):
        check_data(Path("run"), numbered, files, now | {"sts train": "c"})
    with pytest.raises(
        UserError, match="run: files to train and evaluate on: 1 when it began, now 2"
    ):
        check_data(Path("run"), {"sst train": "a"}, files, now)


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


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--lr", "0.5"], "--lr 0.5 differs from the run's 0.001: leave it out"),
        (["--resume", "nowhere"], "no args.json in nowhere"),
        (["--name", "other"], "--name other differs"),
        (["--dry-run"], "--dry-run measures a new run, not the rest of one"),
        (["--no-correct-bias"], "--no-correct-bias differs from the run: leave it out"),
        (["--limit", "30"], "--limit 30 differs from the run's sst=40,sts=40: leave it out"),
        (["--option", "finetune"], "--option finetune differs"),
        (["--sampling-power", "0.5"], "--sampling-power 0.5 differs from the run, which has none"),
        (["--task-weight", "sst=2"], "--task-weight sst=2.0 differs from the run, which has none"),
        (["--tasks", "sst"], "--tasks sst differs .*: leave it out, or start a new run from this"),
    ],
)
def test_resume_with_other_arguments(world: Path, extra: list[str], message: str) -> None:
    typed = ["--limit", "40", "--written-out", "--option", "pretrain", "--epochs", "1"]
    run(world, "--name", "run", *typed)
    with pytest.raises(UserError, match=message):
        train_multitask.main(["--resume", str(world / "runs/run"), *extra])
    assert train_multitask.main(["--resume", str(world / "runs/run"), *typed]) == 0


# Where files are, the machine and its memory, what a run says and leaves; --config has no value.
MAY_CHANGE = {
    "resume", "config", "output_dir", "data_dir", "corpus", "device", "use_gpu", "threads",
    "accumulate", "checkpoint_activations", "save_minutes", "tensorboard", "quiet", "json",
    "skip_predictions",
}  # fmt: skip


@pytest.mark.parametrize(
    ("script", "resolve"),
    [(train_multitask, resolve_arguments), (pretrain_mlm, resolve_mlm_arguments)],
)
def test_every_argument_that_makes_another_run_is_refused(
    script: ModuleType, resolve: Callable[..., Any]
) -> None:
    """A new argument is refused, too, unless it is listed above."""
    begun = resolve({}, TASKS)
    for name, (words, _) in CHECKS[script.__name__].items():
        if name not in MAY_CHANGE:
            given = {name: parse_given(script.Args, words.split(), "")[name]}
            with pytest.raises(UserError, match=r"differs from the run|measures a new run"):
                resumed_arguments(begun, given, Path("run"), lambda fields: resolve(fields, TASKS))


def test_a_run_goes_on_on_a_gpu(world: Path) -> None:
    """Both ways to say it; a run that is begun with --device auto does not contradict them."""
    begun = resolve_arguments({"tasks": ("sst",)}, TASKS)
    for given in ({"use_gpu": True}, {"device": "cuda"}, {"use_gpu": True, "device": "cuda"}):
        again = resumed_arguments(
            begun, given, world, lambda fields: resolve_arguments(fields, TASKS)
        )
        assert again.device == "cuda" and not again.use_gpu


def test_a_best_that_is_gone_is_made_anew_and_said(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also of a run that is over; one that lies beside, left by a kill, takes its place first."""
    run(world, "--name", "run")
    folder = world / "runs/run"
    before = weights(folder / "best")
    (folder / "best").rename(folder / "best.old")
    shutil.rmtree(folder / "predictions")
    train_multitask.main(["--resume", str(folder)])
    assert "best: gone" not in capsys.readouterr().out and (folder / "predictions").is_dir()
    assert all(torch.equal(w, before[name]) for name, w in weights(folder / "best").items())
    shutil.rmtree(folder / "best")
    train_multitask.main(["--resume", str(folder)])
    assert "best: gone; the best step from 20 on" in capsys.readouterr().out
    last = weights(folder / "last")
    assert all(torch.equal(w, last[name]) for name, w in weights(folder / "best").items())
    events = [line["event"] for line in read_log(folder / "log.jsonl")]
    assert events.count("dev") == 3 and events.count("end") == 1


def test_predictions_of_a_saved_model_outlive_it(world: Path) -> None:
    """evaluate.py is given RUN/best, which the resumed run replaces as a whole."""
    run(world, "--name", "run", "--epochs", "1", "--skip-predictions", "--save-task-best")
    folder = world / "runs/run"
    for saved in ("best", "best-sst"):
        evaluate.main(["--checkpoint", str(folder / saved), "--task", "sst"])
        assert not (folder / saved / "predictions").exists()
    shutil.copytree(folder / "best", world / "copied")
    evaluate.main(["--checkpoint", str(world / "copied"), "--data-dir", str(world / "data")])
    assert (world / "copied/predictions").is_dir()
    train_multitask.main(["--resume", str(folder), "--no-skip-predictions"])
    for saved in ("best", "best-sst"):
        assert (folder / f"predictions-{saved}/sst-dev-output.csv").is_file()


def test_predictions_are_added_to_every_run_of_a_finished_command(world: Path) -> None:
    run(world, "--name", "two", "--seeds", "2", "--steps", "2", "--skip-predictions")
    folders = [world / "runs/two" / f"seed-{seed}" for seed in (11711, 11712)]
    assert not any((folder / "predictions").exists() for folder in folders)
    train_multitask.main(["--resume", str(world / "runs/two"), "--no-skip-predictions"])
    assert all((folder / "predictions/sst-dev-output.csv").is_file() for folder in folders)


def test_a_finished_run_keeps_its_card(world: Path) -> None:
    """--resume with --skip-predictions makes no new predictions, and forgets no old ones."""
    run(world, "--name", "run", "--epochs", "1")
    card = world / "runs/run/README.md"
    before = card.read_text()
    assert "95 % interval" in before and "calibration" in before
    train_multitask.main(["--resume", str(world / "runs/run"), "--skip-predictions"])
    after = card.read_text().replace(" --skip-predictions", "")
    assert after.replace("skip_predictions | `True`", "skip_predictions | `False`") == before
    shutil.rmtree(world / "runs/run/best")  # another best step: the old findings are not of it
    train_multitask.main(["--resume", str(world / "runs/run")])
    assert not (world / "runs/run/findings.json").exists()


def test_several_runs_go_on_together(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also with --quiet the answer to Ctrl-C names the folder that holds all of them."""
    interrupt_at(monkeypatch, 3)
    more = ["--seeds", "2", "--mode", "single", "--quiet"]
    with pytest.raises(KeyboardInterrupt):
        run(world, "--name", "cut", *more)
    assert f"go on with --resume {world / 'runs/cut'}\n" in capsys.readouterr().err
    monkeypatch.undo()
    run(world, "--name", "whole", *more)
    train_multitask.main(["--resume", str(world / "runs/cut")])
    for one in ("seed-11711/sst", "seed-11711/sts", "seed-11712/sst", "seed-11712/sts"):
        assert_same_run(world, f"whole/{one}", f"cut/{one}")


def test_what_may_change_on_the_way_does(world: Path) -> None:
    cut(world, 12, "--name", "cut")
    outcome, folder, threads = Outcome(world), world / "runs/cut", torch.get_num_threads()
    words = "--checkpoint-activations --threads 1 --save-minutes 0 --tensorboard --quiet --json"
    functions = (
        (torch, "set_num_threads"), (minbert.model.encoder, "checkpoint"),
        (keeper, "save_checkpoint"), (beginning, "Progress"),
    )  # fmt: skip
    with ExitStack() as stack, redirect_stdout(io.StringIO()) as out:
        for module, name in functions:
            stack.enter_context(watched(outcome, module, name))
        train_multitask.main(["--resume", str(folder), *words.split()])
    torch.set_num_threads(threads)
    assert outcome.seen["set_num_threads"] == [((1,), {})] and outcome.calls["checkpoint"] > 0
    assert outcome.seen["Progress"][0][0][:2] == (20, 12)  # it goes on at step 12
    assert outcome.calls["save_checkpoint"] >= 8  # after each of the last steps
    assert len(list(folder.glob("tensorboard/events*"))) == 1
    (line,) = out.getvalue().splitlines()
    assert json.loads(line)["run"] == str(folder)


def test_finished_runs_of_a_command_need_no_start(world: Path) -> None:
    start = shutil.copytree(world / "model", world / "start")
    run(world, "--name", "two", "--seeds", "2", "--steps", "2", "--model", str(start))
    shutil.rmtree(start)
    assert train_multitask.main(["--resume", str(world / "runs/two")]) == 0


def write_other_model(world: Path) -> None:
    torch.manual_seed(1)
    BertModel(TINY).save_pretrained(world / "model")


@pytest.mark.parametrize(("more", "first"), [(["--mode", "single"], 3), (["--seeds", "2"], 8)])
def test_runs_that_have_not_begun_start_from_no_other_model(
    world: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], first: int
) -> None:
    options = ["--epochs", "1", "--skip-predictions", *more]
    run(world, "--name", "whole", *options)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(patch, first)
        run(world, "--name", "cut", *options)
    whole, cut = world / "runs/whole", world / "runs/cut"
    shutil.copytree(world / "model", world / "kept")
    write_other_model(world)
    other = r"--model \S+model: not what the runs of \S+cut began from, and 1 of 2 have yet"
    with pytest.raises(UserError, match=other):
        train_multitask.main(["--resume", str(cut)])
    assert train_multitask.main(["--resume", str(whole)]) == 0  # all of its runs have begun
    shutil.rmtree(world / "model")
    (world / "kept").rename(world / "model")
    (world / "model/README.md").write_text("which nothing is read from\n")
    train_multitask.main(["--resume", str(cut)])
    last = "sts" if "single" in more else "seed-11712"
    a, b = (weights(folder / last / "last") for folder in (whole, cut))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_runs_of_before_do_not_tell_what_they_began_from(world: Path) -> None:
    run(world, "--name", "run", "--epochs", "1", "--skip-predictions", "--mode", "single")
    folder = world / "runs/run"
    shutil.rmtree(folder / "sts")
    state = json.loads((folder / "sst/last/state.json").read_text())
    del state["start"]
    (folder / "sst/last/state.json").write_text(json.dumps(state))
    (folder / "sst/last/manifest.json").unlink()
    write_manifest(folder / "sst/last")
    write_other_model(world)
    assert train_multitask.main(["--resume", str(folder)]) == 0
