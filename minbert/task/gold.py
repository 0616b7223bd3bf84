"""A file with labels, named for scoring -> the task that it is of, and the rows it stands for."""

import re
import sys
from collections.abc import Iterable, Sequence, Set
from dataclasses import replace
from pathlib import Path

from minbert.data.conll import CONLL
from minbert.data.examples import (
    Columns,
    Example,
    check_ids,
    check_rows,
    is_cmu,
    iter_examples,
    usable,
)
from minbert.data.tables import OBJECT_ENDINGS, column_names, file_ending, open_table
from minbert.data.unlabelled import fitting_dialect, read_unlabelled
from minbert.data.unusable import BadRow
from minbert.errors import UserError
from minbert.progress import say
from minbert.task.dev_rows import check_dev_rows
from minbert.task.task import Task


def gold_task(gold: Path, tasks: list[Task], header: list[str]) -> Task:
    """Return the task whose columns the gold file has.

    Of several tasks it takes the one that lists the file, or else one after which it is named;
    among these the one whose predictions have the header. Raises UserError if no task fits, or if
    several are left that would read the file differently.
    """
    if not gold.is_file():
        raise UserError(f"--gold {gold}: no such file")
    fitting = [t for t in tasks if {*t.columns.texts, t.columns.label} <= {*names_by(gold, t)}]
    if not fitting:
        known = ", ".join(t.name for t in tasks)
        try:
            names = ", ".join(column_names(gold, tasks[0].columns.dialect))
        except UserError as error:
            hint = f"it is of none of the tasks {known}; --task-file names those of your own"
            raise UserError(f"{error}; {hint}") from error
        raise UserError(
            f"{gold}: its columns fit none of the tasks {known}: {names[:60]}; it needs those of a "
            f"task's text and label, or for words the ending of its files (--task-file names tasks "
            f"of your own)"
        )
    named = [t for t in fitting if is_named_like(gold, t)]
    own = [t for t in fitting if split_of(gold, t)]
    likely = own or named or fitting
    likely = [t for t in likely if t.prediction_header in header] or likely
    readings = {(replace(t.columns, texts=()), t.display_names, t.main_metric) for t in likely}
    if len(readings) > 1:
        several = ", ".join(t.name for t in likely)
        raise UserError(f"{gold}: the file of {several}: --task says whose predictions these are")
    return likely[0]


def is_named_like(gold: Path, task: Task) -> bool:
    """Return whether a file's name has a task's, or its dev file's up to -dev, as a word."""
    names = (task.name, task.paths("dev", Path())[0].name.split("-dev")[0])
    word = "|".join(map(re.escape, names))
    letter = r"[^\W_]"  # or digit: `old` is no word of gold.csv
    return re.search(f"(?<!{letter})({word})(?!{letter})", gold.name) is not None


def names_by(gold: Path, task: Task) -> list[str]:
    """Return the columns of a file as a task finds them; [] for one that it cannot read.

    CoNLL files name no columns: for a task that labels words the ending must be theirs.
    """
    if task.per_word and file_ending(gold) not in (*OBJECT_ENDINGS, *CONLL, *task.endings):
        return []
    try:
        columns = columns_of_gold(gold, task)
        if is_cmu(gold, columns):
            return [*columns.texts, columns.label]
        names, rows = open_table(gold, columns.dialect)
        if columns.dialect.names:  # a row's number of cells says whether the file is the task's
            next(rows, None)
        return names
    except UserError:
        return []


def split_of(gold: Path, task: Task) -> tuple[str, Path] | None:
    """Return which split of a task a file belongs to, and the data directory; None if to none."""
    found, path = None, gold.absolute()
    for split, names in task.files.items():
        for name in map(Path, names):
            if name.is_absolute():
                if name == path:
                    found = split, path.parent
            elif path.parts[-len(name.parts) :] == name.parts:
                found = split, path.parents[len(name.parts) - 1]
    return found


def columns_of_gold(gold: Path, task: Task) -> Columns:
    """Return a task's columns as a gold file has them: with what `--input` takes between them."""
    return replace(task.columns, dialect=fitting_dialect(gold, task.columns))


def gold_rows(
    gold: Path, task: Task, ids_by_name: bool, predicted: Set[str]
) -> tuple[dict[str, Example], set[str]]:
    """Return the rows that a gold file stands for, by id, and the ids of those that cannot be used.

    A training file stands for the dev rows that were drawn from it, if any. One of several files of
    a split stands for all of them, unless it alone has as many of the predicted ids.
    ids_by_name: the rows of a task without ids have those of a column called id, as in an --output.
    It is said which rows cannot be used. Raises UserError for such an id that two rows have.
    """
    split, data_dir = split_of(gold, task) or ("", gold.parent)
    files = task.paths(split, data_dir) if split else (gold,)
    if missing := [path for path in files if not path.is_file()]:
        raise UserError(
            f"{missing[0]}: no such file; {task.name} has it beside {gold.name}: put it there, or "
            f"give --gold a copy of another name"
        )
    columns = columns_of_gold(gold, task)
    rows = list(iter_examples(files, columns, labelled=True))
    check_rows(columns, *usable(rows, files))
    if split == "train" and task.dev_ids is not None:
        check_dev_rows(task, rows, str(gold))
        rows = [row for row in rows if row.id in task.dev_ids]
    named = ids_by_line(files, columns) if ids_by_name and not columns.id else {}
    found = [replace(row, id=named.get((row.file, row.line), row.id)) for row in rows]
    if len(files) > 1:
        place = files.index(gold.absolute())
        alone = [row for row in found if row.file == place]
        if not columns.id:  # without the file's number before the line's
            alone = [replace(r, id=named.get((place, r.line), str(r.line))) for r in alone]
        if len(predicted & ids_of(alone)) >= len(predicted & ids_of(found)):
            found = alone
    examples, left_out = usable(found, files)
    if left_out.counts:
        say(f"{gold}: not scored: {left_out.describe()}", sys.stderr)
    if named:
        ids, places = [row.id for row in examples], [row.file for row in examples]
        check_ids(files, ids, places, [row.line for row in examples])
    labelled = {row.id: row for row in examples}
    return labelled, ids_of(found) - labelled.keys()


def ids_of(rows: Iterable[Example | BadRow]) -> set[str]:
    """Return the ids of rows."""
    return {row.id for row in rows}


def ids_by_line(files: Sequence[Path], columns: Columns) -> dict[tuple[int, int], str]:
    """Return the ids in a column called id, by the file's number and the row's line."""
    ids = {}
    for place, path in enumerate(files):
        if is_cmu(path, columns):  # which has no ids
            continue
        found, rows, _ = read_unlabelled(path, columns, str(path))
        ids |= {(place, row.line): row.id for row in rows if found.id}
    return ids
