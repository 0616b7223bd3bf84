"""What a model gets right and wrong on a dev set, as numbers and examples for the report."""

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from minbert.data.encoded import EncodedSplit
from minbert.data.examples import Files, read_examples
from minbert.task.classes import class_scores
from minbert.task.task import Task

WORST = 12  # how many of the worst rows are listed
BINS = 10  # of the reliability diagram
SCATTER_POINTS = 1500  # most points of a scatter plot


def findings(
    task: Task, outputs: np.ndarray, split: EncodedSplit, files: Files, cosines: bool
) -> dict[str, Any]:
    """Describe outputs (n, task.outputs) for a split, which was read from these files.

    cosines: the outputs are cosines less a threshold, not logits, and give no probabilities.
    """
    predictions, labels = task.decode(outputs), split.labels
    found: dict[str, Any] = {"title": task.title, "rows": len(split)}
    scores = {name: metric(predictions, labels) for name, metric in task.metrics.items()}
    found["metrics"] = {name: score for name, score in scores.items() if not math.isnan(score)}
    found["classes"] = [asdict(score) for score in class_scores(task, predictions, labels)]
    if task.multi_label:
        found["labels"] = label_counts(task, predictions, labels)
        return found
    if task.is_correlation:
        chosen = np.linspace(0, len(split) - 1, min(len(split), SCATTER_POINTS)).astype(int)
        found["points"] = np.stack([labels, predictions], 1)[chosen].round(3).tolist()
        order = np.argsort(-np.abs(predictions - labels), kind="stable")
        found["worst"] = listed_rows(task, order[:WORST], split, predictions, None, files)
        return found
    names = task.shown_classes
    found["names"], found["confusion"] = names, confusion(predictions, labels, len(names)).tolist()
    confidence = np.abs(outputs[:, 0]) if cosines else confidences(outputs)
    if task.outputs == 1 and not cosines:
        yes = np.where(predictions == 1, confidence, 1 - confidence)
        found["reliability"] = reliability(yes, labels)
    wrong = np.flatnonzero(predictions != labels)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")]
    found["worst"] = listed_rows(task, order[:WORST], split, predictions, confidence, files)
    return found


def confidences(outputs: np.ndarray) -> np.ndarray:
    """Return the probability of the predicted class, (n,), from logits (n, C) or (n, 1).

    One logit is that of class 1 against class 0.
    """
    logits = outputs.astype(np.float64)
    if logits.shape[1] == 1:
        return 1 / (1 + np.exp(-np.abs(logits[:, 0])))
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return odds.max(1) / odds.sum(1)


def confusion(predictions: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Count (classes, classes) pairs: rows are gold, columns predicted."""
    counts = np.zeros((classes, classes), dtype=int)
    np.add.at(counts, (labels.astype(int), predictions.astype(int)), 1)
    return counts


def reliability(yes: np.ndarray, labels: np.ndarray) -> list[tuple[float, float, int]]:
    """Return the points of a reliability diagram: of each bin that is not empty three numbers.

    They are the mean predicted probability of a yes (class 1), the share of yes among the labels,
    and the number of rows.
    """
    bins = np.minimum((yes * BINS).astype(int), BINS - 1)
    points = []
    for number in range(BINS):
        inside = bins == number
        if inside.any():
            mean, share = float(yes[inside].mean()), float(labels[inside].mean())
            points.append((round(mean, 4), round(share, 4), int(inside.sum())))
    return points


def label_counts(task: Task, predictions: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    """Count each label's true positives, false negatives and false positives."""
    rows = []
    for place, name in enumerate(task.class_names):
        predicted, gold = (x.astype(np.int64) >> place & 1 for x in (predictions, labels))
        counts = {
            "true positives": predicted & gold,
            "false negatives": gold & ~predicted,
            "false positives": predicted & ~gold,
        }
        rows.append({"label": name, **{k: int((v & 1).sum()) for k, v in counts.items()}})
    return rows


def listed_rows(
    task: Task, rows: np.ndarray, split: EncodedSplit, predictions: np.ndarray,
    confidence: np.ndarray | None, files: Files,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the texts of these rows with their gold and predicted labels."""
    examples = {e.id: e for e in read_examples(files, task.columns, labelled=True)[0]}
    listed = []
    for row in rows.tolist():
        example = examples[split.row_ids[row].decode()]
        texts = [example.text] if example.pair is None else [example.text, example.pair]
        entry = {
            "id": example.id,
            "texts": texts,
            "gold": task.describe(float(split.labels[row])),
            "predicted": task.describe(float(predictions[row])),
        }
        if confidence is not None:
            entry["confidence"] = round(float(confidence[row]), 3)
        listed.append(entry)
    return listed
