"""What heads read: [CLS] or all tokens, of the top layer or of others, of each task its own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import train_multitask
from minbert import Batch, BertModel, MultitaskModel, UserError
from minbert.cli import parse_given
from minbert.data.collate import collate
from minbert.data.encoded import encode_examples
from minbert.data.examples import Example
from minbert.export import main as export
from minbert.files import read_json
from minbert.model.heads import HeadConfig
from minbert.model.multitask import MultitaskNetwork
from minbert.run import heads_first
from minbert.run.train_args import Args
from minbert.training import distributed
from tests.conftest import logged, run, weights
from tests.flags import Outcome, watched


def test_what_heads_read_may_be_said_by_task(world: Path) -> None:
    words = ("--tasks", "sst,quora,sts", "--epochs", "1", "--lr", "1e-3", "--skip-predictions")
    pooling = {"sst": "mean", "quora": "cls", "sts": "max"}
    run(world, "--name", "run", *words, "--pooling", "mean,quora=cls,sts=max")
    folder = world / "runs/run"
    heads = read_json(folder / "last/heads.json")
    assert {name: head["pooling"] for name, head in heads.items()} == pooling
    assert read_json(folder / "args.json")["pooling"] == pooling
    assert "--to onnx --task sst" in (folder / "README.md").read_text()
    resumed = ["--resume", str(folder), "--pooling"]
    assert train_multitask.main([*resumed, "sst=mean,sts=max"]) == 0
    with pytest.raises(UserError, match=r"--pooling mean differs from the run's sst=mean,quora=c"):
        train_multitask.main([*resumed, "mean"])
    run(world, "--name", "plain", *words, "--pooling", "sst=mean,quora=mean,sts=mean")
    assert read_json(world / "runs/plain/args.json")["pooling"] == "mean"
    run(world, "--name", "alone", *words, "--mode", "single", "--pooling", "sst=mean")
    for name, kind in (("sst", "mean"), ("sts", "cls")):
        assert read_json(world / f"runs/alone/{name}/last/heads.json")[name]["pooling"] == kind
        assert train_multitask.main(["--resume", str(world / "runs/alone" / name)]) == 0


@pytest.mark.parametrize("frozen", [[], ["--fine-tune-mode", "last-linear-layer"]])
def test_heads_read_other_layers(world: Path, frozen: list[str]) -> None:
    run(world, "--name", "run", "--pool-layers", "1,2", "--lr", "1e-3", *frozen)
    folder = world / "runs/run"
    model, tokens = MultitaskModel.load(folder, "cpu"), ["red cat runs", "old dog"]
    network = model.network
    encoder, head = network.encoder, network.heads["sst"]
    batch = collate(encode_examples([Example("1", tokens[0])], model.tokenizer, 32), np.array([0]))
    first = torch.stack([state[0] for state in encoder.hidden_states(batch)[1:]]).mean(0)
    expected = head(encoder.pool(first[None]))
    found = torch.from_numpy(model.outputs("sst", tokens[:1]))
    torch.testing.assert_close(found, expected.detach())
    top = head(encoder.pooled_output(batch))
    assert not torch.allclose(found, top)
    with pytest.raises(UserError, match="its head reads layers"):
        export([str(folder), str(world / "out"), "--task", "sst"])
    with pytest.raises(UserError, match=r"--pool-layers: '1,2,1' has a number twice"):
        run(world, "--pool-layers", "1,2,1")
    with pytest.raises(UserError, match="--pool-layers 3: this model has 2 layers"):
        run(world, "--pool-layers", "3")


@pytest.mark.parametrize("frozen", [[], ["--fine-tune-mode", "last-linear-layer"]])
@pytest.mark.parametrize("layers", [(), (1, 2)])
def test_heads_read_all_tokens(world: Path, frozen: list[str], layers: tuple[int, ...]) -> None:
    other = ["--pool-layers", ",".join(map(str, layers))] if layers else []
    run(world, "--name", "run", "--pooling", "mean", "--lr", "1e-3", *other, *frozen)
    folder = world / "runs/run"
    model, pairs = MultitaskModel.load(folder, "cpu"), [("red cat runs", "old"), ("a dog", "b")]
    encoder, head = model.network.encoder, model.network.heads["sts"]
    examples = [Example(str(i), *pair) for i, pair in enumerate(pairs)]
    expected = []
    for example in examples:
        batch = collate(encode_examples([example], model.tokenizer, 32), np.array([0]))
        states = encoder.hidden_states(batch)
        hidden = torch.stack([states[layer] for layer in layers or (2,)]).mean(0)
        expected.append(head(hidden.mean(0, keepdim=True)).detach())
    found = torch.from_numpy(model.outputs("sts", pairs))
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match=r"reads (layers|the mean of all tokens)"):
        export([str(folder), str(world / "out"), "--task", "sst"])
    assert "--to transformers" not in (folder / "README.md").read_text()


@pytest.mark.parametrize("more", [(), ("--no-correct-bias",)], ids=["plain", "uncorrected"])
def test_heads_first_learn_as_the_heads_of_a_frozen_encoder_do(
    world: Path, more: tuple[str, ...]
) -> None:
    """By the same rate, batches and labels, with dropout where there is some."""

    def train(name: str, *options: str) -> torch.Tensor:
        run(world, "--name", name, "--tasks", "sst", "--skip-predictions", *options)
        return weights(world / "runs" / name / "last")["sst.weight"]

    first = ("--heads-first", "2", "--epochs", "1", "--lr", "0")
    without = ("--hidden-dropout-prob", "0", *more)
    frozen = train("frozen", "--fine-tune-mode", "last-linear-layer", "--clip", "0", *without)
    torch.testing.assert_close(train("first", *first, *without), frozen, rtol=0, atol=1e-6)
    assert not torch.allclose(train("dropout", *first), frozen, rtol=0, atol=1e-4)
    before, after = (
        BertModel.from_pretrained(folder).state_dict()
        for folder in (world / "model", world / "runs/first/last")
    )
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert logged(world / "runs/first", "start")[0]["prepared_s"] > 0  # of Table 5's minutes, too


def test_every_step_of_heads_first_has_a_dropout_of_its_own(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = Outcome(world)
    with watched(outcome, heads_first.distributed, "mixed_seed"):
        run(world, "--tasks", "sst", "--heads-first", "2", "--steps", "1", "--skip-predictions")
    seeds = [numbers for numbers, _ in outcome.seen["mixed_seed"] if len(numbers) == 2]
    assert len({step for _, step in seeds}) == len(seeds) > 2
    assert "sst: head trained first, 10 steps\n" in capsys.readouterr().out


def test_heads_trained_first_are_those_of_the_first_process(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gather = distributed.all_gather

    def of_the_first(mine: Any) -> list[Any]:
        if not isinstance(mine, dict):
            return gather(mine)
        return [{name: torch.full_like(w, 0.25) for name, w in mine.items()}, mine]

    monkeypatch.setattr(distributed, "all_gather", of_the_first)
    options = ["--heads-first", "1", "--steps", "1", "--lr", "0", "--skip-predictions"]
    run(world, "--name", "run", *options)
    heads = weights(world / "runs/run/last")
    assert all((heads[f"{task}.weight"] == 0.25).all() for task in ("sst", "sts"))


@pytest.mark.parametrize(
    "config",
    [HeadConfig(), *(HeadConfig(pooling=p) for p in ("mean", "max")), HeadConfig(per_word=True)],
    ids=["cls", "mean", "max", "words"],
)
def test_what_heads_read_has_their_parameters_precision(
    tiny: BertModel, config: HeadConfig
) -> None:
    """bf16 is of the encoder's products; heads compute in the dtype of what they read."""
    tiny.compute_dtype = torch.bfloat16
    network, ids = MultitaskNetwork(tiny, {"own": config}), torch.arange(5, 10)
    starts = {"word_starts": torch.tensor([1, 4])} if config.per_word else {}
    batch = Batch(ids, torch.tensor([0, 1, 2, 0, 1]), ids * 0, (3, 2), **starts)
    assert network.head_input("own", batch).dtype == torch.float32


def test_layers_are_numbered_from_1() -> None:
    """0 would be the embeddings; a run's end would call its own head damaged."""
    for text in ("0", "1,0", "-1", "x"):
        with pytest.raises(UserError, match=r"--pool-layers: .*write numbers from 1 with commas"):
            parse_given(Args, [f"--pool-layers={text}"], "")
