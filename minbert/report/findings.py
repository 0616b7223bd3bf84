"""What a model gets right and wrong on a dev set, as numbers and examples for the report."""

from pathlib import Path
from typing import Any

import numpy as np

from minbert.data.encoded import EncodedSplit
from minbert.data.examples import read_examples
from minbert.task.task import Task

WORST = 12  # rows shown
BINS = 10  # of predicted probabilities
MOST_POINTS = 1500  # of a scatter plot


def findings(
    task: Task, outputs: np.ndarray, split: EncodedSplit, path: Path, cosines: bool
) -> dict[str, Any]:
    """outputs (n, task.outputs) for the split, which was read from `path`.

    cosines: the outputs are compared cosines, not logits: no probabilities can be made of them.
    """
    predictions, labels = task.decode(outputs), split.labels
    found: dict[str, Any] = {"title": task.title, "rows": len(split)}
    if task.many:
        found["labels"] = label_counts(task, predictions, labels)
        return found
    if task.is_correlation:
        chosen = np.linspace(0, len(split) - 1, min(len(split), MOST_POINTS)).astype(int)
        found["points"] = np.stack([labels, predictions], 1)[chosen].round(3).tolist()
        order = np.argsort(-np.abs(predictions - labels), kind="stable")
        found["worst"] = shown_rows(task, order[:WORST], split, predictions, None, path)
        return found
    names = task.names or task.called or tuple(str(c) for c in range(max(2, task.outputs)))
    found["names"], found["confusion"] = names, confusion(predictions, labels, len(names)).tolist()
    sure = np.abs(outputs[:, 0]) if cosines else probabilities(outputs)
    if task.outputs == 1 and not cosines:
        found["calibration"] = calibration(np.where(predictions == 1, sure, 1 - sure), labels)
    wrong = np.flatnonzero(predictions != labels)
    order = wrong[np.argsort(-sure[wrong], kind="stable")]
    found["worst"] = shown_rows(task, order[:WORST], split, predictions, sure, path)
    return found


def probabilities(outputs: np.ndarray) -> np.ndarray:
    """(n, C) logits, or (n, 1) of a yes -> (n,) of the class that was chosen."""
    logits = outputs.astype(np.float64)
    if logits.shape[1] == 1:
        return 1 / (1 + np.exp(-np.abs(logits[:, 0])))
    shares = np.exp(logits - logits.max(1, keepdims=True))
    return shares.max(1) / shares.sum(1)


def confusion(predictions: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """(classes, classes): rows are what was right, columns what was predicted."""
    counts = np.zeros((classes, classes), dtype=int)
    np.add.at(counts, (labels.astype(int), predictions.astype(int)), 1)
    return counts


def calibration(yes: np.ndarray, labels: np.ndarray) -> list[tuple[float, float, int]]:
    """Of every tenth of the probabilities of yes: their mean, how often it was so, how many."""
    places = np.minimum((yes * BINS).astype(int), BINS - 1)
    rows = []
    for place in range(BINS):
        there = places == place
        if there.any():
            mean, share = float(yes[there].mean()), float(labels[there].mean())
            rows.append((round(mean, 4), round(share, 4), int(there.sum())))
    return rows


def label_counts(task: Task, predictions: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    """Of every label: how often found, missed, and given where it was not."""
    rows = []
    for place, name in enumerate(task.names):
        said, true = (x.astype(np.int64) >> place & 1 for x in (predictions, labels))
        pairs = {"found": said & true, "missed": true & ~said, "too much": said & ~true}
        rows.append({"label": name, **{k: int((v & 1).sum()) for k, v in pairs.items()}})
    return rows


def shown_rows(
    task: Task, rows: np.ndarray, split: EncodedSplit, predictions: np.ndarray,
    sure: np.ndarray | None, path: Path,
) -> list[dict[str, Any]]:  # fmt: skip
    """The texts of these rows, with what was predicted and what was right."""
    examples = {e.id: e for e in read_examples(path, task.columns, labelled=True)[0]}
    shown = []
    for row in rows.tolist():
        example = examples[split.row_ids[row].decode()]
        texts = [example.text] if example.pair is None else [example.text, example.pair]
        entry = {
            "id": example.id,
            "texts": texts,
            "right": said(task, float(split.labels[row])),
            "predicted": said(task, float(predictions[row])),
        }
        shown.append(entry | ({} if sure is None else {"sure": round(float(sure[row]), 3)}))
    return shown


def said(task: Task, prediction: float) -> str:
    """The name of its class; of a class without one, or a score, the number to two places."""
    names = task.names or task.called
    return names[int(prediction)] if names else f"{round(prediction, 2):g}"
