"""Tab- and comma-separated text -> cells, line by line: a stray quote swallows no other rows.

Files of tab-separated text come in two forms that look alike: with CSV's quoting (what pandas
writes), and literal, with quotes that are part of the text and need no partner (GLUE's).
"""

import csv
import io
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from minbert.errors import UserError

QUOTING = ("auto", "csv", "none")
Row = tuple[int, list[str]]  # its first line's number, its cells
MOST_LINES = 10_000  # of a row of tab-separated text
csv.field_size_limit(2**31 - 1)  # a cell may be a whole document; csv's own limit is 131072


def delimited_line(cells: Sequence[str | float | None], delimiter: str) -> str:
    """Join cells to a line; one with a delimiter, a quote or a line end in it is quoted."""
    line = io.StringIO()
    # with this line end the writer quotes every cell that holds \r or \n
    csv.writer(line, delimiter=delimiter, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n") + "\n"


def delimited_rows(
    path: Path, lines: Iterator[str], delimiter: str, quoting: str = "auto", columns: int = 0
) -> Iterator[Row]:
    """Cut the lines of a file into rows of cells. Empty lines are no rows.

    columns: how many there are; 0: as many as the first row, the header, has.
    quoting: "none": every line is a row and every quote is text. "csv": RFC 4180, where a quoted
    cell may hold line ends. "auto": as "csv", unless tabs separate the cells: then a line with as
    many tabs as a row needs is one, whose quotes are text unless each has its partner. A line with
    fewer, or with an open quote in its last cell, is joined with the next ones if that makes a row
    of CSV. Raises UserError with the line for a quote without its partner where it must have one.
    """
    if quoting == "csv" or (quoting == "auto" and delimiter != "\t"):
        yield from _csv_rows(path, lines, delimiter)
        return
    ahead: deque[str] = deque()  # lines that were read before their turn
    number, tabs = 0, columns - 1 if columns else None
    while (line := ahead.popleft() if ahead else next(lines, None)) is not None:
        line = line.removesuffix("\r")
        number, first = number + 1, number + 1
        if not line:
            continue
        tabs = line.count(delimiter) if tabs is None else tabs
        cells = _whole_cells(line, delimiter) if quoting == "auto" else None
        if cells and len(cells) <= tabs == line.count(delimiter):  # one of the tabs is in quotes
            cells = None
        if quoting == "auto" and line.count(delimiter) <= tabs and cells is None:
            cells, more = _cells_over_lines(line, lines, ahead, delimiter, tabs)
            number += more
            ahead = deque(islice(ahead, more, None))
        yield first, line.split(delimiter) if cells is None else cells


def _csv_rows(path: Path, lines: Iterator[str], delimiter: str) -> Iterator[Row]:
    """Read by the rules of RFC 4180, strictly: text after a closing quote is an error.

    As the csv module has it, a carriage return alone ends a line, too, and counts as one.
    """
    with_ends = chain.from_iterable(io.StringIO(line + "\n", newline="") for line in lines)
    reader = csv.reader(with_ends, delimiter=delimiter, strict=True)
    first = 1
    try:
        for cells in reader:
            if cells:
                yield first, cells
            first = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{path}:{first}: a quote that does not belong to a pair ({error}); close it, or "
            f'double it inside of quotes; in a task file, quoting = "none" takes quotes as text'
        ) from error


def _whole_cells(text: str, delimiter: str) -> list[str] | None:
    """Return the cells of one row by CSV's quoting; None if its quotes are not whole."""
    if '"' not in text:
        return text.split(delimiter)
    try:
        rows = list(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def _cells_over_lines(
    line: str, lines: Iterator[str], ahead: deque[str], delimiter: str, tabs: int
) -> tuple[list[str] | None, int]:
    """Return the cells of a row whose quoted cells go on in the next lines, and how many lines.

    None and 0 if that makes no row of CSV with `tabs` + 1 cells. If this line has `tabs` tabs, a
    next one that has them too is a row of its own and is not joined; if it has fewer, no cell may
    hold a tab. What is read stays in `ahead`.
    """
    is_row = line.count(delimiter) == tabs

    def joined() -> Iterator[str]:
        yield line + "\n"
        for place in range(MOST_LINES):
            if place == len(ahead):
                if (more := next(lines, None)) is None:
                    return
                ahead.append(more.removesuffix("\r"))
            if is_row and ahead[place].count(delimiter) >= tabs:
                return
            yield ahead[place] + "\n"

    reader = csv.reader(joined(), delimiter=delimiter, strict=True)
    try:
        cells = next(reader)
    except (csv.Error, StopIteration):
        return None, 0
    if len(cells) != tabs + 1 or (not is_row and any(delimiter in cell for cell in cells)):
        return None, 0
    return cells, reader.line_num - 1
