"""Batch: sequences laid end to end without padding. N tokens, S sequences."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """What the model reads. Tokens of one sequence are contiguous; sequences sorted by length run
    fastest.

    Lengths are Python ints, so that laying out attention never waits for the device.
    """

    ids: Tensor  # (N,) int64
    positions: Tensor  # (N,) int64, the column of each token in its own sequence
    segments: Tensor  # (N,) int64, 0 or 1
    lengths: tuple[int, ...]  # S
    labels: Tensor | None = None  # (S,) float32
    rows: tuple[int, ...] = ()  # S, which row of the split each sequence is

    @property
    def cu_seqlens(self) -> Tensor:
        """(S+1,) where each sequence starts; the last entry is N."""
        lengths = torch.tensor((0, *self.lengths), device=self.ids.device)
        return lengths.cumsum(0)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        moved = {name: getattr(self, name).to(device) for name in ("ids", "positions", "segments")}
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, labels=labels, **moved)
