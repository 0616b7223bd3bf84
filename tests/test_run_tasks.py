"""A run carries its tasks: it is used, moved and gone on with by what is in its folder alone."""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import evaluate
import train_multitask
from minbert import MultitaskModel, UserError
from minbert.export import main as export
from minbert.run import fine_tuning
from minbert.run.resolve_args import resolve_arguments
from minbert.task.taskfile import read_task_file, read_tasks, task_file_text
from minbert.training.mixing import Plan
from tasks import TASKS
from tests.conftest import run

ROOT = Path(__file__).resolve().parents[1]
MINE = (
    '# mine\n[mine]\nkind = "classification"\ntrain = "ids-sst-train.csv"\n'
    'dev = "ids-sst-dev.csv"\ntext = "sentence"\nlabel = "sentiment"\nlabels = [0, 1, 2, 3, 4]\n'
)


def test_the_built_in_tasks_are_written_out_in_the_keys_of_a_user_s(world: Path) -> None:
    run(world, "--name", "run")
    kept = world / "runs/run/tasks.toml"
    assert tomllib.loads(kept.read_text()) == {n: TASKS[n].table for n in ("sst", "sts")}
    for name, task in read_task_file(kept, world / "data").items():
        ours = TASKS[name]
        for field in ("files", "outputs", "loss", "decode", "metrics", "display_names", "title"):
            assert getattr(task, field) == getattr(ours, field), field
        assert task.prediction_file == ours.prediction_file
        assert task.columns.course and task.columns.texts == ours.columns.texts


def test_all_that_a_table_can_hold_is_written_and_read_back() -> None:
    text = """
[odd]
kind = "pair-classification"
train = 'a "quoted" \\ name.tsv'
dev = "b \\\\ \\" ü.tsv"
text = ["first", "zweites Wörtchen"]
label = "l"
labels = [1, 2.5]
weight = 0.25
encoding = "siamese"
loss = "cosent"
"""
    tasks = read_tasks(text, "odd.toml", None)
    again = read_tasks(task_file_text(tasks.values()), "again.toml", None)
    assert again["odd"].table == tasks["odd"].table == tomllib.loads(text)["odd"]


def test_an_own_task_does_not_write_a_built_in_one_s_file(world: Path) -> None:
    """Quora's predictions are in para-dev-output.csv; said before anything is trained."""
    (world / "own.toml").write_text(
        '[para]\nkind = "pair-classification"\ntrain = "quora-train.csv"\ndev = "quora-dev.csv"\n'
        'text = ["sentence1", "sentence2"]\nlabel = "is_duplicate"\nlabels = 2\n' + MINE
    )
    words = ["--task-file", str(world / "own.toml"), "--name", "run", "--tasks"]
    message = r"own.toml: prediction_file of \[quora\] is that of \[para\], too; name another"
    with pytest.raises(UserError, match=message):
        run(world, *words, "para,quora")
    assert not (world / "runs/run").exists()
    with pytest.raises(UserError, match="--tasks quora has none of its tasks, para, mine: name"):
        run(world, *words, "quora")
    # whose folder has a copy of the whole task file
    run(world, *words, "mine,quora", "--epochs", "1")
    assert evaluate.main(["--checkpoint", str(world / "runs/run")]) == 0
    words[1] = str(world / "runs/run/tasks.toml")  # as the run's card says
    words[3] = "again"
    run(world, *words, "mine,quora", "--epochs", "1")


@pytest.mark.parametrize("now", [MINE.replace("0, 1", "1, 0"), "[mine\n", None])
def test_a_run_keeps_the_tasks_that_it_read(
    world: Path, monkeypatch: pytest.MonkeyPatch, now: str | None
) -> None:
    """Whatever its task file is when its folder is made, which may be minutes later."""
    own, make_plan = world / "own.toml", fine_tuning.make_plan
    own.write_text(MINE)

    def edited(*args: Any) -> Plan:
        own.write_text(now) if now else own.unlink()
        return make_plan(*args)

    monkeypatch.setattr(fine_tuning, "make_plan", edited)
    run(world, "--name", "run", "--task-file", str(own), "--tasks", "mine", "--epochs", "1")
    kept = tomllib.loads((world / "runs/run/tasks.toml").read_text())
    assert kept == tomllib.loads(MINE)


def test_a_task_is_named_once() -> None:
    """Twice is a mistake, and no weight."""
    with pytest.raises(UserError, match="--tasks sst,sst: write each once, of sst,quora"):
        resolve_arguments({"tasks": ("sst", "sst")}, TASKS)


def test_own_and_built_in_tasks_are_in_one_file(world: Path) -> None:
    (world / "own.toml").write_text(MINE)
    run(world, "--name", "run", "--task-file", str(world / "own.toml"), "--tasks", "mine,sts")
    kept = (world / "runs/run/tasks.toml").read_text()
    assert kept.startswith((world / "own.toml").read_text()) and "# mine" in kept
    assert list(tomllib.loads(kept)) == ["mine", "sts"]
    assert list(MultitaskModel.load(world / "runs/run", device="cpu").tasks) == ["mine", "sts"]
    again = ["--resume", str(world / "runs/run"), "--task-file", str(world / "own.toml")]
    assert train_multitask.main(again) == 0  # as it was typed for the run
    assert "mine" not in TASKS  # whoever runs it next in this process has the course's


@pytest.mark.parametrize("now", [MINE.replace("0, 1", "1, 0"), MINE, "", None])
def test_a_run_goes_on_with_no_other_task_file(world: Path, now: str | None) -> None:
    own, begun = world / "own.toml", MINE + "weight = 2\n"
    own.write_text(begun)
    run(world, "--name", "run", "--task-file", str(own), "--tasks", "mine,sts", "--epochs", "1")
    again = ["--resume", str(world / "runs/run"), "--task-file", str(own)]
    own.write_text(now) if now is not None else own.unlink()
    with pytest.raises(UserError, match=r"--task-file .*own.toml differs from the run's"):
        train_multitask.main(again)
    own.write_text("# a remark\n" + begun)
    assert train_multitask.main(again) == 0


def test_a_built_in_task_without_its_test_file_stays_one(world: Path, capsys) -> None:
    """In the tasks.toml of a run, too, which its card names for another run like it."""
    (world / "data/sts-test-student.csv").unlink()
    own, kept = world / "own.toml", world / "runs/run/tasks.toml"
    own.write_text(MINE)
    for name, file in (("run", own), ("again", kept)):
        run(world, "--name", name, "--task-file", str(file), "--tasks", "mine,sts", "--epochs", "1")
        said = f"no test file {world / 'data/sts-test-student.csv'}: no test predictions for sts"
        assert said in capsys.readouterr().out
        files = {path.name for path in (world / "runs" / name / "predictions").iterdir()}
        assert "sts-dev-output.csv" in files and "sts-test-output.csv" not in files
    own.write_text(MINE + 'test = "none.csv"\n')
    with pytest.raises(UserError, match=r"\[mine\] test = 'none.csv': no such file in"):
        run(world, "--name", "own", "--task-file", str(own), "--tasks", "mine")


@pytest.mark.parametrize("now", ["[0, 1, 2, 3, 4, 5]", "[0, 1, 2, 3]"])
def test_a_run_s_file_with_other_labels_than_its_head_is_refused(world: Path, now: str) -> None:
    (world / "own.toml").write_text(MINE)
    run(world, "--name", "run", "--task-file", str(world / "own.toml"), "--tasks", "mine")
    kept = world / "runs/run/tasks.toml"
    kept.write_text(kept.read_text().replace("[0, 1, 2, 3, 4]", now))
    message = "mine: a head of another kind of task or number of labels: .*tasks.toml has been"
    with pytest.raises(UserError, match=message):
        MultitaskModel.load(world / "runs/run", device="cpu")


def test_what_a_run_s_file_says_counts_and_not_the_repository_s(world: Path) -> None:
    run(world, "--name", "run", "--tasks", "sst", "--epochs", "1")
    kept = world / "runs/run/tasks.toml"
    kept.write_text(kept.read_text().replace('title = "SST"', 'title = "Films"'))
    assert MultitaskModel.load(world / "runs/run", device="cpu").tasks["sst"].title == "Films"


def test_a_moved_run_works_where_the_task_is_not_known(world: Path) -> None:
    """In a copy of the project whose tasks/ has lost sst.py: predict, export, report."""
    run(world, "--name", "run", "--tasks", "sst", "--epochs", "1")
    shutil.move(world / "runs/run", world / "elsewhere")
    project = world / "project"
    shutil.copytree(ROOT / "minbert", project / "minbert")
    shutil.copytree(ROOT / "tasks", project / "tasks")
    shutil.copy(ROOT / "evaluate.py", project)
    (project / "tasks/sst.py").unlink()
    there = str(world / "elsewhere")
    commands = (
        ("evaluate", "--checkpoint", there, "--text", "red cat"),
        ("evaluate", "--checkpoint", there, "--data-dir", str(world / "data")),
        ("minbert.export", there, str(world / "out"), "--task", "sst"),
        ("minbert.report.__main__", there, "--output", str(world / "page.html")),
    )
    program = "import importlib as i\n" + "\n".join(
        f"assert i.import_module({name!r}).main({argv!r}) == 0" for name, *argv in commands
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=project, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (world / "out/model.safetensors").is_file()
    assert "Confusion matrix" in (world / "page.html").read_text()


def test_a_task_that_is_in_neither_is_named(world: Path) -> None:
    run(world, "--name", "run", "--tasks", "sst", "--epochs", "1")
    folder = world / "runs/run"
    for file in (folder / "best").glob("heads.*"):
        file.write_bytes(file.read_bytes().replace(b"sst", b"xyz"))
    (folder / "best/manifest.json").unlink()
    with pytest.raises(UserError, match=r"head 'xyz' is of no task in tasks.toml; the file"):
        MultitaskModel.load(folder, device="cpu")


def test_a_run_s_longest_sequence_is_kept(world: Path) -> None:
    """By evaluate.py, which else would overwrite the run's predictions, in Python, in exports."""
    siamese = ["--pair-encoding", "siamese"]
    run(world, "--name", "run", "--max-length", "6", "--lr", "1e-2", *siamese)
    folder = world / "runs/run"
    names = sorted(file.name for file in (folder / "predictions").iterdir())
    before = {name: (folder / "predictions" / name).read_bytes() for name in names}
    found = {}
    for more in ([], ["--max-length", "32"]):
        evaluate.main(["--checkpoint", str(folder), "--data-dir", str(world / "data"), *more])
        logits = [json.loads(x) for x in (folder / "predictions/sts-dev-logits.jsonl").open()]
        found[len(more)] = [row["logits"] for row in logits]
    own = [json.loads(x)["logits"] for x in before["sts-dev-logits.jsonl"].splitlines()]
    np.testing.assert_allclose(found[0], own, atol=1e-5)
    assert np.abs(np.array(found[2]) - own).max() > 0.1
    assert MultitaskModel.load(folder, device="cpu").max_length == 6
    assert MultitaskModel.load(folder, device="cpu", max_length=9).max_length == 9
    for to, task in (("transformers", "sst"), ("sentence-transformers", "sts")):
        export([str(folder), str(world / to), "--to", to, "--task", task])
        settings = json.loads((world / to / "tokenizer_config.json").read_text())
        assert settings["model_max_length"] == 6
    sentence = json.loads((world / "sentence-transformers/sentence_bert_config.json").read_text())
    assert sentence["max_seq_length"] == 6


@pytest.mark.parametrize("more", [[], ["--seeds", "2"], ["--mode", "single"], ["--dry-run"]])
def test_a_mistake_in_a_test_file_is_said_before_training(world: Path, more: list[str]) -> None:
    path = world / "data/sts-test-student.csv"
    path.write_text(path.read_text().replace("id\t", "number\t", 1))
    with pytest.raises(UserError, match="sts-test-student"):
        run(world, "--name", "run", "--epochs", "1", *more)
    assert not list(world.glob("runs/**/log.jsonl"))


def test_a_test_file_that_cannot_be_read_leaves_no_half_of_the_predictions(world: Path) -> None:
    path, out = world / "data/sts-test-student.csv", world / "out"
    whole = path.read_text()
    path.write_text(whole.replace("id\t", "number\t", 1))
    assert run(world, "--name", "run", "--epochs", "1", "--skip-predictions") == 0
    folder = world / "runs/run"
    argv = ["--checkpoint", str(folder), "--data-dir", str(world / "data"), "--output", str(out)]
    with pytest.raises(UserError, match="sts-test-student"):
        evaluate.main(argv)
    assert not out.exists()
    path.write_text(whole)
    assert evaluate.main(argv) == 0 and len(list(out.iterdir())) == 8


def test_an_unknown_task_of_a_run_of_pairs_is_named_as_that(world: Path) -> None:
    run(world, "--name", "pairs", "--tasks", "sts", "--epochs", "1", "--skip-predictions")
    words = ["--checkpoint", str(world / "runs/pairs"), "--text", "a"]
    with pytest.raises(UserError, match="task 'no': this run has sts"):
        evaluate.main([*words, "--task", "no"])
    with pytest.raises(UserError, match="pairs reads pairs: use --pair"):
        evaluate.main(words)
