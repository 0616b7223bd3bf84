"""Which step is kept: by the mean, a task or weights; and each task's own, in its folder."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import evaluate
import train_multitask
from minbert import MultitaskModel
from minbert.export import main as export
from minbert.files import read_json
from minbert.metrics import weighted_mean
from tests.conftest import cut, logged, run, weights
from tests.processes import assert_same_run

OPTIONS = ["--save-task-best", "--eval-every", "5", "--lr", "1e-3"]


def same(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_weighted_mean() -> None:
    scores = {"sst": 0.2, "sts": 0.8}
    assert weighted_mean(scores, {"sst": 1.0}) == 0.2
    assert weighted_mean(scores, {"sst": 2.0, "sts": 1.0}) == pytest.approx(0.4)


@pytest.mark.parametrize(("by", "chosen"), [([], 10), (["--best-by", "sst=3,sts=1"], 20)])
def test_the_steps_that_are_kept(
    world: Path, monkeypatch: pytest.MonkeyPatch, by: list[str], chosen: int
) -> None:
    """SST is best at step 20, STS and the plain mean at step 10."""
    every = [{"sst": 0.9, "sts": 0.9}, {"sst": 0.1, "sts": 0.9}, {"sst": 0.5, "sts": 0.3}]
    scores = iter(every)
    monkeypatch.setattr(train_multitask, "main_scores", lambda *_: next(scores))
    run(world, "--name", "run", "--lr", "1e-3", "--save-task-best", "--skip-predictions", *by)
    folder = world / "runs/run"
    (end,) = logged(folder, "end")
    assert end["best"]["step"] == chosen
    assert {name: best["step"] for name, best in end["task_best"].items()} == {"sst": 20, "sts": 10}
    assert same(folder / "best-sst", folder / "last") and not same(
        folder / "best-sts", folder / "last"
    )
    assert same(folder / "best", folder / ("best-sts" if chosen == 10 else "best-sst"))
    card = (folder / "README.md").read_text()
    assert f"`best/` holds step {chosen}, `best-sst/` step 20, `best-sts/` step 10, `last/`" in card


@pytest.mark.parametrize(
    ("by", "what"), [([], "mean"), (["--best-by", "sts"], "score by --best-by")]
)
def test_what_patience_was_lost_with_is_what_best_is_chosen_by(
    world: Path, capsys: pytest.CaptureFixture[str], by: list[str], what: str
) -> None:
    options = ["--lr", "0", "--patience", "1", "--eval-every", "2", "--skip-predictions"]
    run(world, "--name", "run", *options, *by)
    out = capsys.readouterr().out
    assert f"stopped at step 4 of 20: no better {what} in 1 evaluation\n" in out


def test_a_task_s_best_is_used_as_any_checkpoint(world: Path) -> None:
    run(world, "--name", "run", *OPTIONS)
    best = world / "runs/run/best-sst"
    model = MultitaskModel.load(best, "cpu")
    assert model.predict("sst", ["red cat"])[0] in model.tasks["sst"].display_names
    assert model.network.heads["sst"].config.temperature != 1.0
    assert export([str(best), str(world / "out"), "--task", "sst"]) == 0
    run(world, "--name", "next", "--model", str(best), "--steps", "1")
    run(world, "--name", "plain", "--steps", "1")
    assert {path.name for path in (world / "runs/plain").glob("best*")} == {"best"}


@pytest.mark.thorough
def test_stopped_and_resumed_keeps_the_same_steps(world: Path) -> None:
    run(world, "--name", "whole", *OPTIONS)
    cut(world, 8, "--name", "cut", *OPTIONS)
    torn = world / "runs/cut/best-sst"
    torn.rename(torn.with_name(".best-sst.old"))  # as a kill between the two renames leaves it
    train_multitask.main(["--resume", str(world / "runs/cut")])
    assert_same_run(world, "whole", "cut")
    for name in ("best-sst", "best-sts"):
        assert same(world / "runs/whole" / name, world / "runs/cut" / name)
    assert not list((world / "runs/cut").glob("*.old"))


def test_an_evaluation_that_is_made_again_counts_once(world: Path, monkeypatch) -> None:
    means = iter([0.1, 0.9, 0.5, 0.5, 0.4, 0.3])  # the one at step 20 twice
    monkeypatch.setattr(train_multitask, "weighted_mean", lambda *_: next(means))
    options = ("--epochs", "4", "--patience", "2", "--save-task-best", "--skip-predictions")
    cut(world, 20, "--name", "run", *options)
    folder = world / "runs/run"
    state = read_json(folder / "last/state.json")
    assert (state["assessed"], state["since_best"]) == (20, 1)
    shutil.rmtree(folder / "best-sst")
    train_multitask.main(["--resume", str(folder)])
    assert [line["step"] for line in logged(folder, "dev")][-1] == 30


def test_a_task_s_best_that_is_gone_is_made_anew_and_said(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(world, "--name", "run", *OPTIONS)
    folder = world / "runs/run"
    kept = weights(folder / "best-sts")
    shutil.rmtree(folder / "best-sst")
    capsys.readouterr()
    train_multitask.main(["--resume", str(folder)])
    out = capsys.readouterr().out
    assert "best-sst: gone; the best step from 20 on" in out and "best-sts: gone" not in out
    assert same(folder / "best-sst", folder / "last")
    assert all(torch.equal(kept[name], w) for name, w in weights(folder / "best-sts").items())


def test_half_of_a_task_s_first_best_does_not_stop_a_run(world: Path) -> None:
    """kill -9 while best-sst/ is saved for the first time."""
    run(world, "--name", "whole", *OPTIONS)
    cut(world, 2, "--name", "cut", *OPTIONS)
    half = world / "runs/cut/.best-sst.new"
    half.mkdir()
    (half / "config.json").write_text("{")
    train_multitask.main(["--resume", str(world / "runs/cut")])
    assert_same_run(world, "whole", "cut")


@pytest.mark.parametrize(
    ("scores", "options"),
    [
        ([(0.9, 0.9), (0.1, 0.9), (0.5, 0.3)], []),  # best/ is of step 10, SST's best of step 20
        # both are of step 10: best/ is the mean of the weights, SST's best the weights
        ([(0.1, 0.1), (0.8, 0.8), (0.9, 0.1)], ["--epochs=1", "--average=0.9", "--seed=1"]),
    ],
)
def test_a_task_s_best_has_its_own_temperature(
    world: Path, monkeypatch, capsys, scores: list[tuple[float, float]], options: list[str]
) -> None:
    """And not that of best/, which is another model."""
    found = iter([{"sst": sst, "sts": sts} for sst, sts in scores])
    monkeypatch.setattr(train_multitask, "main_scores", lambda *_: next(found))
    run(world, "--name", "run", "--lr", "1e-2", "--save-task-best", *options)
    folder = world / "runs/run"
    job = ["--checkpoint", str(folder / "best-sst"), "--data-dir", str(world / "data"), "--json"]
    capsys.readouterr()
    evaluate.main([*job, "--output", str(world / "out")])
    fitted = json.loads(capsys.readouterr().out.splitlines()[-1])["calibrated"]["sst"]
    kept = {
        name: json.loads((folder / name / "heads.json").read_text())["sst"]["temperature"]
        for name in ("best", "best-sst")
    }
    assert kept["best-sst"] == fitted["temperature"] != kept["best"]
