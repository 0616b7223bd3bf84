"""A head's outputs as probabilities of classes. n rows, C classes or labels."""

import numpy as np

from minbert.model.heads import HeadConfig
from minbert.task.task import Task


def why_no_probabilities(task: Task, head: HeadConfig) -> str:
    """Return why a task's outputs give no probabilities; "" if they do."""
    if task.is_regression:
        return f"{task.title} has scores, not classes: no probabilities"
    if task.per_word:
        return f"{task.title} labels words: no probabilities"
    if head.siamese and not head.classifier:
        return f"{task.title} compares sentences by their cosine: no probabilities"
    return ""


def choices(task: Task, outputs: np.ndarray) -> np.ndarray:
    """Return logits (m, K) of the choices that outputs (n, task.outputs) stand for, in fp64.

    With several outputs of which one is right, a row is one choice among them. A single output, and
    each output of a multi-label task, is a choice between no, with the logit 0, and yes: then m is
    n times the outputs.
    """
    logits = outputs.astype(np.float64)
    if task.outputs > 1 and not task.multi_label:
        return logits
    yes = logits.reshape(-1)
    return np.stack([np.zeros_like(yes), yes], axis=1)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return exp(z) / sum exp(z) over the last axis."""
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


def class_probabilities(
    task: Task, outputs: np.ndarray, temperature: float | np.ndarray = 1.0
) -> np.ndarray:
    """Return the probability of each class, (n, C), from a head's outputs (n, task.outputs).

    Of several labels each has a probability by itself. temperature: what the outputs are divided
    by, or (n, 1) of each row's.
    """
    p = softmax(choices(task, outputs / temperature))
    return p[:, 1].reshape(outputs.shape) if task.multi_label else p
