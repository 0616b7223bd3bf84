"""A SAMPLE of SST, Quora and STS, by a seeded grammar: python -m tasks.sample --to data/sample

It has three tasks more, described in a tasks.toml as users describe theirs. No sentence is copied
from a data set, and scores on it say nothing about real text. The dev and test rows of SST, Quora
and STS have words for things, people, actions and opinions that no training row has.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from minbert.cli import arg, parse_arguments, run_script
from minbert.errors import UserError
from tasks.shop import write_shop

T = TypeVar("T")
# Of each list of words the first half is for training, the second half for dev and test.
THINGS = [
    "soup", "lamp", "jacket", "garden", "concert", "hotel", "bicycle", "novel", "ferry", "bakery",
    "camera", "museum",
]  # fmt: skip
OPINIONS = [
    ["awful", "dreadful", "horrible", "terrible"],
    ["dull", "disappointing", "weak", "mediocre"],
    ["ordinary", "average", "unremarkable", "plain"],
    ["pleasant", "nice", "good", "enjoyable"],
    ["wonderful", "superb", "brilliant", "magnificent"],
]
PEOPLE = ["teacher", "sailor", "baker", "nurse", "farmer", "pilot", "tailor", "singer"]
ACTIONS = [
    ("repairs", "fixes"), ("purchases", "buys"), ("shuts", "closes"), ("begins", "starts"),
    ("observes", "watches"), ("constructs", "builds"), ("discards", "throws away"),
    ("lifts", "raises"),
]  # fmt: skip
OBJECTS = ["gate", "kettle", "fence", "boat", "drum", "shelf", "window", "cart"]
QUEUES = {
    "billing": ["invoice", "refund", "bill", "payment"],
    "delivery": ["parcel", "courier", "package", "shipment"],
    "other": ["password", "catalogue", "login", "brochure"],
}
NAMES = ["Ada", "Boris", "Chloe", "Dev", "Ewa", "Farid", "Greta", "Hugo", "Ines", "Jonas"]
SURNAMES = ["Archer", "Binder", "Carver", "Dyer", "Fisher", "Gardener", "Hunter", "Joiner"]
PLACES = ["in the village", "near the harbour", "behind the school", "on the hill"]


@dataclass(frozen=True)
class Args:
    """Where to write the sample."""

    to: str = arg("data/sample", "directory to write")


def half(words: list[T], training: bool) -> list[T]:
    """Return the words for training rows, or those for dev and test rows."""
    middle = len(words) // 2
    return words[:middle] if training else words[middle:]


def sst_rows(rng: random.Random, training: bool) -> Iterator[tuple[str, ...]]:
    """Yield sentences about things, and their sentiment from 0 to 4."""
    frames = [
        "the {t} was {o} .",
        "honestly , a {o} {t} .",
        "i found the {t} {o} and told everyone .",
        "what a {o} {t} we had {p} .",
        "the {t} {p} is simply {o} .",
    ]
    while True:
        label = rng.randrange(5)
        words = {
            "t": rng.choice(half(THINGS, training)),
            "o": rng.choice(half(OPINIONS[label], training)),
            "p": rng.choice(PLACES),
        }
        yield rng.choice(frames).format(**words), str(label)


def quora_rows(rng: random.Random, training: bool) -> Iterator[tuple[str, ...]]:
    """Yield pairs of questions, and whether they ask the same."""
    while True:
        things = rng.sample(half(OBJECTS, training), 2)
        actions = rng.sample(half(ACTIONS, training), 2)
        person = rng.choice(half(PEOPLE, training))
        same = rng.random() < 0.5
        change = rng.randrange(2)  # what differs in a pair that is not a duplicate
        thing = things[0] if same or change else things[1]
        verb = actions[0][1] if same or not change else actions[1][1]
        first = f"How often does a {person} say that he {actions[0][0]} the {things[0]}?"
        second = f"Does a {person} often say that he {verb} the {thing}?"
        yield first, second, "1.0" if same else "0.0"


def sts_rows(rng: random.Random, training: bool) -> Iterator[tuple[str, ...]]:
    """Yield pairs of sentences, and their similarity from 0 to 5."""
    while True:
        people = rng.sample(half(PEOPLE, training), 2)
        actions = rng.sample(half(ACTIONS, training), 2)
        things = rng.sample(half(OBJECTS, training), 2)
        places = rng.sample(PLACES, 2)
        changed = [rng.random() < 0.5 for _ in range(4)]
        # a changed person, action or thing costs 1.5, a changed place 0.5
        score = 5.0 - 1.5 * changed[0] - 1.5 * changed[1] - 1.5 * changed[2] - 0.5 * changed[3]
        first = f"A {people[0]} {actions[0][0]} a {things[0]} {places[0]}."
        second = (
            f"A {people[changed[0]]} {actions[changed[1]][1]} "
            f"a {things[changed[2]]} {places[changed[3]]}."
        )
        yield first, second, f"{score:.1f}"


def ticket_rows(rng: random.Random, training: bool) -> Iterator[tuple[str, ...]]:
    """Yield messages, and the queue that each belongs to."""
    frames = ["where is my {w} ?", "please help me with the {w} .", "a question about a {w} ..."]
    while True:
        queue = rng.choice(list(QUEUES))
        yield rng.choice(frames).format(w=rng.choice(half(QUEUES[queue], training))), queue


def answer_rows(rng: random.Random, training: bool) -> Iterator[tuple[str, ...]]:
    """Yield questions with an answer, and how well it fits from 0 to 1."""
    while True:
        actions = rng.sample(half(ACTIONS, training), 2)
        things = rng.sample(half(OBJECTS, training), 2)
        changed = [rng.random() < 0.4 for _ in range(2)]
        answer = f"The {rng.choice(PEOPLE)} {actions[changed[0]][1]} the {things[changed[1]]}."
        yield f"Who {actions[0][0]} the {things[0]}?", answer, f"{1 - sum(changed) / 2:.1f}"


def slot_rows(rng: random.Random, training: bool) -> Iterator[list[tuple[str, str]]]:
    """Yield requests as words with their tags: items, people and places are to be found."""
    frames = [
        "please bring the {ITEM} to {PERSON} {PLACE} .",
        "{PERSON} needs a {ITEM} .",
        "is there a {ITEM} {PLACE} ?",
        "ask {PERSON} about the {ITEM} , please .",
        "who waits {PLACE} ?",
    ]
    while True:
        name, surname = (rng.choice(half(words, training)) for words in (NAMES, SURNAMES))
        item = rng.choice(half(THINGS + OBJECTS, training))
        found = {
            "{ITEM}": rng.choice([item, f"{rng.choice(['red', 'blue', 'old'])} {item}"]),
            "{PERSON}": rng.choice([name, f"{name} {surname}"]),
            "{PLACE}": rng.choice(PLACES),
        }
        row = []
        for part in rng.choice(frames).split():
            for place, word in enumerate(found.get(part, part).split()):
                tag = f"{'I' if place else 'B'}-{part.strip('{}')}" if part in found else "O"
                row.append((word, tag))
        yield row


FILES = {
    "ids-sst-{}.csv": (sst_rows, ["sentence", "sentiment"]),
    "quora-{}.csv": (quora_rows, ["sentence1", "sentence2", "is_duplicate"]),
    "sts-{}.csv": (sts_rows, ["sentence1", "sentence2", "similarity"]),
}
OWN_FILES = {
    "tickets-{}.tsv": (ticket_rows, ["message", "queue"]),
    "answers-{}.tsv": (answer_rows, ["question", "answer", "fit"]),
}
SLOTS = "slots-{}.conll"
TASK_FILE = """\
[tickets]
kind = "classification"
train = "tickets-train.tsv"
dev = "tickets-dev.tsv"
text = "message"
label = "queue"
labels = ["billing", "delivery", "other"]

[answers]
kind = "pair-similarity"
train = "answers-train.tsv"
dev = "answers-dev.tsv"
text = ["question", "answer"]
label = "fit"
range = [0, 1]

[slots]
kind = "token-classification"
train = "slots-train.conll"
dev = "slots-dev.conll"
labels = ["O", "B-ITEM", "I-ITEM", "B-PERSON", "I-PERSON", "B-PLACE", "I-PLACE"]
"""
ABOUT = "A SAMPLE written by `python -m tasks.sample`: machine-made sentences, no real data set.\n"
ROWS = {"train": 600, "dev": 200, "test-student": 100}


def write_sample(directory: Path) -> None:
    """Write nine files in the course's format, six of three other tasks, tasks.toml, a README.

    And a shop's five files, in a folder of their own. Raises UserError for a directory with other
    files, whose names they might have.
    """
    readme = directory / "README.md"
    is_sample = readme.is_file() and readme.read_bytes().startswith(ABOUT[:8].encode())
    if directory.exists() and any(directory.iterdir()) and not is_sample:
        raise UserError(f"--to {directory}: has files that are no sample; name a new directory")
    directory.mkdir(parents=True, exist_ok=True)
    readme.write_text(ABOUT)
    for name, (make, columns) in FILES.items():
        for split, count in ROWS.items():
            file = name.format(split)
            rows = make(random.Random(file), split == "train")
            header = columns[:-1] if split == "test-student" else columns  # test: no labels
            lines = ["\t".join(["", "id", *header])]
            for number in range(count):
                cells = next(rows)[: len(header)]
                lines.append("\t".join([str(number), f"sample-{split}-{number:04}", *cells]))
            (directory / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, (make, columns) in OWN_FILES.items():
        for split in ("train", "dev"):
            file = name.format(split)
            rows = make(random.Random(file), split == "train")
            lines = ["\t".join(columns), *("\t".join(next(rows)) for _ in range(ROWS[split]))]
            (directory / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    for split in ("train", "dev"):
        file = SLOTS.format(split)
        rows = slot_rows(random.Random(file), split == "train")
        sentences = [
            "".join(f"{word}\t{tag}\n" for word, tag in next(rows)) for _ in range(ROWS[split])
        ]
        (directory / file).write_text("\n".join(sentences), encoding="utf-8")
    (directory / "tasks.toml").write_text(TASK_FILE, encoding="utf-8")
    write_shop(directory / "shop", ROWS["train"])


def main(argv: list[str]) -> int:
    args = parse_arguments(Args, argv, __doc__)
    write_sample(Path(args.to))
    print(f"{args.to}: a SAMPLE of SST, Quora and STS, written by a grammar (not real data);")
    print(f"{args.to}/tasks.toml: three more tasks, as you would describe your own;")
    print(f"{args.to}/shop: five kinds of tasks in the files that offices write")
    return 0


if __name__ == "__main__":
    run_script(main)
