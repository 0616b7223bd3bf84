"""Dev sets that are a share of the training rows: drawn once, kept in the run by their ids.

A run that goes on, and whatever is done with it later, has the rows of its beginning, even if the
file has got others since: no row that was trained on is ever scored. Rows without ids are known by
their lines, and by hashes of what stood on them.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from minbert.data.examples import Example, names_of, read_examples
from minbert.data.unusable import BadRow
from minbert.errors import UserError
from minbert.files import read_json, write_json
from minbert.task.run_files import DEV_ROWS
from minbert.task.task import Task, Tasks
from minbert.typed import parse


def stratified_share(labels: np.ndarray, share: float, of_each: bool = False) -> np.ndarray:
    """Return which rows are drawn for a share of all, stratified by class or score, (R,) bool.

    labels: (R,). Every n-th row is drawn in the order of the labels, of equal ones in random order:
    the same rows whatever the run's seed is, one at least, and not all. of_each: one at least is
    drawn of every class with two rows or more.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    wanted = min(max(1, round(share * len(labels))), len(labels) - 1)
    places = (np.arange(wanted) + 0.5) * len(labels) / max(1, wanted)
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[order[places.astype(int)]] = True
    if of_each and wanted:
        classes, first, counts = np.unique(labels[order], return_index=True, return_counts=True)
        missing = (counts > 1) & ~np.isin(classes, labels[chosen])
        chosen[order[first[missing]]] = True
    return chosen


def is_dev_row(task: Task, ids: Sequence[str], labels: np.ndarray, data_dir: Path) -> np.ndarray:
    """Return which of the training files' rows, (R,) bool, are the dev set: those of the run.

    A task of no run has those that a run would draw. Raises UserError if the files lack some.
    """
    if task.dev_ids is None:
        of_each = task.is_classification and not (task.multi_label or task.per_word)
        chosen = stratified_share(labels, task.dev_share, of_each)
    else:
        chosen = np.array([id_ in task.dev_ids for id_ in ids], dtype=bool)
    files, wanted = names_of(task.paths("train", data_dir)), len(task.dev_ids or ())
    if chosen.sum() < wanted:
        raise UserError(
            f"{files}: {wanted - chosen.sum()} of the run's {wanted} dev rows of {task.name} are "
            f"not in it; give --data-dir the data that the run began with"
        )
    if chosen.all() or not chosen.any():
        raise UserError(f"{files}: too few rows to take dev rows of {task.name} from")
    return chosen


def draw_dev_rows(tasks: Tasks, data_dir: Path) -> Tasks:
    """Return the tasks of a new run, which know their dev rows."""
    return {
        name: _with_drawn_rows(task, data_dir) if task.dev_share else task
        for name, task in tasks.items()
    }


def _with_drawn_rows(task: Task, data_dir: Path) -> Task:
    """Draw a task's dev rows; return the task, which knows them."""
    examples, _ = read_examples(task.paths("train", data_dir), task.columns, labelled=True)
    chosen = [examples[row] for row in np.flatnonzero(is_dev_example(task, examples, data_dir))]
    digests = () if task.columns.id else map(line_and_digest, chosen)
    ids = frozenset(example.id for example in chosen)
    return replace(task, dev_ids=ids, dev_digests=frozenset(digests))


def line_and_digest(example: Example) -> str:
    """Return a row's line, which is its id, and a hash of its texts and label."""
    content = repr((example.text, example.pair, example.row_label))
    return f"{example.id} {hashlib.sha256(content.encode()).hexdigest()[:12]}"


def check_dev_rows(task: Task, rows: Iterable[Example | BadRow], files: str) -> None:
    """Raise UserError if other rows stand where a run's dev rows without ids stood.

    rows: of the training files, called `files` in messages.
    """
    if not task.dev_digests:
        return
    own = (row for row in rows if isinstance(row, Example) and row.id in task.dev_ids)
    found = sum(line_and_digest(row) in task.dev_digests for row in own)
    if moved := len(task.dev_digests) - found:
        raise UserError(
            f"{files}: {moved:,} of the {len(task.dev_digests):,} dev rows of "
            f"{task.name} are not on the lines that they were on when the run began, and rows have "
            f"no id to know them by: give --data-dir the data of then"
        )


def is_dev_example(task: Task, examples: Sequence[Example], data_dir: Path) -> np.ndarray:
    """Return which of the training files' R examples are the dev set, (R,) bool."""
    labels = np.array([example.row_label for example in examples], dtype=np.float32)
    return is_dev_row(task, [example.id for example in examples], labels, data_dir)


def write_dev_rows(run: Path, tasks: Tasks) -> None:
    """Write the ids of the tasks' dev rows into a run's folder, unless it has them."""
    ids = {
        name: sorted(task.dev_digests or task.dev_ids)
        for name, task in tasks.items()
        if task.dev_ids is not None
    }
    if ids and not (run / DEV_ROWS).is_file():
        write_json(run / DEV_ROWS, ids)


def with_dev_rows(tasks: Tasks, folder: Path, all_of_them: bool = True) -> Tasks:
    """Return tasks of a run, which know the dev rows that its folder keeps.

    all_of_them: raises UserError if those of a task are not there; else it knows none.
    """
    path, shares = folder / DEV_ROWS, [name for name, task in tasks.items() if task.dev_share]
    if shares and all_of_them and not path.is_file():
        raise UserError(f"{path}: gone; put it back: it says which rows were not trained on")
    kept = parse(dict[str, list[str]], read_json(path), str(path)) if path.is_file() else {}
    known = {name: kept[name] for name in shares if kept.get(name)}
    if all_of_them and len(known) < len(shares):
        lacking = next(name for name in shares if name not in known)
        raise UserError(f"{path}: {lacking} is missing; the file is damaged")
    return tasks | {name: _with_kept_rows(tasks[name], rows) for name, rows in known.items()}


def _with_kept_rows(task: Task, rows: list[str]) -> Task:
    """Return a task that knows its dev rows: their ids, or lines with hashes.

    The oldest runs have no hashes.
    """
    if task.columns.id or not all(" " in row for row in rows):
        return replace(task, dev_ids=frozenset(rows))
    ids = frozenset(row.split(" ")[0] for row in rows)
    return replace(task, dev_ids=ids, dev_digests=frozenset(rows))
