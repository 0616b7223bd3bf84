"""Which rows make a batch: pure functions of (seed, task, epoch, batch), so that resuming seeks."""

import zlib
from functools import lru_cache

import numpy as np

ADAPTIVE = "adaptive"  # a batch size: each set's own, so that all have the same number of batches
ADAPTIVE_MEAN = 32  # its mean over the sets


def count_batches(rows: dict[str, int], batch_size: int | str) -> dict[str, int]:
    """Batches in one pass over each set; the last may be smaller.

    Adaptive: the same number for all, and no set is cut in more batches than it has rows.
    """
    if batch_size == ADAPTIVE:
        batches = -(-sum(rows.values()) // (ADAPTIVE_MEAN * len(rows)))
        return dict.fromkeys(rows, min(batches, *rows.values()))
    return {name: -(-n // batch_size) for name, n in rows.items()}


@lru_cache(maxsize=8)  # one order serves a whole pass; a few tasks take turns
def shuffled(rows: int, seed: int, task: str, epoch: int) -> np.ndarray:
    """A new order of the rows for every pass over the task."""
    return np.random.default_rng([seed, zlib.crc32(task.encode()), epoch]).permutation(rows)


def batch_rows(
    rows: int, batch_size: int | str, batches: int, seed: int, task: str, epoch: int, batch: int
) -> np.ndarray:
    """The row numbers of one batch of `batches`: every row is in exactly one of an epoch.

    Adaptive batches of one set differ in size by one row at most.
    """
    order = shuffled(rows, seed, task, epoch)
    if batch_size == ADAPTIVE:
        return order[batch * rows // batches : (batch + 1) * rows // batches]
    return order[batch * batch_size : (batch + 1) * batch_size]


def length_sorted_batches(lengths: np.ndarray, tokens_per_batch: int) -> list[np.ndarray]:
    """All rows, longest first (a shortage of memory shows at once), cut by padded size."""
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, tokens_per_batch // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches
