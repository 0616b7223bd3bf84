"""A world with a task that labels words, beside the tasks of sentences; for tests."""

import json
import random
from pathlib import Path

import numpy as np
import transformers

from tests.conftest import WORDS, run

TAGS = ["O", "B-PET", "I-PET", "B-HUE"]
TASK = f"""
[pets]
kind = "token-classification"
train = "pets-train.conll"
dev = "pets-dev.conll"
test = "pets-test.conll"
labels = {json.dumps(TAGS)}
"""
BESIDE = ("--tasks", "sst,sts,pets", "--precision", "fp32")


def add_pets(world: Path) -> Path:
    """Write files of tagged words and a task file into a world."""
    rng = random.Random(0)
    for split, rows in (("train", 30), ("dev", 12), ("test", 5)):
        sentences = []
        for _ in range(rows):
            words = rng.choices([*WORDS, "cats!", "\x07"], k=rng.randint(1, 9))
            known = {"cat": "B-PET", "dog": "I-PET", "red": "B-HUE", "blue": "B-HUE"}
            tags = [known.get(w, "O") if rng.random() < 0.9 else rng.choice(TAGS) for w in words]
            pairs = zip(words, tags, strict=True)
            lines = (w if split == "test" else f"{w}\t{tag}" for w, tag in pairs)
            sentences.append("".join(f"{line}\n" for line in lines))
        (world / f"data/pets-{split}.conll").write_text("\n".join(sentences))
    (world / "own.toml").write_text(TASK)
    return world


def train(world: Path, name: str, *options: str) -> Path:
    run(world, "--name", name, "--task-file", str(world / "own.toml"), *BESIDE, *options)
    return world / "runs" / name


def gold(path: Path) -> list[list[tuple[str, str]]]:
    """Return a CoNLL file's sentences, read in another way than the program's."""
    sentences = path.read_text().strip("\n").split("\n\n")
    return [[tuple(line.split("\t")) for line in s.split("\n")] for s in sentences]


def assert_same_words(
    logits: np.ndarray, inputs: "transformers.BatchEncoding", ours: np.ndarray, atol: float
) -> None:
    """Compare the first pieces of padded (B, T, C) logits with ours by row."""
    for row, own in enumerate(ours):
        numbers = inputs.word_ids(row)
        first = [numbers.index(word) for word in range(len(own))]
        np.testing.assert_allclose(logits[row][first], own, atol=atol)
