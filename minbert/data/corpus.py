"""Plain text -> rows of ids, kept in files: a corpus may be larger than memory.

The ids are written in parts. What was finished when the program was killed is kept and not made
again, and every part has its hash, so that a damaged one is seen.
"""

import hashlib
import os
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from operator import gt
from pathlib import Path

import numpy as np

from minbert.data.encoded import EncodedSplit
from minbert.data.tables import TABLES, file_ending, is_object
from minbert.data.textfile import first_text, text_lines
from minbert.data.tokenizer import BertTokenizer
from minbert.errors import UserError
from minbert.files import read_json, write_json
from minbert.locks import locked
from minbert.manifest import check_unchanged, named_in_errors
from minbert.progress import progress, say
from minbert.typed import from_json

CORPUS_VERSION = b"1"  # change it when the files below change their meaning
CHUNK = 1 << 20  # characters tokenized in one parallel call: bounds the memory of the library
PART = 1 << 22  # tokens: some seconds of work, which is what a killed program loses
ID_BYTES, OFFSET_BYTES = 4, 8
NO_SECOND_SEGMENT = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Part:
    """A finished part of the files."""

    texts: int  # pieces of texts, as in_pieces cuts them, that were read for it
    rows: int
    tokens: int
    sha256: str  # of its number of texts, ids and offsets


@dataclass(frozen=True)
class Journal:
    """The parts that are on the disk; it is written after each of them."""

    parts: tuple[Part, ...] = ()
    complete: bool = False

    def total(self, what: str) -> int:
        """Return how many texts, rows or tokens are there."""
        return sum(getattr(part, what) for part in self.parts)


@dataclass(frozen=True)
class CorpusFiles:
    """Where a corpus's ids are."""

    ids: Path  # int32, of all rows end to end
    offsets: Path  # int64: 0, then the end of every row
    journal: Path

    @classmethod
    def at(cls, stem: Path) -> "CorpusFiles":
        """Return the files of a name without an ending."""
        return cls(*(stem.with_suffix(ending) for ending in (".ids", ".offsets", ".json")))


def check_plain(files: list[Path]) -> None:
    """Raise UserError for a table: its keys and quotes would be words to guess."""
    for path in files:
        if file_ending(path) in TABLES or is_object(first_text(path).strip()):
            raise UserError(
                f"{path}: a table; --corpus takes plain text: write its texts into a file, a text "
                f"a line, or, if its rows have labels, make it a task's `train` in a --task-file"
            )


def load_corpus(
    hashes: dict[Path, str], tokenizer: BertTokenizer, max_length: int, cache_dir: Path
) -> EncodedSplit:
    """Return text files as rows of ids, from the cache if files and tokenizer have not changed.

    hashes: of the files, in their order.
    """
    key = "".join(hashes.values()).encode()
    return _load_texts(corpus_texts(list(hashes)), key, hashes, tokenizer, max_length, cache_dir)


def load_sentences(
    sentences: list[str], tokenizer: BertTokenizer, max_length: int, cache_dir: Path
) -> EncodedSplit:
    """Return sentences as rows of ids, from the cache if they and the tokenizer are the same."""
    key = repr(sentences).encode()  # quoted: a sentence may have line breaks
    return _load_texts(iter(sentences), key, {}, tokenizer, max_length, cache_dir)


def corpus_texts(files: list[Path]) -> Iterator[str]:
    """Yield the lines that are not empty, without the spaces around them.

    Raises UserError with file and line for what is no text, and for a file without text.
    """
    for path in files:
        for number, line in enumerate(text_lines(path), start=1):
            if "\0" in line:
                raise UserError(f"{path}:{number}: a binary file; --corpus takes plain text")
            if text := line.strip():
                yield text


def _load_texts(
    texts: Iterator[str], key: bytes, hashes: dict[Path, str],
    tokenizer: BertTokenizer, max_length: int, cache_dir: Path,
) -> EncodedSplit:  # fmt: skip
    """Return texts as rows of at most max_length tokens, a long text as several.

    The rows have no labels and no ids of their own. key: differs where the texts differ. hashes: of
    the texts' files. Raises UserError if there is no token in any text, and for a file that changes
    while it is read.
    """
    about = CORPUS_VERSION + repr(max_length).encode() + tokenizer.fingerprint
    stem = cache_dir / f"corpus-{hashlib.sha256(about + key).hexdigest()[:16]}"
    files = CorpusFiles.at(stem)
    with locked(stem.with_suffix(".lock"), wait=True):  # one command writes, others wait
        journal = read_journal(files)
        if not journal.complete:
            journal = _add_parts(files, journal, texts, tokenizer, max_length)
            try:
                check_unchanged(hashes)
            except UserError:  # these ids would be taken for those of the earlier texts
                files.journal.unlink()
                raise
            journal = replace(journal, complete=True)
            write_json(files.journal, asdict(journal))
    return _open(files, journal)


def read_journal(files: CorpusFiles) -> Journal:
    """Return the parts that are on the disk, up to the first that is not as it was written."""
    if not all(path.is_file() for path in (files.ids, files.offsets, files.journal)):
        return Journal()
    try:
        journal = from_json(Journal, read_json(files.journal), str(files.journal))
    except UserError:
        return Journal()  # a damaged one costs only time
    sizes = [(part.texts, part.rows, part.tokens) for part in journal.parts]
    needed = ID_BYTES * journal.total("tokens"), OFFSET_BYTES * (journal.total("rows") + 1)
    there = files.ids.stat().st_size, files.offsets.stat().st_size
    if any(min(numbers) < 0 for numbers in sizes) or any(map(gt, needed, there)):
        return Journal()
    if journal.complete and (needed != there or not journal.parts):
        return Journal()
    whole: list[Part] = []
    with files.ids.open("rb") as ids, files.offsets.open("rb") as offsets:
        if offsets.read(OFFSET_BYTES) != bytes(OFFSET_BYTES):  # the first row begins at 0
            return Journal()
        for part in journal.parts:
            content = ids.read(ID_BYTES * part.tokens), offsets.read(OFFSET_BYTES * part.rows)
            if hash_of(part.texts, *content) != part.sha256:
                return Journal(tuple(whole))
            whole.append(part)
    return journal


def _add_parts(
    files: CorpusFiles, journal: Journal, texts: Iterator[str], tokenizer: BertTokenizer,
    max_length: int,
) -> Journal:  # fmt: skip
    """Write the parts that the journal lacks, and after each of them the journal; return it."""
    chunks = chunks_of(islice(in_pieces(progress(texts, "texts")), journal.total("texts"), None))
    with files.ids.open("ab") as ids_file, files.offsets.open("ab") as offsets_file:
        ids_file.truncate(ID_BYTES * journal.total("tokens"))
        offsets_file.truncate(OFFSET_BYTES * (journal.total("rows") + 1) if journal.parts else 0)
        if not journal.parts:
            offsets_file.write(bytes(OFFSET_BYTES))
        while read := _encode_part(chunks, tokenizer, max_length):
            texts_read, ids, lengths = read
            ends = (journal.total("tokens") + np.cumsum(lengths, dtype=np.int64)).tobytes()
            for file, content in ((ids_file, ids.tobytes()), (offsets_file, ends)):
                with named_in_errors(Path(file.name)):
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            part = Part(
                texts_read, len(lengths), len(ids), hash_of(texts_read, ids.tobytes(), ends)
            )
            journal = Journal((*journal.parts, part))
            write_json(files.journal, asdict(journal))
            say(f"{files.ids}: {journal.total('texts'):,} texts")
    if not journal.total("tokens"):
        raise UserError("the texts to train on hold no token")
    return journal


def _encode_part(
    chunks: Iterator[list[str]], tokenizer: BertTokenizer, max_length: int
) -> tuple[int, array, array] | None:
    """Return how many texts a part has, its ids and its rows' lengths; None at the end."""
    texts, ids, lengths = 0, array("i"), array("i")
    for chunk in chunks:
        texts += len(chunk)
        for pieces in tokenizer.encode_plain(chunk):
            for start in range(0, len(pieces), max_length - 2):
                row = [tokenizer.cls_id, *pieces[start : start + max_length - 2], tokenizer.sep_id]
                lengths.append(len(row))
                ids.extend(row)
        if len(ids) >= PART:
            break
    return (texts, ids, lengths) if texts else None


def in_pieces(texts: Iterator[str]) -> Iterator[str]:
    """Yield texts, those of more than a chunk's characters as several, cut at spaces."""
    for text in texts:
        start = 0
        while len(text) - start > CHUNK:
            end = text.rfind(" ", start + 1, start + CHUNK)
            end = start + CHUNK if end < 0 else end
            yield text[start:end]
            start = end
        yield text[start:]


def chunks_of(texts: Iterator[str]) -> Iterator[list[str]]:
    """Yield texts in lists of about a chunk's characters."""
    chunk, size = [], 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if size >= CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def hash_of(texts: int, ids: bytes, offsets: bytes) -> str:
    """Return the hash of a part's content, in hexadecimal digits."""
    return hashlib.sha256(b"%d," % texts + ids + offsets).hexdigest()


def _open(files: CorpusFiles, journal: Journal) -> EncodedSplit:
    """Return the rows; ids and offsets stay on the disk (memory maps), the rest takes no memory."""
    rows, tokens = journal.total("rows"), journal.total("tokens")
    return EncodedSplit(
        row_ids=np.broadcast_to(np.zeros((), dtype="S1"), rows),
        labels=np.broadcast_to(np.zeros((), dtype=np.float32), rows),
        ids=np.memmap(files.ids, dtype=np.int32, mode="r", shape=tokens),
        offsets=np.memmap(files.offsets, dtype=np.int64, mode="r", shape=rows + 1),
        segment_starts=np.broadcast_to(np.array(NO_SECOND_SEGMENT, dtype=np.int32), rows),
    )
