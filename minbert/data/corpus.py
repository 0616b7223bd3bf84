"""Plain text -> pieces of ids, kept in a file: a corpus may be larger than memory."""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from minbert.data.encoded import CHUNK, EncodedSplit
from minbert.data.tokenizer import BertTokenizer
from minbert.errors import UserError
from minbert.files import has_its_hash, replaced_file, write_hash


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines that are not empty.

    Raises UserError with file and line for what is not UTF-8 text, and for a file without text.
    """
    number, found = 0, False
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if b"\0" in line:
                raise UserError(f"{path}:{number}: a binary file; --corpus takes plain text")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                reason = f"not UTF-8 ({error.reason}); save the file as UTF-8"
                raise UserError(f"{path}:{number}: {reason}") from error
            if text:
                found = True
                yield text
    if not found:
        raise UserError(f"{path}: no text in it; give one sentence or document a line")


def encode_lines(
    lines: Iterable[str], tokenizer: BertTokenizer, max_length: int, path: Path
) -> EncodedSplit:
    """Tokenize every line as one row, a longer one as several of at most max_length tokens.

    The ids are written to `path` and read from there as they are needed; the rows have no labels
    and no ids of their own. Their lengths and the hashes of both follow in files beside it, so that
    what is damaged or unfinished is seen. Raises UserError if there is no token in any line.
    """
    lines, lengths = iter(lines), []
    with replaced_file(path) as file:
        while chunk := list(islice(lines, CHUNK)):
            for ids in tokenizer.encode_plain(chunk):
                for start in range(0, len(ids), max_length - 2):
                    piece = ids[start : start + max_length - 2]
                    row = np.array([tokenizer.cls_id, *piece, tokenizer.sep_id], dtype=np.int32)
                    lengths.append(len(row))
                    file.write(row.tobytes())
        if not lengths:
            raise UserError("the texts to train on hold no token")
    with replaced_file(path.with_suffix(".npy")) as file:
        np.save(file, np.array(lengths, dtype=np.int32))
    write_hash(path)
    write_hash(path.with_suffix(".npy"))
    return open_lines(path)


def open_lines(path: Path) -> EncodedSplit:
    """Open what `encode_lines` wrote; the ids stay on the disk (a memory map)."""
    lengths = np.load(path.with_suffix(".npy"))
    return EncodedSplit(
        row_ids=np.zeros(len(lengths), dtype="S1"),
        labels=np.zeros(len(lengths), dtype=np.float32),
        ids=np.memmap(path, dtype=np.int32, mode="r"),
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        segment_starts=lengths,
    )


def load_corpus(
    files: list[Path], tokenizer: BertTokenizer, max_length: int, cache_dir: Path
) -> EncodedSplit:
    """Return text files as rows of ids, from the cache if texts and tokenizer have not changed."""
    key = hashlib.sha256(repr(max_length).encode() + tokenizer.fingerprint)
    for path in files:
        for line in read_lines(path):
            key.update(line.encode() + b"\n")
    cached = cache_dir / f"corpus-{key.hexdigest()[:16]}.ids"
    if has_its_hash(cached) and has_its_hash(cached.with_suffix(".npy")):
        return open_lines(cached)
    lines = (line for path in files for line in read_lines(path))
    return encode_lines(lines, tokenizer, max_length, cached)
