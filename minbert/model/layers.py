"""Linear, layer norm, dropout: parameters stay fp32, the activation decides the precision.

N tokens, D hidden. `kernels` of a module is one of minbert.kernels.KERNELS.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from minbert import kernels


class Linear(nn.Linear):
    """y = x W^T + b, computed in the dtype of x (fp32 or bf16)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class Dropout(nn.Module):
    """Each entry 0 with probability p, else divided by 1 - p (Srivastava et al., 2014)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.kernels = "minbert"

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu" or self.kernels == "written-out":
            return F.dropout(x, self.p)
        keep, scale = draw_keep(x, self.p)
        return (x * keep.to(x.dtype)).mul_(scale)  # not keep times scale: bf16 would round that


def draw_keep(x: Tensor, p: float) -> tuple[Tensor, float]:
    """Draw which entries of x a dropout of p keeps, 1 or 0, and return the scale of those.

    On a CPU one Bernoulli draw a value is a tenth of a training step: there one 64-bit draw decides
    four values, with p to the nearest 1/65536 and the scale that belongs to that p.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():  # which knows no views of bits
        return torch.rand(x.shape, device=x.device) >= p, 1 / (1 - p)
    dropped = round(p * 65536)
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = draws.view(torch.int16)[: x.numel()].view(x.shape)  # uniform on -32768 .. 32767
    # in place, so 16-bit numbers: a CPU takes eight times as long to convert True and False
    return bits.ge_(dropped - 32768), 65536 / (65536 - dropped)


def set_kernels(model: nn.Module, name: str) -> None:
    """Choose among minbert.kernels.KERNELS for all of a model's modules that have a choice."""
    for module in model.modules():
        if hasattr(module, "kernels"):
            module.kernels = name


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last dimension (Ba et al., 2016).

    The statistics are taken in fp32 at least, whatever the dtype of x and the parameters.
    """

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.eps = eps
        self.kernels = "minbert"

    def forward(self, x: Tensor) -> Tensor:
        h = x.to(at_least_fp32(self.weight.dtype))
        h = h - h.mean(-1, keepdim=True)
        variance = h.square().mean(-1, keepdim=True)
        return (h * torch.rsqrt(variance + self.eps) * self.weight + self.bias).to(x.dtype)


def at_least_fp32(dtype: torch.dtype) -> torch.dtype:
    """Return fp32 for the 16-bit types, fp64 for fp64."""
    return torch.promote_types(dtype, torch.float32)


def add_norm(x: Tensor, f: Tensor, norm: nn.Module, dropout: nn.Module) -> Tensor:
    """Return LN(x + dropout(f)), (N, D): the end of both halves of a layer.

    By `AddNorm`, the same equation with its gradient derived by hand, which keeps less and computes
    in fewer steps than autograd would. Written-out runs leave that to autograd; so does a module
    that somebody replaced or hooked, which is called as any other.
    """
    plain = is_plain(norm, LayerNorm) and is_plain(dropout, Dropout)
    if not plain or norm.kernels == "written-out":
        return norm(x + dropout(f))
    keep, scale = draw_keep(f, dropout.p) if dropout.training and dropout.p else (None, 1.0)
    function = TorchAddNorm if norm.kernels == "torch" else AddNorm
    return function.apply(x, f, norm.weight, norm.bias, norm.eps, keep, scale)


def is_plain(module: nn.Module, cls: type[nn.Module]) -> bool:
    """Return whether a call of the module does what its class's forward does and nothing else."""
    hooks = (
        module._forward_hooks, module._forward_pre_hooks, module._backward_hooks,
        module._backward_pre_hooks,
    )  # fmt: skip
    everywhere = nn.modules.module._has_any_global_hook()
    return type(module) is cls and "forward" not in vars(module) and not any((*hooks, everywhere))


def residual_sum(x: Tensor, f: Tensor, keep: Tensor | None, scale: float, dtype: Any) -> Tensor:
    """Return s = x + scale keep f in `dtype`, a tensor of its own."""
    s = x.to(dtype, copy=True)
    return s.add_(f) if keep is None else s.addcmul_(f.to(dtype), keep.to(dtype), value=scale)


def residual_gradients(
    ds: Tensor, keep: Tensor | None, scale: float, dtype: Any
) -> tuple[Tensor, Tensor]:
    """Return dx = ds and df = scale keep ds in `dtype`; changes ds."""
    dx = ds.to(dtype, copy=keep is not None)
    return dx, dx if keep is None else ds.mul_(keep).mul_(scale).to(dtype)


class AddNorm(torch.autograd.Function):
    """y = LN(s), s = x + scale keep f, in fp32 at least:

    h = (s - mean s) r,  r = (var s + eps)^-1/2,  y = w h + b
    dw = sum dy h,  db = sum dy,  ds = r (w dy - mean(w dy) - h mean(w dy h))
    dx = ds,  df = scale keep ds
    with means over D and sums over N.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, f: Tensor, w: Tensor, b: Tensor, eps: float, keep: Tensor | None,
        scale: float,
    ) -> Tensor:  # fmt: skip
        s = residual_sum(x, f, keep, scale, at_least_fp32(w.dtype))  # (N, D)
        h = s.sub_(s.mean(-1, keepdim=True))
        variance = torch.linalg.vector_norm(h, dim=-1).square_().div_(h.shape[-1])  # (N,)
        r = variance.add_(eps).rsqrt_().unsqueeze(-1)  # (N, 1)
        h.mul_(r)
        ctx.save_for_backward(h, r, w, keep)
        ctx.scale = scale
        return torch.addcmul(b, h, w).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        h, r, w, keep = ctx.saved_tensors
        w = w.to(h.dtype)
        dy = g.to(w.dtype)
        dyh, dh = dy * h, dy * w
        along = (dyh @ w).div_(len(w)).unsqueeze(-1)  # (N, 1), mean(w dy h)
        ds = dh.sub_(dh.mean(-1, keepdim=True)).addcmul_(h, along, value=-1).mul_(r)
        dx, df = residual_gradients(ds, keep, ctx.scale, g.dtype)
        return dx, df, dyh.sum(0), dy.sum(0), None, None, None


class TorchAddNorm(torch.autograd.Function):
    """AddNorm by PyTorch's kernels of the layer norm and its gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, f: Tensor, w: Tensor, b: Tensor, eps: float, keep: Tensor | None,
        scale: float,
    ) -> Tensor:  # fmt: skip
        dtype = at_least_fp32(w.dtype)
        s, w, b = residual_sum(x, f, keep, scale, dtype), w.to(dtype), b.to(dtype)
        y, mean, r = kernels.layer_norm(s, w, b, eps)
        ctx.save_for_backward(s, mean, r, w, b, keep)
        ctx.scale = scale
        return y.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        s, mean, r, w, b, keep = ctx.saved_tensors
        ds, dw, db = kernels.layer_norm_backward(g.to(w.dtype), s, mean, r, w, b)
        return *residual_gradients(ds, keep, ctx.scale, g.dtype), dw, db, None, None, None
