"""A text file -> its lines, one at a time: a file may be larger than memory.

Whatever is no text of its encoding is refused by name: what it is, where, and what to do.
"""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO

from minbert.errors import UserError, first_line
from minbert.manifest import LFS, LFS_MESSAGE

UTF_16 = 'UTF-16 text; save it as UTF-8 (tables may stay: a task file\'s charset = "{0}")'
PACKED = "compressed by {0}; unpack it with `{1}`, or compress it by gzip (.gz), which is read"
GZIP = b"\x1f\x8b"
KNOWN_BYTES = (  # how files begin that somebody may take for text
    (b"\xff\xfe", UTF_16.format("utf-16")),
    (b"\xfe\xff", UTF_16.format("utf-16")),
    (
        b"PK\x03\x04",
        "a zip archive, an Excel workbook or a Word text; unpack it, or save it as "
        "CSV or plain text (UTF-8)",
    ),
    (
        b"\xd0\xcf\x11\xe0",
        "an old Excel workbook or Word text; save it as CSV or plain text (UTF-8)",
    ),
    (LFS, LFS_MESSAGE),
    (
        GZIP,
        "compressed by gzip; unpack it by `gunzip` or, if it is a text file, end its name in .gz",
    ),
    *((b"BZh%d1AY&SY" % level, PACKED.format("bzip2", "bunzip2")) for level in range(1, 10)),
    (b"\xfd7zXZ", PACKED.format("xz", "unxz")),
    (b"\x28\xb5\x2f\xfd", PACKED.format("zstd", "unzstd")),
)


def text_lines(path: Path, encoding: str = "") -> Iterator[str]:
    """Yield the lines of a text file or of a .gz of one, without their line feeds.

    No other character ends a line, but the carriage returns of old Macs do if there is no line
    feed at all. encoding: "": UTF-8; a byte order mark is no part of the text. Raises UserError,
    with the line, for bytes that are not of the encoding, and for an empty file.
    """
    blank = True
    for line in _decoded_lines(path, encoding) if encoding else _utf8_lines(path):
        blank = blank and not line.strip()
        yield line
    if blank:
        raise UserError(f"{path}: the file is empty")


def first_text(path: Path, encoding: str = "") -> str:
    """Return the first of `text_lines` that is not blank."""
    return next(filter(str.strip, text_lines(path, encoding)))


def check_is_text(first: bytes, name: str) -> None:
    """Raise UserError if a file's first bytes say that it is none of text."""
    for start, what in KNOWN_BYTES:
        if first.startswith(start):
            raise UserError(f"{name}: {what}")
    is_zero = [byte == 0 for byte in first[:4]]
    for charset, zeros in (("utf-16-le", [False, True] * 2), ("utf-16-be", [True, False] * 2)):
        if is_zero == zeros:  # two characters, no byte order mark
            raise UserError(f"{name}: {UTF_16.format(charset)}")


def _utf8_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file in UTF-8."""
    for number, raw in enumerate(_raw_lines(path), start=1):
        try:
            yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            reason = f"not UTF-8 ({error.reason}); save the file as UTF-8"
            raise UserError(
                f"{path}:{number}: {reason} (`iconv -f cp1252 -t utf-8`, say) or, if it is a "
                f'task\'s, give the task file its charset = "cp1252"'
            ) from error


def _raw_lines(path: Path) -> Iterator[bytes]:
    """Yield the bytes of each line."""
    with opened(path) as file:
        first = file.readline()
        check_is_text(first, str(path))
        second = file.readline()
        if not second:  # there is no line feed in the file but at its end
            yield from first.removesuffix(b"\n").split(b"\r")
            return
        for line in chain([first, second], file):
            yield line.removesuffix(b"\n")


def _decoded_lines(path: Path, encoding: str) -> Iterator[str]:
    """Yield the lines of a file in any encoding, such as UTF-16, whose bytes hold no lines."""
    number = 0
    byte_by_byte = len(bytes(range(256)).decode(encoding, errors="replace")) == 256
    if byte_by_byte and is_utf8(path, encoding):  # others may be UTF-8 by chance
        raise UserError(
            f"{path}: UTF-8, not {encoding}; save it as {encoding}, or all files as UTF-8 and take "
            f"charset out"
        )
    if has_ascii(encoding):
        with opened(path) as file:
            check_is_text(file.read(64), str(path))  # a file may have no line feed
    with opened(path) as file, io.TextIOWrapper(file, encoding, newline="\n") as text:
        try:
            # in a charset of one byte the mark of UTF-8 is three characters
            mark = codecs.BOM_UTF8.decode(encoding, errors="replace") if byte_by_byte else "\ufeff"
            first, second = text.readline().removeprefix(mark), text.readline()
            # without a line feed but at its end the file is one line of Python's
            lines = [first, second] if second else first.removesuffix("\n").split("\r")
            for line in chain(lines, text):
                number += 1
                yield line.removesuffix("\n")
        except UnicodeError as error:
            after = f"after line {number}" if number else "at its beginning"
            raise UserError(f"{path}: {after}: not {encoding} ({first_line(error)})") from error


def is_utf8(path: Path, encoding: str) -> bool:
    """Return whether a file that is said to be in another encoding is UTF-8.

    Text in an encoding of one byte a character is hardly ever valid UTF-8 by chance; in one of two
    bytes it may be, if it is short. ASCII alone does not count as UTF-8 if the other encoding has
    the same bytes for it, as all but UTF-16 and its like have.
    """
    decoder, is_ascii = codecs.getincrementaldecoder("utf-8")(), True
    with opened(path) as file:
        try:
            while block := file.read(1 << 20):
                if b"\0" in block:  # of UTF-16 or UTF-32
                    return False
                decoder.decode(block)
                is_ascii = is_ascii and block.isascii()
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return not (is_ascii and has_ascii(encoding))


def has_ascii(encoding: str) -> bool:
    """Return whether an encoding has ASCII's bytes for its characters, as UTF-16 has not."""
    return "a".encode(encoding) == b"a"


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, or what is in a .gz.

    Raises UserError for a .gz that is none and, when reading comes upon it, for a damaged one.
    """
    try:
        with path.open("rb") as file:
            if path.suffix.lower() != ".gz":
                yield file
                return
            first = file.peek(64)
            if first and not first.startswith(GZIP):
                check_is_text(first, str(path))  # it names what stands in the file's place
                hint = "fetch it again or, if it is text, take .gz off its name"
                raise UserError(f"{path}: not compressed by gzip; {hint}")
            with gzip.open(file) as inside:
                yield inside
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: a damaged .gz file ({error}); fetch it again") from error
