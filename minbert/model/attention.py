"""Multi-head self-attention (Vaswani et al., 2017).

N tokens, n sequences of one group, T their padded length, Q queries of each, H heads, K head size,
D = H K hidden.
"""

import math

import torch
from torch import Tensor, nn

from minbert.config import BertConfig
from minbert.model.layers import Dropout, Linear
from minbert.model.packing import Layout


class SelfAttention(nn.Module):
    """softmax(q k^T / sqrt(K) + mask) v in every head, within every sequence."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.query = Linear(config.hidden_size, config.hidden_size)
        self.key = Linear(config.hidden_size, config.hidden_size)
        self.value = Linear(config.hidden_size, config.hidden_size)
        self.dropout = Dropout(config.attention_probs_dropout_prob)

    def forward(self, x: Tensor, layout: Layout, context: Tensor | None = None) -> Tensor:
        """Attend from every row of x to its sequence's tokens in `context`, (N, D) -> (N, D).

        context: x itself unless given.
        """
        context = x if context is None else context
        q, k, v = self.query(x), self.key(context), self.value(context)  # (N, D)
        q = layout.pad_queries(q)
        parts = zip(
            layout.groups, layout.split_queries(q), layout.split(layout.pad(k)),
            layout.split(layout.pad(v)), strict=True,
        )  # fmt: skip
        out = [self.attend(*qkv, group.mask).flatten(0, 1) for group, *qkv in parts]
        added = q.new_zeros(len(q) - sum(map(len, out)), q.shape[1])
        return layout.unpad_queries(torch.cat([*out, added]))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the equation of the class, (.., Q, K), (.., T, K) twice -> (.., Q, K)."""
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # (.., Q, T)
        if mask is not None:
            scores = scores + mask
        return self.dropout(scores.softmax(-1)) @ v
