"""A data file of any kind -> its columns' names and rows of text: TSV, CSV, JSON lines, Parquet."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from minbert.data.conll import CELLS_HINT, conll_table
from minbert.data.delimited import delimited_rows
from minbert.data.textfile import check_is_text, text_lines
from minbert.errors import UserError, first_line
from minbert.printable import composed, valid_unicode

JSON = (".jsonl", ".ndjson", ".json")
OBJECT_ENDINGS = (".parquet", *JSON)  # endings of files whose rows have names and lists of words
TABLES = (".tsv", ".csv", *OBJECT_ENDINGS)  # endings of files whose columns have names
SEMICOLON = (
    "`;` between the columns; separate them by tabs or commas or, if it is a file that a new run "
    'is to train on, write delimiter = ";" in the task file'
)
PARQUET_ROWS = 4096  # that are read together
NAMING_ROWS = 1000  # objects of JSON, whose keys are the columns: some may lack one
Cells = dict[str, Any]  # values by column
TableRow = tuple[int, Cells]  # number of its first line or its own, from 1


@dataclass(frozen=True)
class Dialect:
    """How a task's files are written: its task file says so."""

    quoting: str = "auto"  # see delimited.py
    names: tuple[str, ...] = ()  # of the columns, if the files have no header
    delimiter: str = ""  # between the cells of a row; "": tab or comma, by the first line
    charset: str = ""  # of text; "": UTF-8
    # of a task that labels words, whose text files are CoNLL's: the words' column and the tags'
    word_columns: tuple[str, str] | tuple[()] = ()


def column_names(path: Path, dialect: Dialect) -> list[str]:
    """Return a file's column names: from its schema, a table's header or the first JSON objects."""
    return open_table(path, dialect)[0]


def open_table(
    path: Path, dialect: Dialect, wanted: Sequence[str] = ()
) -> tuple[list[str], Iterator[TableRow]]:
    """Return a file's column names and its rows, which are read one by one.

    wanted: the columns that are read if it is a Parquet file. Raises UserError with file, line and
    reason for what is no table and, while rows are read, for what is no row.
    """
    if file_ending(path) == ".parquet":
        return _open_parquet(path, wanted)
    return table_of(path, text_lines(path, dialect.charset), dialect)


def table_of(
    path: Path, lines: Iterator[str], dialect: Dialect
) -> tuple[list[str], Iterator[TableRow]]:
    """Return the column names and the rows of a file's lines; its ending tells what they are."""
    if file_ending(path) in JSON:
        rows = _json_rows(path, lines)
        first = list(islice(rows, NAMING_ROWS))
        return list(dict.fromkeys(chain(*(row for _, row in first)))), chain(first, rows)
    if dialect.word_columns:
        return conll_table(path, lines, dialect.word_columns, dialect.names)
    return _delimited_table(path, lines, dialect)


def file_ending(path: Path) -> str:
    """Return the ending that tells how a file is read, in small letters; .gz is looked through."""
    inner = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return inner.suffix.lower()


def is_object(line: str) -> bool:
    """Return whether a line is an object of JSON, and not a text that begins as one."""
    try:
        return line.startswith("{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _delimited_table(
    path: Path, lines: Iterator[str], dialect: Dialect
) -> tuple[list[str], Iterator[TableRow]]:
    """Return the column names, from the header or the task file, and the rows of a table."""
    begin: list[str] = []  # to the first line that is not blank
    for line in lines:
        begin.append(line if line.strip() else "")
        if begin[-1]:
            break
    first = begin[-1]
    names = list(dialect.names)
    # a first line without tab or comma names one column, whose cells may hold commas (in a .csv:
    # in quotes)
    has_tabs = "\t" in first or ("," not in first and file_ending(path) != ".csv")
    delimiter = dialect.delimiter or ("\t" if has_tabs else ",")
    rows = delimited_rows(path, chain(begin, lines), delimiter, dialect.quoting, len(names))
    if not names:
        _check_header(path, first, delimiter)
        _, header = next(rows, (0, []))
        if dialect.quoting == "none":  # quotes are text in the rows only
            _, header = next(delimited_rows(path, iter([first]), delimiter), (0, []))
        names = [name.strip() for name in header]
        if not any(names):
            raise UserError(f"{path}:1: no names of columns in the first line")
    elif row := next(rows, None):
        if is_header(row[1], dialect):
            raise UserError(
                f"{path}:{row[0]}: the file has a header: take `columns` out of the task file or, "
                f"if its other files have none, this line out"
            )
        rows = chain([row], rows)
    return names, _named_rows(path, rows, names, delimiter, bool(dialect.names))


def is_header(cells: Iterable[str], dialect: Dialect) -> bool:
    """Return whether cells are the names that a task file's `columns` gives, in any order."""
    return bool(dialect.names) and {cell.strip(' "') for cell in cells} == {*dialect.names}


def _check_header(path: Path, line: str, delimiter: str) -> None:
    """Raise UserError for a first line that is the beginning of another kind of file."""
    if line.startswith("sep="):
        raise UserError(f"{path}:1: {line.rstrip()!r} is Excel's; take that line out")
    if re.match(r"\[\s*([\[{\"]|$)", line):  # SQL Server has names in brackets: [id],[text]
        raise UserError(f"{path}: a JSON array; write one object a line, in a .jsonl file")
    if ";" in line and delimiter not in line:
        raise UserError(f"{path}:1: {SEMICOLON}")


def _named_rows(
    path: Path, rows: Iterator[tuple[int, list[str]]], names: list[str], delimiter: str,
    from_task_file: bool,
) -> Iterator[TableRow]:  # fmt: skip
    """Yield rows as cells by column, without rows of blank cells alone, which Excel leaves behind.

    from_task_file: the names are those of the task file. Raises UserError for a row with another
    number of cells.
    """
    for number, cells in rows:
        if len(names) > 1 and not any(map(str.strip, cells)):
            continue
        if len(cells) != len(names):
            mark = {"\t": "tab", ",": "comma"}.get(delimiter, f"`{delimiter}`")
            who = "`columns` names" if from_task_file else "the header has"
            raise UserError(
                f"{path}:{number}: {len(cells)} fields, {who} {len(names)}; "
                f"is a {mark} or a quote missing?"
            )
        yield number, dict(zip(names, cells, strict=True))


def check_columns(path: Path, wanted: list[str], names: list[str], dialect: Dialect) -> None:
    """Raise UserError when a file with columns of these names lacks a wanted one, or has two."""
    for name in wanted:
        if name not in names:
            is_conll = dialect.word_columns and file_ending(path) not in OBJECT_ENDINGS
            hint = f"; {CELLS_HINT}" if is_conll and len(names) == 1 else ""
            if composed(name) in map(composed, names):
                hint = "; one has an accent as a character of its own: copy the name from there"
            raise UserError(f"{path}:1: no column {name!r}; it has {', '.join(names)[:200]}{hint}")
        if names.count(name) > 1:
            raise UserError(f"{path}:1: two columns are called {name!r}; rename one of them")


def _json_rows(path: Path, lines: Iterator[str]) -> Iterator[TableRow]:
    """Yield the objects of JSON lines, one a line."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if line.lstrip().startswith("["):
            raise UserError(f"{path}:{number}: expected an object a line, found a JSON array")
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
    with path.open("rb") as file:
        check_is_text(file.read(64), str(path))  # or what stands in its place, as a zip archive
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except UnicodeDecodeError as error:  # of a text column, whose bytes nobody has checked
        raise UserError(f"{path}: a text in it is not UTF-8 ({error.reason})") from error
    except (ArrowException, OSError) as error:
        raise UserError(f"{path}: not a Parquet file ({first_line(error)})") from error
    except (ValueError, OverflowError) as error:  # a time that Python has none for
        raise UserError(f"{path}: a value cannot be read ({first_line(error)})") from error


def _open_parquet(path: Path, wanted: Sequence[str]) -> tuple[list[str], Iterator[TableRow]]:
    """Return the column names of a Parquet file, and its rows of those that are wanted."""

    def rows() -> Iterator[Cells]:
        with _parquet_file(path) as file:
            of_fp32 = [field.name for field in file.schema_arrow if str(field.type) == "float"]
            for batch in file.iter_batches(PARQUET_ROWS, columns=list(wanted)):
                for row in batch.to_pylist():
                    for name in of_fp32:
                        if row.get(name) is not None:  # 0.1 comes as 0.10000000149011612
                            row[name] = float(str(np.float32(row[name])))
                    yield row

    with _parquet_file(path) as file:
        return file.schema_arrow.names, enumerate(rows(), start=1)


def as_text(value: Any) -> str:
    """Return a sentence or an id as text; "" for a missing value.

    A list of words is joined by spaces, bytes are decoded. Raises ValueError for what is no text.
    """
    if type(value) is str:  # most of them are
        return valid_unicode(value.strip())
    # NaN, the one value that differs from itself, marks a missing value in a Parquet table
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bytes):
        value = value.decode("utf-8")  # a UnicodeDecodeError is a ValueError
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        value = " ".join(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError(f"a {type(value).__name__} is not a text: {str(value)[:60]}")
    return valid_unicode(str(value).strip())


def as_label(value: Any) -> str:
    """Return a label as a table would write it. Raises ValueError for a value that is no label."""
    if isinstance(value, bool):
        return str(value).lower()  # as JSON writes it
    if isinstance(value, list):  # which `as_text` would take for words
        raise ValueError(
            f'a list is not a label: {str(value)[:60]}; write one label (kind = "multi-label" has '
            f"several in a row)"
        )
    return as_text(value)


def as_label_set(value: Any) -> str:
    """Return a set of labels as a table would write it: a list with `;` between, `-` for none.

    Raises ValueError for a value that is no set of labels.
    """
    if not isinstance(value, list):
        return as_label(value)
    if any(isinstance(part, list) or ";" in as_label(part) for part in value):
        raise ValueError(f"a list of names without `;` was expected, found {str(value)[:60]}")
    return ";".join(map(as_label, value)) if value else "-"


def as_words(value: Any) -> list[str]:
    """Return a sentence's words, as they are; [] for a missing value.

    Raises ValueError for what is no list of words.
    """
    if value is None or value == "":
        return []
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ValueError(f"a list of words was expected, found {str(value)[:60]!r}")
    if "" in value:
        raise ValueError(f"word {value.index('') + 1} is empty")
    return [valid_unicode(word) for word in value]


def as_tags(value: Any) -> list[str]:
    """Return the tags of a sentence's words as a table would write them; [] for a missing value.

    Raises ValueError for what is no list of labels.
    """
    if value is None or value == "":
        return []
    if not isinstance(value, list):
        raise ValueError(f"a list of tags was expected, found {str(value)[:60]!r}")
    return [as_label(tag) for tag in value]
