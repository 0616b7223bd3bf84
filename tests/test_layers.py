"""The written-out layers against torch's, and dropout's statistics."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.nn.utils import vector_to_parameters

from minbert import AdamW, BertModel
from minbert.model.encoder import BertLayer
from minbert.model.layers import Dropout, LayerNorm, Linear, set_kernels
from minbert.model.packing import lay_out
from minbert.model.reordered import has_reordered_products
from tests.conftest import TINY


def test_layer_norm_and_gradients() -> None:
    torch.manual_seed(0)
    ours = LayerNorm(24, 1e-12).double()
    torch.nn.init.normal_(ours.weight)
    torch.nn.init.normal_(ours.bias)
    x = torch.randn(7, 24, dtype=torch.float64, requires_grad=True)
    leaves = (x, ours.weight, ours.bias)
    out, expected = ours(x), F.layer_norm(x, (24,), ours.weight, ours.bias, 1e-12)
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=0)
    g = torch.randn_like(out)
    for a, b in zip(
        torch.autograd.grad(out, leaves, g), torch.autograd.grad(expected, leaves, g), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=0)


def test_every_dropout_has_its_own_rate() -> None:
    model = BertModel(replace(TINY, hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.3))
    rates = {name: m.p for name, m in model.named_modules() if isinstance(m, Dropout)}
    assert len(rates) == 1 + 2 * TINY.num_hidden_layers
    assert all(p == (0.3 if "self_attention" in name else 0.2) for name, p in rates.items())


def test_each_parameter_counts_its_own_steps() -> None:
    """As a head does, whose task is not in every step."""
    early, late, alone = (torch.nn.Parameter(torch.ones(3)) for _ in range(3))
    both, other = AdamW([early, late], lr=0.1), AdamW([alone], lr=0.1)
    early.grad = torch.ones(3)
    both.step()
    early.grad, late.grad, alone.grad = (torch.ones(3) for _ in range(3))
    both.step()
    other.step()
    assert torch.equal(late, alone)


def test_linear_in_bf16_keeps_fp32_parameters() -> None:
    layer = Linear(8, 4)
    out = layer(torch.randn(3, 8, dtype=torch.bfloat16))
    out.sum().backward()
    assert out.dtype == torch.bfloat16 and layer.weight.grad.dtype == torch.float32


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@torch.no_grad()
def test_a_reordered_matrix_is_the_matrix(dtype: torch.dtype, atol: float) -> None:
    """As long as it is; a copy has none, and a gradient is not taken through it."""
    if not has_reordered_products(dtype):
        pytest.skip("this CPU has no reordered products of the dtype")
    torch.manual_seed(0)
    linear, x = Linear(48, 64).to(dtype), torch.randn(5, 48).to(dtype)
    plain = linear(x)
    linear.reorder()
    assert linear.reordered_for(x) is not None
    torch.testing.assert_close(linear(x), plain, atol=atol, rtol=0)
    for other in (copy.deepcopy(linear), pickle.loads(pickle.dumps(linear))):
        assert other.reordered is None and torch.equal(other(x), plain)
    with torch.enable_grad():
        linear(x).sum().backward()
    assert linear.weight.grad is not None
    linear.weight.mul_(2)
    torch.testing.assert_close(linear(x), 2 * plain - linear.bias, atol=2 * atol, rtol=0)
    linear.reorder()
    linear.weight = torch.nn.Parameter(torch.zeros_like(linear.weight))
    assert torch.equal(linear(x), linear.bias.expand(5, -1))


def fused_step(linear: Linear) -> None:
    """Make an update by an optimizer that does not count the versions of what it changes."""
    with torch.enable_grad():
        linear(torch.ones(2, 48)).sum().backward()
    AdamW(linear.parameters(), lr=0.1, kernels="torch").step()


@pytest.mark.parametrize(
    "change",
    [
        fused_step,
        lambda linear: linear.weight.data.mul_(2),
        lambda linear: setattr(linear.weight, "data", linear.weight.data + 1),
        lambda linear: linear.double(),
        lambda linear: linear.half(),
        lambda linear: vector_to_parameters(torch.ones(48 * 64 + 64), linear.parameters()),
    ],
    ids=["fused", "in place", "data", "double", "half", "vector"],
)
@torch.no_grad()
def test_a_reordered_matrix_that_has_changed_is_not_used(change: Callable[[Linear], None]) -> None:
    if not has_reordered_products(torch.float32):
        pytest.skip("this CPU has no reordered products of the dtype")
    linear, x = Linear(48, 64), torch.randn(5, 48)
    linear.reorder()
    assert linear.reordered_for(x) is not None
    change(linear)
    x = x.to(linear.weight.dtype)
    expected = F.linear(x, linear.weight, linear.bias)
    torch.testing.assert_close(linear(x), expected, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:.*deprecated")
@torch.no_grad()
def test_a_reordered_matrix_is_in_no_trace() -> None:
    linear, x = Linear(48, 64), torch.randn(5, 48)
    linear.reorder()
    traced = torch.jit.trace(linear, x)
    torch.testing.assert_close(traced(x), linear(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_rate_scale_and_independence(p: float, dtype: torch.dtype) -> None:
    """4-sigma bands over a million draws: the rate, neighbours, and two calls in a row."""
    torch.manual_seed(1)
    n = 1_000_001
    x = torch.ones(n, dtype=dtype, requires_grad=True)
    y = Dropout(p)(x)
    kept = y.detach() != 0
    band = 4 * (p * (1 - p) / n) ** 0.5
    assert abs(float(kept.float().mean()) - (1 - p)) < band
    scale = y.detach()[kept].unique()
    assert len(scale) == 1
    assert float(scale) == pytest.approx(1 / (1 - p), rel=1e-4 if dtype == torch.float32 else 8e-3)
    both = (1 - p) ** 2
    for distance in (1, 2, 3, 4):
        together = float((kept[distance:] & kept[:-distance]).float().mean())
        assert abs(together - both) < 4 * (both * (1 - both) / n) ** 0.5 + 2 * band
    again = Dropout(p)(x) != 0
    assert abs(float((again & kept).float().mean()) - both) < 6 * (both * (1 - both) / n) ** 0.5
    y.sum().backward()
    assert torch.equal(x.grad != 0, kept) and Dropout(p).eval()(x) is x


def test_dropout_follows_the_seed() -> None:
    def draw() -> torch.Tensor:
        torch.manual_seed(3)
        return Dropout(0.4)(torch.ones(5, 7))

    assert torch.equal(draw(), draw())


def test_only_a_cpu_takes_the_cpu_s_paths() -> None:
    """On meta tensors, which like an MPS device are neither a CPU's nor CUDA's."""
    x = torch.ones(5, TINY.hidden_size, device="meta", requires_grad=True)
    assert Dropout(0.5)(x).device.type == "meta"
    y = BertLayer(TINY).to("meta")(x, lay_out((2, 2), TINY.num_attention_heads, x))
    y.sum().backward()
    assert y.device.type == x.grad.device.type == "meta"


@torch.no_grad()
def test_the_equations_as_they_are_written_use_no_reordered_matrix() -> None:
    if not has_reordered_products(torch.float32):
        pytest.skip("this CPU has no reordered products of the dtype")
    linear, x = Linear(48, 64), torch.randn(5, 48)
    linear.reorder()
    for name in ("written-out", "torch"):
        set_kernels(linear, name)
        assert (linear.reordered_for(x) is None) == (name == "written-out")


def test_a_matrix_made_in_inference_mode_is_not_reordered() -> None:
    """PyTorch counts no changes of it."""
    with torch.inference_mode():
        linear, x = Linear(48, 64), torch.randn(5, 48)
        linear.reorder()
        assert torch.equal(linear(x), F.linear(x, linear.weight, linear.bias))


def test_a_closure_has_gradients_and_its_loss_is_returned() -> None:
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = AdamW([p], lr=0.1)

    def closure() -> torch.Tensor:
        loss = p.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3 and (p < 1).all()


@pytest.mark.parametrize(
    "wrong", [{"lr": -1.0}, {"eps": -1.0}, {"weight_decay": -1.0}, {"betas": (1.0, 0.9)}]
)
def test_numbers_that_adamw_cannot_use_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="AdamW: lr"):
        AdamW([torch.ones(2)], **wrong)
