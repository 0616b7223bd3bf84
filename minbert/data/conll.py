"""CoNLL files: a word and its tag a line, a blank line between sentences."""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from minbert.errors import UserError

ENDINGS = (".conll", ".bio", ".iob", ".iob2")  # of files that are CoNLL's whatever is asked of them
DOCUMENT = "-DOCSTART-"  # begins a line that begins a document
Sentence = tuple[int, dict[str, list[str]]]  # its first line's number, its cells by column


def conll_table(
    path: Path, lines: Iterator[str], ends: tuple[str, str], names: tuple[str, ...]
) -> tuple[list[str], Iterator[Sentence]]:
    """Return the column names and the sentences of a file: a column is a list, a cell a word.

    Cells have tabs between or, in a line without a tab, blanks. names: of all columns; (): the
    first and the last one are called `ends`, and a file of one column has no tags. Raises
    UserError, with its line, for a line with another number of cells than the first.
    """
    rows = _rows(path, lines)
    first = next(rows, None)
    if first is None or not first[1]:
        raise UserError(f"{path}: no sentence in it")
    columns = len(first[1])
    names = names if columns > 1 else ()  # words alone, as in a test file
    if names and len(names) != columns:
        raise UserError(f"{path}:{first[0]}: {columns} columns, `columns` names {len(names)}")
    if twice := [name for name in ends if names.count(name) > 1]:
        raise UserError(f"{path}: two columns are called {twice[0]!r}; rename one of them")
    # by default the columns between the first and the last one have no names
    named = dict(zip(names or ends, range(columns) if names else (0, columns - 1), strict=True))
    if not names and columns == 1:
        named.pop(ends[1])
    return list(named), _sentences(path, chain([first], rows), columns, named)


def _rows(path: Path, lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield each line's number and cells: none of a blank line; the first line is no blank one."""
    begun = False
    for number, line in enumerate(lines, start=1):
        line = line.removesuffix("\r")
        if not line.strip(" \t") or line.startswith(DOCUMENT):
            if begun:
                yield number, []
            continue
        begun = True
        cells = line.split("\t") if "\t" in line else re.split(" +", line.strip(" "))
        if not all(cells):
            raise UserError(f"{path}:{number}: an empty cell in {line[:60]!r}; fill it in")
        yield number, cells


def _sentences(
    path: Path, rows: Iterator[tuple[int, list[str]]], columns: int, named: dict[str, int]
) -> Iterator[Sentence]:
    """Yield the sentences of a file's lines."""
    words: list[list[str]] = []
    start = 0
    for number, cells in chain(rows, [(0, [])]):
        if not cells:
            if words:
                yield start, {name: [word[i] for word in words] for name, i in named.items()}
            words = []
            continue
        if len(cells) != columns:
            raise UserError(
                f"{path}:{number}: {len(cells)} columns, the first line has {columns}: "
                f"{' '.join(cells)[:60]!r}"
            )
        start = start if words else number
        words.append(cells)
