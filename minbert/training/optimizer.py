"""AdamW (Loshchilov & Hutter, 2019), written out with the courses' semantics.

Differs from torch.optim.AdamW in two places: eps is added to the uncorrected sqrt(v), and the
weight decay comes after the update.
"""

import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

BLOCK = 1 << 18  # elements: four fp32 arrays of it take 4 MiB


class AdamW(torch.optim.Optimizer):
    """Per step t, with gradient g:

    m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
    a = lr sqrt(1-b2^t) / (1-b1^t)  (just lr without correct_bias)
    p -= a m / (sqrt(v) + eps);  then  p -= lr weight_decay p
    Parameters without a gradient are left alone, state and all. State is fp32. A sparse gradient
    (rows of an embedding) counts as the dense one it stands for.
    """

    # PyTorch wraps these two for torch.compile, which a first call of the wrapper imports: 1.4 s.
    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        correct_bias: bool = True,
    ) -> None:
        if lr < 0 or eps < 0 or weight_decay < 0 or not all(0 <= b < 1 for b in betas):
            raise ValueError(
                f"AdamW: lr {lr}, betas {betas}, eps {eps}, weight_decay {weight_decay}"
            )
        defaults = dict(
            lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, correct_bias=correct_bias
        )
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(
        self, closure: Callable[[], Tensor] | None = None, scale: float | Tensor = 1.0
    ) -> Tensor | None:
        """One update of every parameter that has a gradient; g is p.grad times `scale`.

        A scale that is a tensor is multiplied into the gradients themselves.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if isinstance(scale, Tensor):
            params = (p for group in self.param_groups for p in group["params"])
            torch._foreach_mul_([p.grad for p in params if p.grad is not None], scale)
            scale = 1.0
        for group in self.param_groups:
            # Heads of different tasks have seen different numbers of steps: a bucket for each t.
            buckets: dict[int, list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    dtype = torch.promote_types(p.dtype, torch.float32)
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(p, dtype=dtype)
                    state["exp_avg_sq"] = torch.zeros_like(p, dtype=dtype)
                state["step"] += 1
                buckets[state["step"]].append(p)
            for t, params in buckets.items():
                a = group["lr"]
                if group["correct_bias"]:
                    b1, b2 = group["betas"]
                    a *= math.sqrt(1 - b2**t) / (1 - b1**t)
                state = [self.state[p] for p in params]
                m, v = ([s[key] for s in state] for key in ("exp_avg", "exp_avg_sq"))
                for block in in_blocks(params, [p.grad for p in params], m, v):
                    _update(group, a, scale, *block)
        return loss


class Rows(NamedTuple):
    """A gradient that is zero but in some rows."""

    places: Tensor  # (R,) each row once
    values: Tensor  # (R, D)


Gradients = Sequence[Tensor] | Rows


def _update(
    group: dict[str, Any], a: float, scale: float,
    p: list[Tensor], g: Gradients, m: list[Tensor], v: list[Tensor],
) -> None:  # fmt: skip
    """The equations of the class, over lists of tensors at once; `a` is the corrected rate."""
    b1, b2 = group["betas"]
    torch._foreach_mul_(m, b1)
    torch._foreach_mul_(v, b2)
    c1, c2 = (1 - b1) * scale, (1 - b2) * scale**2  # scale g, without a pass over g
    if isinstance(g, Rows):  # of one tensor
        m[0].index_add_(0, g.places, g.values, alpha=c1)
        v[0].index_add_(0, g.places, g.values.square(), alpha=c2)
    else:
        torch._foreach_add_(m, g, alpha=c1)
        torch._foreach_addcmul_(v, g, g, value=c2)
    # A CPU takes 6 to 30 times as long for the root of 0 or of a denormal number, which is what the
    # embeddings of unseen words have. Below this floor the root vanishes in the rounding of eps.
    d = torch._foreach_clamp_min(v, (group["eps"] * 2**-26) ** 2)
    torch._foreach_sqrt_(d)
    torch._foreach_add_(d, group["eps"])
    torch._foreach_addcdiv_(p, m, d, value=-a)
    if group["weight_decay"]:
        # not p *= 1 - lr wd: that factor, rounded to fp32, drifts by 1e-6 within 50 steps
        torch._foreach_add_(p, p, alpha=-group["lr"] * group["weight_decay"])


Block = tuple[list[Tensor], Gradients, list[Tensor], list[Tensor]]  # parts of p, of g, of m, of v


def in_blocks(
    p: list[Tensor], g: list[Tensor], m: list[Tensor], v: list[Tensor]
) -> Iterator[Block]:
    """The same lists in parts of about BLOCK elements, large tensors cut and small ones together.

    A part stays in the CPU's cache through all operations of the update, which then reads memory
    once instead of seven times. A GPU has no use for that: one part.
    """
    if p and p[0].is_cuda:
        yield p, [t.to_dense() if t.is_sparse else t for t in g], m, v
        return
    part: list[tuple[Tensor, ...]] = []
    size = 0
    for row in zip(p, g, m, v, strict=True):
        if row[1].is_sparse:
            yield from row_blocks(*row)
            continue
        for piece in pieces(row):
            part.append(piece)
            size += piece[0].numel()
            if size >= BLOCK:
                yield tuple(list(column) for column in zip(*part, strict=True))
                part, size = [], 0
    if part:
        yield tuple(list(column) for column in zip(*part, strict=True))


def pieces(row: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
    """One parameter's p, g, m and v, cut along."""
    if row[0].numel() > BLOCK and all(t.is_contiguous() for t in row):
        yield from zip(*(t.view(-1).split(BLOCK) for t in row), strict=True)
    else:
        yield row


def row_blocks(p: Tensor, g: Tensor, m: Tensor, v: Tensor) -> Iterator[Block]:
    """A matrix with a sparse gradient, cut between rows, each part with its rows of g."""
    g = g.coalesce()
    places, values = g.indices()[0], g.values()
    height = max(1, BLOCK // max(1, p[0].numel()))
    starts = range(0, len(p), height)
    cuts = torch.searchsorted(places, torch.tensor([*starts, len(p)])).tolist()
    for start, first, last in zip(starts, cuts, cuts[1:], strict=False):
        rows = Rows(places[first:last] - start, values[first:last])
        part = slice(start, start + height)
        yield [p[part]], rows, [m[part]], [v[part]]


def clip_scale(parameters: Iterable[Tensor], max_norm: float) -> float | Tensor:
    """What all gradients must be multiplied by for a norm of at most max_norm; 1 if it is less.

    Equal to what torch.nn.utils.clip_grad_norm_ multiplies by, without the pass over memory. On a
    GPU a tensor there, which nobody has waited for. max_norm 0: no limit.
    """
    if max_norm == 0:
        return 1.0
    gradients = []
    for p in parameters:
        if p.grad is not None:
            if p.grad.is_sparse:
                p.grad = p.grad.coalesce()  # a row that came several times has one gradient
            gradients.append(p.grad.values() if p.grad.is_sparse else p.grad)
    if not gradients:
        return 1.0
    norm = torch.nn.utils.get_total_norm(gradients)
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    return scale if scale.is_cuda else scale.item()


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: matrices with weight decay; what is one-dimensional (biases, norms) without."""
    params = [p for p in model.parameters() if p.requires_grad]  # a shared tensor is listed once
    return [
        {"params": [p for p in params if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
    ]
