"""Every faster path against the written-out equations it stands for."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import train_multitask
from minbert.model import fused
from minbert.model.layers import LayerNorm, add_norm

SHAPES = [(1, 8), (7, 32), (64, 384)]


def run(shape: tuple[int, int], dtype: torch.dtype, p: float, training: bool) -> list[torch.Tensor]:
    """Output and every gradient, with the same dropout each time."""
    torch.manual_seed(3)
    norm = LayerNorm(shape[1], 1e-12).to(torch.promote_types(dtype, torch.float32))
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x, f = (torch.randn(shape).to(dtype).requires_grad_() for _ in range(2))
    out = add_norm(norm, x, f, p, training)
    assert out.dtype == dtype
    out.backward(torch.randn(shape).to(dtype))
    return [out.detach(), x.grad, f.grad, norm.weight.grad, norm.bias.grad]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.1, True), (0.1, False)])
@pytest.mark.parametrize(
    # bf16: the written-out sum x + f is rounded to 8 bits before the norm, the fused one is not
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 2e-5), (torch.bfloat16, 4e-2)],
)
def test_add_norm(
    shape: tuple[int, int], p: float, training: bool, dtype: torch.dtype, tolerance: float
) -> None:
    fast = run(shape, dtype, p, training)
    with fused.written_out():
        slow = run(shape, dtype, p, training)
    for ours, expected in zip(fast, slow, strict=True):
        scale = expected.double().abs().max().clamp_min(1)
        assert (ours.double() - expected.double()).abs().max() <= tolerance * scale


def test_add_norm_has_the_gradient_of_its_output() -> None:
    torch.manual_seed(0)
    x, f = (torch.randn(3, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    w, b = (torch.randn(5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    keep = torch.rand(3, 5) > 0.3
    torch.autograd.gradcheck(
        lambda *t: fused.AddNorm.apply(*t, 1e-12, keep, 1.5), (x, f, w, b), raise_exception=True
    )


def test_the_switch_is_off_and_on_again() -> None:
    assert not fused.is_off()
    with fused.written_out():
        assert fused.is_off()
        with fused.written_out():
            pass
        assert fused.is_off()
    assert not fused.is_off()


@pytest.mark.parametrize("options", [[], ["--accumulate", "2"], ["--pair-encoding", "siamese"]])
def test_training_ends_in_the_same_weights(world: Path, options: list[str]) -> None:
    """Steps with all faster paths on, and the same ones written out; in fp32.

    Without the encoder's dropout: the last layer draws fewer values where fewer tokens go through.
    """
    config = json.loads((world / "model" / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (world / "model" / "config.json").write_text(json.dumps(config))
    weights = []
    for name in ("fast", "slow"):
        argv = ["--model", str(world / "model"), "--data-dir", str(world / "data"), "--epochs", "1"]
        argv += ["--output-dir", str(world / "runs"), "--precision", "fp32", "--lr", "1e-4"]
        argv += ["--hidden-dropout-prob", "0"]
        with fused.written_out() if name == "slow" else nullcontext():
            train_multitask.main([*argv, "--batch-size", "4", "--name", name, *options])
        weights.append(load_file(world / "runs" / name / "last" / "model.safetensors"))
    fast, slow = weights
    for key, expected in slow.items():
        torch.testing.assert_close(fast[key], expected, atol=1e-5, rtol=0)
