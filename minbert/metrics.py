"""Metrics over a whole split, on numpy arrays (n,)."""

import statistics
from collections.abc import Callable

import numpy as np

Metric = Callable[[np.ndarray, np.ndarray], float]


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Share of equal entries."""
    return float(np.mean(predictions == labels))


def f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    """2 tp / (2 tp + fp + fn) of class 1; 0 when class 1 is neither predicted nor there."""
    tp = np.sum((predictions == 1) & (labels == 1))
    wrong = np.sum(predictions != labels)
    return float(2 * tp / (2 * tp + wrong)) if tp + wrong else 0.0


def macro_f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    """The mean of each class's F1, over the classes that are predicted or there."""
    _, classes = np.unique(np.concatenate([predictions, labels]), return_inverse=True)
    predicted, right = np.split(classes, 2)
    count = int(classes.max()) + 1
    tp = np.bincount(right[predicted == right], minlength=count)
    return float(np.mean(2 * tp / np.bincount(classes)))  # a class's tp + fp and tp + fn together


def label_f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    """2 tp / (2 tp + fp + fn) over all classes of sets, given as sums of 2^class (micro F1)."""
    a, b = predictions.astype(np.int64), labels.astype(np.int64)
    tp, wrong = (int(np.unpackbits(x.view(np.uint8)).sum()) for x in (a & b, a ^ b))
    return 2 * tp / (2 * tp + wrong) if tp + wrong else 0.0


def pearson(predictions: np.ndarray, labels: np.ndarray) -> float:
    """The paper's r (section 4.2); 0 for constant predictions, where it is not defined."""
    x = np.asarray(predictions, dtype=np.float64) - np.mean(predictions)
    y = np.asarray(labels, dtype=np.float64) - np.mean(labels)
    scale = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / scale) if scale > 0 else 0.0


def spearman(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Pearson's r of the ranks; ties share their mean rank."""
    return pearson(ranks(predictions), ranks(labels))


def ranks(x: np.ndarray) -> np.ndarray:
    """The place of each entry, from 1: scipy.stats.rankdata, without its 0.6 s of start-up."""
    _, group, ties = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(ties) - (ties - 1) / 2)[group]


def bootstrap_interval(
    metric: Metric, predictions: np.ndarray, labels: np.ndarray, resamples: int = 1000
) -> tuple[float, float]:
    """95 % percentile interval over resampled rows (Efron, 1979), from a fixed seed."""
    rng = np.random.default_rng(0)
    n = len(labels)
    scores = []
    for _ in range(resamples):
        rows = rng.integers(0, n, n)
        scores.append(metric(predictions[rows], labels[rows]))
    low, high = np.percentile(scores, [2.5, 97.5])
    return float(low), float(high)


def overall(scores: dict[str, float], correlations: set[str]) -> tuple[float, float]:
    """(raw mean, 2024 form): the course's two overall scores of the tasks' main metrics.

    The 2024 form maps a correlation r in [-1, 1] to (r + 1) / 2 before averaging.
    """
    scaled = [(s + 1) / 2 if task in correlations else s for task, s in scores.items()]
    return float(np.mean(list(scores.values()))), float(np.mean(scaled))


def over_seeds(every: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return mean, spread (standard deviation), lowest and highest of each score over the seeds."""
    found = {}
    for name in every[0]:
        values = [scores[name] for scores in every]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        ends = {"lowest": min(values), "highest": max(values)}
        found[name] = {"mean": statistics.fmean(values), "spread": spread, **ends}
    return found
