"""The scores that a run goes on with are those of such a run, or one line names their file."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import pretrain_mlm
import train_multitask
from minbert import UserError
from minbert.files import read_json
from minbert.manifest import write_manifest
from minbert.run.checkpoint import Best, TaskBest, TrainState, check_scores
from tests.conftest import arguments, run

SCORES = {"sst": 0.5, "sts": 0.25}
OF_WORDS = {"accuracy": 0.5, "perplexity": 9.0, "loss": 2.2}
PATH = Path("state.json")


def change(path: Path, keys: tuple[Any, ...], value: object) -> None:
    """Put a value into a file of a checkpoint that then knows no other; None: take it out."""
    whole = inner = read_json(path)
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    if value is None:
        del inner[keys[-1]]
    path.write_text(json.dumps(whole))
    (path.parent / "manifest.json").unlink()
    write_manifest(path.parent)


@pytest.mark.parametrize(
    ("file", "keys", "value", "message"),
    [
        ("last/state.json", ("stages", 0, 1, "accuracy"), None, "training': 'accuracy' has no"),
        ("last/state.json", ("stages", 0, 1, "x"), 0.5, "'x' is not a score of this run"),
        ("last/state.json", ("stages", 0, 1, "accuracy"), 10**400, "the number 10* is out of"),
        ("last/state.json", ("stages",), [], "stages: none after an evaluation"),
        ("best/step.json", ("scores", "perplexity"), None, "'perplexity' has no score"),
        ("best/step.json", ("scores", "loss"), 1e308, "the number 1e.308 is out of range"),
    ],
)
def test_pre_training_goes_on_with_scores_of_words_alone(
    world: Path, file: str, keys: tuple[Any, ...], value: object, message: str
) -> None:
    argv = ["--name", "m", "--epochs", "1", "--keep", "best", "--held-out", "4"]
    pretrain_mlm.main(arguments(world, *argv))
    change(world / "runs/m" / file, keys, value)
    with pytest.raises(UserError, match=f"{file}: .*{message}.*; the file is damaged") as error:
        pretrain_mlm.main(["--resume", str(world / "runs/m")])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "keys", "value", "message"),
    [
        ("last/state.json", ("best", "scores", "sts"), None, "best: 'sts' has no score"),
        ("best/step.json", ("scores", "sts"), None, "'sts' has no score"),
        ("best/step.json", ("chosen_by",), float("nan"), "the number nan is out of range"),
    ],
)
def test_fine_tuning_goes_on_with_scores_of_its_tasks_alone(
    world: Path, a_run: Callable[..., Path], file: str, keys: tuple[Any, ...],
    value: object, message: str,
) -> None:  # fmt: skip
    a_run(world, "--epochs", "1", "--skip-predictions").rename(world / "runs/run")
    change(world / "runs/run" / file, keys, value)
    with pytest.raises(UserError, match=f"{file}: {message}; the file is damaged"):
        train_multitask.main(["--resume", str(world / "runs/run")])


def test_finished_siblings_are_looked_at_as_well(world: Path) -> None:
    run(world, "--name", "two", "--seeds", "2", "--epochs", "1", "--skip-predictions")
    path = world / "runs/two/seed-11711/last/state.json"
    change(path, ("best", "scores", "sst"), None)
    with pytest.raises(UserError, match=r"seed-11711/last/state.json: best: 'sst' has no score"):
        train_multitask.main(["--resume", str(world / "runs/two")])


def test_an_evaluated_step_has_left_its_scores() -> None:
    own = TaskBest(0.5, 4)
    whole = TrainState(
        steps=8, step=4, assessed=4, before=SCORES, best=Best(0.4, 4, SCORES),
        task_best={"sst": own, "sts": own}, stages=[("before training", SCORES)],
    )  # fmt: skip
    check_scores(whole, ("sst", "sts"), PATH)
    for lacking, values in (
        ("stages", {"stages": []}), ("best", {"best": None}),
        ("task_best: sts", {"task_best": {"sst": own}}),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"state.json: {lacking}: none after an evaluation"):
            check_scores(replace(whole, **values), ("sst", "sts"), PATH)
        check_scores(replace(whole, **values, assessed=0), ("sst", "sts"), PATH)
    with pytest.raises(UserError, match="'before': 'sst' is not a score of this run"):
        check_scores(whole, ("sts",), PATH)


def test_what_pre_training_has_not_is_not_asked_for() -> None:
    """Without held-out rows it has no scores, and by default it keeps no best step."""
    for scores in ({}, OF_WORDS):
        state = TrainState(steps=4, step=4, assessed=4, stages=[("epoch 1", scores)])
        check_scores(state, (), PATH)
