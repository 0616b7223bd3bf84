"""Linear, layer norm, dropout: parameters stay fp32, the activation decides the precision.

N tokens, D hidden. `kernels` of a module is one of minbert.kernels.KERNELS.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Reordered:
    """A copy of a matrix in oneDNN's order, and how to tell that the matrix has changed since.

    Most changes raise its `_version`, but not those of fused optimizers or by weight.data. Of these
    `weight.data = new`, half() and cuda() move the matrix; some of its entries tell of the others.
    """

    weight: Tensor
    version: int  # weight._version when it was copied
    address: int  # in memory, then
    entries: Tensor  # a view of some 64 entries of the matrix, as they are now
    values: Tensor  # what these entries were then
    copy: Tensor

    @classmethod
    def of(cls, weight: Tensor) -> "Reordered":
        """Copy a contiguous matrix on the CPU."""
        w = weight.detach()
        entries = w.view(-1)[:: w.numel() // 64 + 1]
        copy = torch.ops.mkldnn._reorder_linear_weight(w)
        return cls(weight, weight._version, w.data_ptr(), entries, entries.clone(), copy)

    def is_current(self, weight: Tensor) -> bool:
        """Return whether the copy still equals the matrix.

        A change of few entries by weight.data, which PyTorch does not count, may be missed.
        """
        return (
            weight is self.weight
            and weight._version == self.version
            and weight.data_ptr() == self.address
            and torch.equal(self.entries, self.values)
        )


class Linear(nn.Linear):
    """y = x W^T + b, computed in the dtype of x (fp32 or bf16)."""

    reordered: Reordered | None = None  # W once more, for products without a gradient

    def forward(self, x: Tensor) -> Tensor:
        if (w := self.reordered_for(x)) is not None:
            return torch.ops.mkldnn._linear_pointwise(x, w, self.bias, "none", [], "")
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))

    def reorder(self) -> None:
        """Keep W once more, in the order that a CPU's products read it in (oneDNN).

        Without it every call brings W into that order: half of the time of a single sentence.
        """
        w = self.weight
        can_reorder = w.device.type == "cpu" and w.is_contiguous() and not w.is_inference()
        if can_reorder and has_reordered_products(w.dtype):
            self.reordered = Reordered.of(w)

    def reordered_for(self, x: Tensor) -> Tensor | None:
        """Return the reordered W if W is still the same, and x one that needs no gradient."""
        if self.reordered is None or torch.is_grad_enabled() or is_recorded():
            return None
        w = self.weight
        is_alike = x.dtype == w.dtype and x.device == w.device
        return self.reordered.copy if is_alike and self.reordered.is_current(w) else None

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickle keeps: not the copy of W, which has no form on a disk."""
        return {key: x for key, x in super().__getstate__().items() if key != "reordered"}


def is_recorded() -> bool:
    """Return whether calls are recorded for a compiler, an export or a trace."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def has_reordered_products(dtype: torch.dtype) -> bool:
    """Return whether this build of PyTorch and this CPU have oneDNN's products of a dtype."""
    if not torch.backends.mkldnn.is_available():
        return False
    bf16 = torch.ops.mkldnn._is_mkldnn_bf16_supported
    return dtype == torch.float32 or (dtype == torch.bfloat16 and bf16())


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
        keep = draw_keep(x, self.p).to(x.dtype)
        return (x * keep).mul_(kept_scale(self.p))  # not keep times scale: bf16 would round that


def draw_keep(x: Tensor, p: float) -> Tensor:
    """Draw which entries of x a dropout of p keeps, 1 or 0.

    On a CPU one Bernoulli draw a value is a tenth of a training step: there one 64-bit draw decides
    four values.
    """
    # torch.compile cannot view 64 bits as four numbers, as is done below
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        draws = torch.rand(x.shape, dtype=torch.float32, device=x.device)
        return draws >= round(p * 65536) / 65536
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device="cpu")
    draws.random_(-(2**63), None)
    bits = draws.view(torch.int16)[: x.numel()].view(x.shape)  # uniform on -32768 .. 32767
    # in place, so 16-bit numbers: a CPU takes eight times as long to convert True and False
    return bits.ge_(round(p * 65536) - 32768)


def kept_scale(p: float) -> float:
    """Return the factor of the entries that are kept: 1 / (1 - p), p rounded to 1/65536."""
    return 65536 / (65536 - round(p * 65536))


def masked(x: Tensor, keep: Tensor | None) -> Tensor:
    """Return x where keep is 1, 0 where it is 0; keep None: x itself."""
    if keep is None:
        return x
    if x.element_size() == keep.element_size() == 2:  # a product of integers is the faster one
        return (x.view(torch.int16) * keep).view(x.dtype)
    return x * keep


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

    def forward(self, x: Tensor) -> Tensor:
        h = x.to(at_least_fp32(self.weight.dtype))
        h = h - h.mean(-1, keepdim=True)
        variance = h.square().mean(-1, keepdim=True)
        return (h * torch.rsqrt(variance + self.eps) * self.weight + self.bias).to(x.dtype)


def at_least_fp32(dtype: torch.dtype) -> torch.dtype:
    """Return fp32 for the 16-bit types, fp64 for fp64."""
    return torch.promote_types(dtype, torch.float32)


def is_plain(module: nn.Module, cls: type[nn.Module]) -> bool:
    """Return whether a call of the module does what its class's forward does and nothing else."""
    return type(module) is cls and "forward" not in vars(module) and not (
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
        or module._backward_pre_hooks
    )  # fmt: skip
