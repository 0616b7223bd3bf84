"""Sentence-BERT on the pair tasks (paper, section 3.2): the losses by name, scores, thresholds."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from minbert import losses
from minbert.batch import to_device
from minbert.data.encoded import EncodedSplit
from minbert.data.pairs import (
    collate_sentences,
    paraphrase_groups,
    sentences_of,
    without_repeats,
)
from minbert.errors import UserError
from minbert.model.heads import HeadConfig
from minbert.task.task import Task

COSINE, CLASSIFIER = ("cosine-mse", "contrastive", "cosent"), "softmax"
IN_BATCH = ("mnr", "mnr-full", "simcse")  # a batch's other sentences are the negatives
WHOLE_BATCH = (*IN_BATCH, "cosent")  # no mean over rows: parts of a batch do not add up to it
PAIR_LOSSES = (*COSINE, CLASSIFIER, *IN_BATCH)
CUSTOMARY_SCALE = 20.0


def check_pair_loss(task: Task, name: str) -> None:
    """Raise UserError for a loss that makes no sense for the task's labels."""
    if name not in PAIR_LOSSES:
        raise UserError(f"--pair-loss {name}: write one of {', '.join(PAIR_LOSSES)}")
    if not task.is_pair:
        raise UserError(f"{task.name} has single sentences: siamese options are for pair tasks")
    if task.outputs != 1:
        raise UserError(
            f"{task.name} has {task.outputs} classes: siamese pairs have two, or scores"
        )
    if name in (CLASSIFIER, "mnr", "mnr-full") and not task.is_classification:
        raise UserError(f"--pair-loss {name} needs labels 0 and 1; {task.name} has scores")


def head_config(task: Task, loss: str | None, pooling: str, embedding_size: int) -> HeadConfig:
    """Describe a task's head; with a pair loss a siamese one, its cosine in the labels' range."""
    if loss is None:
        names = task.class_names or task.display_names
        return HeadConfig(task.outputs, class_names=names, problem_type=task.problem_type)
    return HeadConfig(
        outputs=1,
        siamese=True,
        pooling=pooling,
        embedding_size=embedding_size,
        classifier=loss == CLASSIFIER,
        scale=task.max_score,
    )


@dataclass(frozen=True)
class PairData:
    """A training set of R pairs as U distinct sentences."""

    sentences: EncodedSplit
    index: np.ndarray  # (R, 2) numbers of the sentences
    groups: np.ndarray  # (R, 2) their groups of paraphrases
    labels: np.ndarray  # (R,)

    @classmethod
    def of(cls, task: Task, split: EncodedSplit, loss: str) -> "PairData":
        """Raise UserError when an in-batch loss finds too few l = 1 pairs to learn from."""
        if loss in ("mnr", "mnr-full") and int((split.labels == 1).sum()) < 2:
            raise UserError(f"{task.name}: --pair-loss {loss} needs two pairs with label 1 or more")
        sentences, index = sentences_of(split)
        return cls(sentences, index, paraphrase_groups(index, split.labels), split.labels)


def siamese_loss(
    model: nn.Module, task: Task, pairs: PairData, rows: np.ndarray, name: str, scale: float
) -> Tensor | None:
    """Return the loss of these rows; None: an in-batch loss without two pairs to tell apart.

    scale: mnr's; 0: the paper's 1, or 20 where that is customary.
    """
    device, head = model.encoder.device, model.heads[task.name]
    if name in IN_BATCH:
        rows = without_repeats(rows, pairs.index)
    labels = torch.from_numpy(pairs.labels[rows])
    if name in ("mnr", "mnr-full") and int((labels == 1).sum()) < 2:
        return None
    labels = to_device(labels, device)
    u, v = embed_pairs(model, task, pairs, rows, twice=name == "simcse")
    if name == "simcse":
        return losses.simcse(u, v, scale or CUSTOMARY_SCALE)
    if name == "mnr":
        return losses.mnr(u, v, labels, scale or 1.0)
    if name == "mnr-full":
        groups = to_device(torch.from_numpy(pairs.groups[rows]), device)
        return losses.mnr_full(u, v, labels, groups, scale or CUSTOMARY_SCALE)
    if name == CLASSIFIER:
        logits = head.compare(u, v) + head.threshold  # which is for answers, not for training
        return losses.binary_cross_entropy(logits, labels)
    if name == "cosine-mse":
        return losses.cosine_mse(u, v, labels, head.config.scale)
    loss = {"contrastive": losses.contrastive, "cosent": losses.cosent}[name]
    return loss(u, v, labels / head.config.scale)


def embed_pairs(
    model: nn.Module, task: Task, pairs: PairData, rows: np.ndarray, twice: bool
) -> tuple[Tensor, Tensor]:
    """Return u and v, (S, E) each, all sentences in ONE forward through the shared encoder.

    Separate towers: one forward each. twice: every sentence against itself under other dropout.
    """
    device = model.encoder.device

    def embed(numbers: np.ndarray, side: int) -> Tensor:
        batch, places = collate_sentences(pairs.sentences, numbers)
        return model.embed(task.name, batch.to(device), side)[to_device(places, device)]

    index = pairs.index[rows]
    both = np.unique(index) if twice else index.T.reshape(-1)
    if twice:
        return embed(both, 0), embed(both, 1)
    if model.second_tower is not None:
        return embed(index[:, 0], 0), embed(index[:, 1], 1)
    u, v = embed(both, 0).chunk(2)
    return u, v
