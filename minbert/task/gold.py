"""A file with labels, named for scoring -> the task that it is of, and the rows it stands for."""

import re
from dataclasses import replace
from pathlib import Path

from minbert.data.examples import Example, is_cmu, iter_examples, read_examples
from minbert.data.tables import OBJECTS, column_names, kind_of
from minbert.data.unlabelled import read_unlabelled
from minbert.data.unusable import NO_LABEL, BadRow
from minbert.errors import UserError
from minbert.task.dev_rows import check_dev_rows
from minbert.task.task import Task


def gold_task(gold: Path, tasks: list[Task], header: list[str]) -> Task:
    """Return the task whose columns the gold file has.

    Of several it is the one whose file it is, or else the one that is named like the file, and of
    these the one whose predictions have the header. Raises UserError if there is none, and if those
    that are left would read it differently.
    """
    if not gold.is_file():
        raise UserError(f"--gold {gold}: no such file")
    fitting = [t for t in tasks if {*t.columns.texts, t.columns.label} <= {*names_by(gold, t)}]
    if not fitting:
        names = ", ".join(column_names(gold, tasks[0].columns.dialect))
        known = ", ".join(t.name for t in tasks)
        raise UserError(
            f"{gold}: its columns fit none of the tasks {known}: {names[:60]}; "
            f"--task-file names those of your own"
        )
    named = [t for t in fitting if is_named_like(gold, t)]
    own = [t for t in fitting if split_of(gold, t)]
    likely = own or named or fitting
    likely = [t for t in likely if t.prediction_header in header] or likely
    readings = {
        (replace(t.columns, texts=(), parse_label=float), t.display_names, t.main_metric)
        for t in likely
    }
    if len(readings) > 1:
        several = ", ".join(t.name for t in likely)
        raise UserError(f"{gold}: the file of {several}: --task says whose predictions these are")
    return likely[0]


def is_named_like(gold: Path, task: Task) -> bool:
    """Return whether a file's name has the name of a task's dev file, up to -dev, as a word."""
    name = task.paths("dev", Path())[0].name.split("-dev")[0]
    letter = r"[^\W_]"  # or digit: `old` is no word of gold.csv
    return re.search(f"(?<!{letter}){re.escape(name)}(?!{letter})", gold.name) is not None


def names_by(gold: Path, task: Task) -> list[str]:
    """Return the columns of a file as a task's dialect finds them; [] for one of another dialect.

    CoNLL files name no columns: for a task that labels words the ending must be the task's.
    """
    if task.per_word and kind_of(gold) not in (*OBJECTS, *task.endings):
        return []
    try:
        if is_cmu(gold, task.columns):
            return [*task.columns.texts, task.columns.label]
        return list(task.columns.dialect.names) or column_names(gold, task.columns.dialect)
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


def gold_examples(gold: Path, task: Task, ids_by_name: bool) -> tuple[list[Example], set[str]]:
    """Return the rows with labels that a gold file stands for, and the ids of those without.

    They are those of its split of the task: one of several files of a split stands for all; a
    training file for its dev rows. ids_by_name: the rows of a task without ids have those of a
    column called id, as in an --output.
    """
    split, data_dir = split_of(gold, task) or ("", gold.parent)
    files = task.paths(split, data_dir) if split else (gold,)
    examples, left_out = read_examples(files, task.columns, labelled=True)
    unlabelled: list[BadRow] = []
    if left_out.counts[NO_LABEL]:
        rows = iter_examples(files, task.columns, labelled=True)
        unlabelled = [r for r in rows if isinstance(r, BadRow) and r.reason == NO_LABEL]
    if split == "train" and task.dev_ids is not None:
        check_dev_rows(task, examples, str(gold))
        examples = [example for example in examples if example.id in task.dev_ids]
    if task.columns.id or not ids_by_name:
        return examples, {row.id for row in unlabelled} - {e.id for e in examples}
    ids = {}
    for place, path in enumerate(files):
        if is_cmu(path, task.columns):  # which has no ids
            continue
        found, rows = read_unlabelled(path, task.columns, str(path))
        ids |= {(place, row.line): row.id for row in rows if found.id}
    named = [replace(e, id=ids.get((e.file, e.line), e.id)) for e in examples]
    others = {ids.get((row.file, row.line), row.id) for row in unlabelled}
    return named, others - {e.id for e in named}
