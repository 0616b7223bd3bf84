"""Training on tasks that label words: parts, processes, stops, and what else a run may be told."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import evaluate
import train_multitask
from minbert import MultitaskModel, UserError
from minbert.export import main as export
from tests.conftest import arguments, cut, logged, weights
from tests.flags import Outcome, watched
from tests.processes import assert_same_run
from tests.test_distributed import STILL, assert_near, in_two
from tests.word_world import BESIDE, add_pets, train

SMALL = ("--tasks", "sst,pets", "--epochs", "1")
WHOLE = (*STILL, "--tasks", "pets", "--batch-size", "7", "--clip", "0")


@pytest.fixture
def pets(world: Path) -> Path:
    return add_pets(world)


def test_parts_count_by_their_words(still: Path) -> None:
    """Sentences have 1 to 9 words: a mean of the parts' means would differ."""
    world = add_pets(still)
    whole = weights(train(world, "whole", *WHOLE) / "last")
    assert_near(whole, weights(train(world, "parts", *WHOLE, "--accumulate", "3") / "last"))


@pytest.mark.thorough
def test_two_processes_share_a_batch_of_words(still: Path) -> None:
    world = add_pets(still)
    whole = weights(train(world, "whole", *WHOLE) / "last")
    more = ["--task-file", str(world / "own.toml"), *BESIDE, *WHOLE]
    in_two(world, "train", arguments(world, "--name", "two", *more))
    assert_near(whole, weights(world / "runs/two/last"))


def test_a_stopped_run_goes_on_as_if_it_had_not(pets: Path) -> None:
    train(pets, "whole", *SMALL)
    own = ("--task-file", str(pets / "own.toml"), *BESIDE, *SMALL)
    cut(pets, 3, "--name", "cut", *own)
    (pets / "own.toml").unlink()
    train_multitask.main(["--resume", str(pets / "runs/cut")])
    assert_same_run(pets, "whole", "cut")


def test_words_beyond_the_length_are_in_no_entity(
    pets: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["red", "cat", "sleeps", "here", "old", "blue", "dog", "runs"]
    (pets / "data/pets-dev.conll").write_text("".join(f"{w}\tB-PET\n" for w in words))
    found = train(pets, "short", "--tasks", "pets", "--max-length", "6", "--epochs", "1")
    assert "1 rows, the last on line 1; words cut off or without a piece, not predicted: 4" in (
        capsys.readouterr().out
    )
    row = (found / "predictions/pets-dev-output.csv").read_text().splitlines()[1]
    tags = row.split(",")[1].split(" ")
    assert len(tags) == 8 and tags[4:] == ["O"] * 4
    assert logged(found, "dev")[-1]["scores"]["pets"]["recall"] <= 0.5
    said = []  # as through a bar that is shown meanwhile
    monkeypatch.setattr(
        "minbert.progress.tqdm.write", lambda *line, file: said.append((*line, file))
    )
    MultitaskModel.load(found).predict("pets", [" ".join(words)])
    line = "pets: 4 words cut off or without a piece, not predicted (max_length 6)"
    assert said == [(line, sys.stderr)]


def test_the_form_of_the_task_s_files_is_that_of_its_input(pets: Path) -> None:
    """Of CoNLL's form with another ending: its lines are words, and no sentences."""
    (pets / "own.toml").write_text((pets / "own.toml").read_text().replace(".conll", ".txt"))
    for path in (pets / "data").glob("pets-*.conll"):
        path.rename(path.with_suffix(".txt"))
    found = train(pets, "own", "--tasks", "pets", "--epochs", "1")
    output = pets / "out.jsonl"
    to = ["--checkpoint", str(found), "--input", str(pets / "data/pets-test.txt"), "--output"]
    evaluate.main([*to, str(output)])
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    sentences = (pets / "data/pets-test.txt").read_text().split("\n\n")
    assert len(answers) == 5
    for answer, words in zip(answers, sentences, strict=True):
        assert len(answer["label"].split(" ")) == len(words.splitlines())


@pytest.mark.thorough
def test_frozen_encoders_and_heads_first_learn_words(pets: Path) -> None:
    before = logged(train(pets, "plain", "--epochs", "1"), "dev")[0]["scores"]["pets"]["loss"]
    frozen = train(pets, "frozen", "--fine-tune-mode", "last-linear-layer", "--epochs", "4")
    losses = [line["scores"]["pets"]["loss"] for line in logged(frozen, "dev")]
    assert losses[0] == pytest.approx(before, abs=1e-5) and losses[-1] < losses[0] - 0.01
    first = train(pets, "first", "--heads-first", "6", "--epochs", "1")
    assert logged(first, "dev")[0]["scores"]["pets"]["loss"] < before - 0.01


@pytest.mark.thorough
def test_teachers_and_other_ingredients_of_recipes(pets: Path) -> None:
    teacher = train(pets, "teacher", "--tasks", "pets", "--epochs", "1")
    options = ("--teacher", f"pets={teacher}", "--r-drop", "pets=1", "--mode", "joint")
    taught = train(pets, "taught", *options, "--combine", "pcgrad", "--pool-layers", "1,2")
    lines = [x for x in logged(taught, "step") if x["task"] == "pets"]
    assert len(lines) >= 8 and all(np.isfinite(line["loss"]) for line in lines)
    with pytest.raises(UserError, match="its head reads layers"):
        export([str(taught), str(pets / "out"), "--task", "pets"])
    short = train(pets, "short", "--tasks", "pets", "--epochs", "1", "--max-length", "5")
    with pytest.raises(UserError, match="--teacher pets: with its length and vocabulary it cut"):
        train(pets, "no", "--teacher", f"pets={short}")
    with pytest.raises(UserError, match="--teacher pets: with its length and vocabulary it cut"):
        one_by_one = ("--mode", "single", "--tasks", "sst,pets")
        train(pets, "single", *one_by_one, "--teacher", f"pets={short}")
    assert not (pets / "runs/single/sst").exists()


def test_words_that_are_cut_off_have_no_class_weight(pets: Path) -> None:
    """Each of five sentences has a word O and one B-PET to read, and ten of O behind them."""
    rows = "\n".join(["red\tO\ncat\tB-PET\n" + "here\tO\n" * 10] * 5)
    (pets / "data/pets-train.conll").write_text(rows)
    toml = (pets / "own.toml").read_text()
    (pets / "own.toml").write_text(f'{toml}class_weight = "balanced"\n')
    outcome = Outcome(pets)
    with watched(outcome, train_multitask, "forward_backward"):
        train(pets, "cut", "--tasks", "pets", "--steps", "1", "--max-length", "4")
    (_, task, _), _ = outcome.seen["forward_backward"][0]
    assert task.class_weights[:2].tolist() == [1, 1]


def test_a_batch_without_a_word_to_read_has_the_loss_0(pets: Path) -> None:
    (pets / "data/pets-train.conll").write_text("\x07\tO\n\nred\tO\n")
    options = ("--batch-size", "1", "--tasks", "pets", "--epochs", "1", "--heads-first", "1")
    found = train(pets, "bare", *options, "--r-drop", "pets=1")
    assert sorted(line["loss"] > 0 for line in logged(found, "step")) == [False, True]


def test_parts_of_speech_with_weights_and_a_share_of_dev_rows(
    pets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tags that are numbers in the file, as data sets of the hub have them."""
    both = (("red", "cat"), ("old", "dog"))
    words = [(f"{adjective}{i}", noun) for i in range(6) for adjective, noun in both]
    rows = [{"tokens": pair, "tags": [0, 1 + (pair[1] == "dog")]} for pair in words]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (pets / "data/pos.jsonl").write_text(text)
    (pets / "own.toml").write_text(
        '[pos]\nkind = "token-classification"\ntrain = "pos.jsonl"\nlabels = 3\n'
        'display_names = ["ADJ", "NOUN", "PET"]\nclass_weight = "balanced"\ndev = 0.25\n'
    )
    options = ("--tasks", "pos", "--epochs", "1", "--save-task-best")
    found = train(pets, "pos", *options)
    assert "pos: no dev file: 3 of these rows" in capsys.readouterr().out
    scores = logged(found, "dev")[-1]["scores"]["pos"]
    assert list(scores) == ["accuracy", "loss"]
    card = (found / "README.md").read_text()
    assert all(name in card for name in ("ADJ", "NOUN", "PET"))
    model = MultitaskModel.load(found, "cpu")
    (tags,) = model.predict("pos", ["red cat"])
    assert {*tags.split(" ")} <= {"ADJ", "NOUN", "PET"} and len(tags.split(" ")) == 2
    entities = model.entities("pos", ["red  cat"])[0]
    assert [(e.start, e.end) for e in entities] == [(0, 3), (5, 8)]
    assert [e.type for e in entities] == tags.split(" ")
    train(pets, "dry", *options, "--dry-run")
    assert "pos: ADJ 9, NOUN" in capsys.readouterr().out
