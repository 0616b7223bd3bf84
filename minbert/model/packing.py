"""How sequences lie in a packed batch, and how attention gets them as padded groups and back.

N tokens in the batch, S sequences, n of them in one group, T their padded length, H heads, K head
size, D = H K hidden.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from minbert.batch import to_device

# Lengths are rounded up to a multiple of this and equal ones share a group: fewer, fuller products
# for a little padding, and few distinct shapes (see TOKEN_STEP).
LENGTH_STEP = 16
# The bf16 products are compiled and kept once for every shape (oneDNN): batches rounded up to this
# many tokens have few shapes, which saves 30 ms a step and memory that grows with every new one.
TOKEN_STEP = 64
# The same for fewer tokens than that: padding one sentence to 64 would quadruple its work.
SMALL_STEP = 16


def round_rows(x: Tensor) -> Tensor:
    """Add zero rows to (N, D) in bf16, up to the next step; other dtypes stay as they are."""
    if x.dtype != torch.bfloat16:
        return x
    step = TOKEN_STEP if len(x) > TOKEN_STEP else SMALL_STEP
    return F.pad(x, (0, 0, 0, -len(x) % step))


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
    first_only: bool = False  # queries are the first tokens alone, Q = 1; else all, Q = T

    def pad(self, x: Tensor, num_heads: int) -> Tensor:
        """Take the group's tokens out of (N, D), as (n, H, T, K)."""
        x = x[self.start : self.end]
        if self.index is not None:
            x = x.new_zeros(self.n * self.T, x.shape[-1]).index_copy_(0, self.index, x)
        return x.view(self.n, self.T, num_heads, -1).transpose(1, 2)

    def unpad(self, x: Tensor) -> Tensor:
        """Return (n, H, T, K) to rows of tokens, (end - start, D)."""
        x = x.transpose(1, 2).reshape(self.n * self.T, -1)
        return x if self.index is None else x.index_select(0, self.index)

    def pad_queries(self, x: Tensor, num_heads: int) -> Tensor:
        """Take the group's queries out of (N, D), or of (S, D) with first_only: (n, H, Q, K)."""
        if not self.first_only:
            return self.pad(x, num_heads)
        return x[self.number : self.number + self.n].view(self.n, num_heads, 1, -1)

    def unpad_queries(self, x: Tensor) -> Tensor:
        """Return (n, H, Q, K) to a row a query, (end - start, D) or (n, D)."""
        return x.flatten(1) if self.first_only else self.unpad(x)


def layout_groups(
    lengths: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> list[Group]:
    """Group runs of sequences whose lengths round up to the same step; all layers share them."""
    groups, first, start = [], 0, 0
    step = LENGTH_STEP if len(lengths) > 1 else 1  # a single sequence needs no common length
    padded = [-(-length // step) * step for length in lengths]
    for last in range(1, len(lengths) + 1):
        if last < len(lengths) and padded[last] == padded[first]:
            continue
        group = _group(lengths[first:last], padded[first], start, first, device, dtype)
        groups.append(group)
        first, start = last, group.end
    return groups


def first_tokens_only(groups: list[Group]) -> list[Group]:
    """Return the same groups for queries of one row a sequence, its first token."""
    return [replace(group, first_only=True) for group in groups]


def _group(
    lengths: tuple[int, ...], T: int, start: int, number: int, device: torch.device,
    dtype: torch.dtype,
) -> Group:  # fmt: skip
    """Make the group of these sequences, the first of which starts at token `start`."""
    n, tokens = len(lengths), sum(lengths)
    if tokens == n * T:
        return Group(start, start + tokens, n, T, number, None, None)
    real = torch.arange(T)[None, :] < torch.tensor(lengths)[:, None]  # (n, T)
    # -1e9, not -inf: a row of nothing but -inf would be NaN.
    mask = torch.zeros(n, 1, 1, T).masked_fill(~real[:, None, None, :], -1e9).to(dtype)
    index = real.flatten().nonzero().squeeze(1)
    mask, index = to_device(mask, device), to_device(index, device)
    return Group(start, start + tokens, n, T, number, index, mask)


def join_groups(parts: Sequence[Tensor], rows: int) -> Tensor:
    """Put the groups' rows together again, (rows, D); those that `round_rows` added are zero."""
    beyond = rows - sum(map(len, parts))
    return torch.cat([*parts, parts[0].new_zeros(beyond, parts[0].shape[1])])
