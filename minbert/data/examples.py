"""A data file -> Examples: course files, clean CSV, CMU's `label ||| sentence`, JSON, Parquet."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    id: str = "id"  # empty: rows have none, their line number serves
    labels: str = ""  # what parse_label makes of a label; ids are cached under it
    course: bool = False  # the course's own files, whose ids are lower-cased


def read_examples(path: Path, columns: Columns, labelled: bool) -> tuple[list[Example], int]:
    """The rows of one file, and how many were left out for want of a label.

    Raises UserError with file, line and reason for any other malformed row, and for an empty split.
    """
    examples, unlabelled, seen = [], 0, {}
    for line, id_, texts, label in _rows(path, columns, labelled):
        where, id_ = f"{path}:{line}", id_.lower() if columns.course else id_
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


def _rows(path: Path, columns: Columns, labelled: bool) -> Iterator[Row]:
    """By the file's kind: its ending, or what its first line looks like."""
    check_is_there(path, columns.course)
    if path.suffix == ".parquet":
        return _named_rows(path, _parquet_rows(path), columns, labelled)
    text = _text_of(path)
    if path.suffix in (".jsonl", ".json"):
        return _named_rows(path, _json_rows(path, text), columns, labelled)
    header = text.split("\n", 1)[0]
    plain = "|||" in header and "\t" not in header
    return (_plain_rows if plain else _table_rows)(path, text, columns, labelled)


def check_is_there(path: Path, course: bool) -> None:
    """Raise UserError for a missing file; of the course's with what fetches them."""
    if not path.is_file():
        fetch = f"fetch the course's files with `python -m tasks.download --to {path.parent}`, or "
        where = "point --data-dir at the directory that holds it"
        raise UserError(f"{path}: no such file; {fetch if course else ''}{where}")


def _text_of(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        reason = f"{path}:{line}: not UTF-8 ({error.reason}); save the file as UTF-8"
        raise UserError(reason) from error
    if not text.strip():
        raise UserError(f"{path}: the file is empty")
    return text


def columns_of(path: Path) -> list[str]:
    """The names of a file's columns: of its schema, a table's header, or of the first row."""
    if path.suffix == ".parquet":
        with _parquet_file(path) as file:
            return file.schema_arrow.names
    text = _text_of(path)
    if path.suffix in (".jsonl", ".json"):
        return list(next(_json_rows(path, text))[1])
    return _header(path, text)[0]


def _header(path: Path, text: str) -> tuple[list[str], str]:
    """The names of a table's columns, and what separates them: a tab, else a comma."""
    line = text.split("\n", 1)[0]
    delimiter = "\t" if "\t" in line else ","
    if ";" in line and delimiter not in line:
        raise UserError(f"{path}:1: `;` between the columns; separate them by tabs or commas")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    names = [name.strip() for name in next(reader)]
    if not any(names):
        raise UserError(f"{path}:1: no names of columns in the first line")
    return names, delimiter


def _table_rows(path: Path, text: str, columns: Columns, labelled: bool) -> Iterator[Row]:
    """Columns by the header's names, in whatever order they are."""
    header, delimiter = _header(path, text)
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=False)
    next(reader)
    wanted = _wanted(columns, labelled)
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
            id_ = cells[place[columns.id]].strip() if columns.id else str(reader.line_num)
            yield reader.line_num, id_, texts, label
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: {error}") from error


def _wanted(columns: Columns, labelled: bool) -> list[str]:
    names = [columns.id] if columns.id else []
    return [*names, *columns.texts, *([columns.label] if labelled else [])]


NamedRow = tuple[int, dict[str, Any]]  # row number from 1, values by column


def _named_rows(
    path: Path, rows: Iterator[NamedRow], columns: Columns, labelled: bool
) -> Iterator[Row]:
    """Rows whose values have names and types; a list is written with `;` between."""

    def text(value: Any) -> str:
        if isinstance(value, list):
            return ";".join(map(str, value)) or "-"
        # NaN, which is not equal to itself, is how a table says that there is none
        return "" if value is None or value != value else str(value).strip()

    for number, row in rows:
        missing = [name for name in _wanted(columns, labelled) if name not in row]
        if missing:
            there = ", ".join(row)
            raise UserError(f"{path}:{number}: no column {missing[0]!r}; the columns are {there}")
        id_ = text(row[columns.id]) if columns.id else str(number)
        texts = [text(row[name]) for name in columns.texts]
        yield number, id_, texts, text(row[columns.label]) if labelled else ""


def _json_rows(path: Path, text: str) -> Iterator[NamedRow]:
    """JSON lines: an object a line."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}:{number}: not a line of JSON ({error})") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number}: expected an object, found {line[:60]!r}")
        yield number, row


@contextmanager
def _parquet_file(path: Path) -> Iterator[Any]:
    """pyarrow's ParquetFile: its schema is read at once, its rows when they are asked for."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise UserError(f"{path}: Parquet needs pyarrow: pip install pyarrow") from error
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (ArrowException, OSError) as error:
        raise UserError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from error


def _parquet_rows(path: Path) -> Iterator[NamedRow]:
    with _parquet_file(path) as file:
        rows = file.read().to_pylist()
    yield from enumerate(rows, start=1)


def _plain_rows(path: Path, text: str, columns: Columns, labelled: bool) -> Iterator[Row]:
    """CMU's form, `label ||| sentence`, no header and no ids: the line number is the id."""
    for number, line in enumerate(io.StringIO(text), start=1):  # splitlines() cuts at U+2028 too
        if not line.strip():
            continue
        label, *texts = [part.strip() for part in line.split("|||")]
        if len(texts) != len(columns.texts):
            raise UserError(f"{path}:{number}: expected `label ||| sentence`, found {line[:60]!r}")
        yield number, str(number), texts, label
