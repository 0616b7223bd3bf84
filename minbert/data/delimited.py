"""Tab- and comma-separated text -> cells, line by line: no quote takes other rows with it.

Files of tab-separated text come in two forms that look alike: with CSV's quoting (what pandas
writes), and literal, with quotes that are part of the text and need no partner (GLUE's).
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from minbert.errors import UserError

QUOTING = ("auto", "csv", "none")
Row = tuple[int, list[str]]  # its first line's number, its cells
csv.field_size_limit(2**31 - 1)  # a cell may be a whole document; csv's own limit is 131072


def delimited_rows(path: Path, text: str, delimiter: str, quoting: str = "auto") -> Iterator[Row]:
    """Cut a text in rows of cells; the first is the header. Empty lines are no rows.

    quoting: "none": every line is a row and every quote is text. "csv": RFC 4180, where a quoted
    cell may hold line ends. "auto": for commas as "csv"; for tabs a line with the header's number
    of tabs is a row, with CSV's quoting if its own is whole, else literal.
    Raises UserError with the line for quoting that is not whole where it has to be.
    """
    if quoting == "csv" or (quoting == "auto" and delimiter != "\t"):
        yield from _csv_rows(path, text, delimiter)
        return
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    tabs, number = lines[0].count(delimiter), 0
    while number < len(lines):
        line, first = lines[number], number + 1
        number += 1
        if not line:
            continue
        cells = _whole_cells(line, delimiter) if quoting == "auto" else None
        if cells and len(cells) <= tabs == line.count(delimiter):  # one of the tabs is in quotes
            cells = None
        if quoting == "auto" and line.count(delimiter) < tabs and cells is None:
            end = _end_of_cell(lines, number, delimiter, tabs)
            cells = _whole_cells("\n".join(lines[first - 1 : end]), delimiter)
            number = number if cells is None else end
        yield first, line.split(delimiter) if cells is None else cells


def _csv_rows(path: Path, text: str, delimiter: str) -> Iterator[Row]:
    """Read by the rules of RFC 4180, strictly: text after a closing quote is an error."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
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
    if '"' not in text and "\n" not in text:
        return text.split(delimiter)
    try:
        rows = list(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def _end_of_cell(lines: list[str], number: int, delimiter: str, tabs: int) -> int:
    """Return the line after the last one that a quoted cell with line ends can reach.

    A line with the header's number of tabs is a row of its own.
    """
    end = number
    while end < len(lines) and lines[end].count(delimiter) < tabs:
        end += 1
        if '"' in lines[end - 1]:
            break
    return end
