"""class_weight: scikit-learn's numbers, rows that count several times, soft targets too."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import train_multitask
from minbert import UserError
from minbert.run import fine_tuning
from minbert.task.balance import row_weights, with_class_weights
from minbert.task.soft_losses import hard_targets, r_drop_loss, soft_loss
from minbert.task.task import Task
from minbert.task.taskfile import make_task, read_tasks, task_file_text
from tests.conftest import killed_after, logged, weights
from tests.own_tasks import OWN, arguments
from tests.test_long_texts import LONGEST, task_file

LABELS = {
    "classification": [0, 0, 0, 1, 0, 2, 0, 1],
    "pair-classification": [0, 0, 1, 0, 0, 0, 0, 0],
    "multi-label": [0, 1, 1, 5, 0, 0, 0, 1],
}


def make(kind: str, class_weight: object = None) -> Task:
    text = ["a", "b"] if kind == "pair-classification" else "a"
    names = ["x", "y"] if kind == "pair-classification" else ["x", "y", "z"]
    table = {"kind": kind, "train": "t.tsv", "dev": "t.tsv", "text": text, "label": "l"}
    more = {} if class_weight is None else {"class_weight": class_weight}
    return make_task("own", {**table, "labels": names, **more})


def weighted(kind: str, class_weight: object) -> Task:
    labels = np.array(LABELS[kind], dtype=np.float32)
    return with_class_weights(make(kind, class_weight), labels, torch.device("cpu"))


def test_balanced_is_scikit_learn_s() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    for kind in ("classification", "pair-classification"):
        labels = np.array(LABELS[kind])
        expected = compute_class_weight("balanced", classes=np.unique(labels), y=labels)
        found = weighted(kind, "balanced").class_weights
        torch.testing.assert_close(found, torch.from_numpy(expected).float())
    absent, present = weighted("multi-label", "balanced").class_weights
    # x is in 4 of 8 rows, y in none, z in 1: n / (2 count) of both sides; y is never asked for
    torch.testing.assert_close(absent, torch.tensor([1.0, 1.0, 8 / 14]))
    torch.testing.assert_close(present[[0, 2]], torch.tensor([1.0, 4.0]))


def test_a_table_s_weights_have_the_mean_1_over_the_rows() -> None:
    task = weighted("classification", {"y": 3, "z": 6})
    # 5 of 1, 2 of 3, 1 of 6: 17 over 8 rows
    torch.testing.assert_close(task.class_weights, torch.tensor([1.0, 3, 6]) * 8 / 17)
    task = weighted("multi-label", {"z": 3})
    expected = torch.tensor([[1.0, 1.0, 0.8], [1.0, 1.0, 2.4]])  # z: 7 of 1 and 1 of 3
    torch.testing.assert_close(task.class_weights, expected)


@pytest.mark.parametrize("kind", LABELS)
def test_a_weight_counts_a_row_so_often(kind: str) -> None:
    """The loss is that of a set in which the rows of a class stand three times."""
    labels = torch.tensor(LABELS[kind], dtype=torch.float32)
    if kind == "multi-label":
        labels = labels * 0 + torch.tensor([0.0, 2, 2, 0, 0, 0, 0, 0])  # y alone varies
    given = with_class_weights(make(kind, {"y": 3}), labels.numpy(), torch.device("cpu"))
    outputs = torch.randn(8, given.outputs, generator=torch.manual_seed(0))
    again = torch.randn(8, given.outputs)
    times = torch.ones(8, dtype=torch.int64)
    times[labels == (2 if kind == "multi-label" else 1)] = 3
    plain, often = make(kind), [x.repeat_interleave(times, 0) for x in (outputs, again, labels)]
    if kind == "multi-label":  # the classes that do not vary have the weight 1
        columns = (slice(None), slice(1, 2))
        pair = make("pair-classification")
        found = row_weights(given, labels)[columns]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            outputs[columns], hard_targets(given, labels)[columns], found
        )
        torch.testing.assert_close(loss, pair.loss(often[0][columns], often[2] / 2))
        return
    torch.testing.assert_close(given.loss(outputs, labels), plain.loss(often[0], often[2]))
    each = row_weights(given, labels)
    torch.testing.assert_close(
        soft_loss(given, outputs, hard_targets(given, labels), each), given.loss(outputs, labels)
    )
    torch.testing.assert_close(
        r_drop_loss(given, outputs, again, each), r_drop_loss(plain, often[0], often[1])
    )


def test_a_window_counts_as_a_row_in_a_weight_and_not_where_rows_are_counted(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weigh, counted = fine_tuning.with_class_weights, []

    def weighing(task: Task, labels: np.ndarray, device: torch.device) -> Task:
        counted.append(len(labels))
        return weigh(task, labels, device)

    monkeypatch.setattr(fine_tuning, "with_class_weights", weighing)
    text = task_file(own, "windows").read_text()
    (own / "own.toml").write_text(text.replace("\nlong", '\nclass_weight = "balanced"\nlong', 1))
    train_multitask.main([*arguments(own), "--tasks", "intent", "--max-length", str(LONGEST)])
    (line,) = logged(own / "runs/own", "labels")
    assert sum(line["tasks"]["intent"].values()) == 16 < counted[0]


@pytest.mark.parametrize("kind", LABELS)
def test_parts_make_up_the_whole_batch(kind: str) -> None:
    task, labels = weighted(kind, "balanced"), torch.tensor(LABELS[kind], dtype=torch.float32)
    outputs = torch.randn(8, task.outputs, generator=torch.manual_seed(0))
    parts = [task.loss(outputs[rows], labels[rows]) * len(rows) / 8 for rows in ([0, 1, 2], [3, 4],
             [5, 6, 7])]  # fmt: skip
    torch.testing.assert_close(sum(parts), task.loss(outputs, labels))
    torch.testing.assert_close(
        soft_loss(task, outputs, hard_targets(task, labels), row_weights(task, labels)),
        task.loss(outputs, labels),
    )


WEIGHTED = OWN.replace("[topics]", '[topics]\nclass_weight = { "dogs" = 2.5, cats = 1 }').replace(
    "[intent]", '[intent]\nclass_weight = "balanced"'
)


@pytest.mark.thorough
def test_a_run_keeps_its_weights_and_goes_on_with_them(own: Path) -> None:
    (own / "own.toml").write_text(WEIGHTED)
    again = read_tasks(task_file_text(read_tasks(WEIGHTED, "own.toml", None).values()), "", None)
    assert again["topics"].table["class_weight"] == {"dogs": 2.5, "cats": 1}
    options = ["--tasks", "intent,topics", "--r-drop", "topics=1", "--device", "cpu"]
    train_multitask.main(arguments(own, *options))
    whole = weights(own / "runs/own/last")
    (own / "own.toml").write_text(OWN)
    train_multitask.main([*arguments(own, *options), "--name", "without"])
    assert any(not torch.equal(w, whole[k]) for k, w in weights(own / "runs/without/last").items())
    (own / "own.toml").write_text(WEIGHTED)
    with killed_after(2):
        train_multitask.main([*arguments(own, *options, "--save-minutes", "0"), "--name", "cut"])
    (own / "own.toml").unlink()
    train_multitask.main(["--resume", str(own / "runs/cut")])
    assert all(torch.equal(w, whole[k]) for k, w in weights(own / "runs/cut/last").items())
    assert len(logged(own / "runs/cut", "step")) == len(logged(own / "runs/own", "step"))


def test_siamese_pairs_have_no_class_weights(own: Path) -> None:
    text = OWN.replace("labels = 3", 'labels = 2\nclass_weight = "balanced"')
    (own / "own.toml").write_text(text)
    with pytest.raises(UserError, match="entails has class_weight, which no siamese loss has"):
        train_multitask.main(arguments(own, "--tasks", "entails", "--pair-encoding", "siamese"))


def test_r_drop_s_loss_has_the_weights_too(own: Path, no_dropout: None) -> None:
    """Without dropout both readings are alike, and their mean is the task's own loss."""
    (own / "own.toml").write_text(WEIGHTED)
    losses = []
    for name, more in (("plain", []), ("soft", ["--r-drop", "intent=1,topics=1"])):
        options = ["--tasks", "intent,topics", "--skip-predictions", "--name", name, *more]
        train_multitask.main(arguments(own, *options))
        losses.append([line["loss"] for line in logged(own / "runs" / name, "step")])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize("is_taught", [False, True])
def test_both_of_r_drop_s_terms_have_the_weights(is_taught: bool) -> None:
    """The loss is that of a batch in which the rows of a class stand three times."""
    labels = torch.tensor(LABELS["classification"], dtype=torch.float32)
    *readings, of_teacher = torch.randn(3, 8, 3, generator=torch.manual_seed(0))
    teachers = {"own": of_teacher.softmax(-1)} if is_taught else {}
    once, often = torch.arange(8), torch.arange(8).repeat_interleave(1 + 2 * (labels == 1).int())

    def loss(task: Task, rows: torch.Tensor) -> torch.Tensor:
        outputs = iter(readings)
        run = SimpleNamespace(
            args=SimpleNamespace(r_drop={"own": 2.0}), teachers=teachers,
            state=SimpleNamespace(step=1), steps=3,
            forward=lambda *_: (next(outputs)[rows], labels[rows], rows.numpy()),
        )  # fmt: skip
        return train_multitask.head_loss(run, task, rows.numpy())

    given = weighted("classification", {"y": 3})
    torch.testing.assert_close(loss(given, once), loss(make("classification"), often))
