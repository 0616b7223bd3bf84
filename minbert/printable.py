"""Texts of any file as they may be printed, compared and saved; and printing nothing."""

import io
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TextIO

# all but tab and line feed
CONTROLS = {i: f"\\x{i:02x}" for i in (*range(32), *range(127, 160)) if chr(i) not in "\t\n"}


def one_line(text: str) -> str:
    """Escape what is not printable: names and values in a message may come from any file."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def without_controls(text: str) -> str:
    """Escape control characters: on a terminal they would be commands."""
    return text.translate(CONTROLS)


def escape_unencodable(stream: TextIO) -> None:
    """Let a stream escape the characters that its encoding lacks, as stderr does.

    Else the first one ends a run, as where Windows has another encoding for what goes to a file.
    """
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


def nowhere() -> TextIO:
    """Return an open file that takes every text, whatever the locale's encoding, and keeps none."""
    return open(os.devnull, "w", encoding="utf-8", errors="backslashreplace")


def code_after_output(code: int) -> int:
    """Flush stdout and return `code`; if it is 0 and the flush fails, 141 for a pipe, otherwise 2.

    Python's own flush, at its end, would print two lines and exit with 120.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        sys.stdout = nowhere()
        is_pipe = isinstance(error, BrokenPipeError)
        if not is_pipe and code < 2:  # with others a line has been printed
            with suppress(OSError):  # a stderr that nobody reads
                print(f"error: standard output: {error.strerror}", file=sys.stderr)
        return code or (141 if is_pipe else 2)
    return code


@contextmanager
def silence(quiet: bool) -> Iterator[None]:
    """Print nothing on stdout within the block if `quiet`."""
    if not quiet:
        yield
        return
    with nowhere() as file, redirect_stdout(file):
        yield


def composed(text: str) -> str:
    """Return a text with each letter and its accent as one character; macOS may have two."""
    return unicodedata.normalize("NFC", text)


def valid_unicode(text: str) -> str:
    """Replace halves of surrogate pairs, which tweets cut in the middle have, by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
