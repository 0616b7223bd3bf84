"""What people reported of programs of this kind: batches of one, pipelines, odd texts.

Reports on files are in test_real_files.py, on checkpoints and tokenizers in test_weights.py and
test_tokenizer_settings.py, on a changing number of processes in test_distributed.py.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import evaluate
import pretrain_mlm
from minbert import MultitaskModel, UserError
from minbert.export import main as export
from tests.conftest import run

LONG = "red cat " * 300
SIAMESE = ["--tasks", "quora", "--pair-encoding", "siamese", "--pair-loss"]


@pytest.mark.parametrize("loss", ["contrastive", "cosent", "softmax", "mnr", "mnr-full", "simcse"])
def test_a_last_batch_of_one_row_is_no_nan(world: Path, loss: str) -> None:
    """sentence-transformers#2729; 40 rows in batches of 13."""
    run(world, *SIAMESE, loss, "--batch-size", "13", "--epochs", "1", "--name", "r",
        "--skip-predictions")  # fmt: skip
    log = (world / "runs/r/log.jsonl").read_text()
    steps = [line for line in map(json.loads, log.splitlines()) if line["event"] == "step"]
    assert len(steps) == 4 and "NaN" not in log
    needs_another = loss in ("mnr", "cosent")  # to compare the pair with
    assert (steps[-1]["loss"] in (None, 0)) == needs_another


@pytest.fixture
def own_pairs(world: Path) -> Path:
    """A run of a task of two classes that have no names, one of two that have, and a score."""
    tables = []
    for name, labels in (("plain", "labels = 2"), ("named", 'labels = ["0.0", "1.0"]')):
        tables.append(f'[{name}]\nkind = "pair-classification"\nlabel = "is_duplicate"\n{labels}\n')
    tables.append('[alike]\nkind = "pair-similarity"\nlabel = "is_duplicate"\nrange = [0, 1]\n')
    files = 'train = "quora-train.csv"\ndev = "quora-dev.csv"\nid = "id"\n'
    texts = 'text = ["sentence1", "sentence2"]\n'
    (world / "own.toml").write_text("".join(table + files + texts for table in tables))
    run(world, "--task-file", str(world / "own.toml"), "--tasks", "plain,named,alike,sst",
        "--epochs", "1", "--name", "r", "--precision", "fp32", "--skip-predictions")  # fmt: skip
    return world / "runs/r"


def test_a_pipeline_says_which_class_its_score_is_of(own_pairs: Path, tmp_path: Path) -> None:
    """transformers#7726, #10417, #38219, #13334."""
    model = MultitaskModel.load(own_pairs, device="cpu")
    for task, name in (("plain", "LABEL_1"), ("named", "1.0"), ("alike", "LABEL_0")):
        folder = str(tmp_path / task)
        export([str(own_pairs), folder, "--to", "transformers", "--task", task])
        pipeline = transformers.pipeline("text-classification", folder, device=-1)
        for text in (("red cat", "old dog"), (LONG, LONG)):
            pair = {"text": text[0], "text_pair": text[1]}
            found = pipeline(pair, truncation=True, top_k=None)
            found = found[0] if isinstance(found, list) else found
            output = float(model.outputs(task, [text])[0, 0])
            expected = output if task == "alike" else 1 / (1 + np.exp(-output))
            assert found["label"] == name and found["score"] == pytest.approx(expected, abs=1e-5)


ODD_TEXTS = [
    *("red " * n for n in (29, 30, 31, 32, 500)), "\u200b", "\x01\x02", "a\0b", "qqq \u4e2d\u56fd",
    "\ufffd", "red [MASK] [SEP] cat", "x" * 101, "e\u0301 " * 4, "\U0001f600 cat",
]  # fmt: skip
ODD_PAIRS = [(14, 15), (15, 15), (200, 3), (3, 200), (100, 100)]


def test_odd_texts_have_the_outputs_of_transformers(own_pairs: Path, tmp_path: Path) -> None:
    """transformers#5611, sentence-transformers#11; the run's longest text has 32 tokens."""
    model = MultitaskModel.load(own_pairs, device="cpu")
    pairs = [("red " * a, "cat " * b) for a, b in ODD_PAIRS] + [("red cat", "\u200b")]
    for task, texts in (("sst", ODD_TEXTS), ("plain", pairs)):
        folder = tmp_path / task
        export([str(own_pairs), str(folder), "--to", "transformers", "--task", task])
        theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        for text in texts:
            parts = [text] if isinstance(text, str) else text
            inputs = tokenizer(
                *parts, truncation="longest_first", max_length=32, return_tensors="pt"
            )
            with torch.no_grad():
                expected = theirs(**inputs).logits.numpy()
            np.testing.assert_allclose(model.outputs(task, [text]), expected, atol=1e-5)
    assert (
        model.outputs("sst", ["a \ud800 b"]).tolist()
        == model.outputs("sst", ["a \ufffd b"]).tolist()
    )


@pytest.mark.parametrize("text", ["", "  \t", "\u00a0", ("red cat", " "), ("", "red cat")])
def test_an_empty_text_is_refused(own_pairs: Path, text: str | tuple[str, str]) -> None:
    task = "sst" if isinstance(text, str) else "plain"
    with pytest.raises(UserError, match="text 1: empty sentence"):
        MultitaskModel.load(own_pairs, device="cpu").outputs(task, [text])


@pytest.mark.parametrize("rows", ["one", "equal"])
def test_a_dev_set_without_a_correlation_is_said(world: Path, rows: str, capsys) -> None:
    """sentence-transformers#2729, mteb#33: a single row, or all of one score."""
    path = world / "data/sts-dev.csv"
    head, *lines = path.read_text().splitlines()
    lines = lines[:1] if rows == "one" else [line.rsplit("\t", 1)[0] + "\t4.2" for line in lines]
    path.write_text("\n".join([head, *lines]) + "\n")
    run(world, "--tasks", "sts", "--name", "r", "--skip-predictions")
    assert capsys.readouterr().out.count("are equal): counted as 0") == 1
    evaluate.main(["--checkpoint", str(world / "runs/r"), "--data-dir", str(world / "data")])
    out = capsys.readouterr().out
    assert "pearson         not defined: all predictions" in out and "raw mean 0.0000" in out


def test_gaps_among_the_ids_of_words_are_no_harm_to_pre_training(world: Path) -> None:
    """SudachiTra#64: blank and repeated lines of a vocab.txt have numbers, too."""
    path = world / "model/vocab.txt"
    path.write_text(path.read_text().replace("cat\n", "cat\n\ncat\n"))
    (world / "a.txt").write_text("the red cat runs fast here\n" * 40)
    places = ["--model", str(world / "model"), "--output-dir", str(world / "runs")]
    more = ["--corpus", str(world / "a.txt"), "--epochs", "1", "--mask-rate", "0.5"]
    assert pretrain_mlm.main([*places, *more, "--precision", "fp32", "--device", "cpu"]) == 0
