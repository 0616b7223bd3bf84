"""The one prediction loop, and the scores that come from it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

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
    """forward's rows for the whole split, fp32 on the CPU, in the split's order. The caller sets eval()."""
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
