"""A data file -> Examples: course files, clean CSV, CMU's `label ||| sentence`."""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from minbert.errors import UserError


@dataclass(frozen=True, slots=True)
class Example:
    """One row of text. label None: not given (a test split)."""

    id: str
    text: str
    pair: str | None = None
    label: float | None = None


@dataclass(frozen=True)
class Columns:
    """Which columns make an Example; `parse_label` refuses a bad label with ValueError."""

    texts: tuple[str, ...]  # one, or two for a pair
    label: str
    parse_label: Callable[[str], float] = float
    id: str = "id"


def read_examples(path: Path, columns: Columns, labelled: bool) -> tuple[list[Example], int]:
    """The rows of one file, and how many were left out for want of a label.

    Raises UserError with file, line and reason for any other malformed row, and for an empty split.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; point --data-dir at the directory that holds it")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}:{line}: not UTF-8 ({error.reason}); save the file as UTF-8"
        ) from error
    header = text.split("\n", 1)[0]
    plain = "|||" in header and "\t" not in header
    read_rows = _plain_rows if plain else _table_rows
    examples, unlabelled, seen = [], 0, {}
    for line, id_, texts, label in read_rows(path, text, columns, labelled):
        where = f"{path}:{line}"
        if not id_:
            raise UserError(f"{where}: empty id; every row needs one")
        if id_ in seen:
            raise UserError(
                f"{where}: id {id_!r} is on line {seen[id_]} already; ids must be unique"
            )
        seen[id_] = line
        if labelled and not label:
            unlabelled += 1
            continue
        if not all(texts):
            raise UserError(f"{where}: empty sentence; remove the row or fill it in")
        value = None
        if labelled:
            try:
                value = columns.parse_label(label)
            except ValueError as error:
                raise UserError(f"{where}: {columns.label} is {label!r}: {error}") from error
        examples.append(Example(id_, texts[0], texts[1] if len(texts) > 1 else None, value))
    if not examples:
        raise UserError(f"{path}: no usable row in it ({unlabelled} without a label)")
    return examples, unlabelled


Row = tuple[int, str, list[str], str]  # line, id, texts, label


def _table_rows(path: Path, text: str, columns: Columns, labelled: bool) -> Iterator[Row]:
    """Columns by the header's names, in whatever order they are."""
    delimiter = "\t" if "\t" in text.split("\n", 1)[0] else ","
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=False)
    header = [name.strip() for name in next(reader, [])]
    wanted = [columns.id, *columns.texts, *([columns.label] if labelled else [])]
    missing = [name for name in wanted if name not in header]
    if missing:
        raise UserError(f"{path}:1: no column {missing[0]!r}; the columns are {', '.join(header)}")
    place = {name: header.index(name) for name in wanted}
    try:
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise UserError(
                    f"{path}:{reader.line_num}: {len(cells)} fields, the header has {len(header)}; "
                    f"is a {'tab' if delimiter == chr(9) else 'comma'} or a quote missing?"
                )
            texts = [cells[place[name]].strip() for name in columns.texts]
            label = cells[place[columns.label]].strip() if labelled else ""
            yield reader.line_num, cells[place[columns.id]].strip().lower(), texts, label
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}") from error


def _plain_rows(path: Path, text: str, columns: Columns, labelled: bool) -> Iterator[Row]:
    """CMU's form, `label ||| sentence`, no header and no ids: the line number is the id."""
    for number, line in enumerate(io.StringIO(text), start=1):  # splitlines() cuts at U+2028 too
        if not line.strip():
            continue
        label, *texts = [part.strip() for part in line.split("|||")]
        if len(texts) != len(columns.texts):
            raise UserError(f"{path}:{number}: expected `label ||| sentence`, found {line[:60]!r}")
        yield number, str(number), texts, label
