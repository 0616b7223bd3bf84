"""How the sequences of a packed batch lie as padded groups, for attention.

N rows of the batch: its M tokens, then those that `add_rows` added; S sequences, n of them in one
group, T their padded length, H heads, K head size, D = H K hidden. Layouts are made on the CPU,
whatever device a program has set as the default.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from minbert.batch import to_device

# Lengths are rounded up to a multiple of this, and neighbours whose rounded lengths are equal share
# a group: a little padding buys fewer, larger products of few shapes (see TOKEN_STEP). A GPU has a
# larger step: its time grows with the number of products more than with their size.
LENGTH_STEP, GPU_LENGTH_STEP = 16, 64
# The bf16 products are compiled and kept once for every shape (oneDNN): batches rounded up to this
# many tokens have few shapes, which saves 30 ms a step and memory that grows with every new one.
TOKEN_STEP = 64
# The step for fewer tokens than TOKEN_STEP: 64 would quadruple the work of one short sentence.
SMALL_STEP = 16


def add_rows(x: Tensor, spare: int = 0) -> Tensor:
    """Add zero rows to (N, D), at least `spare`; in bf16 up to the next step.

    The caller cuts off what is computed from them, and attention masks them.
    """
    least = len(x) + spare
    step = (TOKEN_STEP if least > TOKEN_STEP else SMALL_STEP) if x.dtype == torch.bfloat16 else 1
    added = -(-least // step) * step - len(x)
    return F.pad(x, (0, 0, 0, added)) if added else x


def spare_rows(lengths: tuple[int, ...]) -> int:
    """Return how many rows `lay_out` needs beside a batch's tokens: one to fill padding with."""
    return int(len(lengths) > 1)


@dataclass(frozen=True)
class Group:
    """n consecutive sequences, attended to at length T."""

    n: int
    T: int
    first: int  # the number of its first sequence in the batch
    start: int  # where its rows begin among those of all groups
    mask: Tensor | None  # (n H, 1, T) added to the scores: 0 at tokens, very negative at padding


@dataclass(frozen=True)
class Layout:
    """Map a packed batch to padded groups of heads and back; all layers share one layout.

    A token's D numbers are split into H rows of K. Consecutive sequences whose lengths round up to
    the same T form a group, stored as (n, H, T, K), and all groups lie in one matrix (R, K).
    Example, with LENGTH_STEP 16: lengths 10, 12 and 20 make a group of n = 2 with T = 16 and one of
    n = 1 with T = 32, so that R = 2 H 16 + H 32 + 1. Padding is a copy of a token that
    `add_rows` added: its values do not matter, as the mask hides its keys and `unpad` leaves out
    its queries. The last row belongs to the added tokens: attention leaves it zero, and
    `unpad` gives it to them.
    """

    groups: tuple[Group, ...]
    num_heads: int
    num_tokens: int  # M; the batch's other rows were added
    sources: Tensor  # (R,) for each row of (R, K): the row of the batch, as (N H, K), it copies
    places: Tensor  # (N H,) for each row of the batch: where it lies in (R, K); R - 1: added tokens
    first_only: bool = False  # queries are the first tokens alone, Q = 1; else all, Q = T

    def pad(self, x: Tensor) -> Tensor:
        """Copy each token's heads to their padded places in the groups, (N, D) -> (R, K)."""
        return x.view(len(self.places), -1).index_select(0, self.sources)

    def unpad(self, x: Tensor) -> Tensor:
        """Take the tokens out of (R, K), as (N, D)."""
        return x.index_select(0, self.places).view(len(self.places) // self.num_heads, -1)

    def split(self, x: Tensor) -> list[Tensor]:
        """Return each group's part of (R, K), (n H, T, K); they share its memory."""
        return [
            x[g.start : g.start + g.n * self.num_heads * g.T].view(-1, g.T, x.shape[1])
            for g in self.groups
        ]

    def pad_queries(self, x: Tensor) -> Tensor:
        """Put (N, D) as `pad` does, or with first_only (S, D) as (S H, K)."""
        return x.view(len(x) * self.num_heads, -1) if self.first_only else self.pad(x)

    def unpad_queries(self, x: Tensor) -> Tensor:
        """Undo `pad_queries`: (R, K) -> (N, D), or with first_only (S H, K) -> (S, D)."""
        return x.view(len(x) // self.num_heads, -1) if self.first_only else self.unpad(x)

    def split_queries(self, x: Tensor) -> list[Tensor]:
        """Return each group's queries, (n H, Q, K); they share the memory of x."""
        if not self.first_only:
            return self.split(x)
        H = self.num_heads
        return [x[g.first * H : (g.first + g.n) * H].unsqueeze(1) for g in self.groups]

    def empty_like(self, x: Tensor) -> Tensor:
        """Return a tensor like x for the groups to write to; rows of no group are 0 already."""
        out, last = torch.empty_like(x), self.groups[-1]
        used = (last.first + last.n) * self.num_heads if self.first_only else len(self.sources) - 1
        out[used:].zero_()
        return out

    def first_tokens(self) -> "Layout":
        """Return the same layout for queries of one row a sequence, its first token."""
        return replace(self, first_only=True)


def lay_out(lengths: tuple[int, ...], num_heads: int, x: Tensor) -> Layout:
    """Group consecutive sequences whose lengths round up to the same multiple of LENGTH_STEP.

    x: what is laid out, (N, D), with what `add_rows` added.
    """
    usual = GPU_LENGTH_STEP if x.is_cuda else LENGTH_STEP
    step = usual if len(lengths) > 1 else 1  # a single sequence needs no common length
    padded = [-(-length // step) * step for length in lengths]
    groups, first, end = [], 0, 0
    for last in range(1, len(lengths) + 1):
        if last == len(lengths) or padded[last] != padded[first]:
            n, T = last - first, padded[first]
            mask = padding_mask(lengths[first:last], T, num_heads, x)
            groups.append(Group(n, T, first, end, mask))
            first, end = last, end + n * num_heads * T
    tokens = head_places(*torch.tensor([lengths, padded], device="cpu"), num_heads)
    places = tokens.new_full((len(x) * num_heads,), end)
    places[: len(tokens)] = tokens
    sources = tokens.new_full((end + 1,), min(len(tokens), len(places) - 1))
    sources[tokens] = torch.arange(len(tokens), device="cpu")
    sources, places = to_device(sources, x.device), to_device(places, x.device)
    return Layout(tuple(groups), num_heads, sum(lengths), sources, places)


def head_places(lengths: Tensor, padded: Tensor, num_heads: int) -> Tensor:
    """Return where each token's heads lie in (R, K), (M H,).

    Sequence s takes H T_s rows, one head after the other.
    """
    begins = num_heads * (padded.cumsum(0) - padded)  # (S,)
    columns = torch.arange(int(lengths.sum()), device="cpu")
    columns -= (lengths.cumsum(0) - lengths).repeat_interleave(lengths)  # (M,), in its sequence
    T = padded.repeat_interleave(lengths)[:, None]
    first = begins.repeat_interleave(lengths) + columns
    return (first[:, None] + T * torch.arange(num_heads, device="cpu")).flatten()


def padding_mask(lengths: tuple[int, ...], T: int, num_heads: int, x: Tensor) -> Tensor | None:
    """Return what is added to a group's scores, (n H, 1, T); None if it has no padding."""
    if sum(lengths) == len(lengths) * T:
        return None
    ends = torch.tensor(lengths, device="cpu")[:, None]
    padding = torch.arange(T, device="cpu")[None, :] >= ends  # (n, T)
    # -1e9, not -inf: at the tokens 0 * -inf would be NaN
    mask = (padding.float() * -1e9).to(x.dtype)
    return to_device(mask.repeat_interleave(num_heads, 0).unsqueeze(1), x.device)
