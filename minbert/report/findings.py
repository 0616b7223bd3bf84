"""What a model gets right and wrong on a dev set, as numbers and examples for the report."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from minbert.data.encoded import EncodedSplit
from minbert.data.examples import Files, examples_by_id
from minbert.data.items import gold_of
from minbert.report.tagged import confusion_of_words, described, mistakes
from minbert.report.task_findings import Points, TaskFindings, WorstRow
from minbert.task.calibration import Calibration, right_choices
from minbert.task.classes import class_scores
from minbert.task.labels import multi_hot
from minbert.task.probabilities import class_probabilities
from minbert.task.task import Task

WORST = 12  # how many of the worst rows are listed
MAX_CONFUSION_CLASSES = 150  # classes of a table, which has the square of them
DIAGRAM_BINS = 10  # of the reliability diagram
SCATTER_POINTS = 1500  # most points of a scatter plot


def findings(
    task: Task, outputs: np.ndarray, split: EncodedSplit, files: Files,
    calibration: Calibration | None,
) -> TaskFindings:  # fmt: skip
    """Describe outputs (R, C) for a split, which was read from these files.

    files: (), if they have other texts by now: then none are shown. calibration: None for outputs
    that give no probabilities.
    """
    predictions, labels = task.decode(outputs), gold_of(split)
    scores = {name: metric(predictions, labels) for name, metric in task.metrics.items()}
    found = TaskFindings(
        task.title, [],
        metrics={name: score for name, score in scores.items() if not math.isnan(score)},
        classes=class_scores(task, predictions, labels),
    )  # fmt: skip
    if task.per_word:
        wrong = np.array([mistakes(task, *tags) for tags in zip(predictions, labels, strict=True)])
        order = np.argsort(-wrong, kind="stable")  # the first ones of those that are equal
        rows = order[wrong[order] > 0][:WORST]
        worst = listed_rows(task, rows, split, predictions, files, wrong=wrong)
        return replace(found, worst=worst, **confusion_of(task, predictions, labels))
    if calibration:
        found = replace(found, **calibration_found(task, outputs, labels, calibration))
    if task.is_regression:
        chosen = np.linspace(0, len(split) - 1, min(len(split), SCATTER_POINTS)).astype(int)
        points = np.stack([labels, predictions], 1)[chosen].round(task.decimal_places + 1).tolist()
        order = np.argsort(-np.abs(predictions - labels), kind="stable")
        worst = listed_rows(task, order[:WORST], split, predictions, files)
        return replace(found, points=points, worst=worst)
    if task.multi_label:
        found = replace(found, labels=label_counts(task, predictions, labels))
    else:
        found = replace(found, **confusion_of(task, predictions, labels))
    confidence = confidence_of_rows(task, outputs, predictions, labels, calibration)
    wrong = np.flatnonzero(predictions != labels)
    order = wrong[np.argsort(-confidence[wrong], kind="stable")]
    worst = listed_rows(task, order[:WORST], split, predictions, files, confidence)
    return replace(found, worst=worst)


def confusion_of(task: Task, predictions: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Return the counts of gold by predicted classes and their names; {} of too many classes."""
    if len(task.display_classes) > MAX_CONFUSION_CLASSES:
        return {}
    if task.per_word:
        names, counts = confusion_of_words(task, predictions, labels)
    else:
        names = list(task.display_classes)
        counts = confusion(predictions, labels, len(names))
    return {"names": names, "confusion": counts.tolist()}


def calibration_found(
    task: Task, outputs: np.ndarray, labels: np.ndarray, calibration: Calibration
) -> dict[str, Any]:
    """Return a calibration's numbers and the points of reliability before it and after it."""
    found: dict[str, Any] = {"calibrated": calibration.to_json()}
    for name, temperature in (("", 1.0), ("_calibrated", calibration.row_temperatures[:, None])):
        p = class_probabilities(task, outputs, temperature)
        found[f"reliability{name}"] = reliability(*predicted_and_true(task, p, labels))
    return found


def confidence_of_rows(
    task: Task, outputs: np.ndarray, predictions: np.ndarray, labels: np.ndarray,
    calibration: Calibration | None,
) -> np.ndarray:  # fmt: skip
    """Return how sure the model is of each row's prediction, (R,): a probability.

    Of several labels it is that of the surest wrong one; without probabilities how far
    the cosine is from its threshold.
    """
    if calibration is None:
        return np.abs(outputs[:, 0])
    p = class_probabilities(task, outputs, calibration.temperature)
    if task.multi_label:
        predicted, gold = (multi_hot(x, task.outputs) for x in (predictions, labels))
        p = np.where(predicted != gold, np.maximum(p, 1 - p), 0)
    return p.max(1)


def confusion(predictions: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Count (classes, classes) pairs: rows are gold, columns predicted."""
    counts = np.zeros((classes, classes), dtype=int)
    np.add.at(counts, (labels.astype(int), predictions.astype(int)), 1)
    return counts


def predicted_and_true(
    task: Task, p: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return predicted probabilities and what came true (1 or 0), both (m,).

    p: of each class, (n, C). Of one logit (a pair's two classes) the second class's are returned,
    with several labels those of each, else those of the predicted class.
    """
    gold = right_choices(task, labels)
    if task.multi_label:
        return p.reshape(-1), gold
    if task.outputs == 1:
        return p[:, 1], gold
    return p.max(1), p.argmax(1) == gold


def reliability(p: np.ndarray, outcomes: np.ndarray) -> Points:
    """Return the points of a reliability diagram: three numbers for each bin that is not empty.

    They are the mean predicted probability, the observed frequency, and how many are in the bin.
    p, outcomes: from `predicted_and_true`.
    """
    bins = np.minimum((p * DIAGRAM_BINS).astype(int), DIAGRAM_BINS - 1)
    points = []
    for number in range(DIAGRAM_BINS):
        inside = bins == number
        if inside.any():
            mean, share = float(p[inside].mean()), float(outcomes[inside].mean())
            points.append((round(mean, 4), round(share, 4), int(inside.sum())))
    return points


def label_counts(
    task: Task, predictions: np.ndarray, labels: np.ndarray
) -> list[dict[str, str | int]]:
    """Count each label's true positives, false negatives and false positives."""
    rows = []
    predicted, gold = (multi_hot(x, task.outputs) == 1 for x in (predictions, labels))
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
    task: Task, rows: np.ndarray, split: EncodedSplit, predictions: np.ndarray, files: Files,
    confidence: np.ndarray | None = None, wrong: np.ndarray | None = None,
) -> list[WorstRow]:  # fmt: skip
    """Return the texts of these rows with gold and predicted labels, or with their entities.

    confidence, wrong: of all rows, (R,) each: how sure the model is; the mistakes in a sentence.
    """
    if not files:
        return []
    examples, labels, listed = examples_by_id(files, task.columns), gold_of(split), []
    for row in rows.tolist():
        example = examples[split.row_ids[row].decode()]
        texts = [example.text] if example.pair is None else [example.text, example.pair]
        sides = labels[row], predictions[row]
        if task.per_word:
            shown = [described(task, example.words, side) for side in sides]
        else:
            shown = [task.describe(float(side)) for side in sides]
        sure = None if confidence is None else round(float(confidence[row]), 3)
        listed.append(
            WorstRow(example.id, texts, *shown, sure, None if wrong is None else int(wrong[row]))
        )
    return listed
