"""Temperature scaling: one number per head, so that probabilities are right as often as they say.

Guo et al. (2017), On Calibration of Modern Neural Networks. n rows; m choices among K classes each,
as `choices` has them.
"""

from dataclasses import dataclass

import numpy as np

from minbert.model.heads import HeadConfig
from minbert.task.labels import multi_hot
from minbert.task.probabilities import choices, softmax, why_no_probabilities
from minbert.task.task import Task

ECE_BINS = 15  # of the expected calibration error, as in the paper's table 1
RANGE = (0.1, 10.0)  # of temperatures
DECIMALS = 4  # of a temperature: the last digits of outputs do not change it
FEWEST_ROWS = 5  # to fit a temperature on; each half of dev needs as many


@dataclass(frozen=True)
class Calibration:
    """A head's temperature, and what it brings on rows that it was not fitted on."""

    temperature: float  # fitted on all rows
    before: float  # expected calibration error of a half of the rows, mean of both halves
    after: float  # the same, by the temperature that was fitted on the other half
    row_temperatures: np.ndarray  # (n,) the temperature that was fitted on the half without the row

    def to_json(self) -> dict[str, float | int]:
        """Return its numbers by name."""
        errors = {"ece_before": self.before, "ece_after": self.after}
        return {"temperature": self.temperature, **errors, "bins": ECE_BINS}

    def __str__(self) -> str:
        return (
            f"expected calibration error {self.before:.4f}, {self.after:.4f} with a temperature "
            f"(fitted on the other half of dev; on all of it: {self.temperature:g})"
        )


def calibration_of(task: Task, outputs: np.ndarray, labels: np.ndarray) -> Calibration:
    """Fit a temperature to a head's outputs (n, task.outputs), whose labels (n,) are known.

    The task has probabilities. Its halves are drawn by a fixed seed.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    halves = order[::2], order[1::2]
    # else too few to fit on one half and measure on the other: the temperature stays 1
    is_enough = len(labels) >= 2 * FEWEST_ROWS

    def fitted_on(rows: np.ndarray) -> float:
        return fit_temperature(*choices_of(task, outputs, labels, rows)) if is_enough else 1.0

    row_temperatures, errors = np.ones(len(labels)), []
    for own, other in (halves, halves[::-1]):
        if len(own):
            temperature = row_temperatures[own] = fitted_on(other)
            logits, gold = choices_of(task, outputs, labels, own)
            errors.append([calibration_error(logits / t, gold) for t in (1.0, temperature)])
    before, after = np.mean(errors, axis=0).tolist()
    return Calibration(fitted_on(order), before, after, row_temperatures)


def calibration_if_any(
    task: Task, head: HeadConfig, outputs: np.ndarray, labels: np.ndarray
) -> Calibration | None:
    """Return `calibration_of`; None for outputs that give no probabilities."""
    return None if why_no_probabilities(task, head) else calibration_of(task, outputs, labels)


def choices_of(
    task: Task, outputs: np.ndarray, labels: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits (m, K) of these rows' choices and the class that is right in each, (m,)."""
    return choices(task, outputs[rows]), right_choices(task, labels[rows])


def right_choices(task: Task, labels: np.ndarray) -> np.ndarray:
    """Return the right class of each choice, (m,); multi-label: 1 for each label of the row."""
    if task.multi_label:
        return multi_hot(labels, task.outputs).reshape(-1)
    return labels.astype(np.int64)


def fit_temperature(logits: np.ndarray, gold: np.ndarray) -> float:
    """Return the temperature at which the right classes are likeliest, within RANGE.

    1 for rows without a mistake, which do not say how sure to be.
    """
    if bool((logits.argmax(1) == gold).all()):
        return 1.0
    from scipy.optimize import minimize_scalar  # slow to import

    def negative_log_likelihood(log_temperature: float) -> float:
        z = logits / np.exp(log_temperature)
        z = z - z.max(1, keepdims=True)
        return float(np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(len(gold)), gold]))

    options = {"bounds": np.log(RANGE), "method": "bounded", "options": {"xatol": 1e-6}}
    found = minimize_scalar(negative_log_likelihood, **options)  # it is convex in 1 / temperature
    return round(float(np.exp(found.x)), DECIMALS)


def calibration_error(logits: np.ndarray, gold: np.ndarray) -> float:
    """Return the expected calibration error of choices (m, K), the paper's equation 3.

    It is the mean of |accuracy - confidence| over ECE_BINS equal bins of the confidence, each
    weighted by its choices. The confidence is the probability of the predicted class.
    """
    p = softmax(logits)
    confidence, right = p.max(1), p.argmax(1) == gold
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    return float(np.abs(np.bincount(bins, weights=right - confidence)).sum() / len(gold))
