"""Which rows make a batch: pure functions of (seed, task, epoch, batch), so that resuming seeks."""

import zlib
from functools import lru_cache

import numpy as np


def count_batches(rows: int, batch_size: int) -> int:
    """Batches in one pass; the last may be smaller."""
    return -(-rows // batch_size)


@lru_cache(maxsize=8)  # one order serves a whole pass; a few tasks take turns
def shuffled(rows: int, seed: int, task: str, epoch: int) -> np.ndarray:
    """A new order of the rows for every pass over the task."""
    return np.random.default_rng([seed, zlib.crc32(task.encode()), epoch]).permutation(rows)


def batch_rows(
    rows: int, batch_size: int, seed: int, task: str, epoch: int, batch: int
) -> np.ndarray:
    """The row numbers of one batch: every row is in exactly one batch of an epoch."""
    return shuffled(rows, seed, task, epoch)[batch * batch_size : (batch + 1) * batch_size]


def length_sorted_batches(lengths: np.ndarray, tokens_per_batch: int) -> list[np.ndarray]:
    """All rows, longest first (a shortage of memory shows at once), cut by padded size."""
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, tokens_per_batch // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches
