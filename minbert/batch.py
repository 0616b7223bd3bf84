"""Batch: sequences laid end to end without padding. N tokens, S sequences."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Return x on a device; a copy to a GPU runs while the program goes on (pinned memory)."""
    if device.type == "cuda" and not x.is_cuda:
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


@dataclass(frozen=True)
class Batch:
    """What the model reads: S sequences of N tokens in all, each one contiguous, without padding.

    Sequences sorted by length run fastest. Lengths are Python ints, so that laying out attention
    never waits for the device.
    """

    ids: Tensor  # (N,) int64
    positions: Tensor  # (N,) int64, the column of each token in its own sequence
    segments: Tensor  # (N,) int64, 0 or 1
    lengths: tuple[int, ...]  # S
    labels: Tensor | None = None  # (I,) float32, of what a head has an output for: I = S or words
    rows: tuple[int, ...] = ()  # S, which row of the split each sequence is
    items: tuple[int, ...] = ()  # I, which row or, if words are labelled, word of the split
    words: Tensor | None = None  # (I,) int64, the first piece of each word; None: rows are labelled

    @property
    def cu_seqlens(self) -> Tensor:
        """The index that each sequence starts at, (S+1,); the last entry is N."""
        starts = torch.tensor((0, *self.lengths), device="cpu").cumsum(0)
        return to_device(starts, self.ids.device)

    def to(self, device: torch.device) -> "Batch":
        """Return the same batch on another device."""
        names = ("ids", "positions", "segments", "labels", "words")
        names = [name for name in names if getattr(self, name) is not None]
        return replace(self, **{name: to_device(getattr(self, name), device) for name in names})
