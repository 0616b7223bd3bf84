"""A terminal of a given width, as a person has it: what a program draws, and what stays on it."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest import mock

TOKEN = re.compile(r"\x1b\[A|\x1b\[[\d;?]*[a-zA-Z]|.", re.S)


@dataclass
class Screen:
    """Rows of at most `width` characters; a longer line goes on in the next row."""

    width: int
    rows: list[str] = field(default_factory=lambda: [""])
    wrapped: set[int] = field(default_factory=set)  # rows that go on in the next one
    drawn: list[str] = field(default_factory=list)  # every row as it was when the cursor left it

    def write(self, text: str) -> "Screen":
        row = column = 0
        for token in TOKEN.findall(text):
            if token in ("\r", "\n", "\x1b[A"):
                self.drawn.append(self.rows[row].rstrip())
            if token == "\r":
                column = 0
            elif token == "\n":
                row += 1
                self.rows += [""] * (row == len(self.rows))
            elif token == "\x1b[A":
                row -= 1
            else:
                assert len(token) == 1, f"{token!r} is not understood here"
                if column == self.width:
                    self.wrapped.add(row)
                    row, column = row + 1, 0
                    self.rows += [""] * (row == len(self.rows))
                line = self.rows[row].ljust(column)
                self.rows[row] = line[:column] + token + line[column + 1 :]
                column += 1
        return self

    def lines(self) -> list[str]:
        """Return what is to be read at the end: the lines that are not empty."""
        found, line = [], ""
        for number, row in enumerate(self.rows):
            line += row
            if number not in self.wrapped:
                found.append(line.rstrip())
                line = ""
        return [line for line in found if line]


@contextmanager
def terminal(width: int) -> Iterator[Screen]:
    """Let stdout and stderr be a terminal; the screen is drawn when the block ends."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    received = bytearray()

    def read() -> None:
        while True:
            try:
                data = os.read(master, 65536)
            except OSError:  # the other end is closed
                return
            if not data:  # as macOS says it
                return
            received.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    screen = Screen(width)
    try:
        with os.fdopen(slave, "w") as file, mock.patch.multiple(sys, stdout=file, stderr=file):
            yield screen
    finally:
        reader.join()
        os.close(master)
    screen.write(received.decode())
