"""Which rows make a batch: pure functions of (seed, task, epoch, batch).

A resumed run thus needs the number of its step only, not the state of an iterator.
"""

import os
import zlib
from functools import lru_cache
from tempfile import TemporaryFile, gettempdir

import numpy as np

ADAPTIVE = "adaptive"  # a batch size of its own for each set: all have the same number of batches
ADAPTIVE_MEAN = 32  # the mean of these batch sizes over the sets
ROWS_IN_MEMORY = 1 << 20  # a longer order of rows is kept on the disk
TOKENS_PER_BATCH = 4096  # with padding, in evaluation: its memory does not grow with the split


def count_batches(rows: dict[str, int], batch_size: int | str) -> dict[str, int]:
    """Return the number of batches in one pass over each set; the last batch may be smaller.

    Adaptive: the same number for all sets, and no more than the smallest set has rows.
    """
    if batch_size == ADAPTIVE:
        batches = -(-sum(rows.values()) // (ADAPTIVE_MEAN * len(rows)))
        return dict.fromkeys(rows, min(batches, *rows.values()))
    return {name: -(-n // batch_size) for name, n in rows.items()}


@lru_cache(maxsize=8)  # an order is used for a whole pass, and a few tasks take turns
def shuffled(rows: int, seed: int, task: str, epoch: int) -> np.ndarray:
    """Return the order of the rows in one pass (epoch) over the task, (rows,)."""
    return random_order(rows, [seed, zlib.crc32(task.encode()), epoch])


def random_order(rows: int, seed: int | list[int]) -> np.ndarray:
    """Return the numbers of the rows in random order, (rows,) int32.

    More than a million of them are kept on the disk, in a temporary file.
    """
    if rows > ROWS_IN_MEMORY:
        file = TemporaryFile()  # noqa: SIM115 - it is deleted when the order is
        if hasattr(os, "posix_fallocate"):  # a full disk is an error here, and a crash in a map
            try:
                os.posix_fallocate(file.fileno(), 0, rows * np.dtype(np.int32).itemsize)
            except OSError as error:  # names no file, so the run is saved: its disk may have room
                what = f"{error.strerror}: {gettempdir()}, for temporary files"
                raise OSError(error.errno, what) from error
        order = np.asarray(np.memmap(file, dtype=np.int32, shape=rows))
    else:
        order = np.empty(rows, dtype=np.int32)
    for start in range(0, rows, ROWS_IN_MEMORY):
        end = min(start + ROWS_IN_MEMORY, rows)
        order[start:end] = np.arange(start, end)
    np.random.default_rng(seed).shuffle(order)
    return order


def rows_without(held_out: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return the rows at these indices among all but the held-out rows, without listing them.

    held_out: (H,), in ascending order. Of 5 rows without row 1, index 1 is row 2.
    """
    # how many of the other rows come before each held-out row
    others_before = held_out - np.arange(len(held_out))
    return indices + np.searchsorted(others_before, indices, side="right")


def batch_rows(
    num_rows: int, batch_size: int | str, *, num_batches: int, seed: int, task: str, epoch: int,
    batch: int,
) -> np.ndarray:  # fmt: skip
    """Return the row numbers of batch `batch`, from 0, of a pass; every row is in one batch.

    num_batches: of the pass. Adaptive batches of one set differ in size by one row at most.
    """
    order = shuffled(num_rows, seed, task, epoch)
    if batch_size == ADAPTIVE:
        return order[batch * num_rows // num_batches : (batch + 1) * num_rows // num_batches]
    return order[batch * batch_size : (batch + 1) * batch_size]


def length_sorted_batches(
    lengths: np.ndarray, tokens_per_batch: int = TOKENS_PER_BATCH
) -> list[np.ndarray]:
    """Cut all rows, longest first, into batches of at most so many padded tokens.

    If memory is too short, the first batch shows it and not the last.
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, tokens_per_batch // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches
