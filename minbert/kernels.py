"""PyTorch's kernels for what is written out elsewhere: the choice `--kernels torch`.

By default nothing here runs. The equations are in minbert.model.derived (AddNorm) and
minbert.training.optimizer (AdamW); both are tested against these kernels, which do in one pass over
memory what the equations do in several: a training step takes about a tenth less with them.
"""

import torch
from torch import Tensor

# minbert: our equations, with a derived gradient and in cache-sized blocks. torch: the kernels of
# this file. written-out: our equations alone, their gradients by autograd, slower still.
KERNELS = ("minbert", "torch", "written-out")


def layer_norm(x: Tensor, w: Tensor, b: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return LN(x) (N, D), the means (N, 1) and r = (var + eps)^-1/2 (N, 1)."""
    return torch.native_layer_norm(x, w.shape, w, b, eps)


def layer_norm_backward(
    g: Tensor, x: Tensor, mean: Tensor, r: Tensor, w: Tensor, b: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, w and b for g, that of LN(x)."""
    return torch.ops.aten.native_layer_norm_backward(g, x, w.shape, mean, r, w, b, [True] * 3)


def fits_adamw(p: Tensor, g: Tensor) -> bool:
    """Return whether these are contiguous fp32 tensors on the CPU, which `adamw` needs."""
    fp32 = p.dtype == g.dtype == torch.float32  # in fp64 it would still round the scale to fp32
    return p.device.type == "cpu" and fp32 and p.is_contiguous() and g.is_contiguous()


def adamw(
    p: list[Tensor], g: list[Tensor], m: list[Tensor], v: list[Tensor], a: float,
    betas: tuple[float, float], eps: float, scale: float | Tensor,
) -> None:  # fmt: skip
    """Do what minbert.training.optimizer.adamw_equations does, in one pass."""
    is_scaled = isinstance(scale, Tensor) or scale != 1  # a division by 1 would be another pass
    # the scale of gradients whose norm is infinite is 0, which a number cannot be divided by
    scale = torch.as_tensor(scale, dtype=torch.float32, device="cpu")
    options = {"grad_scale": 1 / scale} if is_scaled else {}
    # a step so late that PyTorch's AdamW corrects no bias, as 1 - 0.999^t is 1: `a` is corrected
    late = torch.tensor(1e9, dtype=torch.float32, device="cpu")
    torch._fused_adamw_(
        p, g, m, v, [], [late] * len(p), lr=a, beta1=betas[0], beta2=betas[1], eps=eps,
        weight_decay=0.0, amsgrad=False, maximize=False, **options,
    )  # fmt: skip
