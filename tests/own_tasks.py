"""A file of tasks of every kind, with its data: what the tests of task files work on."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from minbert.data.examples import Example
from tests.conftest import WORDS

OWN_NAMES = ("intent", "entails", "alike", "stars", "topics")
OWN = """
[intent]
kind = "classification"
train = "intent.tsv"
dev = "intent.tsv"
test = "intent.tsv"
text = "utterance"
label = "what"
labels = ["walk", "rest", "none of it"]

[entails]
kind = "pair-classification"
train = "entails.jsonl"
dev = "entails.jsonl"
id = "key"
text = ["premise", "hypothesis"]
label = "answer"
labels = 3
weight = 0.5

[alike]
kind = "pair-similarity"
train = "alike.csv"
dev = "alike.csv"
text = ["a", "b"]
label = "score"
range = [0, 10]
encoding = "siamese"
loss = "cosent"
metric = "spearman"

[stars]
kind = "regression"
train = "stars.parquet"
dev = "stars.parquet"
text = "review"
label = "stars"

[topics]
kind = "multi-label"
train = "topics.jsonl"
dev = "topics.jsonl"
text = "text"
label = "topics"
labels = ["cats", "dogs", "colours"]
"""


@pytest.fixture
def own(world: Path) -> Path:
    """The world with files of five own tasks."""
    rng = np.random.default_rng(1)

    def sentence() -> str:
        return " ".join(rng.choice(WORDS, 5))

    data, n = world / "data", 16
    names = ["walk", "rest", "none of it"]
    rows = [f"{sentence()}\t{names[i % 3]}" for i in range(n)]
    (data / "intent.tsv").write_text("\n".join(["utterance\twhat", *rows]) + "\n")
    rows = [
        json.dumps(
            {"key": f"k{i}", "premise": sentence(), "hypothesis": sentence(), "answer": i % 3}
        )
        for i in range(n)
    ]
    (data / "entails.jsonl").write_text("\n".join(rows) + "\n")
    rows = [f"{sentence()},{sentence()},{i % 11}" for i in range(n)]
    (data / "alike.csv").write_text("\n".join(["a,b,score", *rows]) + "\n")
    stars = {"review": [sentence() for _ in range(n)], "stars": [i % 5 + 0.5 for i in range(n)]}
    parquet.write_table(pyarrow.table(stars), data / "stars.parquet")
    topics = [["cats"], ["cats", "colours"], []]
    rows = [json.dumps({"text": sentence(), "topics": topics[i % 3]}) for i in range(n)]
    (data / "topics.jsonl").write_text("\n".join(rows) + "\n")
    (world / "own.toml").write_text(OWN)
    return world


def arguments(own: Path, *extra: str) -> list[str]:
    places = ["--model", str(own / "model"), "--data-dir", str(own / "data"), "--name", "own"]
    places += ["--output-dir", str(own / "runs"), "--task-file", str(own / "own.toml")]
    return [*places, "--epochs", "1", "--batch-size", "8", *extra]


def older_dev_row(example: Example) -> str:
    """Return what an older run has of a dev row without an id."""
    content = repr((example.text, example.pair, example.row_label))
    return f"{example.id} {hashlib.sha256(content.encode()).hexdigest()[:12]}"
