"""Every row is learned with its own label, however it is read."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from minbert import MultitaskModel, UserError
from minbert.data.examples import read_examples
from minbert.task.labels import class_parser, label_parser, label_set_parser, score_parser
from minbert.task.predictions import score_predictions
from tests.conftest import logged, run
from tests.test_real_files import task_of


@pytest.mark.parametrize(
    "extra",
    [(), ("--fine-tune-mode", "last-linear-layer"), ("--pair-encoding", "siamese")],
    ids=["together", "frozen", "siamese"],
)
def test_the_loss_of_an_epoch_is_that_of_the_rows_with_their_labels(
    still: Path, extra: tuple[str, ...]
) -> None:
    """At a rate of 0 the model is the same at every step, and at the end."""
    options = ("--tasks", "sts", "--epochs", "1", "--lr", "0", "--hidden-dropout-prob", "0")
    run(still, "--name", "run", *options, *extra)
    rows = (still / "data/sts-train.csv").read_text().splitlines()[1:]
    cells = [row.split("\t") for row in rows]
    model = MultitaskModel.load(still / "runs/run", device="cpu")
    answers = model.outputs("sts", [(row[2], row[3]) for row in cells])[:, 0]
    labels = np.array([float(row[4]) for row in cells])
    steps = logged(still / "runs/run", "step")
    total = sum(line["loss"] * line["examples"] for line in steps) / len(cells)
    assert sum(line["examples"] for line in steps) == len(cells)
    assert total == pytest.approx(np.mean((answers - labels) ** 2), rel=1e-4)


@pytest.mark.parametrize("text", ["price, service", "price|service", "price/service"])
def test_labels_of_a_row_that_something_else_is_between(text: str) -> None:
    with pytest.raises(ValueError, match=r"`-` is none; `;` stands between labels"):
        label_set_parser(["price", "service"])(text)
    assert label_set_parser(["price", "service"])("price;service") == 3


def test_names_where_numbers_are_expected() -> None:
    with pytest.raises(
        ValueError, match=r"^expected a whole number from 0 to 2; or list the names"
    ):
        class_parser(3)("billing")
    with pytest.raises(ValueError, match=r"^expected a whole number from 0 to 2$"):
        class_parser(3)("7")
    with pytest.raises(ValueError, match=r"^expected a number from 0 to 5, the task's `range`$"):
        score_parser(0, 5)("billing")
    with pytest.raises(ValueError, match=r"^expected a number from 0 to 5, the task's `range`$"):
        score_parser(0, 5)("nan")
    # Python's own numbers may be written so, and 1_2 for 1.2 would be class 12
    for parse in (score_parser(0, 100), class_parser(13), label_parser([1, 12])):
        with pytest.raises(ValueError, match=r"^expected "):
            parse("1_2")


def test_labels_0_and_1_in_one_row_may_mean_two_things() -> None:
    with pytest.raises(ValueError, match=r"one 0 or 1 a class\? .*; to have both of 0 and 1 in"):
        label_set_parser([0, 1])("0;1")
    assert label_set_parser([0, 1])("1") == 2


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
@pytest.mark.parametrize(
    ("labels", "value"),
    [
        (["a;b", "c"], ["a", "b"]),
        (["-", "b"], []),
        (2, [1]),
        (2, [0, 1]),
        ("", [3.5]),  # of a regression
    ],
)
def test_a_list_is_no_label(
    tmp_path: Path, name: str, labels: list[str] | int | str, value: list[str | float]
) -> None:
    """Joined by `;` it could be the name of another label; nor is the file trained on or scored."""
    if name == "a.parquet":
        column = pyarrow.array([value], pyarrow.list_(pyarrow.string()) if value == [] else None)
        parquet.write_table(pyarrow.table({"text": ["x"], "label": column}), tmp_path / name)
    else:
        (tmp_path / name).write_text(json.dumps({"text": "x", "label": value}) + "\n")
    kind = "classification" if labels else "regression"
    task = task_of(tmp_path, name, kind=kind, labels=labels)
    message = f"{name}:1: label: a list is not a label: {re.escape(str(value))}; write one label"
    with pytest.raises(UserError, match=message):
        read_examples(tmp_path / name, task.columns, labelled=True)
    answer = labels[1] if isinstance(labels, list) else 1
    (tmp_path / "p.csv").write_text(f"id,label\n1,{answer}\n")
    with pytest.raises(UserError, match=message):
        score_predictions(tmp_path / "p.csv", tmp_path / name, [task])
