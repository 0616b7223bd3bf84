"""A run's best/ in another place: what it knows of its tasks there, and what is missing."""

import json
import shutil
from pathlib import Path

import pytest

import evaluate
import train_multitask
from minbert import MultitaskModel, UserError
from minbert.export import main as export
from minbert.run_files import check_not_replaced, folders_of_run, predictions_folder
from tests.own_tasks import OWN, arguments


@pytest.fixture
def copied(own: Path) -> Path:
    """A copy of the best/ of a run whose [sst] is a task of its own."""
    names = 'labels = ["walk", "rest", "none of it", "sit", "run"]'
    text = OWN.replace("[intent]", "[sst]").replace(
        'labels = ["walk", "rest", "none of it"]', names
    )
    (own / "own.toml").write_text(text)
    train_multitask.main([*arguments(own), "--tasks", "sst", "--skip-predictions"])
    (own / "away").mkdir()
    return shutil.copytree(own / "runs/own/best", own / "away/best")


def test_classes_of_another_task_of_that_name_are_refused(own: Path, copied: Path) -> None:
    with pytest.raises(
        UserError, match=r"sst: its classes are walk, rest, .*, the task's negative"
    ):
        MultitaskModel.load(copied, device="cpu")
    for name in ("tasks.toml", "args.json"):
        shutil.copy(own / "runs/own" / name, copied.parent)
    assert MultitaskModel.load(copied, device="cpu").tasks["sst"].classes[3] == "sit"


def test_labels_in_another_order_are_refused(own: Path, copied: Path) -> None:
    kept = own / "runs/own/tasks.toml"
    kept.write_text(kept.read_text().replace('"walk", "rest"', '"rest", "walk"'))
    with pytest.raises(UserError, match=r"its classes are walk, rest, .* the task's rest, walk"):
        MultitaskModel.load(own / "runs/own", device="cpu")


def test_names_for_people_may_be_corrected(own: Path) -> None:
    """In the run's own file; they are in no data."""
    text = OWN.replace(
        'answer"\nlabels = 3', 'answer"\nlabels = 3\ndisplay_names = ["a", "b", "c"]'
    )
    (own / "own.toml").write_text(text)
    train_multitask.main([*arguments(own), "--tasks", "entails", "--skip-predictions"])
    kept = own / "runs/own/tasks.toml"
    kept.write_text(kept.read_text().replace('"b"', '"better"'))
    task = MultitaskModel.load(own / "runs/own", device="cpu").tasks["entails"]
    assert task.display_classes == ("a", "better", "c")
    export([str(own / "runs/own"), str(own / "out"), "--task", "entails"])
    names = json.loads((own / "out/config.json").read_text())["id2label"]
    assert names == {"0": "a", "1": "better", "2": "c"}


def test_a_best_step_on_another_disk_is_in_the_run_that_links_to_it(own: Path) -> None:
    train_multitask.main([*arguments(own), "--tasks", "intent", "--skip-predictions"])
    run, disk = own / "runs/own", own / "disk"
    disk.mkdir()
    (run / "best").rename(disk / "mine")
    (run / "best").symlink_to(disk / "mine")
    for place in (run, run / "best"):
        assert MultitaskModel.load(place, device="cpu").predict("intent", ["red cat"])
        assert folders_of_run(place)[0] == run
    assert predictions_folder(run / "best") == run / "predictions-best"
    assert not folders_of_run(run / "../../model")  # which is no part of the run
    check_not_replaced(run / "best/../x.csv", "--output")
    with pytest.raises(UserError, match="which its run replaces as a whole"):
        check_not_replaced(run / "best/x.csv", "--output")


def test_two_classes_without_names_are_written_as_they_are_read(own: Path) -> None:
    labels = (own / "own.toml").read_text().replace("labels = 3", "labels = 2", 1)
    (own / "own.toml").write_text(labels)
    rows = [json.loads(line) for line in (own / "data/entails.jsonl").read_text().splitlines()]
    two = [json.dumps(row | {"answer": row["answer"] % 2}) for row in rows]
    (own / "data/entails.jsonl").write_text("\n".join(two) + "\n")
    train_multitask.main([*arguments(own), "--tasks", "entails"])
    (file,) = (own / "runs/own/predictions").glob("*dev-output.csv")
    cells = {line.split(",")[1] for line in file.read_text().splitlines()[1:]}
    assert cells <= {"0", "1"}
    argv = ["--gold", str(own / "data/entails.jsonl"), "--task-file"]
    assert evaluate.main(["--score", str(file), *argv, str(own / "runs/own/tasks.toml")]) == 0


def test_what_is_missing_beside_it_is_named(own: Path) -> None:
    train_multitask.main([*arguments(own), "--tasks", "intent", "--skip-predictions"])
    best = shutil.copytree(own / "runs/own/best", own / "away/best")
    message = rf"{best}: what its task 'intent' is .* tasks.toml, args.json .* to {best.parent}$"
    with pytest.raises(UserError, match=message):
        MultitaskModel.load(best, device="cpu")
    for name in ("tasks.toml", "args.json"):
        shutil.copy(own / "runs/own" / name, best.parent)
    assert MultitaskModel.load(best, device="cpu").predict("intent", ["red cat"])
