"""A text file -> its lines, one at a time: a file may be larger than memory.

Whatever is no UTF-8 text is refused by name: what it is, where, and what to do.
"""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from minbert.errors import UserError

KNOWN_BYTES = (  # how files begin that somebody may take for text
    (b"\xff\xfe", "UTF-16 text; save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text; save it as UTF-8"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook; save the table as CSV (UTF-8)"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file; run `git lfs pull`"),
)


def text_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file or of a .gz of one, without their line feeds.

    No other character ends a line, but the carriage returns of old Macs do if there is no line
    feed at all. Raises UserError, with the line, for what is not UTF-8, and for an empty file.
    """
    number, blank = 0, True
    for number, raw in enumerate(_raw_lines(path), start=1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            reason = f"not UTF-8 ({error.reason}); save the file as UTF-8"
            raise UserError(f"{path}:{number}: {reason}") from error
        blank = blank and not line.strip()
        yield line
    if blank:
        raise UserError(f"{path}: the file is empty")


def _raw_lines(path: Path) -> Iterator[bytes]:
    """Yield the bytes of each line."""
    is_gzip = path.suffix.lower() == ".gz"
    try:
        with gzip.open(path) if is_gzip else path.open("rb") as file:
            first = file.readline()
            for start, what in KNOWN_BYTES:
                if first.startswith(start):
                    raise UserError(f"{path}: {what}")
            if not first.endswith(b"\n"):  # all of the file
                yield from first.split(b"\r")
                return
            yield first[:-1]
            for line in file:
                yield line.removesuffix(b"\n")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: a damaged .gz file ({error}); fetch it again") from error
