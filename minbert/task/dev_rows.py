"""Dev sets that are a share of the training rows: drawn once, kept in the run by their ids.

A run that goes on, and whatever is done with it later, has the rows of its beginning, even if the
file has got others since: no row that it was trained on is scored. Each is known by its id, or
without ids by its line, and by a hash of its texts. A run that starts from another one has the dev
rows with the same texts, as far as they are still there, whatever their labels and ids are by now.
"""

import hashlib
import re
import tomllib
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from minbert.data.examples import Example, describe_files, read_examples
from minbert.data.unusable import BadRow
from minbert.errors import DAMAGED, UserError
from minbert.files import read_json, write_json
from minbert.run_files import ARGS, DEV_ROWS, TASKS_FILE, folders_of_run
from minbert.task.kinds import files_of
from minbert.task.task import Task, Tasks
from minbert.typed import parse

HASH_LENGTH = 12
HASHED = re.compile(rf" [0-9a-f]{{{HASH_LENGTH}}}\Z")  # the end of a row of `id_and_digest`
LABELS_TRIED = 64  # numbers of labels, of which one may be in a hash of an older run


def stratified_share(labels: np.ndarray, share: float, of_each: bool = False) -> np.ndarray:
    """Return which rows are drawn for a share of all, stratified by class or score, (R,) bool.

    labels: (R,). The rows are sorted by label, equal labels in random order, and every n-th row is
    drawn: at least one, never all, and the same ones for every seed of the run. of_each: at least
    one is drawn of every class with two rows or more, and none is drawn whole, unless nothing else
    would be drawn.
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
        untrained = first[~np.isin(classes, labels[~chosen])]
        chosen[order[untrained[: chosen.sum() - 1]]] = False
    return chosen


def drawn_share(task: Task, examples: Sequence[Example]) -> np.ndarray:
    """Return which of R training examples a new run takes for its dev set, (R,) bool.

    Rows of the same text, or pair of texts, go together: none is on both sides.
    """
    group_of = groups_of_texts(examples)
    _, first = np.unique(group_of, return_index=True)
    labels = np.array([examples[row].row_label for row in first], dtype=np.float32)
    of_each = task.is_classification and not (task.multi_label or task.per_word)
    return stratified_share(labels, task.dev_share, of_each)[group_of]


def drawn_earlier(task: Task, examples: Sequence[Example], earlier: Collection[str]) -> np.ndarray:
    """Return which of R training examples, (R,) bool, have the texts of an earlier run's dev rows.

    earlier: these as `id_and_digest` writes them; they may have got other ids, lines and labels
    since. All rows of such a text are dev rows, also copies that came later, whatever their labels:
    else the model would be trained on a text that it is scored on.
    """
    hashes = hashes_in(earlier)
    again = np.array([not hashes.isdisjoint(digests(e)) for e in examples], dtype=bool)
    if hashes and not again.any():
        again = np.array([not hashes.isdisjoint(older_digests(task, e)) for e in examples])
    group_of = groups_of_texts(examples)
    return np.isin(group_of, group_of[again])


def hashes_in(rows: Iterable[str]) -> set[str]:
    """Return the hashes in dev rows as `id_and_digest` writes them; the oldest runs have none."""
    return {row[-HASH_LENGTH:] for row in rows if HASHED.search(row)}


def groups_of_texts(examples: Sequence[Example]) -> np.ndarray:
    """Return a number for each of R examples, (R,), equal for the same text or pair of texts."""
    groups: dict[tuple[str, str | None], int] = {}
    numbers = [groups.setdefault((example.text, example.pair), len(groups)) for example in examples]
    return np.array(numbers, dtype=np.int64)


def dev_row_mask(task: Task, ids: Sequence[str], data_dir: Path) -> np.ndarray:
    """Return which of the training files' rows, (R,) bool, are the dev set that was drawn.

    Raises UserError if the files lack some of it.
    """
    chosen = np.array([id_ in task.dev_ids for id_ in ids], dtype=bool)
    files, wanted = describe_files(task.paths("train", data_dir)), len(task.dev_ids)
    if chosen.sum() < wanted:
        raise UserError(
            f"{files}: {wanted - chosen.sum()} of the run's {wanted} dev rows of {task.name} are "
            f"not in it, or not usable any more; give --data-dir the data that the run began with"
        )
    return chosen


def _check_both_sides(task: Task, chosen: np.ndarray, files: str) -> None:
    """Raise UserError unless rows are left to train on and to evaluate on."""
    if chosen.all() or not chosen.any():
        raise UserError(f"{files}: too few texts to take dev rows of {task.name} from")


def draw_dev_rows(tasks: Tasks, data_dir: Path, model: str) -> Tasks:
    """Return the tasks of a new run, which know their dev rows.

    model: what the run starts from. If that is a run that drew dev rows of a task, they are the new
    run's, too, as far as they are still there: it was trained on the other rows. It is said if that
    run was trained on the files of a task and has no dev rows of it.
    """
    if not any(task.dev_share for task in tasks.values()):
        return tasks
    earlier, trained_on, drawn = dev_rows_of_run(Path(model)), training_files_of(Path(model)), {}
    for name, task in tasks.items():
        rows = earlier.get(name, ())
        known = [path for path in task.paths("train", data_dir) if path.resolve() in trained_on]
        if task.dev_share and known and not rows:
            print(
                f"{name}: the run that this one starts from was trained on {known[0]} and kept no "
                f"dev rows for {name}: those drawn now may be rows that it was trained on"
            )
        drawn[name] = draw_task_dev_rows(task, data_dir, rows) if task.dev_share else task
    return drawn


def training_files_of(model: Path) -> set[Path]:
    """Return the files that the run of a model was trained on.

    Returns an empty set if the model is of no run, or if the run's tasks.toml or args.json cannot
    be read: a new run needs neither file.
    """
    for run in folders_of_run(model):
        with suppress(UserError, OSError, LookupError, ValueError, TypeError, AttributeError):
            tables = tomllib.loads((run / TASKS_FILE).read_text(encoding="utf-8-sig"))
            arguments = read_json(run / ARGS)
            if arguments.get("corpus"):  # which was trained on instead
                return set()
            data_dir, names = Path(arguments["data_dir"]), arguments["tasks"]
            files = [files_of(tables[name]).get("train", ()) for name in names if name in tables]
            return {(data_dir / file).resolve() for of_task in files for file in of_task}
    return set()


def dev_rows_of_run(model: Path) -> dict[str, list[str]]:
    """Return the dev rows, by task, of the run that a model is of; {} if it is of none."""
    return next(filter(None, map(read_dev_rows, folders_of_run(model))), {})


def read_dev_rows(run: Path) -> dict[str, list[str]]:
    """Return what a run's folder has of dev rows, by task; {} if it has none."""
    path = run / DEV_ROWS
    return parse(dict[str, list[str]], read_json(path), str(path)) if path.is_file() else {}


def draw_task_dev_rows(task: Task, data_dir: Path, earlier: Collection[str]) -> Task:
    """Return a task that knows its dev rows, drawn for a new run.

    earlier: as in `drawn_earlier`; what is left of them is taken, whatever the task's share is, and
    said. Raises UserError if there are too few texts.
    """
    paths = task.paths("train", data_dir)
    what = f"{describe_files(paths)}: rows"
    examples, _ = read_examples(paths, task.columns, labelled=True, what=what)
    is_dev = drawn_earlier(task, examples, earlier)
    of_start = f"of the {len(earlier):,} dev rows of the run that this one starts from"
    if is_dev.any():
        print(f"{task.name}: the dev set is the {is_dev.sum():,} rows with texts {of_start}")
    else:
        is_dev = drawn_share(task, examples)
        if earlier:
            why = "" if hashes_in(earlier) else " (older runs kept no hashes of them)"
            print(
                f"{task.name}: no text {of_start} was found{why}: new ones are drawn, which that "
                f"run may have been trained on"
            )
    _check_both_sides(task, is_dev, describe_files(paths))
    chosen = [examples[row] for row in np.flatnonzero(is_dev)]
    ids = frozenset(example.id for example in chosen)
    return replace(task, dev_ids=ids, dev_entries=frozenset(map(id_and_digest, chosen)))


def id_and_digest(example: Example) -> str:
    """Return a row's id and a hash of its texts; its label may be corrected."""
    return f"{example.id} {digest(example.text, example.pair)}"


def digest(*content: str | float | None) -> str:
    """Return a hash of what is in a row."""
    return hashlib.sha256(repr(content).encode()).hexdigest()[:HASH_LENGTH]


def digests(example: Example) -> set[str]:
    """Return the hashes of a row's texts: as they are, and with LF or CRLF at the ends of lines.

    An editor or git may have changed the line ends of a whole file.
    """
    texts = (example.text, example.pair)
    forms = {texts}
    if any("\n" in (text or "") for text in texts):
        unix = [text and text.replace("\r\n", "\n") for text in texts]
        forms |= {tuple(unix), tuple(text and text.replace("\n", "\r\n") for text in unix)}
    return {digest(*form) for form in forms}


def older_digests(task: Task, example: Example) -> set[str]:
    """Return the hashes that an older run may have of a row without an id.

    Such a hash is of the texts and the label's number. Several numbers are tried, because a label
    has another number now if the task's `labels` were changed.
    """
    tried = map(float, range(max(LABELS_TRIED, len(task.classes))))
    return {digest(example.text, example.pair, label) for label in (example.row_label, *tried)}


def check_dev_rows(task: Task, rows: Iterable[Example | BadRow], files: str) -> None:
    """Raise UserError if a run's dev row, found by id or line, is gone or has another text now.

    rows: of the training files, called `files` in messages.
    """
    if not task.dev_entries:
        return
    own = (row for row in rows if isinstance(row, Example) and row.id in task.dev_ids)
    found = sum(is_unchanged(task, row) for row in own)
    if moved := len(task.dev_entries) - found:
        what = "are not on the lines that they were on when the run began"
        if task.columns.id:
            what = "are gone or have another text, which may have been trained on"
        raise UserError(
            f"{files}: {moved:,} of the {len(task.dev_entries):,} dev rows of {task.name} {what}: "
            f"give --data-dir the data of then or, to --score, a --gold file of another name"
        )


def is_unchanged(task: Task, row: Example) -> bool:
    """Return whether a row has the texts of the dev row that has its id."""
    for of_row in (digests, partial(older_digests, task)):
        if any(f"{row.id} {hash_}" in task.dev_entries for hash_ in of_row(row)):
            return True
    return False


def write_dev_rows(run: Path, tasks: Tasks, model: str) -> None:
    """Write the ids of the tasks' dev rows into a run's folder, unless it has them.

    model: what the run starts from; dev rows that it has of other tasks are written, too, for the
    runs that start from this one.
    """
    if (run / DEV_ROWS).is_file():
        return
    of_others = {n: rows for n, rows in dev_rows_of_run(Path(model)).items() if n not in tasks}
    ids = of_others | {
        name: sorted(task.dev_entries or task.dev_ids)
        for name, task in tasks.items()
        if task.dev_ids is not None
    }
    if ids:
        write_json(run / DEV_ROWS, ids)


def with_dev_rows(tasks: Tasks, folder: Path, all_of_them: bool = True) -> Tasks:
    """Return tasks of a run, which know the dev rows that its folder keeps.

    all_of_them: raise UserError if a task's dev rows are missing; if False, that task knows none.
    """
    path, shares = folder / DEV_ROWS, [name for name, task in tasks.items() if task.dev_share]
    if shares and all_of_them and not path.is_file():
        raise UserError(f"{path}: gone; put it back: it says which rows were not trained on")
    kept = read_dev_rows(folder)
    known = {name: kept[name] for name in shares if kept.get(name)}
    if all_of_them and len(known) < len(shares):
        lacking = next(name for name in shares if name not in known)
        raise UserError(f"{path}: {lacking} is missing; {DAMAGED}")
    return tasks | {name: _with_kept_rows(tasks[name], rows) for name, rows in known.items()}


def _with_kept_rows(task: Task, rows: list[str]) -> Task:
    """Return a task that knows its dev rows: their ids, or lines, with hashes.

    Older runs have no hashes.
    """
    if not all(map(HASHED.search, rows)):
        return replace(task, dev_ids=frozenset(rows))
    ids = frozenset(HASHED.sub("", row) for row in rows)
    return replace(task, dev_ids=ids, dev_entries=frozenset(rows))
