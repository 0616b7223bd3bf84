"""Losses as pure functions of outputs or embeddings and, mostly, labels: a number in fp32.

S sequences, pairs or words, C classes, E size of an embedding.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

EXCLUDED = -torch.inf  # a score whose exp is 0
IGNORED = -100  # a target that cross-entropy leaves out of its mean
SCALE = 20.0  # of cosines in mnr_full, simcse and cosent, as in sentence-transformers; mnr has 1


def cross_entropy(outputs: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean of -w log softmax(outputs)[label]; outputs (S, C), labels (S,) in 0..C-1.

    weights (C,): w by label; None: 1.
    """
    if weights is None:
        return F.cross_entropy(outputs.float(), labels.long())
    each = F.cross_entropy(outputs.float(), labels.long(), reduction="none")
    return (weights_of_rows(weights, labels) * each).mean()


def binary_cross_entropy(outputs: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean of w (-l log s - (1-l) log(1-s)) with s = sigmoid(output).

    outputs (S, 1), labels (S,) 0 or 1; weights (2,): w by label; None: 1.
    """
    w = None if weights is None else weights_of_rows(weights, labels)
    return F.binary_cross_entropy_with_logits(outputs.float().squeeze(-1), labels.float(), w)


def multi_label(outputs: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean over classes of binary_cross_entropy.

    outputs (S, C), labels (S,): a row's set of classes as the sum of 2^class; weights (2, C): w of
    a class that is absent, and of one that is present.
    """
    present = multi_hot(labels, outputs.shape[1])
    w = None if weights is None else weights_of_sets(weights, present)
    return F.binary_cross_entropy_with_logits(outputs.float(), present, w)


def multi_hot(labels: Tensor, classes: int) -> Tensor:
    """Return 1.0 for each class of a set, else 0.0: (S,) sums of 2^class -> (S, C)."""
    bits = 2 ** torch.arange(classes, device=labels.device)
    return (labels.long()[:, None] // bits % 2).float()


def weights_of_rows(weights: Tensor, labels: Tensor) -> Tensor:
    """Return each row's weight by its label, (C,) and (S,) -> (S,)."""
    return weights.to(labels.device)[labels.long()]


def weights_of_sets(weights: Tensor, present: Tensor) -> Tensor:
    """Return each class's weight in each row, (2, C) and (S, C) of 0 and 1 -> (S, C)."""
    of_absent, of_present = weights.to(present.device)
    return torch.where(present > 0, of_present, of_absent)


def mean_squared_error(outputs: Tensor, labels: Tensor, unit: float = 1.0) -> Tensor:
    """Return the mean of ((output - label) / unit)^2; outputs (S, 1), labels (S,) floats."""
    return F.mse_loss(outputs.float().squeeze(-1) / unit, labels.float() / unit)


# Losses of S pairs: u and v, (S, E), are the embeddings of their sentences; l, (S,), their labels.


def cosine(u: Tensor, v: Tensor) -> Tensor:
    """Return u . v / (|u| |v|) of each row, (S, E), (S, E) -> (S,), in fp32 at least."""
    return (normalized(u) * normalized(v)).sum(-1)


def normalized(x: Tensor) -> Tensor:
    """Return the rows of x scaled to length 1, in fp32 at least.

    A row shorter than eps is divided by eps instead. eps is that of PyTorch's cosine_similarity, so
    that the gradient of a zero row is the same, too.
    """
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1, eps=1e-8)


def cosine_mse(u: Tensor, v: Tensor, labels: Tensor, scale: float = 5.0) -> Tensor:
    """Return the mean of (l - scale cos(u, v))^2, labels in 0..scale.

    Sentence-BERT's regression objective (Reimers and Gurevych, 2019, section 3; paper, section
    3.2.1).
    """
    return F.mse_loss(scale * cosine(u, v), labels.float())


def contrastive(u: Tensor, v: Tensor, labels: Tensor, margin: float = 0.5) -> Tensor:
    """Return the mean of l D + (1-l) max(0, margin - D) with D = 1 - cos(u, v).

    Labels in 0..1. Linear in D and with margin 0.5 as in the paper (section 3.2.1); Hadsell et al.
    (2006) square both terms.
    """
    distance = 1 - cosine(u, v)
    return (labels * distance + (1 - labels) * F.relu(margin - distance)).mean()


def mnr(u: Tensor, v: Tensor, scale: float = 1.0) -> Tensor:
    """Return the mean of -cos(u_i, v_i) + log sum_j exp cos(u_i, v_j), cosines times scale.

    u, v: of pairs with label 1 alone, two or more; the v of the others are the negatives of u_i
    (multiple negatives ranking, Henderson et al., 2017). With scale 1 it is the paper's (section
    3.2.1).
    """
    scores = scale * normalized(u) @ normalized(v).T  # (S, S)
    return F.cross_entropy(scores, torch.arange(len(u), device=u.device))


def mnr_full(u: Tensor, v: Tensor, labels: Tensor, groups: Tensor, scale: float = SCALE) -> Tensor:
    """Return the mean of mnr from u to v and from v to u, with the negatives that mnr leaves out.

    The sentences of l = 0 pairs are negatives too. labels (S,): 0 or 1. groups (S, 2): the
    paraphrase group of each sentence; no two of one group are negatives of each other.
    """
    scores = scale * normalized(u) @ normalized(v).T  # (S, S)
    same = groups[:, :1] == groups[:, 1][None, :]
    is_pair = torch.eye(len(u), dtype=torch.bool, device=u.device)
    scores = scores.masked_fill(same & ~is_pair, EXCLUDED)
    # row i's target is i if l_i = 1; selecting those rows instead would wait for the GPU
    targets = torch.arange(len(u), device=u.device).masked_fill(labels != 1, IGNORED)
    forth = F.cross_entropy(scores, targets)
    # the u of an l = 0 pair is a negative of every v of an l = 1 pair
    back = F.cross_entropy(scores.T, targets)
    return (forth + back) / 2


def cosent(u: Tensor, v: Tensor, labels: Tensor, scale: float = SCALE) -> Tensor:
    """Return log(1 + sum over l_i > l_j of exp(scale (cos_j - cos_i))) (CoSENT, Su 2022)."""
    scores = scale * cosine(u, v)  # (S,)
    difference = scores[:, None] - scores[None, :]
    difference = difference.masked_fill(~(labels[:, None] < labels[None, :]), EXCLUDED)
    return torch.cat([scores.new_zeros(1), difference.flatten()]).logsumexp(0)


def simcse(u: Tensor, v: Tensor, scale: float = SCALE) -> Tensor:
    """Return mnr of each sentence with itself under another dropout mask (Gao et al., 2021)."""
    return mnr(u, v, scale)
