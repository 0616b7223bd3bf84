"""A user's texts for a task, of whatever file or pipe they come from: a table, words or lines."""

import re
import shutil
import sys
import tempfile
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import BinaryIO

from minbert.data.conll import CONLL
from minbert.data.examples import Columns, Example, is_cmu_line, may_be_cmu
from minbert.data.tables import (
    JSON,
    OBJECT_ENDINGS,
    SEMICOLON,
    TABLES,
    as_label,
    file_ending,
    is_header,
    is_object,
    open_table,
    table_of,
)
from minbert.data.textfile import check_is_text, opened, text_lines
from minbert.data.unlabelled import dialect_of_input, other_dialects, read_unlabelled
from minbert.errors import UserError
from minbert.progress import progress, say
from minbert.task.task import Task

BLOCK = 1 << 16  # bytes read at once, whose lines are predicted together: a pipe's capacity
ROWS = 1024  # rows of a table that are predicted together
Groups = Iterator[list[Example]]  # that are predicted together


@contextmanager
def open_input(source: str, task: Task, what: str = "") -> Iterator[tuple[Columns | None, Groups]]:
    """Yield the columns of a table and its rows, or None and the lines of a plain text.

    source: a file, or -, standard input. what: its name while its rows are checked; "": nothing is
    shown. Raises UserError for what cannot be read, before any row is yielded, but of a pipe's
    lines only when their turn comes.
    """
    columns, of_texts = task.columns, columns_of_texts(task.columns)
    ending = file_ending(Path(source)) if source != "-" else ""
    if source != "-" and task.per_word and has_words(Path(source), task):
        yield table_rows(Path(source), columns, Path(source).name, what)
        return
    if ending in TABLES or (source != "-" and is_wide(Path(source), columns)):
        yield table_rows(Path(source), of_texts, Path(source).name, what)
        return
    if source == "-" and sys.stdin is None:  # as `<&-` and some schedulers leave it
        raise UserError("--input -: standard input is closed; pipe texts to it, or name a file")
    with ExitStack() as stack:
        file = sys.stdin.buffer if source == "-" else stack.enter_context(opened(Path(source)))
        first = through_first_text(file)
        check_is_text(first, source)
        begin = first.removeprefix(BOM_UTF8).strip()
        if begin in (b"[", b"{") or begin.startswith((b'[{"', b"[ {")):
            kind = "a JSON array" if begin.startswith(b"[") else "an object over several lines"
            raise UserError(f"{source}: {kind}; write one object a line (.jsonl)")
        if ending := table_ending(first, of_texts, has_commas=".csv" in task.endings):
            copy = Path(stack.enter_context(tempfile.TemporaryDirectory())) / f"input{ending}"
            with copy.open("wb") as target:
                target.write(first)
                shutil.copyfileobj(file, target)
            try:
                names = columns if ending in JSON else of_texts
                table = table_rows(copy, names, source, what)
            except UserError as error:
                raise UserError(str(error).replace(str(copy), source)) from error
            yield table
            return
        if source != "-" and Path(source).is_file():
            check_lines(columns, first, file, what)
            file.seek(len(first))
        yield None, line_rows(columns, first, file)


def through_first_text(file: BinaryIO) -> bytes:
    """Read up to the end of the first line that is not blank, and return all that was read."""
    read = line = file.readline()
    while line and not line.removeprefix(BOM_UTF8).strip():
        line = file.readline()
        read += line
    return read


def is_wide(path: Path, columns: Columns) -> bool:
    """Return whether a file is in the task's charset and that is UTF-16 or one like it.

    Such bytes cannot be split at line ends: the file is read as a table, like the task's own.
    """
    charset = dialect_of_input(path, columns.dialect).charset
    return bool(charset) and "\n".encode(charset) != b"\n" and path.is_file()


def columns_of_texts(columns: Columns) -> Columns:
    """Return a task's columns in a delimited table; a task that labels words has whole texts there.

    A cell cannot hold a list of words, and the task file's `columns` are those of CoNLL files.
    """
    if not columns.dialect.word_columns:
        return columns
    return replace(columns, dialect=replace(columns.dialect, word_columns=(), names=()))


def has_words(path: Path, task: Task) -> bool:
    """Return whether a file, for a task that labels words, has words and not whole texts."""
    ending = file_ending(path)
    if ending in (*OBJECT_ENDINGS, *CONLL):
        return True
    # a pipe can be read once
    return ending in task.endings and path.is_file() and begins_as_conll(path, task.columns)


def begins_as_conll(path: Path, columns: Columns) -> bool:
    """Return whether a file's first sentence has CoNLL's form, else it is a plain text or a table.

    It is a plain text's if it is a single line whose last cell is none of the task's tags, and a
    table's if its first line is a header that names the column of the texts, but not the tags'.
    """
    dialect = dialect_of_input(path, columns.dialect)
    try:
        _, rows = open_table(path, dialect)
        number, cells = next(rows)
        words = cells[columns.texts[0]]
        if len(words) == 1:
            for tag in cells.get(columns.label, ()):
                columns.parse_label(tag)
    except (UserError, ValueError):
        return False
    first = next(islice(text_lines(path, dialect.charset), number - 1, None))
    header = re.split("[\t, ]+", first)
    return columns.texts[0] not in header or columns.label in header


def table_ending(first: bytes, columns: Columns, has_commas: bool) -> str:
    """Return the ending of the kind of table that begins so; "" for a plain text.

    first: its first line that is not blank, and the blank ones before it. A table begins with an
    object of JSON, or with a header that names all columns of the task's texts or, if the task's
    files have no header, with a row of as many cells, whose label is empty or one of the task's. A
    line `label ||| text` with such a label is one, too (.txt). has_commas: the task's files have
    them between cells.
    """
    try:
        line = decode(first, 1, columns.dialect.charset)
    except UserError:  # what is wrong is said with the lines that are read
        line = first.decode("utf-8-sig", errors="replace")
    line = line.strip("\r\n ").split("\n")[-1].split("\r")[0]
    if line.startswith("sep="):
        raise UserError(f"the input's first line: {line!r} is Excel's; take that line out")
    if line.startswith("{"):
        return ".jsonl" if is_object(line) else ""
    is_cmu = may_be_cmu(columns.dialect) and is_cmu_line(line)
    if is_cmu and has_label(columns, line.split("|||")[0]):
        return ".txt"
    if is_header(re.split(re.escape(columns.dialect.delimiter) or "[\t,]", line), columns.dialect):
        raise UserError("the input's first line is a header, which `columns` says is not there")
    if columns.dialect.names and not (columns.dialect.delimiter or has_commas or "\t" in line):
        return ""  # its comma is a sentence's own
    dialects = [columns.dialect, *other_dialects(columns.dialect)]
    for dialect, ending in product(dialects, (".tsv", ".csv")):
        try:
            names, rows = table_of(Path(f"line{ending}"), iter([line]), dialect)
            label = as_label(next(rows)[1][columns.label]) if columns.dialect.names else ""
        except (UserError, StopIteration, ValueError):  # no line of a table of this task at all
            continue
        if {*columns.texts} <= {*names} and has_label(columns, label):
            return ending
    if ";" in line and {*columns.texts} <= {cell.strip('" ') for cell in line.split(";")}:
        raise UserError(f"the input's first line: {SEMICOLON}")
    return ""


def has_label(columns: Columns, text: str) -> bool:
    """Return whether a text is one of the task's labels, or empty: where a label would be."""
    try:
        return not text.strip() or columns.parse_label(text.strip()) is not None
    except ValueError:
        return False


def table_rows(path: Path, columns: Columns, name: str, what: str = "") -> tuple[Columns, Groups]:
    """Return a table's columns, with an id if it has ids, and its rows in groups.

    name: of the table, for people. what: as in `open_input`. Raises UserError as `read_unlabelled`.
    """
    found, rows, left_out = read_unlabelled(path, columns, name, what)
    if said := left_out.summary():
        say(f"{name}: {said}", sys.stderr)
    return found, (rows[start : start + ROWS] for start in range(0, len(rows), ROWS))


def check_lines(columns: Columns, first: bytes, file: BinaryIO, what: str) -> None:
    """Raise UserError for a line that cannot be read: before there are answers to those above."""
    for _ in progress(line_rows(columns, first, file), what, size=len):
        pass


def line_rows(columns: Columns, first: bytes, file: BinaryIO) -> Groups:
    """Yield the rows of a text: a sentence a line, or two with a tab between; the number is the id.

    columns: of the task. first: the lines that have been read already. Raises UserError for a line
    of another form or charset, once the rows before it are yielded.
    """
    number, sentences, charset = 0, len(columns.texts), columns.dialect.charset
    for block in whole_lines(first, file):
        rows = []
        try:
            for raw in block:
                number += 1
                line = decode(raw, number, charset)
                if line.strip():
                    rows.append(Example(str(number), *parse_line(line, number, sentences)))
        except UserError:
            yield rows
            raise
        yield rows


def whole_lines(first: bytes, file: BinaryIO) -> Iterator[list[bytes]]:
    """Yield groups of lines, each all that can be read without waiting: one line of a keyboard.

    Without any line feed the carriage returns of old Macs end lines.
    """
    yield first.removesuffix(b"\n").split(b"\n") if b"\n" in first else first.split(b"\r")
    rest: list[bytes] = []  # of an unfinished line, which may come in many parts
    while read := file.read1(BLOCK):
        *lines, end = read.split(b"\n")
        if lines:
            lines[0] = b"".join([*rest, lines[0]])
            rest = []
            yield lines
        rest.append(end)
    yield [b"".join(rest)]


def decode(raw: bytes, number: int, charset: str) -> str:
    """Return a line as text, without a byte order mark: UTF-8, or else in the task's charset.

    charset: "" for a task whose files are UTF-8. Raises UserError for other bytes.
    """
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r")
    except UnicodeDecodeError as error:
        if charset and "\n".encode(charset) == b"\n":  # of others these are no lines
            with suppress(UnicodeDecodeError):
                return raw.decode(charset).rstrip("\r")
        expected = f"UTF-8 or {charset}" if charset else "UTF-8"
        raise UserError(
            f"line {number}: not {expected} ({error.reason}); convert the input"
        ) from error


def parse_line(line: str, number: int, sentences: int) -> list[str]:
    """Return a line's sentence or two. Raises UserError for another number of them."""
    parts = line.split("\t")
    if len(parts) != sentences or not all(part.strip() for part in parts):
        what = "a sentence" if sentences == 1 else "two sentences with a tab between"
        raise UserError(f"line {number}: expected {what}, found {line[:60]!r}")
    return parts
