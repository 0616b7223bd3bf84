"""Linear and layer norm: parameters stay fp32, the activation's dtype decides the precision."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Linear):
    """y = x W^T + b, computed in the dtype of x (fp32 or bf16)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last dimension (Ba et al., 2016).

    The statistics are taken in at least fp32 whatever the dtype of x.
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
