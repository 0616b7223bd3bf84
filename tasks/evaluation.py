"""The one prediction loop, and the scores that come from it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from minbert.batch import Batch
from minbert.data.collate import collate
from minbert.data.encoded import EncodedSplit
from minbert.data.sampler import length_sorted_batches
from tasks.base import Task

TOKENS_PER_BATCH = 4096  # padded tokens: flat in memory whatever the split's size


@dataclass(frozen=True)
class Scores:
    """One task's results on one split."""

    metrics: dict[str, float]
    loss: float
    predictions: np.ndarray  # (n,)
    outputs: np.ndarray  # (n, outputs), logits

    @property
    def main(self) -> float:
        return next(iter(self.metrics.values()))


@torch.no_grad()
def predict(
    forward: Callable[[Batch], Tensor],
    split: EncodedSplit,
    device: torch.device,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> Tensor:
    """forward's rows for the whole split, fp32 on the CPU, in the split's order. The caller sets
    eval().
    """
    result: Tensor | None = None
    for rows in length_sorted_batches(split.lengths, tokens_per_batch):
        batch = collate(split, rows).to(device)
        out = forward(batch).float().cpu()
        if result is None:
            result = out.new_empty(len(split), out.shape[1])
        result[torch.tensor(batch.rows)] = out
    assert result is not None, "a split has at least one row"
    return result


def score_outputs(task: Task, outputs: Tensor, labels: np.ndarray) -> Scores:
    """Metrics over the whole split at once, never averaged over batches."""
    predictions = task.decode(outputs.numpy())
    return Scores(
        metrics={name: metric(predictions, labels) for name, metric in task.metrics.items()},
        loss=float(task.loss(outputs, torch.from_numpy(labels))),
        predictions=predictions,
        outputs=outputs.numpy(),
    )


def predict_task(model: nn.Module, task: Task, split: EncodedSplit, device: torch.device) -> Tensor:
    """The task's head outputs (n, outputs) for a split, by a model that takes (task name,
    batch).
    """
    model.eval()
    return predict(lambda batch: model(task.name, batch), split, device)


def encode_features(
    encoder: nn.Module, splits: dict[str, EncodedSplit], device: torch.device
) -> dict[str, Tensor]:
    """Pooled outputs (n, D) of whole splits, without dropout: all that a frozen encoder has to
    say.
    """
    encoder.eval()
    return {
        name: predict(lambda batch: encoder.encode(batch)[1], split, device)
        for name, split in splits.items()
    }


def score_tasks(
    tasks: list[Task],
    model: nn.Module,
    splits: dict[str, EncodedSplit],
    device: torch.device,
    features: dict[str, Tensor] | None = None,
) -> dict[str, Scores]:
    """Every task's scores on its split; from ready features when the encoder is frozen."""
    model.eval()
    scores = {}
    for task in tasks:
        split = splits[task.name]
        if features is None:
            outputs = predict_task(model, task, split, device)
        else:
            with torch.no_grad():
                outputs = model.heads[task.name](features[task.name].to(device)).float().cpu()
        scores[task.name] = score_outputs(task, outputs, split.labels)
    return scores
