"""Metrics over a whole split, of predictions and labels, numpy arrays (n,); means of scores."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000  # of the rows, for an interval

Metric = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class CountedMetric:
    """A metric of counts that are summed over the rows, as the F1 of the entities in them."""

    count: Callable[[np.ndarray, np.ndarray], np.ndarray]  # predictions, labels -> (n, k)
    of_sums: Callable[[np.ndarray], float]  # (k,) -> the metric

    def __call__(self, predictions: np.ndarray, labels: np.ndarray) -> float:
        return self.of_sums(self.count(predictions, labels).sum(0))


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of predictions that equal their labels."""
    return float(np.mean(predictions == labels))


def f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Return 2 tp / (2 tp + fp + fn) of class 1; 0 if no prediction and no label is 1."""
    tp = np.sum((predictions == 1) & (labels == 1))
    errors = np.sum(predictions != labels)  # fp + fn
    return float(2 * tp / (2 * tp + errors)) if tp + errors else 0.0


def macro_f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean F1 over the classes that a prediction or a label has."""
    _, classes = np.unique(np.concatenate([predictions, labels]), return_inverse=True)
    predicted, gold = np.split(classes, 2)
    count = int(classes.max()) + 1
    tp = np.bincount(gold[predicted == gold], minlength=count)
    # a class is predicted tp + fp times and gold tp + fn times: 2 tp + fp + fn in all
    return float(np.mean(2 * tp / np.bincount(classes)))


def label_f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Return the micro F1, 2 tp / (2 tp + fp + fn) over all classes, of sets of classes.

    A set is given as the sum of 2^class.
    """
    a, b = predictions.astype(np.int64), labels.astype(np.int64)
    tp, errors = (int(np.unpackbits(x.view(np.uint8)).sum()) for x in (a & b, a ^ b))
    return 2 * tp / (2 * tp + errors) if tp + errors else 0.0


def pearson(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Return Pearson's r (paper, section 4.2); NaN where it is not defined.

    That is for constant arrays, for fewer than two rows, and with a NaN in either.
    """
    x, y = (np.asarray(values, dtype=np.float64) for values in (predictions, labels))
    if len(x) < 2 or x.min() == x.max() or y.min() == y.max():
        return math.nan
    x, y = (scaled(values - values.mean()) for values in (x, y))
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1, 1))


def mae(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean absolute error, in the labels' unit."""
    return float(np.mean(np.abs(predictions - labels)))


def rmse(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Return the root of the mean squared error, in the labels' unit."""
    return float(np.sqrt(np.mean(np.square(predictions - labels, dtype=np.float64))))


def scaled(x: np.ndarray) -> np.ndarray:
    """Return x over its largest entry, whose square might be too large or too small for a float."""
    return x / np.abs(x).max()


def spearman(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Return Pearson's r of the ranks; ties share their mean rank. NaN as for `pearson`."""
    if np.isnan(predictions).any() or np.isnan(labels).any():
        return math.nan
    return pearson(ranks(predictions), ranks(labels))


def ranks(x: np.ndarray) -> np.ndarray:
    """Return each entry's rank from 1, as scipy.stats.rankdata, whose import takes 0.6 s."""
    _, group, ties = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(ties) - (ties - 1) / 2)[group]


def bootstrap_interval(
    metric: Metric, predictions: np.ndarray, labels: np.ndarray
) -> tuple[float, float]:
    """Return the 95 % percentile interval over resampled rows (Efron, 1979), from a fixed seed."""
    rng = np.random.default_rng(0)
    n = len(labels)

    def score(rows: np.ndarray) -> float:
        return metric(predictions[rows], labels[rows])

    if isinstance(metric, CountedMetric):  # a row's counts are the same in every resample
        counts = metric.count(predictions, labels)

        def score(rows: np.ndarray) -> float:
            return metric.of_sums(counts[rows].sum(0))

    scores = [score(rng.integers(0, n, n)) for _ in range(RESAMPLES)]
    defined = [score for score in scores if not math.isnan(score)]
    low, high = np.percentile(defined, [2.5, 97.5]) if defined else (math.nan, math.nan)
    return float(low), float(high)


def overall(scores: dict[str, float], correlations: set[str]) -> tuple[float, float]:
    """Return the course's two overall scores of the tasks' main metrics: raw mean and 2024 form.

    The 2024 form maps a correlation r in [-1, 1] to (r + 1) / 2 before averaging. correlations:
    the names of the tasks whose metric is one.
    """
    in_2024_form = [(s + 1) / 2 if task in correlations else s for task, s in scores.items()]
    return float(np.mean(list(scores.values()))), float(np.mean(in_2024_form))


def weighted_mean(scores: dict[str, float], weights: dict[str, float]) -> float:
    """Return the mean of scores with weights, both by name; a score without a weight counts 0."""
    total = sum(weights.get(name, 0.0) * score for name, score in scores.items())
    return total / sum(weights.values())


def decimals(score: float, places: int = 3) -> str:
    """Return a score to so many places; a very small one to so many digits: 0.000123."""
    is_small = 0 < abs(score) < 10 ** (1 - places)
    return f"{score:.{places}g}" if is_small else f"{score:.{places}f}"


def summarize_seeds(
    scores_by_seed: list[dict[str, float]],
) -> dict[str, dict[str, float | None]]:
    """Return mean, spread (standard deviation), lowest and highest of each score over the seeds.

    scores_by_seed: the scores of each seed. One seed has no spread: it is None.
    """
    summary = {}
    for name in scores_by_seed[0]:
        values = [scores[name] for scores in scores_by_seed]
        spread = statistics.stdev(values) if len(values) > 1 else None
        ends = {"lowest": min(values), "highest": max(values)}
        summary[name] = {"mean": statistics.fmean(values), "spread": spread, **ends}
    return summary
