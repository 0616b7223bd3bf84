"""Data as a shop has it: five kinds of tasks in the files that offices write, by a seeded grammar.

messages.csv is a spreadsheet's: a byte order mark, `;` between cells, empty cells, three classes
of unequal size, no dev set. The others are JSON lines, a table and CoNLL. No sentence is of a data
set.
"""

import csv
import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

QUEUES = {  # what messages are about, and how often
    "delivery": (["parcel", "courier", "shipment", "package"], 0.75),
    "billing": (["invoice", "refund", "payment", "bill"], 0.2),
    "complaint": (["rude clerk", "broken promise", "long wait", "wrong answer"], 0.05),
}
MESSAGES = ["where is my {w} ?", "i have a question about the {w} .", "hello , the {w} again !"]
WAYS = [("track", "follow"), ("return", "send back"), ("change", "alter"), ("cancel", "call off")]
GOODS = ["order", "lamp", "kettle", "subscription", "voucher", "drum"]
DEGREES = ["dreadful", "poor", "fair", "good", "superb"]
TOPICS = {
    "price": ["far too expensive", "cheaper elsewhere", "a fair price"],
    "speed": ["three weeks late", "here the next day", "slow to arrive"],
    "quality": ["scratched all over", "solid and well made", "broken at once"],
}
STREETS = ["Mill Lane", "Harbour Street", "Station Road", "Park Row"]
DAYS = ["Monday", "Friday", "tomorrow"]

TASK_FILE = """\
[queue]
kind = "classification"
train = "messages.csv"
delimiter = ";"
id = "number"
text = "message"
label = "queue"
labels = ["delivery", "billing", "complaint"]
class_weight = "balanced"

[same]
kind = "pair-classification"
train = "questions.jsonl"
text = ["question", "other"]
label = "same"
labels = ["no", "yes"]

[satisfaction]
kind = "regression"
train = "reviews.tsv"
text = "review"
label = "score"
range = [0, 100]

[topics]
kind = "multi-label"
train = "remarks.jsonl"
text = "remark"
label = "topics"
labels = ["price", "speed", "quality"]

[slots]
kind = "token-classification"
train = "orders.conll"
labels = ["O", "B-THING", "I-THING", "B-PLACE", "I-PLACE", "B-DAY", "I-DAY"]
"""


def messages(rng: random.Random, rows: int) -> str:
    """Return a spreadsheet's CSV; every fortieth row has no message, every fiftieth no queue."""
    text = io.StringIO()
    table = csv.writer(text, delimiter=";", lineterminator="\r\n")
    table.writerow(["number", "message", "queue"])
    names, weights = list(QUEUES), [share for _, share in QUEUES.values()]
    for number in range(1, rows + 1):
        queue = rng.choices(names, weights)[0]
        message = rng.choice(MESSAGES).format(w=rng.choice(QUEUES[queue][0]))
        cells = ["" if number % 40 == 0 else message, "" if number % 50 == 0 else queue]
        table.writerow([f"m{number:04}", *cells])
    return "\ufeff" + text.getvalue()


def questions(rng: random.Random) -> Iterator[dict[str, str]]:
    """Yield pairs of questions, and whether they ask the same."""
    while True:
        (verb, synonym), (wrong, _) = rng.sample(WAYS, 2)
        thing, same = rng.choice(GOODS), rng.random() < 0.5
        other = f"Please , how can one {synonym if same else wrong} a {thing} ?"
        question = f"How do I {verb} my {thing} ?"
        yield {"question": question, "other": other, "same": "yes" if same else "no"}


def reviews(rng: random.Random, rows: int) -> str:
    """Return a table of reviews, with a satisfaction from 0 to 100 that their words tell."""
    lines = ["review\tscore"]
    for _ in range(rows):
        service, goods = rng.randrange(5), rng.randrange(5)
        review = f"{DEGREES[service]} service , and the {rng.choice(GOODS)} is {DEGREES[goods]} ."
        lines.append(f"{review}\t{10 * service + 15 * goods}")
    return "\n".join(lines) + "\n"


def remarks(rng: random.Random) -> Iterator[dict[str, str | list[str]]]:
    """Yield remarks, and which topics they are about: none, one or several."""
    while True:
        topics = [topic for topic in TOPICS if rng.random() < 0.5]
        said = [rng.choice(TOPICS[topic]) for topic in topics] or ["nothing to add"]
        yield {"remark": " , ".join([f"the {rng.choice(GOODS)} :", *said]), "topics": topics}


def orders(rng: random.Random, rows: int) -> str:
    """Return orders in CoNLL's form, a word and its tag a line: what, where to, and when."""
    lines = []
    for _ in range(rows):
        polite = rng.choice(["please send", "we need", "could you bring"])
        parts = [(polite, "O"), (f"the {rng.choice(GOODS)}", "THING"), ("to", "O")]
        parts += [(rng.choice(STREETS), "PLACE"), (f"on {rng.choice(DAYS)}", "DAY"), (".", "O")]
        for text, kind in parts:
            tags = ["O", "O"] if kind == "O" else [f"B-{kind}", f"I-{kind}"]
            for place, word in enumerate(text.split()):
                lines.append(f"{word}\t{tags[place > 0]}")
        lines.append("")
    return "\n".join(lines) + "\n"


Rows = Iterator[dict[str, str]] | Iterator[dict[str, str | list[str]]]


def json_lines(stream: Rows, rows: int) -> str:
    """Return the first rows of an endless stream as JSON lines."""
    return "".join(json.dumps(next(stream)) + "\n" for _ in range(rows))


FILES: dict[str, Callable[[random.Random, int], str]] = {
    "messages.csv": messages,
    "questions.jsonl": lambda rng, rows: json_lines(questions(rng), rows),
    "reviews.tsv": reviews,
    "remarks.jsonl": lambda rng, rows: json_lines(remarks(rng), rows),
    "orders.conll": orders,
}


def write_shop(directory: Path, rows: int) -> None:
    """Write five files with so many rows each, and a tasks.toml for them."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, make in FILES.items():
        (directory / name).write_bytes(make(random.Random(name), rows).encode("utf-8"))
    (directory / "tasks.toml").write_text(TASK_FILE, encoding="utf-8")
