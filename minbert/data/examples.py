"""A data file -> Examples: course files, tables of any kind, CMU's `label ||| sentence` lines."""

import math
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from minbert.data.tables import (
    JSON,
    OBJECT_ENDINGS,
    Dialect,
    as_label,
    as_label_set,
    as_tags,
    as_text,
    as_words,
    check_columns,
    file_ending,
    open_table,
)
from minbert.data.textfile import first_text, text_lines
from minbert.data.unusable import (
    MAX_BAD_SHARE,
    NO_LABEL,
    NO_TEXT,
    OTHER_LABEL,
    OTHER_TAG_COUNT,
    BadRow,
    LeftOut,
)
from minbert.errors import UserError
from minbert.progress import progress

LONGEST_ID = 1000  # characters
Files = Path | Sequence[Path]  # of one split: a file, or several that are read one after the other


@dataclass(frozen=True, slots=True)
class Example:
    """One row: a sentence or a pair of them. label None: not given."""

    id: str
    text: str
    pair: str | None = None
    label: float | list[float] | None = None  # a list if words are labelled: one number per word
    line: int = 0  # of its file, from 1
    file: int = 0  # which of the split's files, from 0
    words: tuple[str, ...] | None = None  # the words of the text, in a task that labels words

    @property
    def row_label(self) -> float:
        """The label of the row; NaN if it is not given, or if the words have one each."""
        return math.nan if self.label is None or self.words is not None else self.label


@dataclass(frozen=True)
class Columns:
    """The columns that make an Example; `parse_label` raises ValueError for a bad label."""

    texts: tuple[str, ...]  # one, or two for a pair
    label: str
    # left out of repr and ==, where `labels` stands for it: a function's repr has its address
    parse_label: Callable[[str], float] = field(default=float, repr=False, compare=False)
    id: str = "id"  # "": rows have no ids, their line numbers are used
    labels: str = ""  # repr of the kind and its labels
    empty_set: str = ""  # what stands for no label at all, of a task of sets of labels
    course: bool = False  # the course's own files: ids are lower-cased
    dialect: Dialect = Dialect()
    bad_rows: float = MAX_BAD_SHARE  # of the rows of a split that may be left out

    def needed(self, labelled: bool) -> list[str]:
        """Return the names of the columns that a file must have."""
        names = [self.id] if self.id else []
        return [*names, *self.texts, *([self.label] if labelled else [])]


def paths_of(files: Files) -> tuple[Path, ...]:
    """Return a split's files, one or several, as a tuple."""
    return (files,) if isinstance(files, Path) else tuple(files)


def describe_files(files: Files) -> str:
    """Return what messages call a split's files: the first one, and how many follow."""
    first, *others = paths_of(files)
    return f"{first} and {len(others)} more" if others else str(first)


def read_examples(
    files: Files, columns: Columns, labelled: bool, what: str = ""
) -> tuple[list[Example], LeftOut]:
    """Return the rows of a split's files, and those that were left out.

    what: their name while they are read; "": nothing is shown. Raises UserError as `iter_examples`,
    for an id that two rows have, for too many rows that cannot be used, and for an empty split.
    """
    rows = progress(iter_examples(files, columns, labelled), what)
    examples, left_out = usable(rows, files)
    check_rows(columns, examples, left_out)
    return examples, left_out


def check_rows(columns: Columns, examples: Sequence[Example], left_out: LeftOut) -> None:
    """Raise UserError for a split's rows as `read_examples`."""
    check_usable(columns, len(examples), left_out)
    ids, file_of = [row.id for row in examples], [row.file for row in examples]
    check_ids(left_out.paths, ids, file_of, [row.line for row in examples])


def usable(rows: Iterable[Example | BadRow], files: Files) -> tuple[list[Example], LeftOut]:
    """Return those of a split's rows that can be used, and the others, counted."""
    examples, left_out = [], LeftOut(paths_of(files))
    for row in rows:
        examples.append(row) if isinstance(row, Example) else left_out.add(row)
    return examples, left_out


def examples_by_id(files: Files, columns: Columns) -> dict[str, Example]:
    """Return the rows with labels of a split's files by their ids. Raises as `read_examples`."""
    what = f"{describe_files(files)}: rows read again"
    rows, _ = read_examples(files, columns, labelled=True, what=what)
    return {example.id: example for example in rows}


def check_ids(
    files: Files, ids: Sequence[str] | np.ndarray, file_of: Sequence[int], lines: Sequence[int]
) -> None:
    """Raise UserError for an id, text or UTF-8 bytes, that two rows of a split have.

    file_of, lines: the number of each row's file in the split, and the line that it begins on.
    """
    paths, ids = paths_of(files), np.asarray(ids)
    order = np.argsort(ids, kind="stable")  # equal ids stay in the order of the files
    again = np.flatnonzero(ids[order[1:]] == ids[order[:-1]])
    if len(again):
        pair = again[np.argmin(order[again + 1])]  # the first one
        first, second = order[pair], order[pair + 1]
        id_ = ids[second].decode() if ids.dtype.kind == "S" else str(ids[second])
        other = "" if file_of[first] == file_of[second] else f" of {paths[file_of[first]]}"
        raise UserError(
            f"{paths[file_of[second]]}:{lines[second]}: id {id_!r} is on line {lines[first]}"
            f"{other} already; ids must be unique"
        )


def check_usable(columns: Columns, used: int, left_out: LeftOut) -> None:
    """Raise UserError if too many rows of a split cannot be used, or if none can.

    The course's files do lack labels: there any number of rows may be left out.
    """
    if not columns.course:
        left_out.check(used, columns.bad_rows)
    if not used:
        why = left_out.describe()
        what = f"no usable row in it ({why})" if why else "no row in it but the columns' names"
        raise UserError(f"{describe_files(left_out.paths)}: {what}")


def iter_examples(files: Files, columns: Columns, labelled: bool) -> Iterator[Example | BadRow]:
    """Yield the rows of a split's files as they are read, also those that cannot be used.

    If there are several files without ids, a row's id is the number of its file, from 1, and its
    line: "2:17". Raises UserError with file, line and reason for a damaged row and, in the course's
    files, for every row that cannot be used, except one without a label.
    """
    paths = paths_of(files)
    for file, path in enumerate(paths):
        id_prefix = f"{file + 1}:" if len(paths) > 1 else ""
        for row in _examples_of(path, columns, labelled, file, id_prefix):
            if columns.course and isinstance(row, BadRow) and row.reason != NO_LABEL:
                raise UserError(f"{path}:{row.line}: {row.problem}")
            yield row


def _examples_of(
    path: Path, columns: Columns, labelled: bool, file: int, id_prefix: str
) -> Iterator[Example | BadRow]:
    """Yield a file's rows.

    file: its number in the split. id_prefix: what stands before a line number that is an id.
    """
    for line, id_, texts, label in _rows(path, columns, labelled, id_prefix):
        where, id_ = f"{path}:{line}", id_.lower() if columns.course else id_
        if not id_:
            raise UserError(f"{where}: empty id; every row needs one")
        if "\0" in id_:  # numpy leaves it out at an end
            raise UserError(f"{where}: a NUL character in the id {id_[:60]!r}; take it out")
        if len(id_) > LONGEST_ID:
            raise UserError(f"{where}: an id of {len(id_)} characters; is {columns.id} the id?")
        if labelled and not label:
            none = f", {columns.empty_set} for none" if columns.empty_set else ""
            yield BadRow(NO_LABEL, f"no {columns.label}; fill it in{none}", line, file, id_)
            continue
        if not all(texts):
            problem = "empty sentence; remove the row or fill it in"
            yield BadRow(NO_TEXT, problem, line, file, id_)
            continue
        value = _label_of(label, len(texts[0]), columns, line, file) if labelled else None
        if isinstance(value, BadRow):
            yield replace(value, id=id_)
            continue
        if columns.dialect.word_columns:
            yield Example(id_, " ".join(texts[0]), None, value, line, file, tuple(texts[0]))
        else:
            yield Example(id_, texts[0], texts[1] if len(texts) > 1 else None, value, line, file)


def _label_of(
    label: str | list[str], words: int, columns: Columns, line: int, file: int
) -> float | list[float] | BadRow:
    """Return a label as a number, or the tags of so many words as numbers."""
    if isinstance(label, list):
        if len(label) != words:
            return BadRow(OTHER_TAG_COUNT, f"{words} words and {len(label)} tags", line, file)
        values = [_label_of(tag, 0, columns, line, file) for tag in label]
        return next((value for value in values if isinstance(value, BadRow)), values)
    try:
        return columns.parse_label(label)
    except ValueError as error:
        problem = f"{columns.label} is {label[:60]!r}: {error}"
        return BadRow(OTHER_LABEL, problem, line, file, label=label[:60])


# line, id, texts, label; of a task that labels words its one text and the label are lists
ExampleCells = tuple[int, str, list[str] | list[list[str]], str | list[str]]


def _rows(path: Path, columns: Columns, labelled: bool, id_prefix: str) -> Iterator[ExampleCells]:
    """Yield the rows of a file of any kind."""
    check_exists(path, columns.course)
    if is_cmu(path, columns):
        yield from _cmu_rows(path, columns, id_prefix)
        return
    needed = columns.needed(labelled)
    text_of, label_of = as_text, as_label_set if columns.empty_set else as_label
    if columns.dialect.word_columns:
        text_of, label_of = as_words, as_tags
    names, rows = open_table(path, columns.dialect, needed)
    if file_ending(path) not in JSON:  # whose rows have names of their own
        check_columns(path, needed, names, columns.dialect)
    for number, row in rows:
        if missing := [name for name in needed if name not in row]:
            # names: of the first objects
            if file_ending(path) not in JSON or not {*needed} <= {*names}:
                shown = ", ".join(row)[:200].strip() or "none"
                what = f"no column {missing[0]!r}; the columns are {shown}"
                raise UserError(f"{path}:{number}: {what}")
            row = row | dict.fromkeys(missing)  # as null: a row that cannot be used
        name = columns.id
        try:
            id_ = as_text(row[name]) if name else f"{id_prefix}{number}"
            texts = [text_of(row[name := column]) for column in columns.texts]
            label = label_of(row[name := columns.label]) if labelled else ""
        except ValueError as error:
            raise UserError(f"{path}:{number}: {name}: {error}") from error
        yield number, id_, texts, label


def is_cmu(path: Path, columns: Columns) -> bool:
    """Return whether a file's first line that is not blank has CMU's form, which has no header."""
    if file_ending(path) in OBJECT_ENDINGS or not may_be_cmu(columns.dialect):
        return False
    return is_cmu_line(first_text(path, columns.dialect.charset))


def may_be_cmu(dialect: Dialect) -> bool:
    """Return whether a task's files may have CMU's form: no key says that they are tables."""
    return not (dialect.names or dialect.delimiter or dialect.word_columns)


def is_cmu_line(line: str) -> bool:
    """Return whether a line has CMU's form, `label ||| sentence`."""
    return "|||" in line and "\t" not in line


def check_exists(path: Path, course: bool) -> None:
    """Raise UserError for a missing file; for one of the course's it names the download."""
    if not path.is_file():
        folder = shlex.quote(str(path.parent))
        fetch = f"fetch the course's files with `python -m tasks.download --to {folder}`, or "
        where = "point --data-dir at the directory that holds it"
        raise UserError(f"{path}: no such file; {fetch if course else ''}{where}")


def _cmu_rows(path: Path, columns: Columns, id_prefix: str) -> Iterator[ExampleCells]:
    """Yield rows of CMU's form, `label ||| sentence`: no header, the line number is the id."""
    for number, line in enumerate(text_lines(path, columns.dialect.charset), start=1):
        if not line.strip():
            continue
        label, *texts = [part.strip() for part in line.split("|||")]
        if len(texts) != len(columns.texts):
            raise UserError(f"{path}:{number}: expected `label ||| sentence`, found {line[:60]!r}")
        yield number, f"{id_prefix}{number}", texts, label
