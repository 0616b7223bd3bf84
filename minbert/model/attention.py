"""Multi-head self-attention (Vaswani et al., 2017).

N tokens, S sequences, n of them in one group, T their padded length, Q queries of each, H heads, K
head size, D = H K hidden; R rows of K numbers hold the heads of all groups (see packing.Layout).
"""

import math

import torch
from torch import Tensor, nn

from minbert.config import BertConfig
from minbert.model.layers import Dropout, Linear
from minbert.model.packing import Layout


class SelfAttention(nn.Module):
    """dropout(softmax(q k^T / sqrt(K) + mask)) v in every head, within every sequence.

    By default minbert.model.derived computes it; with --written-out this code does.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.query = Linear(config.hidden_size, config.hidden_size)
        self.key = Linear(config.hidden_size, config.hidden_size)
        self.value = Linear(config.hidden_size, config.hidden_size)
        self.dropout = Dropout(config.attention_probs_dropout_prob)

    def forward(self, x: Tensor, layout: Layout, context: Tensor | None = None) -> Tensor:
        """Attend from every row of x to its sequence's tokens in `context`, (N, D) -> (N, D).

        context: x itself unless given. With layout.first_only x holds only the sequences' first
        tokens: x, q and the result are (S, D), and q is split to (S H, K), not padded to (R, K).
        """
        context = x if context is None else context
        q, k, v = self.query(x), self.key(context), self.value(context)  # (N, D)
        # split D into H heads of K numbers, and pad the sequences of each group to its length T
        q, k, v = layout.pad_queries(q), layout.pad(k), layout.pad(v)  # (R, K)
        masks = [group.mask for group in layout.groups]
        groups = zip(layout.split_queries(q), layout.split(k), layout.split(v), masks, strict=True)
        out = [self.attend(*group).flatten(0, 1) for group in groups]  # (n H Q, K) each
        spare = q.new_zeros(len(q) - sum(map(len, out)), q.shape[1])  # the added rows
        return layout.unpad_queries(torch.cat([*out, spare]))  # (N, D)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Return dropout(softmax(q k^T / sqrt(K) + mask)) v: q (n H, Q, K), k, v (n H, T, K)."""
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # (n H, Q, T)
        if mask is not None:
            scores = scores + mask
        return self.dropout(scores.softmax(-1)) @ v
