"""Own tasks from a TOML file: every kind trains, is evaluated and writes its names; mistakes."""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
import transformers
from pyarrow import parquet

import evaluate
import pretrain_mlm
import train_multitask
from minbert import UserError
from minbert.data.examples import columns_of, read_examples
from minbert.export import main as export
from minbert.losses import multi_label
from minbert.metrics import accuracy, label_f1, macro_f1
from tasks import TASKS
from tasks.model import MultitaskModel
from tasks.sample import TASK_FILE, write_sample
from tasks.taskfile import read_task_file
from tests.conftest import WORDS

OWN_NAMES = ("intent", "entails", "alike", "stars", "topics")
OWN = """
[intent]
kind = "classification"
train = "intent.tsv"
dev = "intent.tsv"
test = "intent.tsv"
text = "utterance"
label = "what"
labels = ["walk", "rest", "none of it"]

[entails]
kind = "pair-classification"
train = "entails.jsonl"
dev = "entails.jsonl"
id = "key"
text = ["premise", "hypothesis"]
label = "answer"
labels = 3
weight = 0.5

[alike]
kind = "pair-similarity"
train = "alike.csv"
dev = "alike.csv"
text = ["a", "b"]
label = "score"
range = [0, 10]
encoding = "siamese"
loss = "cosent"
metric = "spearman"

[stars]
kind = "regression"
train = "stars.parquet"
dev = "stars.parquet"
text = "review"
label = "stars"

[topics]
kind = "multi-label"
train = "topics.jsonl"
dev = "topics.jsonl"
text = "text"
label = "topics"
labels = ["cats", "dogs", "colours"]
"""


@pytest.fixture
def own(world: Path) -> Iterator[Path]:
    """The world with files of five own tasks; the built-in tasks are as before afterwards."""
    rng = np.random.default_rng(1)

    def sentence() -> str:
        return " ".join(rng.choice(WORDS, 5))

    data, n = world / "data", 16
    names = ["walk", "rest", "none of it"]
    rows = [f"{sentence()}\t{names[i % 3]}" for i in range(n)]
    (data / "intent.tsv").write_text("\n".join(["utterance\twhat", *rows]) + "\n")
    rows = [
        json.dumps(
            {"key": f"k{i}", "premise": sentence(), "hypothesis": sentence(), "answer": i % 3}
        )
        for i in range(n)
    ]
    (data / "entails.jsonl").write_text("\n".join(rows) + "\n")
    rows = [f"{sentence()},{sentence()},{i % 11}" for i in range(n)]
    (data / "alike.csv").write_text("\n".join(["a,b,score", *rows]) + "\n")
    stars = {"review": [sentence() for _ in range(n)], "stars": [i % 5 + 0.5 for i in range(n)]}
    parquet.write_table(pyarrow.table(stars), data / "stars.parquet")
    topics = [["cats"], ["cats", "colours"], []]
    rows = [json.dumps({"text": sentence(), "topics": topics[i % 3]}) for i in range(n)]
    (data / "topics.jsonl").write_text("\n".join(rows) + "\n")
    (world / "own.toml").write_text(OWN)
    before = dict(TASKS)
    yield world
    TASKS.clear()
    TASKS.update(before)


def arguments(own: Path, *extra: str) -> list[str]:
    places = ["--model", str(own / "model"), "--data-dir", str(own / "data"), "--name", "own"]
    places += ["--output-dir", str(own / "runs"), "--task-file", str(own / "own.toml")]
    return [*places, "--epochs", "1", "--batch-size", "8", *extra]


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
    for name in mains:
        del TASKS[name]
    evaluate.main(["--checkpoint", str(run), "--data-dir", str(own / "data")])
    predictions = (run / "predictions" / "intent-test-output.csv").read_text().splitlines()
    assert len(predictions) == 17
    assert {line.split(" , ")[1].strip() for line in predictions[1:]} <= {
        "walk", "rest", "none of it",
    }  # fmt: skip
    topics = (run / "predictions" / "topics-dev-output.csv").read_text().splitlines()[1:]
    named = {part for line in topics for part in line.split(" , ")[1].strip().split(";")}
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
    del TASKS[task]
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
    for name in OWN_NAMES:
        del TASKS[name]
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
    assert columns_of(path) == ["review", "stars"]


def test_a_resumed_run_has_its_own_tasks(own: Path) -> None:
    train_multitask.main(arguments(own, "--tasks", "intent,alike"))
    del TASKS["intent"], TASKS["alike"]
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
    del TASKS["intent"]
    with pytest.raises(UserError, match="head 'intent' is of no known task"):
        MultitaskModel.load(own / "runs" / "own", device="cpu")


def test_an_own_task_replaces_a_built_in_one(own: Path) -> None:
    text = OWN.replace("[intent]", "[sst]")
    (own / "own.toml").write_text(text)
    task = read_task_file(own / "own.toml", own / "data")["sst"]
    assert task.outputs == 3 and task.names == ("walk", "rest", "none of it")


def test_the_weight_is_that_of_the_loss(own: Path) -> None:
    losses = []
    for weight in ("1.0", "0.5"):
        (own / "own.toml").write_text(OWN.replace("weight = 0.5", f"weight = {weight}"))
        name = f"weight-{weight}"
        train_multitask.main([*arguments(own, "--tasks", "entails"), "--name", name])
        log = (own / "runs" / name / "log.jsonl").read_text().splitlines()
        losses.append(next(x["loss"] for x in map(json.loads, log) if x["event"] == "step"))
    assert losses[1] == pytest.approx(losses[0] / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"utterance"',
            '"utterence"',
            r"\[intent\] no column 'utterence' .*it has utterance, what",
        ),
        ('"classification"', '"clasification"', r"\[intent\] kind = 'clasification': write one of"),
        ("weight = 0.5", "wieght = 0.5", r"\[entails\] 'wieght' .*did you mean weight\?"),
        ('train = "intent.tsv"', 'train = "no.tsv"', r"train = 'no.tsv': no such file in"),
        ('label = "what"', "", r"\[intent\] label is missing"),
        ("weight = 0.5", 'metric = "f2"', r"metric = 'f2': write accuracy or f1"),
        ('metric = "spearman"', 'metric = "f1"', r"metric = 'f1': write pearson or spearman"),
        ('loss = "cosent"', 'loss = "mnr"', r"\[alike\] --pair-loss mnr needs labels 0 and 1"),
        ('encoding = "siamese"', 'encoding = "both"', r"write cross or siamese"),
        ('encoding = "siamese"', "", r"\[alike\] loss = 'cosent' goes with encoding = \"siamese\""),
        ("labels = 3", "labels = 1", r"\[entails\] labels = 1: write two or more"),
        ("labels = 3", 'labels = "abc"', r"labels = 'abc': write names or numbers in brackets"),
        ("labels = 3", "labels = [0, 1, 1.0]", r"\[entails\] labels: 1 is there twice"),
        ('"rest", "none of it"', '"walk"', r"\[intent\] labels: 'walk' is there twice"),
        ('"rest", "none of it"', "2", r"write names or numbers in brackets, or how many"),
        ('["cats", "dogs", "colours"]', "3", r"\[topics\] labels = 3: write names or numbers"),
        ("[intent]", "[intent", r"own.toml: cannot be read"),
        ('["premise", "hypothesis"]', '"premise"', r"pair-classification has 2"),
        ('"colours"]', '"c", ' + ", ".join(f'"x{i}"' for i in range(22)) + "]", r"25 of them"),
        ("range = [0, 10]", "range = 10", r"\[alike\] range = 10: write the lowest and the high"),
        ("range = [0, 10]", 'range = [0, "a"]', r"\[alike\] range = \[0, 'a'\]: write the lowest"),
        ("range = [0, 10]", "range = [10, 0]", r"\[alike\] range = .*write the lowest score first"),
        ("weight = 0.5", 'weight = "2"', r"\[entails\] weight = '2': write a number"),
        ("weight = 0.5", "weight = -1", r"\[entails\] weight = -1: write a number from 0"),
        ('label = "what"', "label = 3", r"\[intent\] label = 3: write a word in quotes"),
        ('text = "utterance"', "text = 3", r"\[intent\] text = 3: write a column"),
        ('kind = "regression"', "kind = []", r"\[stars\] kind = \[\]: write one of"),
        ("[intent]", "[values]", r"\[values\]: PyTorch has that name .* values_task"),
        ("[intent]", "[type]", r"\[type\]: PyTorch has that name"),
    ],
)
def test_mistakes(own: Path, old: str, new: str, message: str) -> None:
    assert old in OWN
    (own / "own.toml").write_text(OWN.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as error:
        train_multitask.main(arguments(own))
    assert "\n" not in str(error.value)
    assert not (own / "runs").exists()


def test_a_start_that_failed_leaves_its_name_free(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    more = ["--tasks", "intent", "--name", "one", "--epochs", "1"]
    for script in (train_multitask, pretrain_mlm):
        with pytest.raises(UserError, match="not found"):
            script.main([*arguments(own), *more, "--model", "/nowhere"])
    assert train_multitask.main([*arguments(own), *more]) == 0
    assert (own / "runs/one/tasks.toml").read_text() == OWN


def test_numbers_as_labels(own: Path) -> None:
    text = OWN.replace('["walk", "rest", "none of it"]', "[1, 2.5, 4]")
    (own / "own.toml").write_text(text.replace('["cats", "dogs", "colours"]', "[7, 8, 9]"))
    tasks = read_task_file(own / "own.toml", None)
    (own / "data" / "intent.tsv").write_text("utterance\twhat\na\t1\nb\t1.0\nc\t2.5\nd\t4.00\n")
    examples, _ = read_examples(own / "data" / "intent.tsv", tasks["intent"].columns, True)
    assert [e.label for e in examples] == [0, 0, 1, 2]
    assert [tasks["intent"].shown(p) for p in (0, 1, 2)] == ["1", "2.5", "4"]
    assert tasks["topics"].columns.parse_label("9.0;7") == 5 and tasks["topics"].shown(5) == "7;9"
    with pytest.raises(ValueError, match=r"expected one of 1, 2\.5, 4"):
        tasks["intent"].columns.parse_label("3")


def test_a_row_with_a_label_that_is_none_of_the_names(own: Path) -> None:
    (own / "data" / "intent.tsv").write_text("utterance\twhat\na\twalk\nb\tfly\n")
    columns = read_task_file(own / "own.toml", own / "data")["intent"].columns
    with pytest.raises(UserError, match=r"intent.tsv:3: what is 'fly': expected one of walk"):
        read_examples(own / "data" / "intent.tsv", columns, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"text": "a"\n', r"topics.jsonl:1: not a line of JSON"),
        ("[1]\n", r"topics.jsonl:1: expected an object"),
        ('{"text": "a"}\n', r"topics.jsonl:1: no column 'topics'; the columns are text"),
        ('{"text": "a", "topics": ["birds"]}\n', r"topics.jsonl:1: .*'birds' is not one of cats"),
    ],
)
def test_broken_json_rows(own: Path, text: str, message: str) -> None:
    columns = read_task_file(own / "own.toml", own / "data")["topics"].columns
    (own / "data" / "topics.jsonl").write_text(text)
    with pytest.raises(UserError, match=message):
        read_examples(own / "data" / "topics.jsonl", columns, True)


def test_a_file_that_is_not_parquet(own: Path) -> None:
    (own / "data" / "stars.parquet").write_text("review,stars\n")
    with pytest.raises(UserError, match=r"\[stars\] .*stars.parquet: not a Parquet file"):
        read_task_file(own / "own.toml", own / "data")


def test_files_that_are_empty_or_have_other_delimiters(own: Path) -> None:
    for name, text, message in (
        ("intent.tsv", "", r"intent.tsv: the file is empty"),
        ("topics.jsonl", "\n", r"topics.jsonl: the file is empty"),
        ("intent.tsv", "utterance;what\na, b;walk\n", r"intent.tsv:1: `;` between the columns"),
    ):
        whole = (own / "data" / name).read_text()
        (own / "data" / name).write_text(text)
        with pytest.raises(UserError, match=message):
            read_task_file(own / "own.toml", own / "data")
        (own / "data" / name).write_text(whole)


def test_a_score_outside_of_the_range_names_it(own: Path) -> None:
    columns = read_task_file(own / "own.toml", own / "data")["stars"].columns
    (own / "data" / "stars.csv").write_text("review,stars\nfine,9\n")
    with pytest.raises(UserError, match=r"from 0 to 5, the task's `range`"):
        read_examples(own / "data" / "stars.csv", columns, True)


def test_own_ids_stay_as_they_are_and_are_joined_back(own: Path) -> None:
    gold = own / "data" / "entails.jsonl"
    rows = [json.loads(line) for line in gold.read_text().splitlines()]
    ids = [f"{'kK'[i % 2]}{i // 2}" for i in range(len(rows))]  # lower-cased they would collide
    rows = [json.dumps({**row, "key": id_}) for row, id_ in zip(rows, ids, strict=True)]
    gold.write_text("\n".join(rows) + "\n")
    train_multitask.main(arguments(own, "--tasks", "entails"))
    run = own / "runs" / "own"
    predictions = run / "predictions" / "entails-dev-output.csv"
    assert [line.split(" , ")[0] for line in predictions.read_text().splitlines()[1:]] == ids
    places = ["--gold", str(gold), "--task-file", str(run / "tasks.toml")]
    assert evaluate.main(["--score", str(predictions), *places]) == 0


def test_an_own_file_that_is_missing_is_not_the_course_s(own: Path) -> None:
    columns = read_task_file(own / "own.toml", None)["intent"].columns
    with pytest.raises(UserError, match=r"none.tsv: no such file; point --data-dir") as error:
        read_examples(own / "none.tsv", columns, True)
    assert "course" not in str(error.value)


def test_sets_of_labels() -> None:
    labels = torch.tensor([0.0, 5.0])  # none; the first and the third
    outputs = torch.tensor([[-9.0, -9.0, -9.0], [9.0, -9.0, 9.0]])
    assert float(multi_label(outputs, labels)) < 1e-3 < float(multi_label(-outputs, labels))
    # right: 1 of {0, 2}; wrong: 1 in the first, 2 missing in the second
    assert label_f1(np.array([2.0, 1.0]), np.array([0.0, 5.0])) == pytest.approx(2 / (2 + 2))


def test_the_readme_s_example_is_the_sample_s_and_runs(own: Path) -> None:
    write_sample(own / "sample")
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert textwrap.indent(TASK_FILE, "    ").replace("    \n", "\n") in readme
    where = ["--task-file", str(own / "sample/tasks.toml"), "--data-dir", str(own / "sample")]
    more = ["--limit", "tickets=40,answers=40", "--epochs", "1", "--model", str(own / "model")]
    run = ["--output-dir", str(own / "runs"), "--name", "own", "--max-length", "32"]
    assert train_multitask.main([*where, *more, *run]) == 0
    text = (own / "runs" / "own" / "README.md").read_text()
    assert "| tickets | accuracy |" in text and "| answers | pearson |" in text
    assert "Confusion matrix of own" in (own / "runs" / "own" / "report.html").read_text()
