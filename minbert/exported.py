"""A written model.onnx: run over packed batches, compared with what it was made of.

S sequences, T tokens with padding, I rows or words that have an output, D hidden, E size of the
embeddings.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from minbert.batch import Batch
from minbert.data.encoded import EncodedSplit
from minbert.data.items import by_row, gold_of
from minbert.model.multitask import MultitaskNetwork
from minbert.task.evaluation import compute_outputs, cosine_threshold, task_outputs
from minbert.task.task import Task


class ExportedModel(nn.Module):
    """A model.onnx in the place of the network it was made of: `model(task, batch)`, `embed`."""

    device = torch.device("cpu")

    def __init__(self, path: Path, network: MultitaskNetwork) -> None:
        super().__init__()
        from onnxruntime import InferenceSession

        self.session = InferenceSession(path)
        self.heads, self.second_tower = network.heads, None

    def forward(self, task: str, batch: Batch) -> Tensor:
        """Return a task's logits, (I, outputs): of sequences, or of words."""
        outputs = self.outputs(batch)
        if batch.word_starts is None:
            return outputs
        rows = zip(outputs, batch.lengths, strict=True)  # (T, outputs) each
        return torch.cat([row[:length] for row, length in rows])[batch.word_starts]

    def embed(self, task: str, batch: Batch, side: int = 0) -> Tensor:
        """Return a siamese task's embeddings of sentences, (S, E)."""
        return self.outputs(batch)

    def outputs(self, batch: Batch) -> Tensor:
        """Return the file's last output for each sequence: of an encoder alone the pooled one.

        (S, outputs), (S, E), (S, D) or, if words are labelled, (S, T, outputs).
        """
        lengths = list(batch.lengths)
        columns = {
            "input_ids": batch.ids.split(lengths),
            "attention_mask": torch.ones_like(batch.ids).split(lengths),
            "token_type_ids": batch.segments.split(lengths),
        }
        padded = {n: pad_sequence(x, batch_first=True).numpy() for n, x in columns.items()}
        names = (one.name for one in self.session.get_inputs())
        return torch.from_numpy(self.session.run(None, {n: padded[n] for n in names})[-1])


def agreement(network: MultitaskNetwork, task: Task, split: EncodedSplit, path: Path) -> str:
    """Return how near a task's model.onnx comes to the network in fp32 on the rows of a split."""
    exported = ExportedModel(path, network)
    what = f"{task.title}: dev"
    ours, theirs = (task_outputs(model, task, split, what).numpy() for model in (network, exported))
    apart, metric = np.abs(ours - theirs), task.metrics[task.main_metric]
    predicted, then = (task.decode(by_row(split, outputs)) for outputs in (ours, theirs))
    before, after = (metric(predictions, gold_of(split)) for predictions in (predicted, then))
    is_cosine = cosine_threshold(task, network.heads[task.name]) is not None
    kind = "scores" if task.is_regression else "cosines" if is_cosine else "logits"
    # words that are cut off have NaN
    parts = [f"{kind} differ by {np.nanmean(apart):.4f}, at most {np.nanmax(apart):.4f}"]
    if task.is_classification:
        same = np.mean(np.hstack(list(predicted)) == np.hstack(list(then)))
        parts.append(f"{same:.2%} of the predictions are the same")
    shown = ("not defined" if np.isnan(score) else f"{score:.4f}" for score in (before, after))
    parts.append("{} {} before, {} after".format(task.main_metric, *shown))
    return f"{task.title}, {len(split):,} rows of dev: {', '.join(parts)}"


def encoder_agreement(network: MultitaskNetwork, split: EncodedSplit, path: Path) -> str:
    """Return how near an encoder's model.onnx comes to the encoder in fp32 on a split's rows."""
    exported, device = ExportedModel(path, network), torch.device("cpu")
    u, v = (
        compute_outputs(f, split, device, "dev texts")
        for f in (network.encoder.pooled_output, exported.outputs)
    )
    cosines = torch.cosine_similarity(u, v)
    return (
        f"pooled outputs of {len(split):,} texts of dev: cosine {cosines.mean():.4f} to those "
        f"before, at least {cosines.min():.4f}"
    )
