"""Labels, counted, and the scores of single classes: scikit-learn's, and where they show."""

import json
from pathlib import Path

import numpy as np
import pytest

import evaluate
import train_multitask
from minbert.data.encoded import EncodedSplit
from minbert.metrics import accuracy, f1, mae, rmse
from minbert.report.card import labels_of
from minbert.report.findings import findings
from minbert.report.task_findings import TaskFindings
from minbert.run.scoring import print_classes
from minbert.task.classes import (
    ClassScore,
    class_counts,
    class_scores,
    describe_labels,
    describe_rare_classes,
    scores_to_show,
)
from minbert.task.task import Task
from minbert.task.taskfile import make_task
from tasks import TASKS
from tests.conftest import logged
from tests.own_tasks import OWN, arguments


def make(kind: str, classes: int = 3) -> Task:
    table = {"kind": kind, "train": "t.tsv", "dev": "t.tsv", "text": "a", "label": "l"}
    return make_task("own", {**table, "labels": [f"c{i}" for i in range(classes)]})


def test_counts() -> None:
    assert class_counts(make("classification"), np.array([2.0, 0, 2])).tolist() == [1, 0, 2]
    assert class_counts(make("multi-label"), np.array([5.0, 4, 0])).tolist() == [1, 0, 2]


def test_single_classes_are_scored_as_scikit_learn_does() -> None:
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 4, (2, 200)).astype(float)
    predictions[predictions == 2] = 0  # a class that is never found
    from sklearn.metrics import precision_recall_fscore_support  # slow to import

    theirs = precision_recall_fscore_support(labels, predictions, labels=range(5), zero_division=0)
    found = class_scores(make("classification", 5), predictions, labels)
    ours = [[getattr(s, key) for s in found] for key in ("precision", "recall", "f1", "rows")]
    np.testing.assert_allclose(ours, theirs)
    assert [s.note for s in found] == ["", "", "never found", "", "none"]  # the last has no rows
    sets = rng.integers(0, 8, (2, 200))
    bits = [(x[:, None] >> np.arange(3)) & 1 for x in sets]
    theirs = precision_recall_fscore_support(bits[1], bits[0], zero_division=0)
    found = class_scores(make("multi-label"), *sets.astype(float))
    ours = [[getattr(s, key) for s in found] for key in ("precision", "recall", "f1", "rows")]
    np.testing.assert_allclose(ours, theirs)
    assert class_scores(TASKS["sts"], labels, labels) == []


def test_errors_are_scikit_learn_s() -> None:
    labels, predictions = np.random.default_rng(0).random((2, 50), dtype=np.float32)
    from sklearn.metrics import mean_absolute_error, root_mean_squared_error

    assert mae(predictions, labels) == pytest.approx(mean_absolute_error(labels, predictions))
    assert rmse(predictions, labels) == pytest.approx(root_mean_squared_error(labels, predictions))
    assert list(TASKS["sts"].metrics) == ["pearson", "spearman"]  # as the courses have it
    assert TASKS["quora"].metrics == {"accuracy": accuracy, "f1": f1}  # of duplicates


def test_labels_in_words() -> None:
    sst = TASKS["sst"]
    labels = np.repeat([0.0, 1, 2, 3], [1200, 9, 10, 11])
    expected = "negative 1,200, somewhat negative 9, neutral 10, somewhat positive 11, positive 0"
    assert describe_labels(sst, labels) == expected
    few = "sst: classes with fewer than 10 training rows: somewhat negative 9, positive 0"
    assert describe_rare_classes(sst, labels) == few
    assert describe_labels(TASKS["sts"], np.array([1.0, 4.5])) == "lowest 1, mean 2.75, highest 4.5"
    assert describe_rare_classes(TASKS["sts"], labels) == ""
    many = describe_labels(make("classification", 100), np.zeros(3))
    assert many.startswith("c0 3, c1 0, ") and many.endswith("c19 0 and 80 more")


@pytest.fixture
def unbalanced(own: Path) -> Path:
    """15 rows of one class and one of another, which a short run never finds."""
    words = (own / "data" / "intent.tsv").read_text().splitlines()[1:]
    texts = [line.split("\t")[0] for line in words]
    rows = [f"{text}\t{'rest' if i else 'walk'}" for i, text in enumerate(texts)]
    (own / "data" / "intent.tsv").write_text("\n".join(["utterance\twhat", *rows]) + "\n")
    return own


def test_a_class_that_is_never_found_shows(
    unbalanced: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = arguments(unbalanced, "--tasks", "intent,stars", "--lr", "1e-3")
    train_multitask.main([*where, "--dry-run"])
    out = capsys.readouterr().out
    assert "  intent: walk 1, rest 15, none of it 0\n  stars: lowest 0.5, mean" in out
    warning = "intent: classes with fewer than 10 training rows: walk 1, none of it 0\n"
    assert warning in out
    train_multitask.main(where)
    assert warning in capsys.readouterr().out
    run = unbalanced / "runs/own"
    (line,) = logged(run, "labels")
    assert line["tasks"]["intent"] == {"walk": 1, "rest": 15, "none of it": 0}
    assert line["tasks"]["stars"]["highest"] == 4.5
    card = (run / "README.md").read_text()
    assert "| walk | 1 | 1 | 0.000 | 0.000 | 0.000 | never found |" in card
    assert "stars, training rows: lowest 0.5" in card and ", mae " in card and ", rmse " in card
    report = (run / "report.html").read_text()
    assert "Classes of own" in report and report.count("<td>never found</td>") == 1
    assert '<th scope="col">rmse</th>' in report
    evaluate.main(["--checkpoint", str(run), "--data-dir", str(unbalanced / "data"), "--json"])
    *printed, last = capsys.readouterr().out.splitlines()
    (row,) = [line for line in printed if line.split()[:2] == ["intent", "walk"]]
    assert row.split()[2:] == ["0.0000", "0.0000", "0.0000", "1", "never", "found"]
    found = json.loads(last)
    assert found["classes"]["intent"][1]["recall"] == 1 and "stars" not in found["classes"]
    assert found["scores"]["stars"]["mae"]["value"] > 0
    train_multitask.main(["--resume", str(run)])
    assert len(logged(run, "labels")) == 1


def test_own_labels_are_counted_as_files_name_them(own: Path) -> None:
    (own / "own.toml").write_text(OWN)
    train_multitask.main(arguments(own, "--tasks", "topics,entails", "--skip-predictions"))
    (line,) = logged(own / "runs/own", "labels")
    assert line["tasks"] == {
        "topics": {"cats": 11, "dogs": 0, "colours": 5}, "entails": {"0": 6, "1": 5, "2": 5},
    }  # fmt: skip
    assert "topics, training rows: cats 11, dogs 0" in (own / "runs/own/README.md").read_text()


@pytest.mark.parametrize(("classes", "shown"), [(5, True), (2000, False)])
def test_a_table_of_thousands_of_classes_is_left_out(classes: int, shown: bool) -> None:
    """It would have millions of cells; the classes that are found least are listed anyway."""
    labels = np.array([0, 1, 2], dtype=np.float32)
    split = EncodedSplit(np.array([b"a", b"b", b"c"]), labels, np.zeros(3, np.int32),
                         np.arange(4), np.ones(3, np.int32))  # fmt: skip
    outputs = np.eye(3, classes, 1, dtype=np.float32)
    found = findings(make("classification", classes), outputs, split, (), None)
    saved = found.to_json()
    assert ("confusion" in saved) == ("names" in saved) == shown
    assert len(saved["classes"]) == classes and saved["worst"] == []


def test_of_many_classes_those_are_listed_that_are_found_least() -> None:
    absent = [ClassScore(f"absent {i}", 0, 0.0, 0.0, 0.0) for i in range(9)]
    scores = absent + [ClassScore(f"c{i}", 1, 1.0, 1.0, (i * 7 % 25) / 25) for i in range(25)]
    shown = [score.f1 * 25 for score in scores_to_show(scores)]
    assert shown == pytest.approx([*range(20)])
    assert scores_to_show(scores[:20]) == scores[:20]


def test_long_names_are_told_apart_and_a_card_counts_what_it_leaves_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    labels = [f"Hardware / Laptop / part {i}" for i in range(30)]
    task = make_task("t", {"kind": "classification", "train": "t.csv", "text": "x", "label": "y",
                           "labels": labels})  # fmt: skip
    gold = np.arange(30, dtype=np.float32)
    scores = class_scores(task, gold, gold)
    print_classes(task, scores)
    said = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()[1:7]) for line in said[1:-1]] == labels[:20]
    assert said[-1].endswith("and 10 more classes; --json has them")
    card = labels_of(task, gold, {"t": TaskFindings("T", [], classes=scores)})
    assert card.endswith("\n\nAnd 10 more classes, which are found no worse or are not in dev.")
