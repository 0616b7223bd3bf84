"""Texts of any file as they may be printed: what would be a command or an error is escaped."""

import io
import os
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
