"""Every row is learned with its own label, however it is read."""

from pathlib import Path

import numpy as np
import pytest

from minbert import MultitaskModel
from minbert.task.labels import class_parser, label_parser, label_set_parser, score_parser
from tests.conftest import logged, run


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
