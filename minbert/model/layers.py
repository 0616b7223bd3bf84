"""Linear, layer norm, dropout: parameters stay fp32, the activation decides the precision.

N tokens, D hidden. `kernels` of a module is one of minbert.kernels.KERNELS.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minbert.errors import UserError
from minbert.kernels import KERNELS
from minbert.model.reordered import Reordered, has_reordered_products


class Linear(nn.Linear):
    """y = x W^T + b, computed in the dtype of x (fp32 or bf16)."""

    kernels: str = "minbert"
    reordered: Reordered | None = None  # W once more, for products without a gradient

    def forward(self, x: Tensor) -> Tensor:
        if (w := self.reordered_for(x)) is not None:
            return torch.ops.mkldnn._linear_pointwise(x, w, self.bias, "none", [], "")
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))

    def reorder(self) -> None:
        """Keep a second copy of W, in the order of oneDNN's matrix products.

        Without it every call reorders W, which is half of the time of a single sentence.
        """
        w = self.weight
        can_reorder = w.device.type == "cpu" and w.is_contiguous() and not w.is_inference()
        if can_reorder and has_reordered_products(w.dtype):
            self.reordered = Reordered.of(w)

    def reordered_for(self, x: Tensor) -> Tensor | None:
        """Return the reordered copy of W; None where it does not stand for W.

        That is where gradients are on, W has changed since, x has another dtype or device, the call
        is recorded, or only what is written is to run.
        """
        is_plain = self.reordered is None or self.kernels == "written-out"
        if is_plain or torch.is_grad_enabled() or is_recorded():
            return None
        w = self.weight
        is_alike = x.dtype == w.dtype and x.device == w.device
        return self.reordered.copy if is_alike and self.reordered.is_current(w) else None

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickle keeps: not the copy of W, which cannot be pickled."""
        return {key: x for key, x in super().__getstate__().items() if key != "reordered"}


def is_recorded() -> bool:
    """Return whether calls are recorded for a compiler, an export or a trace."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def is_autocast() -> bool:
    """Return whether operations change the precision of what they are given."""
    return torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")


class Dropout(nn.Module):
    """Each entry 0 with probability p, else divided by 1 - p (Srivastava et al., 2014).

    On a CPU `draw_keep` draws the mask, elsewhere and with --written-out PyTorch. In the layers
    of an encoder minbert.model.derived applies dropout by default.
    """

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
        # the scale comes last: in bf16 its product with keep would be rounded
        return (x * keep).mul_(dropout_scale(self.p))


def draw_keep(x: Tensor, p: float) -> Tensor:
    """Return a dropout mask for x: 1 with probability 1 - p, else 0; p is rounded to 1/65536.

    To draw a number for every entry takes a tenth of a training step on a CPU: there one number of
    64 bits decides four entries.
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


def dropout_scale(p: float) -> float:
    """Return 1 / (1 - p), the factor of what dropout keeps; p is rounded to 1/65536."""
    return 65536 / (65536 - round(p * 65536))


def apply_dropout_mask(x: Tensor, keep: Tensor | None) -> Tensor:
    """Return x where keep is 1, 0 where it is 0; keep None: x itself."""
    if keep is None:
        return x
    if x.element_size() == keep.element_size() == 2:  # a product of integers is the faster one
        return (x.view(torch.int16) * keep).view(x.dtype)
    return x * keep


def set_kernels(model: nn.Module, name: str) -> None:
    """Choose among minbert.kernels.KERNELS for all of a model's modules that have a choice.

    Raises UserError for another name.
    """
    if name not in KERNELS:
        raise UserError(f"kernels {name!r}: write one of {', '.join(KERNELS)}")
    for module in model.modules():
        if hasattr(module, "kernels"):
            module.kernels = name


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last dimension (Ba et al., 2016).

    The statistics are taken in fp32 at least, whatever the dtype of x and the parameters. In the
    layers of an encoder minbert.model.derived computes it by default; with --written-out this does.
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
