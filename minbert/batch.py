"""Batch: sequences laid end to end without padding. N tokens, S sequences."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from minbert.errors import UserError


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Return x on a device; a copy to a GPU runs while the program goes on (pinned memory)."""
    if device.type == "cuda" and not x.is_cuda:
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


@dataclass(frozen=True)
class Batch:
    """Hold S sequences of N tokens in all, laid end to end without padding.

    Of two texts of 3 and 4 tokens the positions are 0 1 2 0 1 2 3, and the lengths (3, 4). An item
    is what has a label and a prediction: a row or, in token classification, a word; I is their
    number. Sequences sorted by length run fastest. Lengths are Python ints, so that laying out
    attention never waits for the device.
    """

    ids: Tensor  # (N,) int64
    positions: Tensor  # (N,) int64, the column of each token in its own sequence
    segments: Tensor  # (N,) int64, 0 or 1
    lengths: tuple[int, ...]  # S
    labels: Tensor | None = None  # (I,) float32
    rows: tuple[int, ...] = ()  # S, each sequence's row in the split
    items: tuple[int, ...] = ()  # I, each item's number in the split
    word_starts: Tensor | None = None  # (I,) int64, each word's first token; None: items are rows

    def __post_init__(self) -> None:
        total, least = sum(self.lengths), min(self.lengths, default=0)
        if total != len(self.ids) or least < 1:  # attention would mix the sequences up, silently
            raise UserError(
                f"Batch of {len(self.ids)} tokens: its lengths sum up to {total}, the least is "
                f"{least}: give each sequence's number of tokens, 1 or more"
            )

    @property
    def cu_seqlens(self) -> Tensor:
        """Where each sequence starts, and N, (S+1,): FlashAttention's cumulative lengths."""
        starts = torch.tensor((0, *self.lengths), device="cpu").cumsum(0)
        return to_device(starts, self.ids.device)

    def first_rows(self, x: Tensor) -> Tensor:
        """Return each sequence's first row, its [CLS], (N, D) -> (S, D)."""
        return x.index_select(0, self.cu_seqlens[:-1])

    def to(self, device: torch.device) -> "Batch":
        """Return the same batch on another device."""
        tensors = {name: x for name, x in vars(self).items() if isinstance(x, Tensor)}
        return replace(self, **{name: to_device(x, device) for name, x in tensors.items()})
