"""A user's table of texts -> Examples, without labels; a column of ids is found by its name."""

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from minbert.data.examples import Columns, Example, is_cmu, read_examples
from minbert.data.tables import Dialect, check_columns, column_names
from minbert.data.textfile import is_utf8
from minbert.data.unusable import LeftOut
from minbert.errors import UserError
from minbert.progress import say


def other_dialects(dialect: Dialect) -> list[Dialect]:
    """Return, in a list, the dialect with tabs or commas, if the task file sets a delimiter.

    [] if it sets none, and for files without column names: nothing would tell which of the two
    dialects a table is in.
    """
    return [replace(dialect, delimiter="")] if dialect.delimiter and not dialect.names else []


def dialect_of_input(path: Path, dialect: Dialect) -> Dialect:
    """Return the dialect of the task's files, without their charset for a file that is UTF-8.

    UTF-8 is what other programs write.
    """
    is_other = dialect.charset and path.is_file() and is_utf8(path, dialect.charset)
    return replace(dialect, charset="") if is_other else dialect


def fitting_dialect(path: Path, columns: Columns) -> Dialect:
    """Return the dialect in which a table has the columns of a task's texts: its own, or another.

    If none fits, the task's own is returned, so that reading with it says what is wrong.
    """
    dialect = dialect_of_input(path, columns.dialect)
    for usual in (dialect, *other_dialects(dialect)):
        with suppress(UserError):
            if {*columns.texts} <= {*column_names(path, usual)}:
                return usual
    return dialect


def read_unlabelled(
    path: Path, columns: Columns, name: str, what: str = ""
) -> tuple[Columns, list[Example], LeftOut]:
    """Return a table's columns, with an id if it has ids, its rows, and those without a text.

    The ids are in the task's column, else in one called id, which is left out, with a message, if
    its cells are no ids. Tabs or commas may separate columns, whatever the task's own files have;
    lines of `label ||| text` have no column names. name: what messages call the table. what:
    as in `read_examples`. Raises UserError, with the columns that are there, for a table without
    those of the task's texts.
    """
    dialect = fitting_dialect(path, columns)
    id_name = ""
    if not is_cmu(path, replace(columns, dialect=dialect)):
        names = column_names(path, dialect)
        check_columns(path, list(columns.texts), names, dialect)
        id_name = next((name for name in (columns.id, "id") if name and name in names), "")
    # ids are kept as they are
    found = replace(columns, dialect=dialect, id=id_name, bad_rows=1.0, course=False)
    try:
        rows, left_out = read_examples(path, found, labelled=False, what=what)
    except UserError as error:
        if not id_name or id_name == columns.id:
            raise
        found = replace(found, id="")
        rows, left_out = read_examples(path, found, labelled=False, what=what)
        why = str(error).replace(str(path), name)
        say(f"column `id` is not used, lines are numbered in its place: {why}", sys.stderr)
    return found, rows, left_out
