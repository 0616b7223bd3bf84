"""The two sub-layers of a BERT layer, each one autograd Function with its gradient by hand.

The equations and their order are those of minbert.model.encoder.BertLayer, which leaves the
gradients to autograd. Here fewer operations run. N tokens, D hidden, M the size of the feed-forward
layer, H heads, K head size; a group of n sequences, padded to T, has Q queries each; R rows as in
packing.Layout. g is the gradient of what a function returned.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minbert import kernels
from minbert.errors import UserError
from minbert.model.attention import SelfAttention
from minbert.model.layers import (
    Dropout,
    LayerNorm,
    Linear,
    apply_dropout_mask,
    at_least_fp32,
    draw_keep,
    dropout_scale,
    is_autocast,
    is_plain,
)
from minbert.model.packing import Layout

# PyTorch's kernels of two derivatives: of P = softmax, P (dP - sum_T P dP); of gelu,
# (Phi(u) + u phi(u)) de
softmax_backward = torch.ops.aten._softmax_backward_data
gelu_backward = torch.ops.aten.gelu_backward
# How many attention scores are computed at once if no gradient needs them, 16 MiB in fp32. For long
# texts this is faster than all at once, and takes less memory.
SCORES_AT_ONCE = 2**22
Saved = tuple[Tensor | None, ...]  # what the backward pass needs of the forward pass
Backward = Callable[[Any, Tensor], tuple[Tensor | None, ...]]


@dataclass(frozen=True)
class AddNorm:
    """y = LN(s), s = x + keep f / (1 - p), (N, D): the end of both sub-layers."""

    eps: float
    p: float  # of the dropout, 0 in evaluation
    kernels: str  # one of minbert.kernels.KERNELS

    def forward(self, x: Tensor, f: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Saved]:
        """Compute h = (s - mean s) r, r = (var s + eps)^-1/2, y = w h + b, in fp32 at least."""
        keep, dtype = draw_dropout(f, self.p), at_least_fp32(w.dtype)
        s = x.to(dtype, copy=True).add_(apply_dropout_mask(f, keep), alpha=dropout_scale(self.p))
        if self.kernels == "torch":
            y, mean, r = kernels.layer_norm(s, w.to(dtype), b.to(dtype), self.eps)
            return y.to(x.dtype), (keep, w, b, s, mean, r)
        h = s.sub_(s.mean(-1, keepdim=True))
        variance = torch.linalg.vector_norm(h, dim=-1).square_().div_(h.shape[-1])  # (N,)
        r = variance.add_(self.eps).rsqrt_().unsqueeze(-1)  # (N, 1)
        return torch.addcmul(b, h.mul_(r), w).to(x.dtype), (keep, w, b, h, r)

    def backward(self, g: Tensor, saved: Saved) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return dx, df, dw and db, with means over D and sums over N:

        dw = sum g h,  db = sum g,  dx = ds = r (w g - mean(w g) - h mean(w g h)),
        df = keep ds / (1 - p)
        """
        keep, w, b, *rest = saved
        dtype = rest[0].dtype
        dy, w, b = g.to(dtype), w.to(dtype), b.to(dtype)
        if self.kernels == "torch":
            ds, dw, db = kernels.layer_norm_backward(dy, *rest, w, b)
        else:
            h, r = rest
            dyh, dh = dy * h, dy * w
            mean = (dyh @ w).div_(len(w)).unsqueeze(-1)  # (N, 1), mean(w g h)
            ds = dh.sub_(dh.mean(-1, keepdim=True)).addcmul_(h, mean, value=-1).mul_(r)
            dw, db = dyh.sum(0), dy.sum(0)
        if keep is None:
            dx = df = ds.to(g.dtype)
        else:
            dx = ds.to(g.dtype, copy=True)
            df = apply_dropout_mask(ds.mul_(dropout_scale(self.p)).to(g.dtype), keep)
        return dx, df, dw, db


def draw_dropout(x: Tensor, p: float) -> Tensor | None:
    """Draw which entries a dropout of p keeps; None for all of them."""
    return draw_keep(x, p) if p else None


def matrix_gradients(g: Tensor, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return dW = g^T x and db = sum g of y = x W^T + b; its dx is g W."""
    return (g.t() @ x).to(dtype), g.sum(0, dtype=dtype)


def derived_gradient(backward: Backward) -> Backward:
    """Let a backward pass compute in the precision of its forward pass, also under autocast.

    It raises UserError where its result is to be differentiated again.
    """

    def checked(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # by create_graph=True alone
            raise UserError(
                "the layers' derived gradients have no derivatives: before the forward pass call "
                'minbert.model.layers.set_kernels(model, "written-out")'
            )
        if not is_autocast():
            return backward(ctx, g)
        with torch.autocast(g.device.type, enabled=False):
            return backward(ctx, g)

    return checked


class AttentionSublayer(torch.autograd.Function):
    """y = LN(x + dropout(o Wo^T + bo)), o = dropout(softmax(q k^T / sqrt(K) + mask)) v

    with q = x Wq^T + bq, and k = c Wk^T + bk, v = c Wv^T + bv of the context c. x, y and c are
    (N, D); with layout.first_only x and y are (S, D), of the S sequences' first tokens.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, context: Tensor | None, wq: Tensor, bq: Tensor, wk: Tensor, bk: Tensor,
        wv: Tensor, bv: Tensor, wo: Tensor, bo: Tensor, w: Tensor, b: Tensor, layout: Layout,
        p: float, norm: AddNorm,
    ) -> Tensor:  # fmt: skip
        c = x if context is None else context
        ctx.layout, ctx.p, ctx.norm, ctx.dtype = layout, p, norm, wq.dtype
        wq, bq, wk, bk, wv, bv, wo, bo = (t.to(x.dtype) for t in (wq, bq, wk, bk, wv, bv, wo, bo))
        q = layout.pad_queries(F.linear(x, wq, bq))  # (R, K)
        k, v = layout.pad(F.linear(c, wk, bk)), layout.pad(F.linear(c, wv, bv))  # (R, K)
        saved: list[Tensor] = []
        o = layout.unpad_queries(attend(q, k, v, layout, p, saved))  # (N, D)
        y, saved_norm = norm.forward(x, F.linear(o, wo, bo), w, b)
        ctx.save_for_backward(x, context, wq, wk, wv, wo, q, k, v, o, *saved_norm, *saved)
        ctx.num_saved_norm = len(saved_norm)
        return y

    @staticmethod
    @derived_gradient
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, context, wq, wk, wv, wo, q, k, v, o, *saved = ctx.saved_tensors
        c, layout = x if context is None else context, ctx.layout
        dx, da, dw, db = ctx.norm.backward(g, saved[: ctx.num_saved_norm])
        dwo, dbo = matrix_gradients(da, o, ctx.dtype)
        do = da @ wo  # (N, D)
        if not layout.first_only:
            do[layout.num_tokens :] = 0  # o of added rows is a constant; padding copies one
        do = layout.pad_queries(do)  # (R, K)
        dq, dk, dv = attention_gradients(do, q, k, v, layout, ctx.p, saved[ctx.num_saved_norm :])
        dq, dk, dv = layout.unpad_queries(dq), layout.unpad(dk), layout.unpad(dv)  # (N, D)
        dx = torch.addmm(dx, dq, wq)
        if context is None:  # k and v are of x, too
            dx, dc = torch.addmm(torch.addmm(dx, dk, wk), dv, wv), None
        else:
            dc = torch.addmm(dk @ wk, dv, wv)
        dwq, dbq = matrix_gradients(dq, x, ctx.dtype)
        dwk, dbk = matrix_gradients(dk, c, ctx.dtype)
        dwv, dbv = matrix_gradients(dv, c, ctx.dtype)
        return dx, dc, dwq, dbq, dwk, dbk, dwv, dbv, dwo, dbo, dw, db, None, None, None


def attend(
    q: Tensor, k: Tensor, v: Tensor, layout: Layout, p: float, saved: list[Tensor] | None = None
) -> Tensor:
    """Return o = A v of every group, laid out as q is: A = keep P / (1 - p),

    P = softmax(q k^T / sqrt(K) + mask), (n H, Q, T). saved: a list that gets each group's P and
    keep for the backward pass; None: no backward pass follows, and a CPU computes a few heads at a
    time.
    """
    out, scale = layout.empty_like(q), 1 / math.sqrt(q.shape[-1])
    parts = (layout.split_queries(q), layout.split(k), layout.split(v), layout.split_queries(out))
    for group, *tensors in zip(layout.groups, *parts, strict=True):
        beta = int(group.mask is not None)  # with beta 0 baddbmm ignores its first argument
        tensors.append(tensors[0][:, :1, :1] if group.mask is None else group.mask)
        heads, Q = tensors[0].shape[:2]
        # A GPU's time grows with the number of products. And dropout of a few heads at a time would
        # not be drawn as for all at once, when a checkpoint computes the layer again.
        whole = saved is not None or q.is_cuda or p > 0
        at_once = heads if whole else max(1, SCORES_AT_ONCE // (Q * group.T))
        for q_, k_, v_, o, mask in zip(*(t.split(at_once) for t in tensors), strict=True):
            scores = torch.baddbmm(mask, q_, k_.transpose(1, 2), beta=beta, alpha=scale)
            P = scores.softmax(-1)  # (at_once, Q, T)
            keep = draw_dropout(P, p)
            if saved is not None:
                saved += [P] if keep is None else [P, keep]
            torch.baddbmm(o, apply_dropout_mask(P, keep), v_, beta=0, alpha=dropout_scale(p), out=o)
    return out


def attention_gradients(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, layout: Layout, p: float, saved: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return dq, dk and dv of `attend`, laid out as q, k and v are:

    dv = A^T g,  dP = keep (g v^T) / (1 - p),  dS = P (dP - sum_T P dP),
    dq = dS k / sqrt(K),  dk = dS^T q / sqrt(K)
    """
    dq, dk, dv = layout.empty_like(q), layout.empty_like(k), layout.empty_like(v)
    queries = (layout.split_queries(t) for t in (g, q, dq))
    keys = (layout.split(t) for t in (k, v, dk, dv))
    rest = iter(saved)
    for g_, q_, dq_, k_, v_, dk_, dv_ in zip(*queries, *keys, strict=True):
        P, keep = next(rest), next(rest) if p else None
        # A, dP and dS lack their factor c = 1 / (1 - p): the products multiply by it (alpha)
        c = dropout_scale(p)
        scale = c / math.sqrt(q_.shape[-1])
        A = apply_dropout_mask(P, keep)  # (n H, Q, T)
        torch.baddbmm(dv_, A.transpose(1, 2), g_, beta=0, alpha=c, out=dv_)
        dP = apply_dropout_mask(g_ @ v_.transpose(1, 2), keep)
        dS = softmax_backward(dP, P, -1, P.dtype)
        torch.baddbmm(dq_, dS, k_, beta=0, alpha=scale, out=dq_)
        torch.baddbmm(dk_, dS.transpose(1, 2), q_, beta=0, alpha=scale, out=dk_)
    return dq, dk, dv


class FeedForwardSublayer(torch.autograd.Function):
    """y = LN(x + dropout(e W2^T + b2)), e = gelu(u), u = x W1^T + b1; x, y: (N, D), e, u: (N, M).

    gelu(u) = u Phi(u), so that du = (Phi(u) + u phi(u)) de, where phi is the normal density.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, w: Tensor, b: Tensor,
        norm: AddNorm,
    ) -> Tensor:  # fmt: skip
        ctx.norm, ctx.dtype = norm, w1.dtype
        w1, b1, w2, b2 = (t.to(x.dtype) for t in (w1, b1, w2, b2))
        u = F.linear(x, w1, b1)  # (N, M)
        e = F.gelu(u)
        y, saved = norm.forward(x, F.linear(e, w2, b2), w, b)
        ctx.save_for_backward(x, w1, w2, u, e, *saved)
        return y

    @staticmethod
    @derived_gradient
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, w1, w2, u, e, *saved = ctx.saved_tensors
        dx, df, dw, db = ctx.norm.backward(g, saved)
        dw2, db2 = matrix_gradients(df, e, ctx.dtype)
        du = gelu_backward(df @ w2, u)  # (N, M)
        dw1, db1 = matrix_gradients(du, x, ctx.dtype)
        return torch.addmm(dx, du, w1), dw1, db1, dw2, db2, dw, db, None


def can_run(layer: nn.Module) -> bool:
    """Return whether `compute_layer` does all that a call of the layer does.

    It does not if a part of the layer was replaced or has a hook, nor under torch.compile, which
    records the operations, or autocast, which changes their precision.
    """
    a = layer.self_attention
    if not is_plain(a, SelfAttention):  # another one may have other parts
        return False
    parts: dict[type[nn.Module], tuple[nn.Module, ...]] = {
        Linear: (
            a.query, a.key, a.value, layer.attention_dense, layer.interm_dense, layer.out_dense,
        ),
        LayerNorm: (layer.attention_layer_norm, layer.out_layer_norm),
        Dropout: (a.dropout, layer.dropout),
    }  # fmt: skip
    watched = nn.modules.module._has_any_global_hook() or torch.compiler.is_compiling()
    if watched or is_autocast():
        return False
    return all(is_plain(m, cls) for cls, some in parts.items() for m in some)


def compute_layer(layer: nn.Module, x: Tensor, layout: Layout, context: Tensor | None) -> Tensor:
    """Compute a layer, (N, D) -> (N, D); `context`: see SelfAttention."""
    a, dense, norm = layer.self_attention, layer.attention_dense, layer.attention_layer_norm
    inner, outer, norm_f = layer.interm_dense, layer.out_dense, layer.out_layer_norm
    p = layer.dropout.p if layer.dropout.training else 0.0
    p_attention = a.dropout.p if a.dropout.training else 0.0
    end_a, end_f = (AddNorm(n.eps, p, layer.kernels) for n in (norm, norm_f))
    if torch.is_grad_enabled():
        x = AttentionSublayer.apply(
            x, context, a.query.weight, a.query.bias, a.key.weight, a.key.bias, a.value.weight,
            a.value.bias, dense.weight, dense.bias, norm.weight, norm.bias, layout, p_attention,
            end_a,
        )  # fmt: skip
        return FeedForwardSublayer.apply(
            x, inner.weight, inner.bias, outer.weight, outer.bias, norm_f.weight, norm_f.bias, end_f
        )
    c = x if context is None else context
    q, k, v = layout.pad_queries(a.query(x)), layout.pad(a.key(c)), layout.pad(a.value(c))
    o = layout.unpad_queries(attend(q, k, v, layout, p_attention))
    x, _ = end_a.forward(x, dense(o), norm.weight, norm.bias)
    x, _ = end_f.forward(x, outer(F.gelu(inner(x))), norm_f.weight, norm_f.bias)
    return x
