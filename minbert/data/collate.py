"""Rows of a split -> one packed Batch."""

import numpy as np
import torch

from minbert.batch import Batch
from minbert.data.encoded import EncodedSplit
from minbert.data.items import item_labels, items_of


def collate(split: EncodedSplit, rows: np.ndarray) -> Batch:
    """Pack these rows end to end, shortest first, so that near-equal lengths lie together."""
    rows = rows[np.argsort(split.lengths_of(rows), kind="stable")]
    starts, lengths = split.offsets[rows], split.lengths_of(rows)
    begins = np.cumsum(lengths) - lengths  # where each row begins in the batch
    positions = np.arange(lengths.sum()) - np.repeat(begins, lengths)
    ids = split.ids[np.repeat(starts, lengths) + positions]
    segments = positions >= np.repeat(split.segment_starts[rows], lengths)
    items, places = items_of(split, rows)
    words = None
    if split.word_starts is not None:
        words = torch.from_numpy(begins[places] + split.word_starts[items])
    return Batch(
        ids=torch.from_numpy(ids).long(),
        positions=torch.from_numpy(positions),
        segments=torch.from_numpy(segments).long(),
        lengths=tuple(lengths.tolist()),
        labels=torch.from_numpy(item_labels(split)[items]),
        rows=tuple(rows.tolist()),
        items=tuple(items.tolist()),
        word_starts=words,
    )
