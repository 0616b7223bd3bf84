"""A SAMPLE of all three tasks, by a small seeded grammar: python -m tasks.sample --to data/sample

Beside them two tasks as a user would describe his own, in tasks.toml. Nothing here is copied from a
data set, and scores on it say nothing about real text. The dev and test rows use content words that
no training row contains.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from minbert.cli import arg, parse_arguments, run_script

# Each list: first half for training, second half for dev and test.
THINGS = [
    "soup",
    "lamp",
    "jacket",
    "garden",
    "concert",
    "hotel",
    "bicycle",
    "novel",
    "ferry",
    "bakery",
    "camera",
    "museum",
]
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
PLACES = ["in the village", "near the harbour", "behind the school", "on the hill"]


@dataclass(frozen=True)
class Args:
    """Where the sample goes."""

    to: str = arg("data/sample", "directory to write")


def half(words: list, train: bool) -> list:
    middle = len(words) // 2
    return words[:middle] if train else words[middle:]


def sst_rows(rng: random.Random, train: bool) -> Iterator[tuple[str, ...]]:
    frames = [
        "the {t} was {o} .",
        "honestly , a {o} {t} .",
        "i found the {t} {o} and told everyone .",
    ]
    frames += ["what a {o} {t} we had {p} .", "the {t} {p} is simply {o} ."]
    while True:
        label = rng.randrange(5)
        words = {
            "t": rng.choice(half(THINGS, train)),
            "o": rng.choice(half(OPINIONS[label], train)),
            "p": rng.choice(PLACES),
        }
        yield rng.choice(frames).format(**words), str(label)


def quora_rows(rng: random.Random, train: bool) -> Iterator[tuple[str, ...]]:
    while True:
        things = rng.sample(half(OBJECTS, train), 2)
        actions = rng.sample(half(ACTIONS, train), 2)
        person = rng.choice(half(PEOPLE, train))
        same = rng.random() < 0.5
        change = rng.randrange(2)  # what differs in a pair that is not a duplicate
        thing = things[0] if same or change else things[1]
        verb = actions[0][1] if same or not change else actions[1][1]
        first = f"How often does a {person} say that he {actions[0][0]} the {things[0]}?"
        second = f"Does a {person} often say that he {verb} the {thing}?"
        yield first, second, "1.0" if same else "0.0"


def sts_rows(rng: random.Random, train: bool) -> Iterator[tuple[str, ...]]:
    while True:
        people = rng.sample(half(PEOPLE, train), 2)
        actions = rng.sample(half(ACTIONS, train), 2)
        things = rng.sample(half(OBJECTS, train), 2)
        places = rng.sample(PLACES, 2)
        changed = [rng.random() < 0.5 for _ in range(4)]
        # who, what is done and to what weigh more than where
        score = 5.0 - 1.5 * changed[0] - 1.5 * changed[1] - 1.5 * changed[2] - 0.5 * changed[3]
        first = f"A {people[0]} {actions[0][0]} a {things[0]} {places[0]}."
        second = (
            f"A {people[changed[0]]} {actions[changed[1]][1]} "
            f"a {things[changed[2]]} {places[changed[3]]}."
        )
        yield first, second, f"{score:.1f}"


def ticket_rows(rng: random.Random, train: bool) -> Iterator[tuple[str, ...]]:
    frames = ["where is my {w} ?", "please help me with the {w} .", "a question about a {w} ..."]
    while True:
        queue = rng.choice(list(QUEUES))
        yield rng.choice(frames).format(w=rng.choice(half(QUEUES[queue], train))), queue


def answer_rows(rng: random.Random, train: bool) -> Iterator[tuple[str, ...]]:
    while True:
        actions = rng.sample(half(ACTIONS, train), 2)
        things = rng.sample(half(OBJECTS, train), 2)
        changed = [rng.random() < 0.4 for _ in range(2)]
        answer = f"The {rng.choice(PEOPLE)} {actions[changed[0]][1]} the {things[changed[1]]}."
        yield f"Who {actions[0][0]} the {things[0]}?", answer, f"{1 - sum(changed) / 2:.1f}"


FILES = {
    "ids-sst-{}.csv": (sst_rows, ["sentence", "sentiment"]),
    "quora-{}.csv": (quora_rows, ["sentence1", "sentence2", "is_duplicate"]),
    "sts-{}.csv": (sts_rows, ["sentence1", "sentence2", "similarity"]),
}
OWN_FILES = {
    "tickets-{}.tsv": (ticket_rows, ["message", "queue"]),
    "answers-{}.tsv": (answer_rows, ["question", "answer", "fit"]),
}
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
"""
ROWS = {"train": 600, "dev": 200, "test-student": 100}


def write_sample(directory: Path) -> None:
    """Nine files in the course's format, two tasks of one's own, a README that says what it is."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "README.md").write_text(
        "A SAMPLE written by `python -m tasks.sample`: machine-made sentences, no real data set.\n"
    )
    for name, (make, columns) in FILES.items():
        for split, count in ROWS.items():
            file = name.format(split)
            rows = make(random.Random(file), split == "train")
            shown = columns[:-1] if split == "test-student" else columns
            lines = ["\t".join(["", "id", *shown])]
            for number in range(count):
                cells = next(rows)[: len(shown)]
                lines.append("\t".join([str(number), f"sample-{split}-{number:04}", *cells]))
            (directory / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, (make, columns) in OWN_FILES.items():
        for split in ("train", "dev"):
            file = name.format(split)
            rows = make(random.Random(file), split == "train")
            lines = ["\t".join(columns), *("\t".join(next(rows)) for _ in range(ROWS[split]))]
            (directory / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (directory / "tasks.toml").write_text(TASK_FILE, encoding="utf-8")


def main(argv: list[str]) -> int:
    args = parse_arguments(Args, argv, __doc__.split("\n")[0])
    write_sample(Path(args.to))
    print(f"{args.to}: a SAMPLE of SST, Quora and STS, written by a grammar (not real data);")
    print(f"{args.to}/tasks.toml: two more tasks, as you would describe your own")
    return 0


if __name__ == "__main__":
    run_script(main)
