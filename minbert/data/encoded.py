"""A whole split as ids: tokenized once, kept in flat arrays."""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice

import numpy as np

from minbert.data.examples import (
    Columns,
    Example,
    Files,
    check_ids,
    check_usable,
    iter_examples,
    paths_of,
)
from minbert.data.long_texts import HEAD_ONLY, parts_of, shorten
from minbert.data.tokenizer import CHARACTERS_PER_TOKEN, BertTokenizer
from minbert.data.unusable import BadRow, LeftOut
from minbert.progress import progress

CHUNK = 4096  # rows tokenized in one parallel call: bounds the memory of the library's encodings
LONG_CHUNK = 256  # of rows that are not cut by the library: they may have thousands of tokens each


def no_owners() -> np.ndarray:
    """Return `owners` for a split where sequence r is row r."""
    return np.zeros(0, dtype=np.int32)


@dataclass(frozen=True)
class EncodedSplit:
    """A split as flat arrays: R rows, M tokens in all. A row of the paper's tasks: 150 bytes.

    Every row is a sequence of tokens, unless long texts are read in windows: then a row is one
    sequence or several, and there are P of them in all.
    """

    row_ids: np.ndarray  # (R,) bytes, the ids of the file
    labels: np.ndarray  # (R,) float32, NaN where not given
    ids: np.ndarray  # (M,) int32
    offsets: np.ndarray  # (P+1,) int64, sequence p is ids[offsets[p]:offsets[p+1]]
    segment_starts: np.ndarray  # (P,) int32, where segment 1 begins in it; past its end: none
    left_out: str = ""  # in words: how many rows of the files, why, and on which lines
    left_out_counts: dict[str, int] = field(default_factory=dict)  # the same by reason
    last_line: int = 0  # of the last file: where its last row begins
    # (P,) int32, each sequence's row, in ascending order; empty: sequence r is row r
    owners: np.ndarray = field(default_factory=no_owners)
    # In token classification, of W words in all; None for other tasks.
    tags: np.ndarray | None = None  # (W,) float32, the words' labels, NaN where not given
    word_starts: np.ndarray | None = None  # (W,) int32, a word's first piece in its row; -1: none
    word_offsets: np.ndarray | None = None  # (R+1,) int64, where each row's words begin, then W

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens in each sequence, (P,)."""
        return np.diff(self.offsets)

    def lengths_of(self, sequences: np.ndarray) -> np.ndarray:
        """Return the number of tokens in each of n sequences, (n,), without reading the others."""
        return self.offsets[sequences + 1] - self.offsets[sequences]

    def id_strings(self) -> list[str]:
        """Return the rows' ids as text."""
        return [row_id.decode() for row_id in self.row_ids]


Splits = dict[str, EncodedSplit]  # by task


def encode_examples(
    examples: Iterable[Example], tokenizer: BertTokenizer, max_length: int, siamese: bool = False,
    long: str = HEAD_ONLY,
) -> EncodedSplit:  # fmt: skip
    """Tokenize every example: a pair as one sequence, or (siamese) as two of them end to end.

    examples: one at least; a few thousand of them are in memory at once. long: which part of a
    longer single sentence is read; pairs are cut where their longer sentence ends.
    """
    examples = iter(examples)
    size = CHUNK if long == HEAD_ONLY else LONG_CHUNK
    ids = bytearray()  # grows in place: parts would take their memory twice when they are joined
    parts, words = [], []
    while chunk := list(islice(examples, size)):
        counts = [1] * len(chunk)
        if chunk[0].words is not None:
            encoded, own = _encode_words(chunk, tokenizer, max_length)
            words.append(own)
        elif long == HEAD_ONLY:
            encoded = _encode_chunk(chunk, tokenizer, max_length, siamese)
        else:
            encoded, counts = _encode_long(chunk, tokenizer, max_length, long)
        ids += np.fromiter(chain.from_iterable(row for row, _ in encoded), np.int32).tobytes()
        parts.append(
            (
                np.array([e.id.encode() for e in chunk]),
                np.array([e.row_label for e in chunk], dtype=np.float32),
                np.array([len(row) for row, _ in encoded], dtype=np.int64),
                np.array([middle for _, middle in encoded], dtype=np.int32),
                np.array(counts, dtype=np.int32),
            )
        )
    row_ids, labels, lengths, starts, counts = map(np.concatenate, zip(*parts, strict=True))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    owners = no_owners()
    if len(lengths) > len(labels):
        owners = np.repeat(np.arange(len(labels), dtype=np.int32), counts)
    ids = np.frombuffer(ids, np.int32)
    split = EncodedSplit(row_ids, labels, ids, offsets, starts, owners=owners)
    if words:
        tags, word_starts, word_counts = map(np.concatenate, zip(*words, strict=True))
        word_offsets = np.concatenate([[0], np.cumsum(word_counts)])
        split = replace(split, tags=tags, word_starts=word_starts, word_offsets=word_offsets)
    return split


def _encode_words(
    chunk: list[Example], tokenizer: BertTokenizer, max_length: int
) -> tuple[list[tuple[list[int], int]], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return rows of labelled words as `_encode_chunk`; the words' tags, starts, and counts."""
    encoded = tokenizer.encode_words([e.words for e in chunk], max_length)
    tags = chain.from_iterable(
        [np.nan] * len(e.words) if e.label is None else e.label for e in chunk
    )
    arrays = (
        np.fromiter(tags, np.float32),
        np.fromiter(chain.from_iterable(starts for _, starts in encoded), np.int32),
        np.array([len(e.words) for e in chunk], dtype=np.int64),
    )
    return [(ids, len(ids)) for ids, _ in encoded], arrays


def _encode_long(
    chunk: list[Example], tokenizer: BertTokenizer, max_length: int, long: str
) -> tuple[list[tuple[list[int], int]], list[int]]:
    """Return every sequence's ids and their number, and how many sequences each row is."""
    texts = [shorten(e.text, max_length * CHARACTERS_PER_TOKEN, long) for e in chunk]
    rows = [parts_of(ids, max_length - 2, long) for ids in tokenizer.encode_plain(texts)]
    parts = ([tokenizer.cls_id, *part, tokenizer.sep_id] for row in rows for part in row)
    return [(part, len(part)) for part in parts], [len(row) for row in rows]


def _encode_chunk(
    chunk: list[Example], tokenizer: BertTokenizer, max_length: int, siamese: bool
) -> list[tuple[list[int], int]]:
    """Return the ids of each row, and where its segment 1 begins in them."""
    texts = [e.text for e in chunk]
    pairs = [e.pair for e in chunk if e.pair is not None] or None
    if siamese and pairs:
        both = (tokenizer.encode_batch(t, None, max_length) for t in (texts, pairs))
        firsts, seconds = ([e.ids for e in encodings] for encodings in both)
        return [(a + b, len(a)) for a, b in zip(firsts, seconds, strict=True)]
    encodings = tokenizer.encode_batch(texts, pairs, max_length)
    ids = [e.ids for e in encodings]
    second = [sum(e.type_ids) for e in encodings] if pairs else [0] * len(ids)
    return [(row, len(row) - n) for row, n in zip(ids, second, strict=True)]


def encode_files(
    files: Files, columns: Columns, labelled: bool, tokenizer: BertTokenizer, max_length: int,
    siamese: bool = False, long: str = HEAD_ONLY,
) -> EncodedSplit:  # fmt: skip
    """Read and tokenize a split's files, whose rows are never in memory all at once.

    Raises UserError as `read_examples`.
    """
    file_of, lines = array("i"), array("i")  # of the rows
    left_out, last_line = LeftOut(paths_of(files)), 0

    def usable_rows() -> Iterator[Example]:
        nonlocal last_line
        name = paths_of(files)[0].name
        for row in progress(iter_examples(files, columns, labelled), f"{name}: rows"):
            last_line = row.line
            if isinstance(row, BadRow):
                left_out.add(row)
                continue
            file_of.append(row.file)
            lines.append(row.line)
            yield row
        check_usable(columns, len(lines), left_out)

    split = encode_examples(usable_rows(), tokenizer, max_length, siamese, long)
    check_ids(files, split.row_ids, file_of, lines)
    return replace(
        split, left_out=left_out.summary(), left_out_counts=dict(left_out.counts),
        last_line=last_line,
    )  # fmt: skip


def take(split: EncodedSplit, rows: np.ndarray) -> EncodedSplit:
    """Return a split of these rows only, in this order."""
    sequences, owners = rows, no_owners()
    if len(split.owners):
        first = np.searchsorted(split.owners, np.arange(len(split) + 1))
        sequences = np.concatenate([np.arange(first[row], first[row + 1]) for row in rows])
        owners = np.repeat(np.arange(len(rows), dtype=np.int32), first[rows + 1] - first[rows])
    lengths = split.lengths_of(sequences)
    pieces = [split.ids[split.offsets[p] : split.offsets[p + 1]] for p in sequences]
    taken = replace(
        split,
        row_ids=split.row_ids[rows],
        labels=split.labels[rows],
        ids=np.concatenate(pieces),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        segment_starts=split.segment_starts[sequences],
        owners=owners,
    )
    if split.word_offsets is None:
        return taken
    words = [np.arange(split.word_offsets[r], split.word_offsets[r + 1]) for r in rows]
    chosen = np.concatenate(words)
    return replace(
        taken,
        tags=split.tags[chosen],
        word_starts=split.word_starts[chosen],
        word_offsets=np.cumsum([0, *map(len, words)]),
    )


def one_row_per_sequence(split: EncodedSplit) -> EncodedSplit:
    """Return a split whose rows are the P sequences, each with the label and id of its row."""
    if not len(split.owners):
        return split
    row_ids, labels = split.row_ids[split.owners], split.labels[split.owners]
    return replace(split, row_ids=row_ids, labels=labels, owners=no_owners())


def chosen_rows(rows: int, limit: int | None) -> np.ndarray:
    """Draw `limit` of so many rows, in file order; the same ones whatever the run's seed is."""
    if limit is None or limit >= rows:
        return np.arange(rows)
    return np.sort(np.random.default_rng(0).permutation(rows)[:limit])


def limit_rows(split: EncodedSplit, limit: int | None) -> EncodedSplit:
    """Return the split of the rows that `chosen_rows` draws."""
    if limit is None or limit >= len(split):
        return split
    return take(split, chosen_rows(len(split), limit))
