"""A whole split as ids: tokenized once, kept in flat arrays, cached on disk."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from minbert.data.examples import Columns, Example, read_examples
from minbert.data.tokenizer import BertTokenizer
from minbert.files import has_its_hash, replaced_file, write_hash

CACHE_VERSION = b"3"  # change it when the arrays below change their meaning
CHUNK = 16384  # rows tokenized in one parallel call: bounds the memory of the library's encodings


@dataclass(frozen=True)
class EncodedSplit:
    """A split as flat arrays: R rows, M tokens in all. A row of the paper's tasks: 150 bytes."""

    row_ids: np.ndarray  # (R,) bytes, the ids of the file
    labels: np.ndarray  # (R,) float32, NaN where not given
    ids: np.ndarray  # (M,) int32
    offsets: np.ndarray  # (R+1,) int64, row r is ids[offsets[r]:offsets[r+1]]
    segment_starts: np.ndarray  # (R,) int32, where segment 1 begins in the row, or its length
    unlabelled: int = 0  # rows of the file that have no label and are left out

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens in each row, (R,)."""
        return np.diff(self.offsets)

    def lengths_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the number of tokens in each of these n rows, (n,), without reading the others."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def id_strings(self) -> list[str]:
        """Return the rows' ids as text."""
        return [row_id.decode() for row_id in self.row_ids]


def encode_examples(
    examples: list[Example],
    tokenizer: BertTokenizer,
    max_length: int,
    unlabelled: int = 0,
    siamese: bool = False,
) -> EncodedSplit:
    """Tokenize every example: a pair as one sequence, or (siamese) as two of them end to end.

    unlabelled: how many rows of the file were left out, which the result keeps.
    """
    pieces, lengths, starts = [], [], []
    for start in range(0, len(examples), CHUNK):
        chunk = examples[start : start + CHUNK]
        texts = [e.text for e in chunk]
        pairs = [e.pair for e in chunk if e.pair is not None] or None
        if siamese and pairs:
            firsts, seconds = (tokenizer.encode_batch(t, None, max_length) for t in (texts, pairs))
            encoded = [(a.ids + b.ids, len(a.ids)) for a, b in zip(firsts, seconds, strict=True)]
        else:
            encodings = tokenizer.encode_batch(texts, pairs, max_length)
            encoded = [(e.ids, len(e.ids) - sum(e.type_ids)) for e in encodings]
        for ids, middle in encoded:
            pieces.append(np.array(ids, dtype=np.int32))
            lengths.append(len(ids))
            starts.append(middle)
    labels = [np.nan if e.label is None else e.label for e in examples]
    return EncodedSplit(
        row_ids=np.array([e.id.encode() for e in examples]),
        labels=np.array(labels, dtype=np.float32),
        ids=np.concatenate(pieces),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        segment_starts=np.array(starts, dtype=np.int32),
        unlabelled=unlabelled,
    )


def load_split(
    path: Path,
    columns: Columns,
    labelled: bool,
    tokenizer: BertTokenizer,
    max_length: int,
    cache_dir: Path | None = None,
    siamese: bool = False,
) -> EncodedSplit:
    """Read and tokenize one file, or take its arrays from the cache if nothing has changed."""
    cache = None
    if cache_dir is not None and path.is_file():
        key = hashlib.sha256(CACHE_VERSION + path.read_bytes())
        key.update(tokenizer.fingerprint)
        key.update(
            repr((replace(columns, parse_label=float), labelled, max_length, siamese)).encode()
        )
        cache = cache_dir / f"{path.stem}-{key.hexdigest()[:16]}.npz"
        if split := read_cache(cache):
            return split
    examples, unlabelled = read_examples(path, columns, labelled)
    split = encode_examples(examples, tokenizer, max_length, unlabelled, siamese)
    if cache is not None:
        write_cache(split, cache)
    return split


def write_cache(split: EncodedSplit, path: Path) -> None:
    """Write a split's arrays, whole or not at all, and beside them their file's hash."""
    with replaced_file(path) as file:
        np.savez(file, **vars(split))
    write_hash(path)


def read_cache(path: Path) -> EncodedSplit | None:
    """Read what `write_cache` wrote; None if it is not there or has another hash.

    A damaged cache costs only time: it is written anew. Nothing of it is read before its hash.
    """
    if not has_its_hash(path):
        return None
    with np.load(path) as arrays:
        return EncodedSplit(**{name: arrays[name] for name in arrays.files})


def take(split: EncodedSplit, rows: np.ndarray) -> EncodedSplit:
    """Return a split of these rows only, in this order."""
    lengths = split.lengths_of(rows)
    pieces = [split.ids[split.offsets[r] : split.offsets[r + 1]] for r in rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return EncodedSplit(
        split.row_ids[rows],
        split.labels[rows],
        np.concatenate(pieces),
        offsets,
        split.segment_starts[rows],
        split.unlabelled,
    )


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
