"""The prediction loop that all evaluation uses, and scores of its predictions.

R rows of a split, P sequences (of a long text's windows there are several), I items (rows or, if
words are labelled, words), C outputs of a head.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from minbert.batch import Batch
from minbert.data.collate import collate
from minbert.data.encoded import EncodedSplit, Splits, limit_rows, one_row_per_sequence
from minbert.data.items import by_row, gold_of, item_labels, visible_items
from minbert.data.pairs import sides_of
from minbert.data.sampler import length_sorted_batches
from minbert.metrics import accuracy
from minbert.model.heads import Head, SiameseHead, siamese_part
from minbert.model.multitask import MultitaskNetwork
from minbert.progress import progress
from minbert.task.task import Task
from minbert.training import distributed

THRESHOLD_ROWS = 2000  # training pairs that a siamese threshold is set on
LOWEST = -1.0  # no main metric is lower
AT_HALF = "accuracy_at_0.5"  # of siamese pairs: yes for a cosine above it; the paper names none
WHY_UNDEFINED = "all predictions or all labels are equal"


@torch.no_grad()
def compute_outputs(
    forward: Callable[[Batch], Tensor], split: EncodedSplit, device: torch.device, what: str = ""
) -> Tensor:
    """Compute forward's outputs for all items of a split, in its order: (I, ...) fp32 on the CPU.

    Words that were cut off get NaN. The caller sets eval(). Every process computes a shard of the
    batches and gets all results. what: the name of a progress bar over the sequences; "": none.
    """
    items, outs = [], []
    sequences = one_row_per_sequence(split)
    batches = distributed.shard(length_sorted_batches(split.lengths))
    for chosen in progress(batches, what, size=len):
        batch = collate(sequences, chosen).to(device)
        outs.append(forward(batch).float().cpu())
        items += batch.items
    gathered = distributed.all_gather((items, outs))
    result = torch.cat([out for _, outs in gathered for out in outs])
    places = [i for items, _ in gathered for i in items]
    order = torch.tensor(places, dtype=torch.int64, device="cpu")
    outputs = result.new_full((len(item_labels(sequences)), *result.shape[1:]), math.nan)
    outputs.index_copy_(0, order, result)
    return mean_by_row(outputs, split.owners) if len(split.owners) else outputs


def mean_by_row(outputs: Tensor, owners: np.ndarray) -> Tensor:
    """Return the mean output of each row's sequences, (P, C) -> (R, C); owners (P,): their rows.

    Logits are averaged, not probabilities: heads are linear, so that this is the head's output on
    the mean of the pooled vectors, whether these are kept (a frozen encoder) or not; and a sequence
    that says little, with logits near 0, weighs little.
    """
    index, counts = torch.from_numpy(owners).long(), torch.from_numpy(np.bincount(owners))
    total = outputs.new_zeros(len(counts), outputs.shape[1]).index_add_(0, index, outputs)
    return total / counts[:, None]


def task_outputs(model: nn.Module, task: Task, split: EncodedSplit, what: str = "") -> Tensor:
    """Compute a task's logits, or the scores of siamese pairs: (I, task.outputs).

    A task that reads pairs both ways gets the mean of the two. `task.decode` makes predictions.
    model: a MultitaskNetwork, or an ExportedModel (minbert/exported.py) in its place.
    """
    model.eval()
    config = model.heads[task.name].config
    if config.siamese:
        return siamese_outputs(model, task, split, what)
    outputs = compute_outputs(lambda batch: model(task.name, batch), split, model.device, what)
    if config.both:
        return (outputs + siamese_outputs(model, task, split, what)) / 2
    return outputs


def outputs_by_row(model: nn.Module, task: Task, split: EncodedSplit, what: str) -> np.ndarray:
    """Return `task_outputs`'s outputs by row: (R, C), or R arrays (words, C)."""
    return by_row(split, task_outputs(model, task, split, what).numpy())


def above_half(outputs: np.ndarray, threshold: float) -> np.ndarray:
    """Return whether the cosines of pairs are above 0.5, (R,) bool; the paper names no threshold.

    outputs: (R, 1), the cosines less the threshold.
    """
    return outputs[:, 0] + threshold > 0.5


@torch.no_grad()
def siamese_outputs(model: nn.Module, task: Task, split: EncodedSplit, what: str = "") -> Tensor:
    """Return the scores of a split's pairs, (R, 1); a tower encodes each of its sentences once."""
    model.eval()
    device = model.device
    read, index = sides_of(split, towers=1 if model.second_tower is None else 2)
    embedded = [
        compute_outputs(partial(model.embed, task.name, side=side), sentences, device, what)
        for side, sentences in enumerate(read)
    ]
    head = siamese_part(model.heads[task.name])
    return torch.cat(
        [
            head.compare(embedded[0][part[:, 0]].to(device), embedded[-1][part[:, 1]].to(device))
            for part in torch.from_numpy(index).split(4096)
        ]
    ).cpu()


def cosine_threshold(task: Task, head: Head | SiameseHead) -> float | None:
    """Return the threshold above which a cosine means class 1; None for a task without one.

    Only siamese tasks of two classes have it, if their head is not a classifier.
    """
    if task.is_classification and head.config.siamese and not head.config.classifier:
        return float(head.threshold)
    return None


def set_threshold(model: MultitaskNetwork, task: Task, split: EncodedSplit) -> None:
    """Set the threshold of a siamese head to the best one on some of its training pairs.

    Heads without one are left alone: of scores, and of pairs that are read both ways. A classifier
    has 0, where its probability is one half.
    """
    head = model.heads[task.name]
    if head.config.siamese:
        head.threshold.zero_()  # a classifier of an older run may have another
    if cosine_threshold(task, head) is None:
        return
    split = limit_rows(split, THRESHOLD_ROWS)
    scores = siamese_outputs(model, task, split, f"{task.title}: threshold")[:, 0].numpy()
    head.threshold.fill_(best_threshold(scores, split.labels))


def best_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the threshold with the most correct predictions of label 1 for `score > threshold`.

    It lies midway between two scores, in fp32 as they are; labels are 0 or 1.
    """
    order = np.argsort(scores)
    scores, labels = scores[order].astype(np.float64), labels[order]
    # for each of the n + 1 places of a cut: the correct answers below it, and those above it
    below = np.concatenate([[0], np.cumsum(labels == 0)])
    above = np.concatenate([[0], np.cumsum(labels[::-1] == 1)])[::-1]
    ties = np.concatenate([[False], scores[1:] == scores[:-1], [False]])  # equal scores: no cut
    cut = int(np.where(ties, -1, below + above).argmax())
    edges = np.concatenate([[scores[0] - 1], scores, [scores[-1] + 1]])
    lower, upper = edges[cut : cut + 2]
    middle = np.float32((lower + upper) / 2)
    return float(lower if middle == upper else middle)  # of neighbours it may round to the upper


def encode_features(model: MultitaskNetwork, splits: Splits) -> dict[str, Tensor]:
    """Return what a frozen model's heads read of each task's split, (I, D), without dropout."""
    model.eval()
    return {
        name: compute_outputs(
            partial(model.head_input, name), split, model.device, f"{name}: features"
        )
        for name, split in splits.items()
    }


def score_tasks(
    model: MultitaskNetwork,
    tasks: list[Task],
    splits: Splits,
    features: dict[str, Tensor] | None = None,
) -> dict[str, dict[str, float]]:
    """Return every task's metrics over its whole split, the main one first.

    Beside them is the dev loss or, of a siamese task of two classes, its accuracy at a cosine of
    0.5 and its threshold. No metric is averaged over batches. features: what the heads of a frozen
    encoder read, which is then not run.
    """
    model.eval()
    scores = {}
    for task in tasks:
        split = splits[task.name]
        if features is None:
            outputs = task_outputs(model, task, split, f"{task.title}: dev")
        else:
            with torch.no_grad():
                outputs = model.heads[task.name](features[task.name].to(model.device)).float().cpu()
        predictions, gold = task.decode(by_row(split, outputs.numpy())), gold_of(split)
        scores[task.name] = {name: m(predictions, gold) for name, m in task.metrics.items()}
        head = model.heads[task.name]
        if not head.config.siamese:
            items = visible_items(split)
            if len(items):  # none if all words are cut off, or are no piece of the vocabulary
                loss = task.loss(outputs[items], torch.from_numpy(item_labels(split)[items]))
                scores[task.name]["loss"] = float(loss)
        elif (threshold := cosine_threshold(task, head)) is not None:
            fixed = accuracy(above_half(outputs.numpy(), threshold), split.labels)
            scores[task.name] |= {AT_HALF: fixed, "threshold": threshold}
    return scores


def defined_or(scores: dict[str, float], value: float) -> dict[str, float]:
    """Return scores by name, with a value in place of those that are not defined."""
    return {name: value if math.isnan(score) else score for name, score in scores.items()}


def describe_undefined(scores: dict[str, dict[str, float]]) -> dict[str, str]:
    """Return a sentence for each task with metrics that are not defined, by task."""
    sentences = {}
    for name, metrics in scores.items():
        undefined = [metric for metric, value in metrics.items() if math.isnan(value)]
        if undefined:
            what = " and ".join(undefined)
            sentences[name] = f"{name}: {what} not defined ({WHY_UNDEFINED}): counted as 0"
    return sentences
