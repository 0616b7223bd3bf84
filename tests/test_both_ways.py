"""Pairs that are read together and apart: two losses added, and the mean of two scores."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from torch.nn import functional as F

import evaluate
from minbert import BertTokenizer, MultitaskModel, UserError
from minbert.export import main as export
from minbert.model.multitask import load_multitask
from minbert.onnx import PaddedModel
from minbert.task.probabilities import class_probabilities
from tests.conftest import logged, run

PAIRS = [("red cat runs", "old dog sleeps"), ("blue cat", "blue cat"), ("dog", "red dog here")]
MEAN = ("--pooling", "mean", "--precision", "fp32")


def both_ways(world: Path, task: str, *options: str) -> Path:
    run(world, "--name", "both", "--tasks", task, "--pair-encoding", "both", *MEAN, *options)
    return world / "runs" / "both"


def hidden(model: MultitaskModel, texts: list[str], pairs: list[str] | None = None) -> list[Tensor]:
    """Return the mean hidden state of each row, read by itself."""
    rows = model.tokenizer.encode_batch(texts, pairs)
    encoder = model.network.encoder
    with torch.no_grad():
        return [
            encoder(
                torch.tensor([row.ids]), token_type_ids=torch.tensor([row.type_ids])
            ).last_hidden_state[0].mean(0)
            for row in rows
        ]  # fmt: skip


def test_the_two_losses_are_added(still: Path) -> None:
    losses = {}
    for kind in ("cross", "siamese", "both"):
        options = ("--tasks", "sts", "--pair-encoding", kind, "--hidden-dropout-prob", "0")
        run(still, "--name", kind, *options, *MEAN, "--steps", "1")
        losses[kind] = logged(still / "runs" / kind, "step")[0]["loss"]
    assert losses["both"] == pytest.approx(losses["cross"] + losses["siamese"], rel=1e-5)


def test_the_score_is_the_mean_of_a_head_s_and_of_the_cosine_s(world: Path) -> None:
    model = MultitaskModel.load(both_ways(world, "sts", "--lr", "1e-3"), device="cpu")
    head = model.network.heads["sts"].eval()
    firsts, seconds = (list(texts) for texts in zip(*PAIRS, strict=True))
    together = [head(x).item() for x in hidden(model, firsts, seconds)]
    u, v = (torch.stack(hidden(model, texts)) for texts in (firsts, seconds))
    apart = 5 * F.cosine_similarity(u, v)
    expected = (np.array(together) + apart.numpy()) / 2
    np.testing.assert_allclose(model.outputs("sts", PAIRS)[:, 0], expected, atol=1e-5)
    assert np.abs(np.array(together) - apart.numpy()).max() > 0.1


def test_classes_have_the_mean_of_two_logits(world: Path) -> None:
    """With probabilities, and without a threshold."""
    folder = both_ways(world, "quora", "--lr", "1e-3", "--embedding-size", "6")
    model = MultitaskModel.load(folder, device="cpu")
    head, task = model.network.heads["quora"].eval(), model.tasks["quora"]
    assert head.apart.classifier.weight.shape == (1, 18) and head.apart.threshold == 0
    firsts, seconds = (list(texts) for texts in zip(*PAIRS, strict=True))
    together = torch.stack([head(x) for x in hidden(model, firsts, seconds)])
    u, v = (head.apart.embed(torch.stack(hidden(model, texts))) for texts in (firsts, seconds))
    apart = head.apart.classifier(torch.cat([u, v, (u - v).abs()], -1))  # Sentence-BERT's
    expected = ((together + apart) / 2).detach().numpy()
    np.testing.assert_allclose(model.outputs("quora", PAIRS), expected, atol=1e-5)
    shown = model.predict("quora", PAIRS, probabilities=True)
    rows = class_probabilities(task, expected, head.config.temperature)
    np.testing.assert_allclose([row["duplicate"] for row in shown], rows[:, 1], atol=1e-5)


def test_a_run_s_score_is_found_again(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = both_ways(world, "sts", "--epochs", "1")
    trained = logged(folder, "dev")[-1]["scores"]["sts"]["pearson"]
    capsys.readouterr()
    argv = ["--checkpoint", str(folder), "--data-dir", str(world / "data"), "--precision", "fp32"]
    evaluate.main([*argv, "--json"])
    *lines, report = capsys.readouterr().out.splitlines()
    score = json.loads(report)["scores"]["sts"]["pearson"]
    assert score["value"] == pytest.approx(trained, abs=1e-6)
    assert -1 <= score["low"] < score["value"] < score["high"] <= 1
    shown = [score[name] for name in ("value", "low", "high")]
    expected = "STS     pearson         {:.4f}  95 % [{:.4f}, {:.4f}]  n 6".format(*shown)
    assert expected in lines


def test_other_libraries_get_the_encoder_alone(world: Path, tmp_path: Path) -> None:
    folder, out = both_ways(world, "sts"), tmp_path / "out"
    for library in ("transformers", "sentence-transformers", "onnx"):
        with pytest.raises(UserError, match="--task sts: its pairs are read together and apart"):
            export([str(folder), str(out), "--to", library, "--task", "sts"])
    with pytest.raises(
        UserError, match="sts: its pairs are read together and apart, which only minbert"
    ):
        PaddedModel(load_multitask(folder)[0], "sts")
    export([str(folder), str(out), "--to", "sentence-transformers"])
    card = (folder / "README.md").read_text()
    assert "NEW_DIRECTORY --to sentence-transformers" in card and "--task sts" not in card


def test_a_tokenizer_without_a_second_segment_is_refused(world: Path) -> None:
    tokenizer = BertTokenizer.from_directory(world / "model")
    ends = [(token, tokenizer.tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ends
    )
    tokenizer.tokenizer.save(str(world / "model/tokenizer.json"))
    kind = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (world / "model/tokenizer_config.json").write_text(json.dumps(kind))
    with pytest.raises(UserError, match="this tokenizer has no segment 1"):
        both_ways(world, "sts")


@pytest.mark.parametrize("words", ["--teacher sts=TEACHER", "--r-drop sts=1", "--heads-first 1"])
def test_what_is_of_the_pair_read_together_changes_the_run(world: Path, words: str) -> None:
    plain = both_ways(world, "sts", "--lr", "1e-3")
    more = ("--lr", "1e-3", *words.replace("TEACHER", str(plain)).split())
    run(world, "--name", "more", "--tasks", "sts", "--pair-encoding", "both", *MEAN, *more)
    one, other = (logged(world / "runs" / name, "step") for name in ("both", "more"))
    assert len(one) == len(other) and [s["loss"] for s in one] != [s["loss"] for s in other]
