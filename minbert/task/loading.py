"""Loading the tasks' files in --data-dir as splits of ids."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from minbert.data.encoded import EncodedSplit, Splits, chosen_rows, limit_rows, take
from minbert.data.examples import (
    check_exists,
    describe_files,
    iter_examples,
    read_examples,
)
from minbert.data.id_cache import load_split
from minbert.data.items import count_unseen
from minbert.data.long_texts import HEAD_ONLY
from minbert.data.tokenizer import BertTokenizer
from minbert.errors import UserError
from minbert.manifest import sha256_of
from minbert.progress import progress
from minbert.task.dev_rows import check_dev_rows, dev_row_mask
from minbert.task.task import Task
from minbert.training import distributed

LeftOutCounts = dict[str, dict[str, dict[str, int]]]  # rows by task, split and reason


@dataclass(frozen=True)
class DataSource:
    """Where a command's data is, and how much of it is used."""

    data_dir: Path
    cache_dir: Path | None  # of ids; None: nothing is cached
    max_length: int  # in tokens; longer rows are cut
    siamese_tasks: frozenset[str] = frozenset()  # whose pairs are encoded sentence by sentence
    limit: dict[str, int] = field(default_factory=dict)  # most rows of a task's training set
    limit_dev: dict[str, int] = field(default_factory=dict)  # most rows of its dev set


def check_files(tasks: list[Task], data_dir: Path, splits: tuple[str, ...]) -> None:
    """Raise UserError for a missing file, before anything that takes long."""
    for task in tasks:
        for split in splits:
            for path in task.paths(split, data_dir):
                check_exists(path, task.columns.course)


def check_segments(tasks: list[Task], source: DataSource, segments: int) -> None:
    """Raise UserError for pairs that a model with one segment would have to read together."""
    pairs = [task.name for task in tasks if task.is_pair and task.name not in source.siamese_tasks]
    if pairs and segments < 2:
        raise UserError(
            f"{pairs[0]}: this model has one segment (type_vocab_size 1): pairs need "
            f"--pair-encoding siamese"
        )


def training_files(
    tasks: list[Task], data_dir: Path, splits: tuple[str, ...] = ("train", "dev")
) -> dict[str, Path]:
    """Return the files that are trained and evaluated on, by names that stay when they move."""
    found = {}
    for task in tasks:
        for split in splits:
            paths = task.paths(split, data_dir) if split in task.files else ()
            for number, path in enumerate(paths, start=1):
                found[f"{task.name} {split}" + (f" {number}" if number > 1 else "")] = path
    return found


def changed_dev_files(task: Task, data_dir: Path, begun_with: dict[str, str]) -> list[Path]:
    """Return a task's dev files that are gone or not what a run began with.

    begun_with: hashes by the names of `training_files`.
    """
    dev, files = task.paths("dev", data_dir), training_files([task], data_dir)
    return [
        path
        for name, path in files.items()
        if path in dev and name in begun_with
        and not (path.is_file() and sha256_of(path) == begun_with[name])
    ]  # fmt: skip


def load_task(
    task: Task, split_name: str, tokenizer: BertTokenizer, source: DataSource
) -> EncodedSplit:
    """Load one split of a task; print how many rows it has, and how many are left out.

    A dev set without files of its own is part of the training files' rows, and the training set is
    the rest.
    """
    paths = task.paths(split_name, source.data_dir)
    split = load_split(
        paths, task.columns, labelled=split_name != "test", tokenizer=tokenizer,
        max_length=source.max_length, cache_dir=source.cache_dir,
        siamese=task.name in source.siamese_tasks, long=task.long,
    )  # fmt: skip
    left_out = f"; {split.left_out}" if split.left_out else ""
    if unread := count_unseen(split):
        left_out += f"; words cut off or without a piece, not predicted: {unread:,}"
    lengths = split.lengths
    if task.name in source.siamese_tasks:  # each sentence may be so long
        lengths = np.maximum(split.segment_starts, lengths - split.segment_starts)
    if task.long == HEAD_ONLY and (cut := int((lengths >= source.max_length).sum())):
        left_out += f"; {cut:,} fill --max-length {source.max_length} and may be cut"
    files = describe_files(paths)
    print(f"{files}: {len(split):,} rows, the last on line {split.last_line:,}{left_out}")
    if split_name == "test" or not task.dev_share:
        return split
    is_dev = dev_row_mask(task, split.id_strings(), source.data_dir)
    if split_name == "train":
        check_some_left(task, is_dev, files)
        return take(split, np.flatnonzero(~is_dev))
    rows = iter_examples(paths, task.columns, labelled=True)
    check_dev_rows(task, progress(rows, f"{files}: dev rows checked"), files)
    say_dev_rows(task, is_dev)
    # rows of these files that cannot be used are counted once, with the training set
    return replace(take(split, np.flatnonzero(is_dev)), left_out_counts={})


def say_dev_rows(task: Task, is_dev: np.ndarray) -> None:
    """Print how many of the training file's rows are a task's dev set."""
    count = f"{is_dev.sum():,} of these rows are its dev set"
    print(f"{task.name}: no dev file: {count}, as this run keeps them")


def check_some_left(task: Task, is_dev: np.ndarray, files: str) -> None:
    """Raise UserError if the dev rows leave none to train on."""
    if is_dev.all():
        raise UserError(f"{files}: no row beside the dev rows of {task.name}")


def load_test(task: Task, tokenizer: BertTokenizer, source: DataSource) -> EncodedSplit | None:
    """Load a task's test set; None if one of its files is not there, which is said."""
    paths = task.paths("test", source.data_dir)
    missing = [path for path in paths if not path.is_file()]
    if paths and not missing:
        return load_task(task, "test", tokenizer, source)
    name = f" {missing[0]}" if missing else ""
    print(f"no test file{name}: no test predictions for {task.name}")
    return None


def load_tests(tasks: list[Task], tokenizer: BertTokenizer, source: DataSource) -> Splits:
    """Load the test sets that there are, by task: before training, so that a mistake costs none."""
    with distributed.first_before_others():
        loaded = {task.name: load_test(task, tokenizer, source) for task in tasks}
    return {name: split for name, split in loaded.items() if split}


def load_train_and_dev(
    tasks: list[Task], tokenizer: BertTokenizer, source: DataSource
) -> tuple[Splits, Splits]:
    """Load every task's training and dev set, by task, limited to the source's rows.

    A long text read in windows is still one row; see `one_row_per_sequence`. Prints how many dev
    rows are training rows too. Process 0 makes the caches of ids, before the others read them.
    """

    def load(split: str, limits: dict[str, int]) -> Splits:
        return {
            task.name: limit_rows(
                load_task(task, split, tokenizer, source), limits.get(task.name)
            )
            for task in tasks
        }  # fmt: skip

    with distributed.first_before_others():
        train, dev = load("train", source.limit), load("dev", source.limit_dev)
    for task in tasks:
        if count := count_trained_on(dev[task.name], train[task.name]):
            rows = f"{count:,} of {len(dev[task.name]):,} dev rows"
            same = "are, as the model reads them, training rows too"
            print(f"{task.name}: {rows} {same}, which flatters the score")
    return train, dev


def count_trained_on(dev: EncodedSplit, train: EncodedSplit) -> int:
    """Return how many dev rows have the very tokens of a training row."""

    def tokens_of_rows(split: EncodedSplit) -> Iterator[bytes]:
        ends = split.offsets
        if len(split.owners):
            ends = ends[np.searchsorted(split.owners, np.arange(len(split) + 1))]
        for start, end in pairwise(ends):  # not a list: a Python int takes four times the memory
            yield split.ids[start:end].tobytes()

    counts = Counter(tokens_of_rows(dev))
    found = {tokens for tokens in tokens_of_rows(train) if tokens in counts}
    return sum(counts[tokens] for tokens in found)


def count_left_out(by_split: dict[str, Splits]) -> LeftOutCounts:
    """Return how many rows of the tasks' files are left out.

    by_split: each split of all tasks, by its name.
    """
    counts: LeftOutCounts = {}
    for name, by_task in by_split.items():
        for task, split in by_task.items():
            if split.left_out_counts:
                counts.setdefault(task, {})[name] = split.left_out_counts
    return counts


def distinct_sentences(
    tasks: list[Task], data_dir: Path, limits: dict[str, int]
) -> tuple[list[str], LeftOutCounts]:
    """Return every sentence of the training sets once, and how many rows are left out.

    A pair is two sentences. limits: most rows by task; the same rows are drawn as for training on
    the task.
    """
    sentences: dict[str, None] = {}  # used as a set with an order
    counts: LeftOutCounts = {}
    for task in tasks:
        paths = task.paths("train", data_dir)
        what = f"{describe_files(paths)}: rows"
        examples, left_out = read_examples(paths, task.columns, labelled=True, what=what)
        if said := left_out.summary():
            print(f"{describe_files(paths)}: {said}")
            counts[task.name] = {"train": dict(left_out.counts)}
        if task.dev_share:
            is_dev = dev_row_mask(task, [example.id for example in examples], data_dir)
            check_some_left(task, is_dev, describe_files(paths))
            say_dev_rows(task, is_dev)
            examples = [examples[row] for row in np.flatnonzero(~is_dev)]
        for example in (examples[row] for row in chosen_rows(len(examples), limits.get(task.name))):
            sentences[example.text] = None
            if example.pair is not None:
                sentences[example.pair] = None
    return list(sentences), counts
