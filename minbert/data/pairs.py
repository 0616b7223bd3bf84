"""The sentences of pairs. A row is `[CLS] a [SEP] [CLS] b [SEP]`, or `[CLS] a [SEP] b [SEP]`."""

from dataclasses import replace

import numpy as np
import torch

from minbert.batch import Batch
from minbert.data.collate import collate
from minbert.data.encoded import EncodedSplit, take
from minbert.errors import UserError


def sentences_of(split: EncodedSplit) -> tuple[EncodedSplit, np.ndarray]:
    """Return the U distinct sentences of R pairs, and the numbers of every pair's two, (R, 2).

    A second sentence of pairs that are encoded to be read together gets a [CLS] of its own.
    """
    numbers: dict[bytes, int] = {}
    index = np.empty((len(split), 2), dtype=np.int64)
    pieces: list[np.ndarray] = []
    for row in range(len(split)):
        start, end = split.offsets[row], split.offsets[row + 1]
        middle = start + split.segment_starts[row]
        first, second = split.ids[start:middle], split.ids[middle:end]
        if not len(second):
            raise UserError(
                "this tokenizer has no segment 1 for the second sentence of a pair, which tells "
                "where it begins: --pair-encoding siamese or cross"
            )
        if second[0] != first[0]:
            second = np.concatenate([first[:1], second])
        for side, ids in enumerate((first, second)):
            number = numbers.setdefault(ids.tobytes(), len(numbers))
            if number == len(pieces):
                pieces.append(ids)
            index[row, side] = number
    lengths = np.array([len(ids) for ids in pieces], dtype=np.int32)
    sentences = EncodedSplit(
        row_ids=np.zeros(len(pieces), dtype="S1"),
        labels=np.zeros(len(pieces), dtype=np.float32),
        ids=np.concatenate(pieces),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        segment_starts=lengths,
    )
    return sentences, index


def sides_of(split: EncodedSplit, towers: int) -> tuple[list[EncodedSplit], np.ndarray]:
    """Return the distinct sentences that each of 1 or 2 towers reads, and every pair's numbers.

    Of two towers each reads its own side. The numbers, (R, 2), are of a pair's first sentence
    among what the first tower reads, and of its second among what the last one reads.
    """
    sentences, index = sentences_of(split)
    if towers == 1:
        return [sentences], index
    read = []
    for side in range(2):
        distinct, index[:, side] = np.unique(index[:, side], return_inverse=True)
        read.append(take(sentences, distinct))
    return read, index


def paraphrase_groups(index: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return a group number for each sentence of each pair, (R, 2).

    Sentences joined by a chain of pairs with label 1 are paraphrases and have the same number.
    """
    from scipy.sparse import coo_array  # imported late: slow, and few losses need it
    from scipy.sparse.csgraph import connected_components

    a, b = index[labels == 1].T
    size = int(index.max()) + 1
    links = coo_array((np.ones(len(a)), (a, b)), shape=(size, size))
    _, group = connected_components(links, directed=False)
    return group[index].astype(np.int64)


def without_repeats(rows: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the rows without those that repeat a sentence of an earlier one.

    An in-batch loss would take the repeated sentence for a negative of itself.
    """
    seen: set[int] = set()
    kept = []
    for row in rows.tolist():
        pair = set(index[row].tolist())
        if not pair & seen:
            kept.append(row)
            seen |= pair
    return np.array(kept, dtype=np.int64)


def collate_sentences(sentences: EncodedSplit, numbers: np.ndarray) -> tuple[Batch, torch.Tensor]:
    """Pack these sentences into ONE batch; return it and the places of `numbers` in it.

    `embeddings[places]` has the order of `numbers`. A sentence that occurs twice is encoded once.
    """
    distinct, inverse = np.unique(numbers, return_inverse=True)
    batch = collate(sentences, distinct)
    place = np.empty(len(distinct), dtype=np.int64)
    place[np.searchsorted(distinct, np.array(batch.rows))] = np.arange(len(distinct))
    return replace(batch, labels=None), torch.from_numpy(place[inverse])
