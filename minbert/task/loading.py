"""The tasks' files in --data-dir -> splits of ids."""

from pathlib import Path
from typing import Protocol

from minbert.data.encoded import EncodedSplit, chosen_rows, limit_rows, load_split
from minbert.data.examples import check_is_there, read_examples
from minbert.data.tokenizer import BertTokenizer
from minbert.task.task import Task


class Where(Protocol):
    """The arguments of a script that say where data is and how much of it to take."""

    data_dir: str
    output_dir: str  # the ids are cached in it
    max_length: int
    limit: dict[str, int]  # rows of a task's training set
    limit_dev: dict[str, int]  # and of its dev set
    pair_encoding: dict[str, str]  # cross or siamese, by task


def check_files(tasks: list[Task], data_dir: str, splits: tuple[str, ...]) -> None:
    """Before anything that takes long, as a download of weights, finds that one is missing."""
    for task in tasks:
        for split in splits:
            check_is_there(Path(data_dir) / task.files[split], task.columns.own)


def load_task(task: Task, split_name: str, tokenizer: BertTokenizer, where: Where) -> EncodedSplit:
    """One split of one task; rows without a label are counted aloud and left out."""
    siamese = where.pair_encoding.get(task.name) == "siamese"
    path = Path(where.data_dir) / task.files[split_name]
    cache = Path(where.output_dir) / ".ids"
    labelled = split_name != "test"
    split = load_split(path, task.columns, labelled, tokenizer, where.max_length, cache, siamese)
    if split.unlabelled:
        print(f"{path}: rows without a label left out: {split.unlabelled}")
    return split


def load_train_and_dev(
    tasks: list[Task], tokenizer: BertTokenizer, where: Where
) -> tuple[dict[str, EncodedSplit], dict[str, EncodedSplit]]:
    """What training needs of every task; all files are read before anything is trained."""
    train = {
        task.name: limit_rows(
            load_task(task, "train", tokenizer, where), where.limit.get(task.name)
        )
        for task in tasks
    }
    dev = {
        task.name: limit_rows(
            load_task(task, "dev", tokenizer, where), where.limit_dev.get(task.name)
        )
        for task in tasks
    }
    return train, dev


def distinct_sentences(data_dir: Path, tasks: list[Task], limits: dict[str, int]) -> list[str]:
    """Every sentence of the training sets once, each of a pair as a text of its own.

    limits: so many rows of a task, the same ones that training is limited to.
    """
    sentences: dict[str, None] = {}  # a set that keeps the order
    for task in tasks:
        examples, _ = read_examples(data_dir / task.files["train"], task.columns, labelled=True)
        for example in (examples[row] for row in chosen_rows(len(examples), limits.get(task.name))):
            sentences[example.text] = None
            if example.pair is not None:
                sentences[example.pair] = None
    return list(sentences)
