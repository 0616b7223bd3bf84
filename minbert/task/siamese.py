"""Sentence-BERT on the pair tasks (paper, section 3.2): pairs and losses by name."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

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
from minbert.model.heads import siamese_part
from minbert.model.multitask import MultitaskNetwork
from minbert.task.task import Task

# A pair is read by a cross-encoder (one sequence), a bi-encoder (each sentence alone), or by both.
CROSS, SIAMESE, BOTH = "cross", "siamese", "both"
ENCODINGS = (CROSS, SIAMESE, BOTH)
COSINE = ("cosine-mse", "contrastive", "cosent")  # losses of the cosine of a pair
# Sentence-BERT's classifier of (u, v, |u - v|). For two classes its softmax is one logit's sigmoid.
CLASSIFIER = "softmax"
IN_BATCH = ("mnr", "mnr-full", "simcse")  # the other sentences of a batch are the negatives
# Losses that are not a mean over rows: the losses of a batch's parts do not add up to its own.
WHOLE_BATCH = (*IN_BATCH, "cosent")
PAIR_LOSSES = (*COSINE, CLASSIFIER, *IN_BATCH)


def check_pair_loss(task: Task, name: str, encoding: str, said: str) -> None:
    """Raise UserError for a loss that is unknown or does not fit the task's labels or encoding.

    said: how it was chosen, for messages.
    """
    if name not in PAIR_LOSSES:
        raise UserError(f"{said}: write one of {', '.join(PAIR_LOSSES)}")
    if "class_weight" in task.table:
        raise UserError(f"{task.name} has class_weight, which no siamese loss has: take it out")
    if task.outputs != 1:
        raise UserError(
            f"{task.name} has {task.outputs} classes: siamese pairs have two, or scores"
        )
    if encoding == BOTH and name != default_pair_loss(task, BOTH):
        raise UserError(
            f"{said}: its score is not on the scale of a head's, and pairs read both "
            f"ways have the mean of the two; for {task.name} write {default_pair_loss(task, BOTH)}"
        )
    if name in (CLASSIFIER, "mnr", "mnr-full") and not task.is_classification:
        raise UserError(f"{said} needs labels 0 and 1; {task.name} has scores")


def default_pair_loss(task: Task, encoding: str) -> str:
    """Return the loss of siamese pairs if none is named."""
    if task.is_regression:
        return "cosine-mse"
    return CLASSIFIER if encoding == BOTH else "contrastive"


def describe_pairs(task: Task, loss: str) -> str:
    """Return a line that names the class whose pairs are to get high cosines, the second one.

    "" for scores, and for a loss without cosines.
    """
    if task.is_regression or loss == CLASSIFIER:
        return ""
    low, high = task.display_classes
    return f"{task.name}: cosines of pairs labelled {high} are to be high, of {low} low"


@dataclass(frozen=True)
class PairData:
    """A training set of R pairs as U distinct sentences."""

    sentences: EncodedSplit
    index: np.ndarray  # (R, 2) numbers of the sentences
    groups: np.ndarray | None  # (R, 2) numbers of their groups of paraphrases; for mnr-full alone
    labels: np.ndarray  # (R,)

    @classmethod
    def of(cls, task: Task, split: EncodedSplit, loss: str) -> "PairData":
        """Make it from a split whose rows are two sentences each.

        Raises UserError if mnr or mnr-full finds fewer than two pairs with label 1 in all rows.
        """
        if loss in ("mnr", "mnr-full") and int((split.labels == 1).sum()) < 2:
            raise UserError(f"{task.name}: {loss} needs at least two pairs with label 1")
        sentences, index = sentences_of(split)
        groups = paraphrase_groups(index, split.labels) if loss == "mnr-full" else None
        return cls(sentences, index, groups, split.labels)


def siamese_loss(
    model: MultitaskNetwork, task: Task, pairs: PairData, rows: np.ndarray, name: str,
    mnr_scale: float,
) -> Tensor | None:  # fmt: skip
    """Return the loss `name` of these rows; None if mnr has fewer than two pairs to rank.

    mnr_scale: of the cosines in in-batch losses; 0: the paper's 1 for mnr, 20 for the others.
    """
    device, head = model.encoder.device, siamese_part(model.heads[task.name])
    if name == "mnr":  # which reads pairs with label 1 alone, no two with a sentence in common
        rows = without_repeats(rows[pairs.labels[rows] == 1], pairs.index)
        if len(rows) < 2:
            return None
    labels = to_device(torch.from_numpy(pairs.labels[rows]), device)
    u, v = embed_pairs(model, task, pairs, rows, twice=name == "simcse")
    if name == "simcse":
        return losses.simcse(u, v, mnr_scale or losses.SCALE)
    if name == "mnr":
        return losses.mnr(u, v, mnr_scale or 1.0)
    if name == "mnr-full":
        # ranking has only the other rows as negatives: the two sentences of a pair with label 0,
        # which look alike and are the hard case, are told apart by this term alone
        contrast = losses.contrastive(u, v, labels)
        if not (ranked := ranked_rows(pairs, rows)).size:
            return contrast
        places = to_device(torch.from_numpy(ranked), device)
        groups = to_device(torch.from_numpy(pairs.groups[rows[ranked]]), device)
        u, v, labels = (x.index_select(0, places) for x in (u, v, labels))
        return contrast + losses.mnr_full(u, v, labels, groups, mnr_scale or losses.SCALE)
    if name == CLASSIFIER:
        return losses.binary_cross_entropy(head.score(u, v), labels)
    labels, scale = labels - head.config.shift, head.config.scale  # now from 0 to scale
    if name == "cosine-mse":
        unit = head.config.unit  # of scores a fifth of the range, as the paper's 0 to 5; else 1
        return losses.cosine_mse(u, v, labels / unit, scale / unit)
    loss = {"contrastive": losses.contrastive, "cosent": losses.cosent}[name]
    return loss(u, v, labels / scale)


def ranked_rows(pairs: PairData, rows: np.ndarray) -> np.ndarray:
    """Return the places in the batch of the rows that mnr-full ranks; [] if no row has label 1.

    Of rows that share a sentence only one is ranked, if possible one with label 1.
    """
    is_other = pairs.labels[rows] != 1
    order = np.argsort(is_other, kind="stable")
    return order[:0] if is_other.all() else without_repeats(order, pairs.index[rows])


def embed_pairs(
    model: MultitaskNetwork, task: Task, pairs: PairData, rows: np.ndarray, twice: bool
) -> tuple[Tensor, Tensor]:
    """Return the pairs' embeddings u and v, (S, E) each, by one forward of all their sentences.

    Separate towers have a forward each. twice: u and v are two embeddings of every distinct
    sentence, from two forwards with different dropout masks; of separate towers each makes one.
    """
    device = model.encoder.device

    def embed(numbers: np.ndarray, side: int) -> Tensor:
        batch, places = collate_sentences(pairs.sentences, numbers)
        # index_select adds up the gradients of a sentence that occurs twice in a fixed order
        return model.embed(task.name, batch.to(device), side).index_select(
            0, to_device(places, device)
        )

    index = pairs.index[rows]
    if twice:
        distinct = np.unique(index)
        return embed(distinct, 0), embed(distinct, 1)
    if model.second_tower is not None:
        return embed(index[:, 0], 0), embed(index[:, 1], 1)
    u, v = embed(index.T.reshape(-1), 0).chunk(2)
    return u, v
