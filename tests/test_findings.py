"""What a report finds in a run's predictions: confusions, reliability, the worst rows."""

from pathlib import Path

import numpy as np

from minbert import BertTokenizer
from minbert.data.encoded import encode_files
from minbert.report.findings import (
    calibration_found,
    confidence_of_rows,
    confusion,
    findings,
    predicted_and_true,
    reliability,
)
from minbert.report.runs import LoggedRun
from minbert.report.task_findings import TaskFindings
from minbert.report.task_section import reliability_diagram
from minbert.task.calibration import calibration_of
from minbert.task.loading import DataSource, load_task
from minbert.task.probabilities import class_probabilities
from minbert.task.taskfile import read_tasks
from minbert.weights.resolve import resolve
from tasks import TASKS
from tests.test_calibration import overconfident


def test_rows_of_a_confusion_are_gold() -> None:
    counts = confusion(np.array([2.0, 2, 0]), np.array([1.0, 1, 0]), 3)
    assert counts.tolist() == [[1, 0, 0], [0, 0, 2], [0, 0, 0]]


def test_probabilities_beside_what_was_so() -> None:
    rows = reliability(np.array([0.05, 0.06, 1.0]), np.array([0.0, 1, 1]))
    assert rows == [(0.055, 0.5, 2), (1.0, 1.0, 1)]
    p = np.array([[0.1, 0.2, 0.5, 0.1, 0.1], [0.6, 0.4, 0, 0, 0]])
    said, seen = predicted_and_true(TASKS["sst"], p, np.array([2.0, 1.0]))
    assert said.tolist() == [0.5, 0.6] and seen.tolist() == [True, False]
    said, seen = predicted_and_true(TASKS["quora"], np.array([[0.7, 0.3]]), np.array([1.0]))
    assert said.tolist() == [0.3] and seen.tolist() == [1]


def test_the_worst_rows_come_first(world: Path) -> None:
    """The surest mistakes of classes, the largest differences of scores."""
    tokenizer, rng = BertTokenizer.from_directory(world / "model"), np.random.default_rng(0)
    for task in (TASKS["sst"], TASKS["sts"]):
        split = load_task(task, "dev", tokenizer, DataSource(world / "data", None, 32))
        outputs, files = (
            rng.normal(0, 20, (len(split), task.outputs)),
            task.paths("dev", world / "data"),
        )
        if task.is_regression:
            found = findings(task, outputs, split, files, None)
            rows = np.stack([split.labels, outputs[:, 0]], 1)  # gold, predicted
            assert found.points == rows.round(3).tolist()
            worst = found.worst
            values = [abs(float(row.gold) - float(row.predicted)) for row in worst]
        else:
            calibration = calibration_of(task, outputs, split.labels)
            worst = findings(task, outputs, split, files, calibration).worst
            values = [row.confidence for row in worst]
        # they are rounded
        assert len(values) > 3 and values[0] > values[-1] + 0.1 and max(np.diff(values)) < 0.011


def test_the_surest_wrong_labels_of_sets_come_first(tmp_path: Path) -> None:
    """Of a row's labels those that are wrong count, not the one that is surest."""
    toml = '[topics]\nkind = "multi-label"\ntrain = "t.csv"\ndev = "t.csv"\n'
    task = read_tasks(f'{toml}text = "x"\nlabel = "y"\nlabels = ["a", "b"]\n', "o.toml", None)[
        "topics"
    ]
    file = tmp_path / "t.csv"
    file.write_text("x,y\nright,a\nsurely b,a\nhardly b,a\nsurely a,-\n")
    tokenizer = BertTokenizer.from_directory(resolve("all-MiniLM-L6-v2"))
    split = encode_files(file, task.columns, True, tokenizer, 32)
    outputs = np.array([[9.0, -9], [9, 2], [9, 1], [4, -9]])
    found = findings(task, outputs, split, (file,), calibration_of(task, outputs, split.labels))
    worst = [(row.texts, row.gold, row.predicted) for row in found.worst]
    assert worst == [
        (["surely a"], "-", "a"),
        (["surely b"], "a", "a;b"),
        (["hardly b"], "a", "a;b"),
    ]
    names = ("label", "true positives", "false negatives", "false positives")
    rows = (("a", 3, 0, 1), ("b", 0, 0, 2))
    assert found.labels == [dict(zip(names, row, strict=True)) for row in rows]
    assert found.confusion is None


def test_what_was_observed_stands_over_what_was_predicted() -> None:
    found = TaskFindings("t", [], reliability=[(0.8, 0.25, 4)])
    runs = [(0, LoggedRun("r", {}, [], {}), found)]
    _, drawing, numbers = reliability_diagram(runs, "reliability", "title")
    assert "r: 0.25 at 0.8</title>" in drawing
    assert '<th scope="row">0.8</th><td>0.25</td>' in numbers


def test_a_diagram_with_a_temperature_has_that_of_the_other_half() -> None:
    """Which these rows had no part in."""
    task = TASKS["quora"]
    outputs, labels = overconfident(task, 200)
    calibration = calibration_of(task, outputs, labels)
    found = calibration_found(task, outputs, labels, calibration)
    for name, temperature in (("", 1.0), ("_calibrated", calibration.row_temperatures[:, None])):
        p = class_probabilities(task, outputs, temperature)[:, 1]
        assert found[f"reliability{name}"] == reliability(p, labels.astype(int))


def test_of_a_cosine_the_distance_from_its_threshold_counts() -> None:
    outputs, unused = np.array([[0.2], [-0.6]]), np.zeros(2)
    found = confidence_of_rows(TASKS["quora"], outputs, unused, unused, None)
    assert found.tolist() == [0.2, 0.6]
