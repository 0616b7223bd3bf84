"""A data file of any kind -> its columns' names and rows of text: TSV, CSV, JSON lines, Parquet.

Whatever is no such file, or no text, is refused by name: what it is, where, and what to do.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minbert.data.delimited import delimited_rows
from minbert.errors import UserError

JSON = (".jsonl", ".json")
KNOWN_BYTES = (  # how files begin that somebody may take for text
    (b"\xff\xfe", "UTF-16 text; save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text; save it as UTF-8"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook; save the table as CSV (UTF-8)"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file; run `git lfs pull`"),
)
Cells = dict[str, Any]  # values by column
TableRow = tuple[int, Cells]  # number of its first line or its own, from 1


@dataclass(frozen=True)
class Layout:
    """What a task file says of its files' form."""

    quoting: str = "auto"  # see delimited.py
    names: tuple[str, ...] = ()  # of the columns, if the files have no header


def column_names(path: Path, layout: Layout) -> list[str]:
    """Return a file's column names: from its schema, a table's header or the first JSON object."""
    return names_in(path, text_of(path), layout)


def names_in(path: Path, text: str, layout: Layout) -> list[str]:
    """Return the column names of a file whose text has been read."""
    if kind_of(path) == ".parquet":
        with _parquet_file(path) as file:
            return file.schema_arrow.names
    if kind_of(path) in JSON:
        return list(next(_json_rows(path, text))[1])
    return list(layout.names) or _header(path, text)[0]


def table_rows(path: Path, text: str, layout: Layout) -> Iterator[TableRow]:
    """Yield the rows of a file whose text has been read.

    Raises UserError with file, line and reason for what is no row.
    """
    if kind_of(path) == ".parquet":
        return _parquet_rows(path)
    if kind_of(path) in JSON:
        return _json_rows(path, text)
    return _delimited_rows(path, text, layout)


def kind_of(path: Path) -> str:
    """Return the ending that tells how a file is read, in small letters; .gz is looked through."""
    inner = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return inner.suffix.lower()


def text_of(path: Path) -> str:
    """Return a file's text; "" of a Parquet file, which is none.

    Raises UserError if it is empty, damaged or not UTF-8.
    """
    if kind_of(path) == ".parquet":
        return ""
    try:
        data = path.read_bytes()
        if path.suffix.lower() == ".gz":
            data = gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: a damaged .gz file ({error}); fetch it again") from error
    for start, what in KNOWN_BYTES:
        if data.startswith(start):
            raise UserError(f"{path}: {what}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        reason = f"{path}:{line}: not UTF-8 ({error.reason}); save the file as UTF-8"
        raise UserError(reason) from error
    if not text.strip():
        raise UserError(f"{path}: the file is empty")
    return text if "\n" in text else text.replace("\r", "\n")  # line ends of old Macs


def _header(path: Path, text: str) -> tuple[list[str], str]:
    """Return a table's column names and its delimiter: a tab, else a comma."""
    line = text.split("\n", 1)[0].rstrip("\r")
    delimiter = "\t" if "\t" in line else ","
    if line.startswith("sep="):
        raise UserError(f"{path}:1: {line!r} is Excel's; take that line out")
    if line.startswith("["):
        raise UserError(f"{path}: a JSON array; write one object a line, in a .jsonl file")
    if ";" in line and delimiter not in line:
        raise UserError(f"{path}:1: `;` between the columns; separate them by tabs or commas")
    _, cells = next(delimited_rows(path, text, delimiter))
    names = [name.strip() for name in cells]
    if not any(names):
        raise UserError(f"{path}:1: no names of columns in the first line")
    return names, delimiter


def _delimited_rows(path: Path, text: str, layout: Layout) -> Iterator[TableRow]:
    """Yield the rows of a table whose header, or task file, names the columns."""
    names = list(layout.names)
    if names:
        delimiter = "\t" if "\t" in text.split("\n", 1)[0] else ","
    else:
        names, delimiter = _header(path, text)
    rows = delimited_rows(path, text, delimiter, layout.quoting)
    if not layout.names:
        next(rows)
    for number, cells in rows:
        if len(cells) != len(names):
            mark = "tab" if delimiter == "\t" else "comma"
            raise UserError(
                f"{path}:{number}: {len(cells)} fields, the header has {len(names)}; "
                f"is a {mark} or a quote missing?"
            )
        yield number, dict(zip(names, cells, strict=True))


def check_columns(path: Path, wanted: list[str], names: list[str]) -> None:
    """Raise UserError when a file with columns of these names lacks a wanted one, or has two."""
    for name in wanted:
        if name not in names:
            raise UserError(f"{path}:1: no column {name!r}; it has {', '.join(names)}")
        if names.count(name) > 1:
            raise UserError(f"{path}:1: two columns are called {name!r}; rename one of them")


def _json_rows(path: Path, text: str) -> Iterator[TableRow]:
    """Yield the objects of JSON lines, one a line."""
    if text.lstrip().startswith("["):
        raise UserError(f"{path}:1: expected an object a line, found a JSON array")
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}:{number}: not a line of JSON ({error})") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number}: expected an object, found {line[:60]!r}")
        yield number, row


@contextmanager
def _parquet_file(path: Path) -> Iterator[Any]:
    """Open a file as pyarrow's ParquetFile, which reads only the schema until `read` is called."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise UserError(f"{path}: Parquet needs pyarrow: pip install pyarrow") from error
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (ArrowException, OSError) as error:
        raise UserError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from error


def _parquet_rows(path: Path) -> Iterator[TableRow]:
    """Yield the rows of a Parquet file."""
    with _parquet_file(path) as file:
        rows = file.read().to_pylist()
    yield from enumerate(rows, start=1)


def as_text(value: Any) -> str:
    """Return a sentence or an id as text; "" for a missing value.

    A list of words is joined by spaces, bytes are decoded. Raises ValueError for what is no text.
    """
    # NaN, the one value that differs from itself, marks a missing value in a Parquet table
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bytes):
        value = value.decode("utf-8")  # a UnicodeDecodeError is a ValueError
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        value = " ".join(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"a {type(value).__name__} is not a text: {str(value)[:60]}")
    return valid_unicode(str(value).strip())


def as_label(value: Any) -> str:
    """Return a label as a table would write it; a list is a set of labels, with `;` between.

    Raises ValueError for a value that is no label.
    """
    if isinstance(value, bool):
        return str(value).lower()  # as JSON writes it
    if isinstance(value, list):
        if any(isinstance(part, list) or ";" in as_label(part) for part in value):
            raise ValueError(f"a list of names without `;` was expected, found {str(value)[:60]}")
        return ";".join(map(as_label, value)) or "-"
    return as_text(value)


def valid_unicode(text: str) -> str:
    """Replace halves of surrogate pairs, which tweets cut in the middle have, by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
