"""Multi-head self-attention (Vaswani et al., 2017) over packed sequences.

The only module that knows how sequences lie in a batch: runs of near-equal length are padded to
a common one, attended to as one dense product, and unpadded.
N tokens, n sequences of one group, T their padded length, H heads, K head size, D = H K hidden.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from minbert.batch import to_device
from minbert.config import BertConfig
from minbert.model.layers import Linear, dropout, round_rows

# Lengths are rounded up to a multiple of this and equal ones share a group: fewer, fuller products
# for a little padding, and few distinct shapes (see TOKEN_STEP in layers.py).
LENGTH_STEP = 16


@dataclass(frozen=True)
class Group:
    """n consecutive sequences, tokens [start, end) of the batch, attended to at length T."""

    start: int
    end: int
    n: int
    T: int
    number: int  # of its first sequence in the batch
    index: Tensor | None  # (end - start,) the place of each token among n*T; None: no padding
    mask: Tensor | None  # (n, 1, 1, T) added to the scores: 0 at tokens, very negative at padding

    def pad(self, x: Tensor, num_heads: int) -> Tensor:
        """(N, D) -> (n, H, T, K)"""
        x = x[self.start : self.end]
        if self.index is not None:
            x = x.new_zeros(self.n * self.T, x.shape[-1]).index_copy_(0, self.index, x)
        return x.view(self.n, self.T, num_heads, -1).transpose(1, 2)

    def unpad(self, x: Tensor) -> Tensor:
        """(n, H, T, K) -> (end - start, D)"""
        x = x.transpose(1, 2).reshape(self.n * self.T, -1)
        return x if self.index is None else x.index_select(0, self.index)


def layout_groups(
    lengths: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> list[Group]:
    """Runs of sequences whose lengths round up to the same step; every layer shares them."""
    groups, first, start = [], 0, 0
    step = LENGTH_STEP if len(lengths) > 1 else 1  # nobody to share with: nothing to pad
    padded = [-(-length // step) * step for length in lengths]
    for last in range(1, len(lengths) + 1):
        if last < len(lengths) and padded[last] == padded[first]:
            continue
        group = _group(lengths[first:last], padded[first], start, first, device, dtype)
        groups.append(group)
        first, start = last, group.end
    return groups


def _group(
    lengths: tuple[int, ...], T: int, start: int, number: int, device: torch.device,
    dtype: torch.dtype,
) -> Group:  # fmt: skip
    n, tokens = len(lengths), sum(lengths)
    if tokens == n * T:
        return Group(start, start + tokens, n, T, number, None, None)
    real = torch.arange(T)[None, :] < torch.tensor(lengths)[:, None]  # (n, T)
    # -1e9, not -inf: a row of nothing but -inf would be NaN.
    mask = torch.zeros(n, 1, 1, T).masked_fill(~real[:, None, None, :], -1e9).to(dtype)
    index = real.flatten().nonzero().squeeze(1)
    mask, index = to_device(mask, device), to_device(index, device)
    return Group(start, start + tokens, n, T, number, index, mask)


class SelfAttention(nn.Module):
    """softmax(q k^T / sqrt(K) + mask) v in every head, within every sequence."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.dropout_prob = config.attention_probs_dropout_prob
        self.query = Linear(config.hidden_size, config.hidden_size)
        self.key = Linear(config.hidden_size, config.hidden_size)
        self.value = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, groups: list[Group], first: Tensor | None = None) -> Tensor:
        """(N, D) -> (N, D). first: (S,) where sequences start; only those tokens ask: (S, D)."""
        asking = x if first is None else round_rows(x.index_select(0, first))
        q, k, v = self.query(asking), self.key(x), self.value(x)  # (N, D)
        attend = self.attend if first is None else self.attend_first
        mixed = [attend(q, k, v, group) for group in groups]
        beyond = len(q) - sum(map(len, mixed))  # rows of no sequence: zero
        return torch.cat([*mixed, q.new_zeros(beyond, q.shape[1])])

    def attend(self, q: Tensor, k: Tensor, v: Tensor, group: Group) -> Tensor:
        """Every token of the group's sequences -> (tokens of the group, D)"""
        q, k, v = (group.pad(t, self.num_heads) for t in (q, k, v))  # (n, H, T, K)
        return group.unpad(self.mix(q, k, v, group.mask))

    def attend_first(self, q: Tensor, k: Tensor, v: Tensor, group: Group) -> Tensor:
        """The first token of every sequence -> (n, D); q has one row a sequence of the batch."""
        q = q[group.number : group.number + group.n].view(group.n, self.num_heads, 1, -1)
        k, v = (group.pad(t, self.num_heads) for t in (k, v))  # (n, H, T, K)
        return self.mix(q, k, v, group.mask).flatten(1)  # (n, H, 1, K) -> (n, D)

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """The equation of the class: (n, H, Q, K), (n, H, T, K) twice -> (n, H, Q, K)"""
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # (n, H, Q, T)
        if mask is not None:
            scores = scores + mask
        probs = dropout(scores.softmax(-1), self.dropout_prob, self.training)
        return probs @ v
