"""A data file -> Examples: course files, tables of any kind, CMU's `label ||| sentence` lines."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from minbert.data.tables import (
    JSON,
    Layout,
    as_label,
    as_text,
    check_columns,
    kind_of,
    names_in,
    table_rows,
    text_of,
)
from minbert.errors import UserError


@dataclass(frozen=True, slots=True)
class Example:
    """One row: a sentence or a pair of them. label None: not given (a test split)."""

    id: str
    text: str
    pair: str | None = None
    label: float | None = None


@dataclass(frozen=True)
class Columns:
    """The columns that make an Example; `parse_label` raises ValueError for a bad label."""

    texts: tuple[str, ...]  # one, or two for a pair
    label: str
    parse_label: Callable[[str], float] = float
    id: str = "id"  # "": rows have no ids, their line numbers are used
    labels: str = ""  # the labels that parse_label knows: part of the key that ids are cached under
    course: bool = False  # the course's own files: ids are lower-cased
    layout: Layout = Layout()

    def needed(self, labelled: bool) -> list[str]:
        """Return the names of the columns that a file must have."""
        names = [self.id] if self.id else []
        return [*names, *self.texts, *([self.label] if labelled else [])]


def read_examples(path: Path, columns: Columns, labelled: bool) -> tuple[list[Example], int]:
    """Read the rows of one file; return them, and how many were left out without a label.

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
    """Yield the rows of a file of any kind."""
    check_exists(path, columns.course)
    text = text_of(path)
    if kind_of(path) not in (*JSON, ".parquet") and not columns.layout.names:
        header = text.split("\n", 1)[0]
        if "|||" in header and "\t" not in header:
            yield from _cmu_rows(path, text, columns)
            return
    needed = columns.needed(labelled)
    if kind_of(path) not in JSON:  # whose rows have names of their own
        check_columns(path, needed, names_in(path, text, columns.layout))
    for number, row in table_rows(path, text, columns.layout):
        if missing := [name for name in needed if name not in row]:
            names = ", ".join(row)
            raise UserError(f"{path}:{number}: no column {missing[0]!r}; the columns are {names}")
        name = columns.id
        try:
            id_ = as_text(row[name]) if name else str(number)
            texts = [as_text(row[name := column]) for column in columns.texts]
            label = as_label(row[name := columns.label]) if labelled else ""
        except ValueError as error:
            raise UserError(f"{path}:{number}: {name}: {error}") from error
        yield number, id_, texts, label


def check_exists(path: Path, course: bool) -> None:
    """Raise UserError for a missing file; for one of the course's it names the download."""
    if not path.is_file():
        fetch = f"fetch the course's files with `python -m tasks.download --to {path.parent}`, or "
        where = "point --data-dir at the directory that holds it"
        raise UserError(f"{path}: no such file; {fetch if course else ''}{where}")


def _cmu_rows(path: Path, text: str, columns: Columns) -> Iterator[Row]:
    """Yield rows of CMU's form, `label ||| sentence`: no header, the line number is the id."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        label, *texts = [part.strip() for part in line.split("|||")]
        if len(texts) != len(columns.texts):
            raise UserError(f"{path}:{number}: expected `label ||| sentence`, found {line[:60]!r}")
        yield number, str(number), texts, label
