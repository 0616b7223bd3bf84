"""Loading the tasks' files in --data-dir as splits of ids."""

from dataclasses import dataclass, field
from pathlib import Path

from minbert.data.encoded import EncodedSplit, chosen_rows, limit_rows, load_split
from minbert.data.examples import check_exists, read_examples
from minbert.data.tokenizer import BertTokenizer
from minbert.task.task import Task


@dataclass(frozen=True)
class DataSource:
    """Where a command's data is, and how much of it is used."""

    data_dir: Path
    cache_dir: Path | None  # of ids; None: nothing is cached
    max_length: int  # in tokens; longer rows are cut
    siamese: frozenset[str] = frozenset()  # tasks whose pairs are encoded sentence by sentence
    limit: dict[str, int] = field(default_factory=dict)  # most rows of a task's training set
    limit_dev: dict[str, int] = field(default_factory=dict)  # most rows of its dev set


def check_files(tasks: list[Task], data_dir: Path, splits: tuple[str, ...]) -> None:
    """Raise UserError for a missing file, before anything that takes long."""
    for task in tasks:
        for split in splits:
            check_exists(data_dir / task.files[split], task.columns.course)


def load_task(
    task: Task, split_name: str, tokenizer: BertTokenizer, source: DataSource
) -> EncodedSplit:
    """Load one split of a task; print how many of its rows have no label and are left out."""
    path = source.data_dir / task.files[split_name]
    split = load_split(
        path, task.columns, split_name != "test", tokenizer, source.max_length, source.cache_dir,
        task.name in source.siamese,
    )  # fmt: skip
    if split.unlabelled:
        print(f"{path}: rows without a label left out: {split.unlabelled}")
    return split


def find_test_file(task: Task, data_dir: Path) -> tuple[Path | None, str]:
    """Return a task's test file, or None and the sentence to print instead of its predictions."""
    path = data_dir / task.files.get("test", "")
    if path.is_file():
        return path, ""
    name = f" {path}" if "test" in task.files else ""
    return None, f"no test file{name}: no test predictions for {task.name}"


def load_train_and_dev(
    tasks: list[Task], tokenizer: BertTokenizer, source: DataSource
) -> tuple[dict[str, EncodedSplit], dict[str, EncodedSplit]]:
    """Load every task's training and dev set, by task, limited to the source's rows."""
    limits = {"train": source.limit, "dev": source.limit_dev}
    train_splits, dev_splits = (
        {
            t.name: limit_rows(load_task(t, name, tokenizer, source), limit.get(t.name))
            for t in tasks
        }
        for name, limit in limits.items()
    )
    return train_splits, dev_splits


def distinct_sentences(data_dir: Path, tasks: list[Task], limits: dict[str, int]) -> list[str]:
    """Return every sentence of the training sets once; a pair is two sentences.

    limits: most rows by task; the same rows are drawn as for training on the task.
    """
    sentences: dict[str, None] = {}  # used as a set with an order
    for task in tasks:
        examples, _ = read_examples(data_dir / task.files["train"], task.columns, labelled=True)
        for example in (examples[row] for row in chosen_rows(len(examples), limits.get(task.name))):
            sentences[example.text] = None
            if example.pair is not None:
                sentences[example.pair] = None
    return list(sentences)
