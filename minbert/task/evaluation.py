"""The one prediction loop, and the scores that come from it."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from minbert.batch import Batch
from minbert.data.collate import collate
from minbert.data.encoded import EncodedSplit, limit_rows
from minbert.data.pairs import sentences_of
from minbert.data.sampler import length_sorted_batches
from minbert.metrics import accuracy
from minbert.task.task import Task
from minbert.training import distributed

CALIBRATION_ROWS = 2000  # training pairs that a siamese threshold is set on
TOKENS_PER_BATCH = 4096  # padded tokens: flat in memory whatever the split's size


@torch.no_grad()
def predict(
    forward: Callable[[Batch], Tensor],
    split: EncodedSplit,
    device: torch.device,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> Tensor:
    """forward's rows for the whole split, fp32 on the CPU, in its order. Caller sets eval().

    Several processes each take a share of the batches and get the whole result.
    """
    rows, outs = [], []
    for chosen in distributed.mine(length_sorted_batches(split.lengths, tokens_per_batch)):
        batch = collate(split, chosen).to(device)
        outs.append(forward(batch).float().cpu())
        rows += batch.rows
    shares = distributed.gathered((rows, outs))
    result = torch.cat([out for _, outs in shares for out in outs])
    order = torch.tensor([row for rows, _ in shares for row in rows])
    return torch.empty_like(result).index_copy_(0, order, result)


def predict_task(model: nn.Module, task: Task, split: EncodedSplit, device: torch.device) -> Tensor:
    """The task's outputs (n, task.outputs) for a split; pairs of a siamese task are compared."""
    model.eval()
    if model.heads[task.name].config.siamese:
        return siamese_outputs(model, task, split, device)
    return predict(lambda batch: model(task.name, batch), split, device)


@torch.no_grad()
def siamese_outputs(
    model: nn.Module, task: Task, split: EncodedSplit, device: torch.device
) -> Tensor:
    """(n, 1) scores of the pairs; every distinct sentence is encoded once."""
    model.eval()
    sentences, index = sentences_of(split)
    sides = 1 if model.second is None else 2
    towers = [
        predict(lambda batch, side=side: model.embed(task.name, batch, side), sentences, device)
        for side in range(sides)
    ]
    head = model.heads[task.name]
    return torch.cat(
        [
            head.compare(towers[0][part[:, 0]].to(device), towers[-1][part[:, 1]].to(device))
            for part in torch.from_numpy(index).split(4096)
        ]
    ).cpu()


def cosine_threshold(task: Task, head: nn.Module) -> float | None:
    """What a siamese task with yes or no for an answer compares its cosines with; else None."""
    if task.is_classification and head.config.siamese and not head.config.classifier:
        return float(head.threshold)
    return None


def calibrate(model: nn.Module, task: Task, split: EncodedSplit, device: torch.device) -> None:
    """Set the head's threshold to the best on some training pairs, if the answer is yes or no."""
    if not task.is_classification:
        return
    split = limit_rows(split, CALIBRATION_ROWS)
    head = model.heads[task.name]
    head.threshold.zero_()
    scores = siamese_outputs(model, task, split, device)[:, 0].numpy()
    head.threshold.fill_(best_threshold(scores, split.labels))


def best_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """The cut with the most right answers of `score > cut`: between two neighbours, or outside."""
    order = np.argsort(scores)
    scores, labels = scores[order].astype(np.float64), labels[order]
    below = np.concatenate([[0], np.cumsum(labels == 0)])  # right answers below the cut
    above = np.concatenate([[0], np.cumsum(labels[::-1] == 1)])[::-1]
    right = below + above
    ties = np.concatenate([[False], scores[1:] == scores[:-1], [False]])
    cut = int(np.where(ties, -1, right).argmax())
    edges = np.concatenate([[scores[0] - 1], scores, [scores[-1] + 1]])
    return float((edges[cut] + edges[cut + 1]) / 2)


def encode_features(
    encoder: nn.Module, splits: dict[str, EncodedSplit], device: torch.device
) -> dict[str, Tensor]:
    """Pooled outputs (n, D) of whole splits, without dropout: all a frozen encoder says."""
    encoder.eval()
    return {
        name: predict(lambda batch: encoder.encode_first(batch), split, device)
        for name, split in splits.items()
    }


def score_tasks(
    tasks: list[Task],
    model: nn.Module,
    splits: dict[str, EncodedSplit],
    device: torch.device,
    features: dict[str, Tensor] | None = None,
) -> dict[str, dict[str, float]]:
    """Every task's metrics over its whole split, never averaged over batches; the main one first.

    From ready features when the encoder is frozen.
    """
    model.eval()
    scores = {}
    for task in tasks:
        split = splits[task.name]
        if features is None:
            outputs = predict_task(model, task, split, device)
        else:
            with torch.no_grad():
                outputs = model.heads[task.name](features[task.name].to(device)).float().cpu()
        predictions = task.decode(outputs.numpy())
        scores[task.name] = {name: m(predictions, split.labels) for name, m in task.metrics.items()}
        head = model.heads[task.name]
        if not head.config.siamese:
            loss = task.loss(outputs, torch.from_numpy(split.labels))
            scores[task.name]["loss"] = float(loss)
        elif (threshold := cosine_threshold(task, head)) is not None:
            fixed = accuracy(outputs[:, 0].numpy() + threshold > 0.5, split.labels)
            scores[task.name] |= {"accuracy_at_0.5": fixed, "threshold": threshold}
    return scores
