"""Items: what has a label and an output. One per row or, in token classification, one per word.

R rows, I items in all: I = R, or the rows' words.
"""

from collections.abc import Sequence

import numpy as np

from minbert.data.encoded import EncodedSplit


def item_labels(split: EncodedSplit) -> np.ndarray:
    """Return the labels of all items, (I,) float32."""
    return split.labels if split.tags is None else split.tags


def items_of(split: EncodedSplit, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return these n rows' items and, for each, the place of its row among the n.

    Words that are cut off or have no piece are left out.
    """
    if split.word_offsets is None:
        return rows, np.arange(len(rows))
    starts = split.word_offsets[rows]
    counts = split.word_offsets[rows + 1] - starts
    places = np.repeat(np.arange(len(rows)), counts)
    before = np.cumsum(counts) - counts  # words of the rows before
    words = np.arange(len(places)) + np.repeat(starts - before, counts)
    is_visible = split.word_starts[words] >= 0
    return words[is_visible], places[is_visible]


def visible_items(split: EncodedSplit) -> np.ndarray:
    """Return the items that the model sees, in order: not words cut off or without a piece."""
    return items_of(split, np.arange(len(split)))[0]


def count_unseen(split: EncodedSplit) -> int:
    """Return how many items the model does not see: words cut off or without a piece."""
    return 0 if split.word_starts is None else int((split.word_starts < 0).sum())


def item_counts(split: EncodedSplit, rows: np.ndarray) -> np.ndarray:
    """Return how many items of each of these n rows the model sees, (n,)."""
    return np.bincount(items_of(split, rows)[1], minlength=len(rows))


def by_row(split: EncodedSplit, values: np.ndarray) -> np.ndarray:
    """Return what the items have, (I, ...), by row: (R, ...), or R arrays (words, ...)."""
    if split.word_offsets is None:
        return values
    return object_array(np.split(values, split.word_offsets[1:-1]))


def gold_of(split: EncodedSplit) -> np.ndarray:
    """Return the rows' labels, (R,): a number each, or an array of their words' tags."""
    return by_row(split, item_labels(split))


def object_array(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return n arrays of any lengths as one array of objects, (n,), which rows are chosen from."""
    result = np.empty(len(parts), dtype=object)
    for place, part in enumerate(parts):
        result[place] = part  # numpy would make a matrix of parts of one length
    return result
