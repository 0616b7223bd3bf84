"""Faster equals of written-out equations, their backward derived by hand; and the switch.

Each is tested against what it replaces. MINBERT_WRITTEN_OUT=1 turns all of them off.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

_off = os.environ.get("MINBERT_WRITTEN_OUT") == "1"


def is_off() -> bool:
    """Whether only the equations as written are to run."""
    return _off


@contextmanager
def written_out() -> Iterator[None]:
    """Without any of this module, for a comparison."""
    global _off
    before, _off = _off, True
    try:
        yield
    finally:
        _off = before


class AddNorm(torch.autograd.Function):
    """y = w n + b with n = (s - mean s) r, r = (var s + eps)^-1/2, s = x + scale keep f.

    With g = dL/dy, means over the last dimension:
    ds = r (g w - mean(g w) - n mean(g w n));  dx = ds;  df = scale keep ds
    dw = sum g n;  db = sum g
    Two passes and one array kept for backward, where autograd would make ten and keep five. The sum
    and all statistics are in the parameters' precision.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, f: Tensor, w: Tensor, b: Tensor, eps: float, keep: Tensor | None,
        scale: float,
    ) -> Tensor:  # fmt: skip
        n = f.to(w.dtype, copy=True)  # (N, D)
        if keep is not None:
            n.mul_(keep).mul_(scale)
        n.add_(x)
        n.sub_(n.mean(-1, keepdim=True))
        r = n.square().mean(-1, keepdim=True).add_(eps).rsqrt_()  # (N, 1)
        n.mul_(r)
        ctx.save_for_backward(n, r, w, keep)
        ctx.scale = scale
        return torch.addcmul(b, n, w).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        n, r, w, keep = ctx.saved_tensors
        dtype, D = g.dtype, g.shape[-1]
        g = g.to(w.dtype)
        gn = g * n
        dw, db = gn.sum(0), g.sum(0)
        mean_gw, mean_gwn = (g @ w).div_(D), (gn @ w).div_(D)  # (N,)
        ds = gn.copy_(g).mul_(w).sub_(mean_gw[:, None])
        ds.addcmul_(n, mean_gwn[:, None], value=-1).mul_(r)
        dx = ds.to(dtype, copy=keep is not None)  # below, ds is changed in place
        df = dx if keep is None else ds.mul_(keep).mul_(ctx.scale).to(dtype)
        return dx, df, dw, db, None, None, None
