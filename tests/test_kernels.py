"""Every faster path against the written-out equations it stands for; which of them runs."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import train_multitask
from minbert import Batch, BertModel, BertTokenizer, kernels
from minbert.data.collate import collate
from minbert.data.id_cache import load_split
from minbert.model import packing
from minbert.model.heads import HeadConfig
from minbert.model.layers import (
    AddNorm,
    Dropout,
    LayerNorm,
    TorchAddNorm,
    add_norm,
    draw_keep,
    set_kernels,
)  # fmt: skip
from minbert.model.multitask import MultitaskNetwork
from minbert.task.evaluation import encode_features
from minbert.training import distributed
from tasks import TASKS
from tests.conftest import TINY

SHAPES = [(1, 8), (7, 32), (64, 384)]
FUNCTIONS = {"minbert": AddNorm, "torch": TorchAddNorm}


def run(
    shape: tuple[int, int], dtype: torch.dtype, p: float, training: bool, kernels: str
) -> list[torch.Tensor]:
    """Return the output and every gradient, with the same dropout for all kernels."""
    torch.manual_seed(3)
    norm = LayerNorm(shape[1], 1e-12).to(torch.promote_types(dtype, torch.float32))
    dropout = Dropout(p).train(training)
    norm.kernels = dropout.kernels = kernels
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x, f = (torch.randn(shape).to(dtype).requires_grad_() for _ in range(2))
    if kernels == "written-out":
        keep, scale = draw_keep(f, p) if training and p else (torch.ones(shape), 1.0)
        out = norm(x + f * keep.to(dtype) * scale)
    else:
        out = add_norm(x, f, norm, dropout)
    assert out.dtype == dtype
    out.backward(torch.randn(shape).to(dtype))
    return [out.detach(), x.grad, f.grad, norm.weight.grad, norm.bias.grad]


@pytest.mark.parametrize("kernels", FUNCTIONS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.1, True), (0.1, False)])
@pytest.mark.parametrize(
    # bf16: the written-out sum x + f is rounded to 8 bits before the norm, the others' is not
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 2e-5), (torch.bfloat16, 4e-2)],
)
def test_add_norm(
    shape: tuple[int, int], p: float, training: bool, dtype: torch.dtype, tolerance: float,
    kernels: str,
) -> None:  # fmt: skip
    written = run(shape, dtype, p, training, "written-out")
    for ours, expected in zip(run(shape, dtype, p, training, kernels), written, strict=True):
        scale = expected.double().abs().max().clamp_min(1)
        assert (ours.double() - expected.double()).abs().max() <= tolerance * scale


@pytest.mark.parametrize("kernels", FUNCTIONS)
def test_add_norm_has_the_gradient_of_its_output(kernels: str) -> None:
    torch.manual_seed(0)
    x, f = (torch.randn(3, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    w, b = (torch.randn(5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    keep = torch.rand(3, 5) > 0.3
    torch.autograd.gradcheck(
        lambda *t: FUNCTIONS[kernels].apply(*t, 1e-12, keep, 1.5), (x, f, w, b),
        raise_exception=True,
    )  # fmt: skip


def test_the_choice_reaches_every_module_and_is_what_runs(
    tiny: BertModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default no kernel of PyTorch is called; with it every residual layer norm is its."""
    calls = []
    norm = kernels.layer_norm
    monkeypatch.setattr(kernels, "layer_norm", lambda *a: calls.append(a) or norm(*a))
    ids = torch.tensor([[5, 6, 7]])
    assert tiny.kernels == "minbert"
    default = tiny(ids).last_hidden_state
    assert not calls
    set_kernels(tiny, "torch")
    torch.testing.assert_close(tiny(ids).last_hidden_state, default, atol=1e-5, rtol=0)
    assert len(calls) == 2 * TINY.num_hidden_layers
    set_kernels(tiny, "written-out")
    torch.testing.assert_close(tiny(ids).last_hidden_state, default, atol=1e-5, rtol=0)
    assert len(calls) == 2 * TINY.num_hidden_layers


def test_written_out_dropout_is_torch_s() -> None:
    def drawn(layer: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        torch.manual_seed(5)
        return layer(torch.ones(50, 7))

    ours, theirs = Dropout(0.3), torch.nn.Dropout(0.3)
    assert not torch.equal(drawn(ours), drawn(theirs))
    ours.kernels = "written-out"
    assert torch.equal(drawn(ours), drawn(theirs))


def test_dropout_of_a_step_is_its_own() -> None:
    """Training seeds every step anew: the masks of steps, seeds and ranks are independent."""
    n, p = 100_000, 0.3
    masks = []
    for seed, step in ((1, 0), (1, 1), (1, 2), (2, 0)):
        torch.manual_seed(distributed.own_seed(seed, step))
        masks.append(Dropout(p)(torch.ones(n)) != 0)
    both = (1 - p) ** 2
    band = 5 * (both * (1 - both) / n) ** 0.5
    for one, other in itertools.combinations(masks, 2):
        assert abs(float((one & other).float().mean()) - both) < band


@pytest.mark.parametrize("kernels", FUNCTIONS)
@pytest.mark.parametrize("options", [[], ["--accumulate", "2"], ["--pair-encoding", "siamese"]])
def test_training_ends_in_the_same_weights(world: Path, options: list[str], kernels: str) -> None:
    """Steps with faster paths, and the same ones written out; in fp32 on a CPU.

    Without dropout: the two draw it differently. The weights, the heads, AdamW's m and v.
    """
    config = json.loads((world / "model" / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (world / "model" / "config.json").write_text(json.dumps(config))
    found = []
    for name in ("fast", "slow"):
        argv = ["--model", str(world / "model"), "--data-dir", str(world / "data"), "--epochs", "1"]
        argv += ["--output-dir", str(world / "runs"), "--precision", "fp32", "--lr", "1e-4"]
        argv += ["--hidden-dropout-prob", "0", "--device", "cpu"]
        argv += ["--written-out"] if name == "slow" else ["--kernels", kernels]
        train_multitask.main([*argv, "--batch-size", "4", "--name", name, *options])
        last = world / "runs" / name / "last"
        found.append(
            {
                f"{file.name} {key}": tensor
                for file in sorted(last.glob("*.safetensors"))
                for key, tensor in load_file(file).items()
            }
        )
    fast, slow = found
    assert fast.keys() == slow.keys()
    assert {key.split()[0] for key in fast} == {
        "heads.safetensors", "model.safetensors", "optimizer.safetensors",
    }  # fmt: skip
    for key, expected in slow.items():
        if "exp_avg" not in key:
            torch.testing.assert_close(fast[key], expected, atol=1e-5, rtol=0)
        elif "key.bias" not in key:  # on which softmax does not depend: it is all rounding
            # second moments are near 1e-8: a difference is small beside the largest entry alone;
            # 1e-3 of it, since later gradients are those of weights that differ already
            atol = 1e-3 * float(expected.abs().max())
            torch.testing.assert_close(fast[key], expected, atol=atol, rtol=0)


def test_features_of_a_frozen_encoder_are_what_it_says_in_every_step(world: Path) -> None:
    model = BertModel.from_pretrained(world / "model").double()
    tokenizer = BertTokenizer.from_directory(world / "model")
    task = TASKS["sst"]
    split = load_split(task.paths("train", world / "data"), task.columns, True, tokenizer, 64)
    network = MultitaskNetwork(model, {"sst": HeadConfig(5)})
    features = encode_features(network, {"sst": split}, torch.device("cpu"))["sst"]
    for rows in np.array_split(np.random.default_rng(0).permutation(len(split)), 3):
        batch = collate(split, rows)
        set_kernels(model, "written-out")
        with torch.no_grad():
            expected = model.pooled_output(batch)
        ours = features[torch.tensor(batch.rows)].double()  # kept in fp32
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)


def test_rows_added_for_fewer_shapes_change_nothing(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """round_rows: the same outputs, and gradients to the order of bf16's sums."""
    model = BertModel.from_pretrained(world / "model")
    model.compute_dtype = torch.bfloat16
    lengths = (5, 9, 11, 20)
    positions = torch.cat([torch.arange(n) for n in lengths])
    batch = Batch(positions + 7, positions, torch.zeros_like(positions), lengths)
    found = []
    for step in (packing.TOKEN_STEP, 1):
        monkeypatch.setattr(packing, "TOKEN_STEP", step)
        monkeypatch.setattr(packing, "SMALL_STEP", min(step, packing.SMALL_STEP))
        hidden, pooled = model.encode(batch)
        model.zero_grad()
        (hidden.float().square().sum() + pooled.sum()).backward()
        found.append([hidden.detach(), *(p.grad.clone() for p in model.parameters())])
    for rounded, plain in zip(*found, strict=True):
        assert rounded.shape == plain.shape
        scale = float(plain.abs().max())
        # a softmax does not depend on the keys' bias: its gradient is nothing but rounding
        torch.testing.assert_close(rounded, plain, atol=1e-2 * scale + 1e-6, rtol=0)
