"""Faster equals of written-out equations, and the switch between them.

Each is tested against what it replaces. `--written-out` turns all of them off, in AdamW too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_off = False


def is_off() -> bool:
    """Whether only the equations as written are to run."""
    return _off


def turn_off(off: bool) -> None:
    """What a script's --written-out says, for the whole process."""
    global _off
    _off = off


@contextmanager
def written_out() -> Iterator[None]:
    """Without any of this module, for a comparison."""
    before = _off
    turn_off(True)
    try:
        yield
    finally:
        turn_off(before)


class AddNorm(torch.autograd.Function):
    """y = LN(s), s = x + scale keep f; dx = ds, df = scale keep ds.

    The sum and the statistics are in the parameters' precision, each read once: PyTorch's kernel of
    the layer norm and of its gradient does in a pass what LayerNorm's operations do in six.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, f: Tensor, w: Tensor, b: Tensor, eps: float, keep: Tensor | None,
        scale: float,
    ) -> Tensor:  # fmt: skip
        s = x.to(w.dtype, copy=True)  # (N, D)
        if keep is None:
            s.add_(f)
        else:
            s.addcmul_(f.to(w.dtype), keep.to(w.dtype), value=scale)
        y, mean, r = torch.native_layer_norm(s, w.shape, w, b, eps)  # r = (var s + eps)^-1/2
        ctx.save_for_backward(s, mean, r, w, b, keep)
        ctx.scale = scale
        return y.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        s, mean, r, w, b, keep = ctx.saved_tensors
        ds, dw, db = torch.ops.aten.native_layer_norm_backward(
            g.to(w.dtype), s, w.shape, mean, r, w, b, [True] * 3
        )
        dx = ds.to(g.dtype, copy=keep is not None)  # below, ds is changed in place
        df = dx if keep is None else ds.mul_(keep).mul_(ctx.scale).to(g.dtype)
        return dx, df, dw, db, None, None, None
