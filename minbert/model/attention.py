"""Multi-head self-attention (Vaswani et al., 2017) over packed sequences.

The only module that knows how sequences lie in a batch: runs of near-equal length are padded to
a common one, attended to as one dense product, and unpadded.
N tokens, n sequences of one group, T their padded length, H heads, K head size, D = H K hidden.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minbert.config import BertConfig
from minbert.model.layers import Linear, dropout

# Lengths are rounded up to a multiple of this and equal ones share a group: fewer, fuller products
# for a little padding, and few distinct shapes (see TOKEN_STEP in encoder.py).
LENGTH_STEP = 16


@dataclass(frozen=True)
class Group:
    """n consecutive sequences, tokens [start, end) of the batch, attended to at length T."""

    start: int
    end: int
    n: int
    T: int
    index: Tensor | None  # (end - start,) the place of each token among n*T; None: no padding
    mask: Tensor | None  # (n, 1, 1, T) added to the scores: 0 at tokens, very negative at padding

    def pad(self, x: Tensor, num_heads: int) -> Tensor:
        """(N, D) -> (n, H, T, K)"""
        x = x[self.start : self.end]
        if self.index is not None:
            x = x.new_zeros(self.n * self.T, x.shape[-1]).index_copy(0, self.index, x)
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
    padded = [-(-length // LENGTH_STEP) * LENGTH_STEP for length in lengths]
    for last in range(1, len(lengths) + 1):
        if last < len(lengths) and padded[last] == padded[first]:
            continue
        group = _group(lengths[first:last], padded[first], start, device, dtype)
        groups.append(group)
        first, start = last, group.end
    return groups


def _group(
    lengths: tuple[int, ...], T: int, start: int, device: torch.device, dtype: torch.dtype
) -> Group:
    n, tokens = len(lengths), sum(lengths)
    if tokens == n * T:
        return Group(start, start + tokens, n, T, None, None)
    real = torch.arange(T)[None, :] < torch.tensor(lengths)[:, None]  # (n, T)
    # -1e9, not -inf: a row of nothing but -inf would be NaN.
    mask = torch.zeros(n, 1, 1, T).masked_fill(~real[:, None, None, :], -1e9).to(device, dtype)
    index = real.flatten().nonzero().squeeze(1).to(device)
    return Group(start, start + tokens, n, T, index, mask)


class SelfAttention(nn.Module):
    """softmax(q k^T / sqrt(K) + mask) v in every head, within every sequence."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.dropout_prob = config.attention_probs_dropout_prob
        self.query = Linear(config.hidden_size, config.hidden_size)
        self.key = Linear(config.hidden_size, config.hidden_size)
        self.value = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, groups: list[Group]) -> Tensor:
        q, k, v = self.query(x), self.key(x), self.value(x)  # (N, D)
        mixed = torch.cat([self.attend(q, k, v, group) for group in groups])
        return F.pad(mixed, (0, 0, 0, len(x) - len(mixed)))  # (N, D), zero in no sequence's rows

    def attend(self, q: Tensor, k: Tensor, v: Tensor, group: Group) -> Tensor:
        q, k, v = (group.pad(t, self.num_heads) for t in (q, k, v))  # (n, H, T, K)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # (n, H, T, T)
        if group.mask is not None:
            scores = scores + group.mask
        probs = dropout(scores.softmax(-1), self.dropout_prob, self.training)
        return group.unpad(probs @ v)  # (tokens of the group, D)
