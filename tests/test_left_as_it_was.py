"""What a call leaves in the program that makes it: nothing but what it returns or writes."""

import logging
import os
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from minbert import MultitaskModel, UserError
from minbert.model.heads import HeadConfig
from minbert.model.mlm import MaskedLanguageModel, load_mlm, save_mlm
from minbert.model.multitask import MultitaskNetwork, load_multitask, save_multitask
from minbert.onnx import write_onnx
from minbert.weights.verify import emit_reference, verify
from tests.models import make_model

HEADS = {"cross": HeadConfig(outputs=2), "apart": HeadConfig(siamese=True)}


def state_of_the_program() -> dict[str, Any]:
    """Return what any code of a process may change for all of it."""
    return {
        "levels": [logging.getLogger(name).level for name in ("", "torch", "torch.onnx")],
        "disabled": logging.root.manager.disable,
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "environment": dict(os.environ),
        "random": torch.random.get_rng_state().tolist(),
    }


def modes(model: nn.Module) -> dict[str, bool]:
    return {name: module.training for name, module in model.named_modules()}


def half_frozen(network: MultitaskNetwork) -> MultitaskNetwork:
    """Return it in training, one layer of its encoder in evaluation."""
    network.train().encoder.bert_layers[0].eval()
    return network


@pytest.mark.filterwarnings("error")  # the exporter's would raise
@pytest.mark.parametrize("error", [None, ImportError("onnxscript")])
def test_an_export_to_onnx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: ImportError | None
) -> None:
    """Without the exporter itself, whose first call makes a folder known in the environment."""

    def exporter(model: nn.Module, *_: Any, **__: Any) -> None:
        assert not any(modes(model).values())
        assert not logging.getLogger("torch.onnx").isEnabledFor(logging.WARNING)
        warnings.warn("told to nobody", stacklevel=1)
        if error:
            raise error

    monkeypatch.setattr(torch.onnx, "export", exporter)
    network = half_frozen(MultitaskNetwork(make_model(), HEADS))
    before = modes(network), state_of_the_program()
    lack = pytest.raises(UserError, match="--to onnx needs its packages: ")
    with lack if error else nullcontext():
        write_onnx(network, "cross", tmp_path / "model.onnx")
    assert (modes(network), state_of_the_program()) == before


@pytest.mark.parametrize(
    "ask",
    [
        lambda model: model.predict("sst", ["red cat runs"]),
        lambda model: model.predict("sts", [("red cat", "old dog")]),
        lambda model: model.encode(["red cat runs"]),
    ],
    ids=["texts", "pairs", "vectors"],
)
def test_a_run_s_answers(world: Path, a_run: Callable[..., Path], ask: Callable) -> None:
    run, before = a_run(world, "--pair-encoding", "siamese"), state_of_the_program()
    model = MultitaskModel.load(run, device="cpu")
    as_left = modes(half_frozen(model.network))
    ask(model)
    assert modes(model.network) == as_left and state_of_the_program() == before


@pytest.mark.parametrize("both", [False, True], ids=["one tower", "two towers"])
def test_loading(tmp_path: Path, both: bool) -> None:
    """No random number is drawn for what a file has; all weights are the saved ones."""
    heads = HEADS | {
        "ways": HeadConfig(outputs=2, both=True),
        "mapped": HeadConfig(siamese=True, embedding_size=8, classifier=True),
    }
    network = MultitaskNetwork(make_model(), heads, separate_towers=both)
    if both:
        network.second_tower.pooler_dense.bias.data += 1
    save_multitask(network, tmp_path / "run/best")
    masked = MaskedLanguageModel(make_model())
    save_mlm(masked, tmp_path / "masked")
    before = state_of_the_program()
    loaded, (pretrained, is_new) = (
        load_multitask(tmp_path / "run")[0],
        load_mlm(tmp_path / "masked"),
    )
    assert state_of_the_program() == before and not is_new
    for expected, found in ((network, loaded), (masked, pretrained)):
        assert not any(modes(found).values())
        saved, now = expected.state_dict(), found.state_dict()
        assert list(saved) == list(now) and all(torch.equal(saved[n], now[n]) for n in saved)
        assert all(p.requires_grad and p.is_leaf for p in found.parameters())


def test_a_comparison_with_a_reference(tmp_path: Path) -> None:
    """And its outputs are of evaluation mode, those of the heads, too."""
    network = half_frozen(MultitaskNetwork(make_model(), HEADS))
    heads = {"cross": network.heads["cross"]}
    before = modes(network), state_of_the_program()
    emit_reference(network.encoder, tmp_path / "ref.pt", heads)
    assert verify(network.encoder, tmp_path / "ref.pt", heads, 0.0, 0.0)["pass"]
    assert (modes(network), state_of_the_program()) == before
