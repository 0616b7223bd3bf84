"""Linear, layer norm, dropout: parameters stay fp32, the activation decides the precision."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minbert.model import fused


class Linear(nn.Linear):
    """y = x W^T + b, computed in the dtype of x (fp32 or bf16)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Each entry 0 with probability p, else divided by 1 - p (Srivastava et al., 2014)."""
    if not training or p == 0 or x.device.type != "cpu" or fused.is_off():
        return F.dropout(x, p, training)
    keep, scale = draw_keep(x, p)
    return (x * keep.to(x.dtype)).mul_(scale)  # not keep times scale: bf16 would round that


def draw_keep(x: Tensor, p: float) -> tuple[Tensor, float]:
    """Which entries of x a dropout of p keeps, 1 or 0, and what they are multiplied by.

    On a CPU one Bernoulli draw a value is a tenth of a training step: there one 64-bit draw decides
    four values, with p to the nearest 1/65536 and the scale that belongs to that p.
    """
    if x.device.type != "cpu":
        return torch.rand(x.shape, device=x.device) >= p, 1 / (1 - p)
    dropped = round(p * 65536)
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = draws.view(torch.int16)[: x.numel()].view(x.shape)  # uniform on -32768 .. 32767
    # in place, so 16-bit numbers: a CPU takes eight times as long to convert True and False
    return bits.ge_(dropped - 32768), 65536 / (65536 - dropped)


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last dimension (Ba et al., 2016).

    The statistics are taken in the dtype of the parameters, fp32 whatever that of x.
    """

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        h = x.to(self.weight.dtype)
        h = h - h.mean(-1, keepdim=True)
        variance = h.square().mean(-1, keepdim=True)
        return (h * torch.rsqrt(variance + self.eps) * self.weight + self.bias).to(x.dtype)


def add_norm(norm: LayerNorm, x: Tensor, f: Tensor, p: float, training: bool) -> Tensor:
    """norm(x + dropout(f)) by fused.AddNorm, unless the written-out equation is asked for.

    x and f (N, D).
    """
    if fused.is_off():
        return norm(x + dropout(f, p, training))
    keep, scale = draw_keep(f, p) if training and p else (None, 1.0)
    return fused.AddNorm.apply(x, f, norm.weight, norm.bias, norm.eps, keep, scale)
