"""What a model gets right and wrong on a dev set, as numbers and examples for the report."""

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from minbert.data.encoded import EncodedSplit
from minbert.data.examples import Files, read_examples
from minbert.data.items import gold_of
from minbert.report.tagged import confusion_of_words, worst_sentences
from minbert.task.calibration import Calibration, right_choices
from minbert.task.classes import class_scores
from minbert.task.labels import label_matrix
from minbert.task.probabilities import class_probabilities
from minbert.task.task import Task

WORST = 12  # how many of the worst rows are listed
MOST_CONFUSED = 150  # classes of a table, which has the square of them
BINS = 10  # of the reliability diagram
SCATTER_POINTS = 1500  # most points of a scatter plot


def findings(
    task: Task, outputs: np.ndarray, split: EncodedSplit, files: Files,
    calibration: Calibration | None,
) -> dict[str, Any]:  # fmt: skip
    """Describe outputs (n, task.outputs) for a split, which was read from these files.

    files: (), if they have other texts by now: then none are shown. calibration: None for outputs
    that give no probabilities.
    """
    predictions, labels = task.decode(outputs), gold_of(split)
    found: dict[str, Any] = {"title": task.title, "rows": len(split)}
    scores = {name: metric(predictions, labels) for name, metric in task.metrics.items()}
    found["metrics"] = {name: score for name, score in scores.items() if not math.isnan(score)}
    found["classes"] = [asdict(score) for score in class_scores(task, predictions, labels)]
    if task.per_word:
        if len(task.shown_classes) <= MOST_CONFUSED:
            names, counts = confusion_of_words(task, predictions, labels)
            found |= {"names": names, "confusion": counts.tolist()}
        found["worst"] = worst_sentences(task, predictions, split, files, WORST)
        return found
    if calibration:
        found["calibrated"] = calibration.to_json()
        for name, temperature in (("", 1.0), ("_calibrated", calibration.held_out[:, None])):
            p = class_probabilities(task, outputs, temperature)
            found[f"reliability{name}"] = reliability(*predicted_and_true(task, p, labels))
    if task.is_regression:
        chosen = np.linspace(0, len(split) - 1, min(len(split), SCATTER_POINTS)).astype(int)
        found["points"] = np.stack([labels, predictions], 1)[chosen].round(task.places + 1).tolist()
        order = np.argsort(-np.abs(predictions - labels), kind="stable")
        found["worst"] = listed_rows(task, order[:WORST], split, predictions, None, files)
        return found
    names = task.shown_classes
    if task.multi_label:
        found["labels"] = label_counts(task, predictions, labels)
    elif len(names) <= MOST_CONFUSED:
        found["names"] = names
        found["confusion"] = confusion(predictions, labels, len(names)).tolist()
    confidence = np.abs(outputs[:, 0])  # of cosines
    if calibration:
        p = class_probabilities(task, outputs, calibration.temperature)
        if task.multi_label:  # the surest of a row's wrong labels
            predicted, gold = (label_matrix(x, task.outputs) for x in (predictions, labels))
            wrong_labels = predicted != gold
            p = np.where(wrong_labels, np.maximum(p, 1 - p), 0)
        confidence = p.max(1)
    wrong = np.flatnonzero(predictions != labels)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")]
    found["worst"] = listed_rows(task, order[:WORST], split, predictions, confidence, files)
    return found


def confusion(predictions: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Count (classes, classes) pairs: rows are gold, columns predicted."""
    counts = np.zeros((classes, classes), dtype=int)
    np.add.at(counts, (labels.astype(int), predictions.astype(int)), 1)
    return counts


def predicted_and_true(
    task: Task, p: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return predicted probabilities and what came true (1 or 0), both (m,).

    p: of each class, (n, C). With two classes the second one's are returned, with several labels
    those of each, with more classes those of the predicted class.
    """
    gold = right_choices(task, labels)
    if task.multi_label:
        return p.reshape(-1), gold
    if task.outputs == 1:
        return p[:, 1], gold
    return p.max(1), p.argmax(1) == gold


def reliability(p: np.ndarray, outcomes: np.ndarray) -> list[tuple[float, float, int]]:
    """Return the points of a reliability diagram: three numbers for each bin that is not empty.

    They are the mean predicted probability, the observed frequency, and how many are in the bin.
    p, outcomes: from `predicted_and_true`.
    """
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    points = []
    for number in range(BINS):
        inside = bins == number
        if inside.any():
            mean, share = float(p[inside].mean()), float(outcomes[inside].mean())
            points.append((round(mean, 4), round(share, 4), int(inside.sum())))
    return points


def label_counts(task: Task, predictions: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    """Count each label's true positives, false negatives and false positives."""
    rows = []
    predicted, gold = (label_matrix(x, task.outputs) == 1 for x in (predictions, labels))
    counts = {
        "true positives": predicted & gold,
        "false negatives": gold & ~predicted,
        "false positives": predicted & ~gold,
    }
    sums = {name: found.sum(0).tolist() for name, found in counts.items()}
    for place, label in enumerate(task.class_names):
        rows.append({"label": label, **{name: found[place] for name, found in sums.items()}})
    return rows


def listed_rows(
    task: Task, rows: np.ndarray, split: EncodedSplit, predictions: np.ndarray,
    confidence: np.ndarray | None, files: Files,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the texts of these rows with their gold and predicted labels."""
    if not files:
        return []
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
