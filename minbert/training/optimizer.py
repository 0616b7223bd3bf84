"""AdamW (Loshchilov & Hutter, 2019), written out with the courses' semantics.

Differs from torch.optim.AdamW in two places: eps is added to the uncorrected sqrt(v), and the
weight decay comes after the update.
"""

import inspect
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

BLOCK = 1 << 18  # elements of an embedding updated at once: four fp32 arrays of it take 4 MiB
# The step at which PyTorch's kernel corrects no bias: 1 - 0.999^t is 1. Ours is part of the rate.
NO_CORRECTION = torch.tensor(1e9)


class AdamW(torch.optim.Optimizer):
    """Per step t, with gradient g:

    m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2
    a = lr sqrt(1-b2^t) / (1-b1^t)  (just lr without correct_bias)
    p -= a m / (sqrt(v) + eps);  then  p -= lr weight_decay p
    Parameters without a gradient are left alone, state and all. State is fp32. A sparse gradient
    (rows of an embedding) counts as the dense one it stands for.

    written_out: `write_out` below computes all of it. Otherwise, on a CPU, PyTorch's kernel does
    what comes before the weight decay: the same numbers in one pass over memory instead of eight.
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
        written_out: bool = False,
    ) -> None:
        if lr < 0 or eps < 0 or weight_decay < 0 or not all(0 <= b < 1 for b in betas):
            raise ValueError(
                f"AdamW: lr {lr}, betas {betas}, eps {eps}, weight_decay {weight_decay}"
            )
        defaults = dict(
            lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, correct_bias=correct_bias
        )
        super().__init__(params, defaults)
        self.written_out = written_out

    @torch.no_grad()
    def step(
        self, closure: Callable[[], Tensor] | None = None, scale: float | Tensor = 1.0
    ) -> Tensor | None:
        """One update of every parameter that has a gradient; g is p.grad times `scale`.

        The gradients themselves may be changed by it.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            # Heads of different tasks have seen different numbers of steps: a bucket for each t.
            buckets: dict[int, list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    buckets[self.count(p)].append(p)
            for t, params in buckets.items():
                a = group["lr"]
                if group["correct_bias"]:
                    b1, b2 = group["betas"]
                    a *= math.sqrt(1 - b2**t) / (1 - b1**t)
                states = [self.state[p] for p in params]
                m, v = ([s[key] for s in states] for key in ("exp_avg", "exp_avg_sq"))
                g = [p.grad for p in params]
                fast = not self.written_out and all(map(fits_kernel, params, g))
                (call_kernel if fast else write_out)(group, a, scale, params, g, m, v)
                if group["weight_decay"]:
                    # not p *= 1 - lr wd: that factor, in fp32, drifts by 1e-6 within 50 steps
                    torch._foreach_add_(params, params, alpha=-group["lr"] * group["weight_decay"])
        return loss

    def count(self, p: nn.Parameter) -> int:
        """p's step t, this one included; makes its state at the first."""
        state = self.state[p]
        if not state:
            dtype = torch.promote_types(p.dtype, torch.float32)
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(p, dtype=dtype)
            state["exp_avg_sq"] = torch.zeros_like(p, dtype=dtype)
        state["step"] += 1
        return state["step"]


Tensors = list[Tensor]


def write_out(
    group: dict[str, Any], a: float, scale: float | Tensor,
    p: Tensors, g: Tensors, m: Tensors, v: Tensors,
) -> None:  # fmt: skip
    """The equations of the class, over lists of tensors at once; `a` is the corrected rate."""
    b1, b2 = group["betas"]
    g = torch._foreach_mul([t.to_dense() if t.is_sparse else t for t in g], scale)
    torch._foreach_mul_(m, b1)
    torch._foreach_add_(m, g, alpha=1 - b1)
    torch._foreach_mul_(v, b2)
    torch._foreach_addcmul_(v, g, g, value=1 - b2)
    # A CPU takes 6 to 30 times as long for the root of 0 or of a denormal number, which is what the
    # embeddings of unseen words have. Below this floor the root vanishes in the rounding of eps.
    d = torch._foreach_clamp_min(v, (group["eps"] * 2**-26) ** 2)
    torch._foreach_sqrt_(d)
    torch._foreach_add_(d, group["eps"])
    torch._foreach_addcdiv_(p, m, d, value=-a)


def fits_kernel(p: Tensor, g: Tensor) -> bool:
    """Whether PyTorch's kernel can read them: it takes all for plain arrays of one type."""
    plain = p.ndim == 2 if g.is_sparse else g.is_contiguous()
    fp32 = p.dtype == g.dtype == torch.float32  # in fp64 it would still round the scale to fp32
    return p.device.type == "cpu" and fp32 and p.is_contiguous() and plain


def call_kernel(
    group: dict[str, Any], a: float, scale: float | Tensor,
    p: Tensors, g: Tensors, m: Tensors, v: Tensors,
) -> None:  # fmt: skip
    """What write_out computes; an embedding with a sparse gradient block by block."""
    b1, b2 = group["betas"]
    options: dict[str, Any] = dict(
        lr=a, beta1=b1, beta2=b2, eps=group["eps"], weight_decay=0.0, amsgrad=False, maximize=False
    )
    if isinstance(scale, Tensor) or scale != 1:
        options["grad_scale"] = torch.as_tensor(1 / scale)

    def update(*lists: Tensors) -> None:
        torch._fused_adamw_(*lists, [], [NO_CORRECTION] * len(lists[0]), **options)

    dense = [row for row in zip(p, g, m, v, strict=True) if not row[1].is_sparse]
    if dense:
        update(*map(list, zip(*dense, strict=True)))
    for table, rows, first, second in zip(p, g, m, v, strict=True):
        if rows.is_sparse:
            for part, block in row_blocks(table, rows):
                update([table[part]], [block], [first[part]], [second[part]])


def row_blocks(p: Tensor, g: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Some rows of p at a time and their part of the sparse g as a dense matrix.

    The dense matrix of one block stays in the CPU's cache; that of all rows would be as large as p.
    """
    g = g.coalesce()
    places, values = g.indices()[0], g.values()
    height = max(1, BLOCK // max(1, p.shape[1]))
    starts = range(0, len(p), height)
    cuts = torch.searchsorted(places, torch.tensor([*starts, len(p)])).tolist()
    dense = p.new_empty(height, p.shape[1])
    for start, first, last in zip(starts, cuts, cuts[1:], strict=False):
        block = dense[: len(p) - start].zero_()
        block.index_copy_(0, places[first:last] - start, values[first:last])
        yield slice(start, start + height), block


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
