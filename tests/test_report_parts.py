"""The report's parts by themselves: where points lie, and what stands in which column."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from minbert.cli import parse_given
from minbert.data.encoded import EncodedSplit
from minbert.report.card import labels_of, write_several_card
from minbert.report.charts import HEIGHT, Series, line_chart, scatter
from minbert.report.findings import confidence_of_rows, findings
from minbert.report.page import arguments, best_step, losses_of, throughput
from minbert.report.runs import LoggedRun
from minbert.report.tables import class_table, confusion_table, scatter_table, worst_table
from minbert.report.tagged import mistakes
from minbert.report.task_findings import TaskFindings, WorstRow
from minbert.report.task_section import calibration_table
from minbert.run.resolve_args import resolve_arguments
from minbert.run.scoring import print_classes
from minbert.run.train_args import Args
from minbert.task.calibration import Calibration
from minbert.task.classes import ClassScore
from minbert.task.taskfile import make_task
from tasks import TASKS


def test_later_is_to_the_right_and_more_is_up() -> None:
    """In SVG y grows downwards; of a scatter plot gold is across and predicted up."""
    points = [(0.0, 5.0), (5.0, 5.0)]
    line = line_chart("title", [Series("run", 0, [(0.0, 1.0), (9.0, 2.0)])])
    path = re.search(r'dash0" d="M(\S+) (\S+)L(\S+) (\S+)"', line)
    left, low, right, high = map(float, path.groups())
    assert left < right and low > HEIGHT / 2 > high
    dots, marks = [Series("run", 0, points)], [Series("run", 0, points)]
    for drawn in (scatter("title", dots, [], "x", "y"), scatter("title", [], marks, "x", "y")):
        (x, y), (x_2, y_2) = re.findall(r'cx="(\S+)" cy="(\S+)" r=', drawn)
        assert float(x) < float(x_2) and y == y_2 and float(y) < HEIGHT / 2


def test_a_table_of_scores_has_what_was_predicted_for_each_gold_score() -> None:
    shown = scatter_table("title", [Series("run", 0, [(0.0, 1.0), (0.0, 4.0), (5.0, 3.0)])])
    cells = "".join(f"<td>{x}</td>" for x in (0, 2, 2.5, 1, 4))  # mean, lowest, highest
    assert f'<th scope="row">run</th>{cells}</tr>' in shown


def test_rows_of_a_confusion_matrix_are_gold() -> None:
    found = TaskFindings("t", [], names=["a", "b"], confusion=[[3, 1], [0, 2]])
    first = [
        f'<td class="share" style="--share:{share}">{count}</td>'
        for share, count in (("0.75", 3), ("0.25", 1))
    ]
    assert f'<th scope="row">a</th>{"".join(first)}</tr>' in confusion_table("run", found)


def test_a_class_has_its_counts_and_scores_in_their_order(capsys) -> None:
    score = ClassScore("duplicate", 3, 0.75, 0.5, 0.625)
    found = {"quora": TaskFindings("Quora", [], classes=[score])}
    card = labels_of(TASKS["quora"], np.array([1.0, 1, 0, 1, 1]), found)
    assert "| Quora | in training | in dev | precision | recall | F1 |" in card
    assert "| duplicate | 4 | 3 | 0.750 | 0.500 | 0.625 |" in card
    cells = "".join(f"<td>{x}</td>" for x in (3, "0.750", "0.500", "0.625"))
    assert f'<th scope="row">duplicate</th>{cells}' in class_table("run", found["quora"])
    print_classes(TASKS["quora"], [score])
    assert capsys.readouterr().out.split()[-5:] == ["duplicate", "0.7500", "0.5000", "0.6250", "3"]


def test_calibration_errors_stand_under_their_names() -> None:
    numbers = {"temperature": 2.0, "ece_before": 0.3, "ece_after": 0.1, "bins": 15}
    found = TaskFindings("t", [], calibrated=numbers)
    shown = calibration_table([(0, LoggedRun("run", {}, [], {}), found)])
    names = re.findall(r'<th scope="col">([^<]*)</th>', shown)[1:]
    assert dict(zip(names, re.findall(r"<td>([^<]*)</td>", shown), strict=True)) == {
        "expected calibration error": "0.3",
        "with a temperature of the other half": "0.1",
        "temperature of all rows": "2",
    }


def test_a_task_s_loss_is_its_own() -> None:
    lines = [
        {"event": "step", "step": step, "task": task, "loss": loss}
        for step, task, loss in ((1, "sst", 1.5), (2, "sts", 0.25), (3, "sst", None))
    ]
    run = LoggedRun("run", {}, lines, {})
    assert losses_of(run, "sst") == [(1, 1.5)] and losses_of(run, "sts") == [(2, 0.25)]


def test_a_task_may_be_called_step_or_weights() -> None:
    scores = {"step": 0.5, "weights": 0.25}
    end = {"event": "end", "best": {"step": 120, "is_mean": True, "scores": scores}}
    assert [*best_step(LoggedRun("r", {}, [end], {})).values()] == [
        "120", "mean of the last steps", "0.500", "0.250"
    ]  # fmt: skip


def test_of_several_runs_the_arguments_that_differ_come_first() -> None:
    runs = [LoggedRun(n, {"seed": 1, "lr": lr}, [], {}) for n, lr in (("a", 1e-5), ("b", 2e-5))]
    differing, every = arguments(runs).split("<details>")
    assert '<th scope="row">lr</th><td>1e-05</td><td>2e-05</td>' in differing
    assert "seed" not in differing and "seed" in every
    assert "<p>The same.</p>" in arguments([runs[0], runs[0]])


def test_the_card_of_several_runs_has_their_spread_and_ends(tmp_path: Path) -> None:
    args = resolve_arguments(parse_given(Args, ["--tasks", "sst"], ""), TASKS)
    of_two = "0.500 | 0.3536 | 0.250 to 0.750"
    for scores, cells in (((0.75, 0.25), of_two), ((0.75,), "0.750 | - | 0.750 to 0.750")):
        write_several_card(tmp_path, args, [TASKS["sst"]], [{"sst": score} for score in scores])
        assert f"| SST | accuracy | {cells} |" in (tmp_path / "README.md").read_text()


def test_a_metric_that_is_not_defined_is_not_in_the_findings() -> None:
    """A report refuses NaN: it would end a run that has been trained."""
    rows = np.array([b"a", b"b", b"c"])
    split = EncodedSplit(rows, np.arange(3, dtype=np.float32), np.zeros(3, np.int32),
                         np.arange(4), np.ones(3, np.int32))  # fmt: skip
    assert findings(TASKS["sts"], np.full((3, 1), 2.0), split, (), None).metrics == {}


def test_a_confidence_is_with_the_temperature() -> None:
    calibration, outputs = Calibration(2.0, 0.3, 0.1, np.ones(1)), np.array([[2.0]])
    found = confidence_of_rows(TASKS["quora"], outputs, np.ones(1), np.zeros(1), calibration)
    assert found == pytest.approx(1 / (1 + np.exp(-1)))


def test_how_far_a_cosine_is_from_its_threshold_is_no_confidence() -> None:
    row = WorstRow("7", ["red", "blue"], "no", "yes", confidence=0.25)
    siamese = TaskFindings("Quora", [row])
    assert ">cosine from threshold<" in worst_table("run", siamese, opened=True)
    page = worst_table("run", replace(siamese, reliability=[(0.5, 0.5, 3)]), opened=True)
    assert ">confidence<" in page


def test_a_wrong_tag_is_a_mistake_where_tags_spell_no_entities() -> None:
    table = {"kind": "token-classification", "train": "a", "dev": "a", "labels": ["NOUN", "VERB"]}
    task = make_task("pos", table)
    assert mistakes(task, np.array([0, 1, 1]), np.array([0, 0, 1])) == 1


def test_the_speed_is_that_of_the_steps_themselves() -> None:
    """A GPU's losses are read 16 steps at a time, so that these lines are of one moment."""
    step = {"event": "step", "time": 1.0, "tokens": 100, "seconds": 0.5}
    run_ = LoggedRun("r", {}, [{**step, "step": n} for n in range(1, 22)], {})
    assert throughput(run_) == [(11, 200.0), (21, 200.0)]
    joint = [{**step, "step": n, "task": t} for n in range(1, 6) for t in ("a", "b", "c")]
    joint[2]["seconds"] = 9  # of the warm-up, whose three parts are left out
    assert throughput(LoggedRun("r", {}, joint, {})) == [(5, 200.0)]
    coarse = [{**step, "step": n, "seconds": 0.0} for n in range(1, 12)]  # as some clocks tick
    assert len(throughput(LoggedRun("r", {}, coarse, {}))) == 1
