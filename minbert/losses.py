"""Pure (outputs, labels) -> mean loss, in fp32. S sequences or pairs, C classes, E embedding."""

import torch
from torch import Tensor
from torch.nn import functional as F

# -1e9 and not -inf: log-sum-exp over nothing but -inf would be NaN.
EXCLUDED = -1e9
IGNORED = -100  # a target that cross-entropy leaves out of its mean


def cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """-log softmax(outputs)[label]; outputs (S, C), labels (S,) class numbers."""
    return F.cross_entropy(outputs.float(), labels.long())


def binary_cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """-l log s - (1-l) log(1-s) with s = sigmoid(output); outputs (S, 1), labels (S,) 0 or 1."""
    return F.binary_cross_entropy_with_logits(outputs.float().squeeze(-1), labels.float())


def multi_label(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean over classes of binary_cross_entropy; outputs (S, C), labels (S,) sums of 2^class."""
    bits = 2 ** torch.arange(outputs.shape[1], device=labels.device)
    wanted = (labels.long()[:, None] // bits % 2).float()  # (S, C)
    return F.binary_cross_entropy_with_logits(outputs.float(), wanted)


def mean_squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    """(output - label)^2; outputs (S, 1), labels (S,) floats."""
    return F.mse_loss(outputs.float().squeeze(-1), labels.float())


# Losses of two embeddings u, v (S, E) of a pair each, and its label (S,).


def cosine(u: Tensor, v: Tensor) -> Tensor:
    """u . v / (|u| |v|), (S, E), (S, E) -> (S,), in fp32 at least."""
    return (unit(u) * unit(v)).sum(-1)


def unit(x: Tensor) -> Tensor:
    """Rows of length 1."""
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)


def cosine_mse(u: Tensor, v: Tensor, labels: Tensor, scale: float = 5.0) -> Tensor:
    """(l - scale cos(u, v))^2; labels 0..scale (paper, section 3.2.1)."""
    return F.mse_loss(scale * cosine(u, v), labels.float())


def contrastive(u: Tensor, v: Tensor, labels: Tensor, margin: float = 0.5) -> Tensor:
    """l D + (1-l) max(0, m - D) with D = 1 - cos(u, v); labels in 0..1 (paper, section 3.2.1).

    Linear in D as the paper has it; Hadsell et al. (2006) square both terms.
    """
    distance = 1 - cosine(u, v)
    return (labels * distance + (1 - labels) * F.relu(margin - distance)).mean()


def mnr(u: Tensor, v: Tensor, labels: Tensor, scale: float = 1.0) -> Tensor:
    """Over the pairs with l = 1: -cos(u_i, v_i) + log sum_j exp cos(u_i, v_j), cosines times scale.

    The paper's (section 3.2.1, scale 1), after Henderson et al. (2017). Needs two such pairs.
    """
    scores = scale * unit(u) @ unit(v).T  # (S, S)
    scores = scores.masked_fill(labels != 1, EXCLUDED)  # columns
    return F.cross_entropy(scores, own_columns(labels))


def own_columns(labels: Tensor) -> Tensor:
    """(S,) the number of every pair with l = 1, IGNORED for the others.

    Not a choice of rows: how many there are is only known to who waits for the GPU.
    """
    numbers = torch.arange(len(labels), device=labels.device)
    return numbers.masked_fill(labels != 1, IGNORED)


def mnr_full(
    u: Tensor, v: Tensor, labels: Tensor, groups: Tensor | None = None, scale: float = 20.0
) -> Tensor:
    """mnr both ways, with what the paper's leaves out.

    The partners v of l = 0 pairs are negatives too; with `groups` (S, 2), the paraphrase group of
    each sentence, no two sentences of one group are negatives of each other.
    """
    scores = scale * unit(u) @ unit(v).T  # (S, S)
    if groups is not None:
        same = groups[:, :1] == groups[:, 1][None, :]
        own = torch.eye(len(u), dtype=torch.bool, device=u.device)
        scores = scores.masked_fill(same & ~own, EXCLUDED)
    forth = F.cross_entropy(scores, own_columns(labels))
    # back: the u of an l = 0 pair is a negative for every v of a positive one
    back = F.cross_entropy(scores.T, own_columns(labels))
    return (forth + back) / 2


def cosent(u: Tensor, v: Tensor, labels: Tensor, scale: float = 20.0) -> Tensor:
    """log(1 + sum over l_i > l_j of exp(scale (cos_j - cos_i))) (CoSENT, Su 2022)."""
    scores = scale * cosine(u, v)  # (S,)
    difference = scores[:, None] - scores[None, :]
    difference = difference.masked_fill(~(labels[:, None] < labels[None, :]), EXCLUDED)
    return torch.cat([scores.new_zeros(1), difference.flatten()]).logsumexp(0)


def simcse(u: Tensor, v: Tensor, scale: float = 20.0) -> Tensor:
    """mnr of each sentence with itself under another dropout mask (Gao et al., 2021)."""
    return mnr(u, v, torch.ones(len(u), device=u.device), scale)
