"""Multi-head self-attention (Vaswani et al., 2017) over packed sequences.

N tokens, S sequences, n of them in one group, T their padded length, Q queries of each, H heads,
K head size, D = H K hidden.
"""

import math

from torch import Tensor, nn

from minbert.config import BertConfig
from minbert.model.layers import Linear, dropout
from minbert.model.packing import Group, join_groups, round_rows


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
        queries = x if first is None else round_rows(x.index_select(0, first))
        q, k, v = self.query(queries), self.key(x), self.value(x)  # (N, D)
        attend = self.attend if first is None else self.attend_first
        return join_groups([attend(q, k, v, group) for group in groups], len(q))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, group: Group) -> Tensor:
        """Every token of the group's sequences -> (tokens of the group, D)"""
        q, k, v = (group.pad(t, self.num_heads) for t in (q, k, v))  # (n, H, T, K)
        return group.unpad(self.mix(q, k, v, group.mask))

    def attend_first(self, q: Tensor, k: Tensor, v: Tensor, group: Group) -> Tensor:
        """The first token of every sequence -> (n, D); q has one row a sequence of the batch."""
        q = group.pad_first(q, self.num_heads)
        k, v = (group.pad(t, self.num_heads) for t in (k, v))  # (n, H, T, K)
        return group.unpad_first(self.mix(q, k, v, group.mask))

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """The equation of the class: (n, H, Q, K), (n, H, T, K) twice -> (n, H, Q, K)"""
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # (n, H, Q, T)
        if mask is not None:
            scores = scores + mask
        probs = dropout(scores.softmax(-1), self.dropout_prob, self.training)
        return probs @ v
