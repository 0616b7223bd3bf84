"""best/ after kill -9: what it holds is what the run says of it, whatever number comes next."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

import pretrain_mlm
import train_multitask
from minbert.files import read_json
from tests.conftest import arguments, logged, run
from tests.processes import steps_of

OPTIONS = [
    "--save-task-best",
    "--eval-every",
    "4",
    "--lr",
    "1e-3",
    "--seed",
    "5",
    "--skip-predictions",
]
AVERAGED = ["--average", "0.9", "--eval-every", "2"]
SCORES = ({"sst": 0.1, "sts": 0.1}, {"sst": 0.3, "sts": 0.3}, {"sst": 0.6, "sts": 0.5})


@contextmanager
def killed_after_saving(script: ModuleType, name: str, nth: int) -> Iterator[None]:
    """Let the run of a script in the block die after its nth saving of a folder of this name."""
    save, saved = script.save_checkpoint, []

    def killed(run_: object, folder: str, *kept: object) -> None:
        save(run_, folder, *kept)
        saved.append(folder)
        if saved.count(name) == nth:
            raise SystemExit

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(script, "save_checkpoint", killed)
        yield


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


@pytest.mark.parametrize(
    ("name", "nth", "more"),
    [
        ("best", 1, []),
        ("best", 2, ["--patience", "2"]),
        ("best-sst", 1, []),
        ("best-sts", 2, []),
        ("best", 2, AVERAGED),  # the mean's
        ("best", 3, AVERAGED),  # at the same step the weights are better
        ("best-sts", 2, AVERAGED),
    ],
)
def test_killed_after_any_saving_a_run_ends_in_the_same_bytes(
    world: Path, name: str, nth: int, more: list[str]
) -> None:
    run(world, "--name", "whole", *OPTIONS, *more)
    with killed_after_saving(train_multitask, name, nth):
        run(world, "--name", "cut", *OPTIONS, *more)
    whole, cut = world / "runs/whole", world / "runs/cut"
    train_multitask.main(["--resume", str(cut)])
    for kept in ("best", "best-sst", "best-sts", "last"):
        assert files_of(whole / kept) == files_of(cut / kept)
    assert steps_of(whole) == steps_of(cut)
    for key in ("best", "task_best"):
        assert logged(whole, "end")[0][key] == logged(cut, "end")[0][key]


@pytest.mark.parametrize("again", [0.2, 0.7])
@pytest.mark.parametrize("name", ["best", "best-sst"])
def test_what_a_kill_left_is_what_a_run_says_that_it_keeps(
    world: Path, monkeypatch: pytest.MonkeyPatch, name: str, again: float
) -> None:
    """Also if the step has other scores when it is evaluated again."""
    scores = iter([*SCORES, {"sst": again, "sts": again}])
    monkeypatch.setattr(train_multitask, "main_scores", lambda *_: next(scores))
    options = ["--save-task-best", "--skip-predictions"]
    with killed_after_saving(train_multitask, name, 2):
        run(world, "--name", "run", *options)
    folder = world / "runs/run"
    left = files_of(folder / name)
    train_multitask.main(["--resume", str(folder), "--accumulate", "2"])
    (end,) = logged(folder, "end")
    assert end["task_best"]["sst"]["score"] == max(again, 0.6 if name == "best-sst" else 0.3)
    best = {"sst": again, "sts": again} if again > 0.6 else SCORES[2]
    assert end["best"]["step"] == 20 and end["best"]["scores"] == best
    assert (files_of(folder / name) == left) == (again < 0.6)
    assert read_json(folder / "best/step.json") == end["best"]
    for task, own in end["task_best"].items():
        assert read_json(folder / f"best-{task}/step.json") == own


def test_best_of_killed_pre_training_is_kept(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([3.0, 2.5, 2.0, 2.2])

    def scored(_: object) -> tuple[dict[str, float], int]:
        return {"accuracy": 0.5, "perplexity": 9.0, "loss": next(losses)}, 10

    monkeypatch.setattr(pretrain_mlm, "held_out_scores", scored)
    with killed_after_saving(pretrain_mlm, "best", 2):
        pretrain_mlm.main(arguments(world, "--name", "mlm", "--keep", "best", "--held-out", "8"))
    folder = world / "runs/mlm"
    left = files_of(folder / "best")
    pretrain_mlm.main(["--resume", str(folder), "--accumulate", "2"])
    best = read_json(folder / "last/state.json")["best"]
    assert files_of(folder / "best") == left
    assert best["scores"]["loss"] == 2.0 and best == read_json(folder / "best/step.json")


def test_of_an_older_best_last_tells_the_step(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([*SCORES, {"sst": 0.2, "sts": 0.2}])
    monkeypatch.setattr(train_multitask, "main_scores", lambda *_: next(scores))
    with killed_after_saving(train_multitask, "best", 2):
        run(world, "--name", "run", "--skip-predictions")
    folder = world / "runs/run"
    (folder / "best/step.json").unlink()
    listed = read_json(folder / "best/manifest.json")
    del listed["step.json"]
    (folder / "best/manifest.json").write_text(json.dumps(listed))
    train_multitask.main(["--resume", str(folder)])
    assert logged(folder, "end")[0]["best"]["scores"] == SCORES[1]
