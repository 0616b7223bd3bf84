"""Own tasks from a TOML file: every kind trains, is evaluated and writes its names; mistakes."""

import json
import random
import re
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from pyarrow import parquet

import evaluate
import pretrain_mlm
import train_multitask
from minbert import MultitaskModel, UserError
from minbert.data.tables import Dialect, column_names
from minbert.export import main as export
from minbert.files import read_json
from minbert.metrics import accuracy, macro_f1
from minbert.task.taskfile import read_task_file
from tasks import TASKS, sample
from tasks.sample import TASK_FILE, write_sample
from tests.own_tasks import OWN, OWN_NAMES, arguments


def test_every_kind_trains_is_evaluated_and_writes_its_names(own: Path) -> None:
    train_multitask.main(arguments(own))
    run = own / "runs" / "own"
    (own / "own.toml").unlink()  # the run has its copy
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    scores = next(line["scores"] for line in log if line["event"] == "dev")
    mains = {name: next(iter(metrics)) for name, metrics in scores.items()}
    assert mains == {
        "intent": "accuracy", "entails": "accuracy", "alike": "spearman", "stars": "pearson",
        "topics": "f1",
    }  # fmt: skip
    evaluate.main(["--checkpoint", str(run), "--data-dir", str(own / "data")])
    predictions = (run / "predictions" / "intent-test-output.csv").read_text().splitlines()
    assert len(predictions) == 17
    assert predictions[0] == "id,Predicted_what"
    assert {line.split(",")[1] for line in predictions[1:]} <= {
        "walk", "rest", "none of it",
    }  # fmt: skip
    topics = (run / "predictions" / "topics-dev-output.csv").read_text().splitlines()[1:]
    named = {part for line in topics for part in line.split(",")[1].split(";")}
    assert named <= {"cats", "dogs", "colours", "-"}
    assert (run / "predictions" / "entails-dev-output.csv").read_text().splitlines()[1][:2] == "k0"


@pytest.mark.parametrize(("task", "gold"), [("intent", "intent.tsv"), ("topics", "topics.jsonl")])
def test_predictions_by_name_are_scored(
    own: Path, task: str, gold: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train_multitask.main(arguments(own, "--tasks", task))
    run = own / "runs" / "own"
    predictions = run / "predictions" / f"{task}-dev-output.csv"
    capsys.readouterr()
    evaluate.main(["--checkpoint", str(run), "--data-dir", str(own / "data"), "--json"])
    of_run = json.loads(capsys.readouterr().out.splitlines()[-1])["scores"][task]
    places = ["--gold", str(own / "data" / gold), "--task-file", str(run / "tasks.toml")]
    evaluate.main(["--score", str(predictions), *places, "--json"])
    scored = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert scored["task"] == task and scored["missing"] == scored["extra"] == 0
    for name, value in of_run.items():
        assert scored[name] == pytest.approx(value["value"] if isinstance(value, dict) else value)


def test_pre_training_on_the_sentences_of_own_tasks(own: Path) -> None:
    pretrain_mlm.main([*arguments(own), "--held-out", "2"])
    run = own / "runs" / "own"
    assert (run / "tasks.toml").read_bytes() == (own / "own.toml").read_bytes()
    (own / "own.toml").unlink()
    assert json.loads((run / "args.json").read_text())["tasks"] == list(OWN_NAMES)
    pretrain_mlm.main(["--resume", str(run)])
    train_multitask.main([
        "--model", str(run), "--data-dir", str(own / "data"), "--output-dir", str(own / "runs"),
        "--task-file", str(run / "tasks.toml"), "--tasks", "intent", "--epochs", "1",
    ])  # fmt: skip


def test_own_tasks_have_the_same_logits_in_transformers(own: Path) -> None:
    expected = {
        "intent": ("single_label_classification", ["walk", "rest", "none of it"]),
        "stars": ("regression", ["LABEL_0"]),
        "topics": ("multi_label_classification", ["cats", "dogs", "colours"]),
    }
    train_multitask.main(arguments(own, "--tasks", ",".join(expected)))
    run, texts = own / "runs" / "own", ["red cat runs slowly", "old dog"]
    model = MultitaskModel.load(run, device="cpu")
    for name, (problem, names) in expected.items():
        export([str(run), str(own / name), "--task", name])
        there = transformers.AutoModelForSequenceClassification.from_pretrained(own / name)
        assert there.config.problem_type == problem
        assert list(there.config.id2label.values()) == names
        inputs = transformers.AutoTokenizer.from_pretrained(own / name)(
            texts, padding=True, return_tensors="pt"
        )
        with torch.no_grad():
            logits = there.eval()(**inputs).logits.numpy()
        np.testing.assert_allclose(logits, model.outputs(name, texts), atol=1e-5)


def test_macro_f1_leads_where_it_is_asked_for(own: Path) -> None:
    (own / "own.toml").write_text(OWN.replace("[intent]", '[intent]\nmetric = "f1"'))
    tasks = read_task_file(own / "own.toml", None)
    assert tasks["intent"].metrics == {"f1": macro_f1, "accuracy": accuracy}
    assert list(tasks["entails"].metrics) == list(TASKS["sst"].metrics) == ["accuracy"]


def test_columns_of_parquet_are_those_of_its_schema(own: Path) -> None:
    """Also when it has no rows to take them from."""
    path = own / "data" / "stars.parquet"
    parquet.write_table(parquet.read_table(path)[:0], path)
    assert column_names(path, Dialect()) == ["review", "stars"]


def test_a_resumed_run_has_its_own_tasks(own: Path) -> None:
    train_multitask.main(arguments(own, "--tasks", "intent,alike"))
    run = own / "runs" / "own"
    train_multitask.main(["--resume", str(run)])
    assert json.loads((run / "args.json").read_text())["tasks"] == ["intent", "alike"]


def test_a_run_far_inside_of_a_command_s_folder_has_its_own_tasks(own: Path) -> None:
    several = ["--tasks", "intent,stars", "--mode", "single", "--seeds", "2", "--skip-predictions"]
    train_multitask.main(arguments(own, *several))
    model = MultitaskModel.load(own / "runs/own/seed-11712/intent/best", device="cpu")
    assert model.predict("intent", ["red cat"])[0] in ("walk", "rest", "none of it")


def test_a_task_file_where_runs_are_kept_is_none_of_theirs(own: Path) -> None:
    train_multitask.main(arguments(own, "--tasks", "intent"))
    (own / "runs" / "own" / "tasks.toml").rename(own / "runs" / "tasks.toml")
    with pytest.raises(UserError, match=r"what its task 'intent' is stands in its run's folder"):
        MultitaskModel.load(own / "runs" / "own", device="cpu")


def test_a_task_s_weight_is_read(own: Path) -> None:
    """See test_wiring.py for what a task's weight does."""
    assert "weight = 0.5" in OWN
    assert read_task_file(own / "own.toml", own / "data")["entails"].weight == 0.5


def test_the_docs_example_is_the_sample_s_and_runs(own: Path) -> None:
    sample.main(["--to", str(own / "sample")])
    write_sample(own / "sample")  # once more: it is a sample
    with pytest.raises(UserError, match="data: has files that are no sample; name a new"):
        write_sample(own / "data")
    page = (Path(__file__).parents[1] / "docs/own-tasks.md").read_text(encoding="utf-8")
    assert f"```toml\n{TASK_FILE}```\n" in page
    where = ["--task-file", str(own / "sample/tasks.toml"), "--data-dir", str(own / "sample")]
    more = ["--limit", "tickets=40,answers=40", "--epochs", "1", "--model", str(own / "model")]
    run = ["--output-dir", str(own / "runs"), "--name", "own", "--max-length", "32"]
    assert train_multitask.main([*where, *more, *run]) == 0
    text = (own / "runs" / "own" / "README.md").read_text()
    assert "| tickets | accuracy |" in text and "| answers | pearson |" in text
    assert "Confusion matrix of own" in (own / "runs" / "own" / "report.html").read_text()


def test_a_byte_order_mark_is_no_part_of_it(own: Path) -> None:
    """Windows' editor writes one."""
    text = (own / "own.toml").read_text()
    (own / "own.toml").write_text("\ufeff" + text, encoding="utf-8")
    assert list(read_task_file(own / "own.toml", own / "data")) == list(OWN_NAMES)


def test_files_of_tasks_that_are_not_chosen_may_be_missing(own: Path) -> None:
    later = OWN.split("[intent]")[1].split("\n[")[0].replace("intent.tsv", "not-yet.tsv")
    (own / "own.toml").write_text(f"{OWN}\n[later]{later}")
    words = arguments(own, "--skip-predictions")
    assert train_multitask.main([*words, "--tasks", "intent"]) == 0
    with pytest.raises(UserError, match=r"\[later\] train = 'not-yet.tsv': no such file"):
        train_multitask.main([*words, "--name", "all"])


def test_an_empty_name_that_a_run_of_before_has_kept_is_no_fault(own: Path) -> None:
    text = OWN.replace("[entails]", '[entails]\ntest = ""')
    (own / "own.toml").write_text(text)
    assert "entails" in read_task_file(own / "own.toml", None)
    with pytest.raises(UserError, match=r"\[entails\] test = '': write a file"):
        read_task_file(own / "own.toml", own / "data")


def test_an_own_task_is_trained_in_place_of_a_built_in_one(own: Path) -> None:
    (own / "own.toml").write_text(OWN.replace("[intent]", "[sst]"))
    train_multitask.main(arguments(own, "--tasks", "sst", "--skip-predictions"))
    head = read_json(own / "runs/own/last/heads.json")["sst"]
    assert head["outputs"] == 3 and head["class_names"] == ["walk", "rest", "none of it"]


def test_the_sample_s_labels_are_what_its_questions_say() -> None:
    for first, second, label in islice(sample.quora_rows(random.Random(1), True), 40):
        words = first.split()
        same = words[-1] == second.split()[-1] and dict(sample.ACTIONS)[words[8]] in second
        assert label == ("1.0" if same else "0.0")


def test_the_sample_s_dev_and_test_rows_have_other_words_than_its_training_rows(
    tmp_path: Path,
) -> None:
    """For things, opinions, people and actions: what a model learned of a word does not help."""
    sample.write_sample(tmp_path)
    lists = (sample.THINGS, sample.PEOPLE, sample.OBJECTS, *sample.OPINIONS, sample.ACTIONS)
    of_half = {
        is_first: {*re.findall(r"\w+", str([sample.half(words, is_first) for words in lists]))}
        for is_first in (True, False)
    }
    for form in sample.FILES:
        found = {
            split: {*re.findall(r"[a-z]+", (tmp_path / form.format(split)).read_text())}
            for split in sample.ROWS
        }
        assert not found["train"] & of_half[False] and not found["dev"] & of_half[True]
        assert not found["test-student"] & of_half[True]
        assert found["train"] & of_half[True] and found["dev"] & of_half[False]
