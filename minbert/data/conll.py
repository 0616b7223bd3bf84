"""CoNLL files: a word and its tag a line, a blank line between sentences."""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from minbert.errors import UserError

CONLL = (".conll", ".bio", ".iob", ".iob2")  # endings that only CoNLL files have
DOCUMENT = "-DOCSTART-"  # begins a line that begins a document
HASH = re.compile(r"#([ \t]|$)")  # begins a comment, or a line whose word is `#`
COMMENT = re.compile(r"# (\S+ = |new(doc|par)\b)")  # begins one of CoNLL-U, as `# sent_id = 7`
CELLS_HINT = "tabs, or blanks in a line without a tab, stand between cells"
Sentence = tuple[int, dict[str, list[str]]]  # its first line's number, its cells by column


def conll_table(
    path: Path, lines: Iterator[str], word_columns: tuple[str, str], names: tuple[str, ...]
) -> tuple[list[str], Iterator[Sentence]]:
    """Return the column names and the sentences of a file, each with a list of cells a column.

    Cells have tabs between them or, in a line without a tab, blanks. names: of all columns; (): the
    first and the last column are `word_columns`, and a file of one column has no tags.
    Comments before a sentence's first word are left out. Raises UserError, with its number, for a
    line with another number of cells than the first.
    """
    lines = (line.removesuffix("\r") for line in lines)
    begin: list[str] = []  # to the first line that is surely a word's
    for line in lines:
        begin.append(line)
        if not (_is_blank(line) or HASH.match(line)):
            break
    word_line = next((line for line in reversed(begin) if not _is_blank(line)), "")
    rows = _rows(path, chain(begin, lines), word_line)
    first = next(rows, None)
    if first is None:
        raise UserError(f"{path}: no sentence in it")
    columns = len(first[1])
    names = names if columns > 1 else ()  # words alone, as in a test file
    if names and len(names) != columns:
        raise UserError(f"{path}:{first[0]}: {columns} columns, `columns` names {len(names)}")
    if twice := [name for name in word_columns if names.count(name) > 1]:
        raise UserError(f"{path}: two columns are called {twice[0]!r}; rename one of them")
    # by default the columns between the first and the last one have no names
    places = range(columns) if names else (0, columns - 1)
    named = dict(zip(names or word_columns, places, strict=True))
    if columns == 1:
        named.pop(word_columns[1])
    return list(named), _sentences(path, chain([first], rows), columns, named)


def _rows(path: Path, lines: Iterator[str], word_line: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each word's line; no cells: the sentence ends here.

    word_line: one that is no comment.
    """
    in_sentence = False
    for number, line in enumerate(lines, start=1):
        if _is_blank(line):
            if in_sentence:
                yield number, []
            in_sentence = False
            continue
        if not in_sentence and _is_comment(line, word_line):
            continue
        in_sentence = True
        cells = _cells(line)
        if not all(cells):
            raise UserError(f"{path}:{number}: an empty cell in {line[:60]!r}; fill it in")
        yield number, cells


def _is_blank(line: str) -> bool:
    """Return whether a line stands between sentences."""
    return not line.strip(" \t") or line.startswith(DOCUMENT)


def _is_comment(line: str, word_line: str) -> bool:
    """Return whether a line before a sentence's first word is a comment.

    A line whose word is `#` has as many cells as other lines, and tabs if they have tabs.
    """
    if not HASH.match(line):  # as nearly all: their cells are not needed here
        return False
    form, word_form = (("\t" in one, len(_cells(one))) for one in (line, word_line))
    return form != word_form or bool(COMMENT.match(line))


def _cells(line: str) -> list[str]:
    """Return a line's cells, which have tabs between or, without a tab, blanks."""
    return line.split("\t") if "\t" in line else re.split(" +", line.strip(" "))


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
                f"{' '.join(cells)[:60]!r}; {CELLS_HINT}"
            )
        start = start if words else number
        words.append(cells)
