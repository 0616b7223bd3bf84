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

from minbert import kernels

# Elements updated at once: p, g, m, v and what is computed of them stay in a core's cache, so that
# each is read from memory once and not by every line of the equations.
BLOCK = 1 << 18
Tensors = list[Tensor]
# p, g, m, v of some parameters, or of a part of one.
Block = tuple[Tensors, Tensors, Tensors, Tensors]


class AdamW(torch.optim.Optimizer):
    """Update p at step t, with gradient g:

        m = b1 m + (1 - b1) g
        v = b2 v + (1 - b2) g^2
        a = lr sqrt(1 - b2^t) / (1 - b1^t)    (a = lr without correct_bias)
        p = p - a m / (sqrt(v) + eps)
        p = p - lr weight_decay p

    Both corrections of the bias are in a: the form at the end of section 2 of Kingma and Ba (2015),
    whose eps is that of their Algorithm 1 times sqrt(1 - b2^t). The decay of the weights is apart
    from the gradient, as in Loshchilov and Hutter (2019).

    Parameters without a gradient keep their value and state. State is fp32 at least. A sparse
    gradient (rows of an embedding) acts like the dense one; rows that never had one have m = v = 0,
    and without weight decay nothing is computed for them.

    kernels: "torch" lets PyTorch's kernel compute what comes before the weight decay, where it can
    read the tensors; any other value `adamw_equations` below.
    """

    # PyTorch wraps some methods for torch.compile, which the first call imports: 1.4 s.
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        correct_bias: bool = True,
        kernels: str = "minbert",
    ) -> None:
        if lr < 0 or eps < 0 or weight_decay < 0 or not all(0 <= b < 1 for b in betas):
            raise ValueError(
                f"AdamW: lr {lr}, betas {betas}, eps {eps}, weight_decay {weight_decay}"
            )
        defaults = dict(
            lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, correct_bias=correct_bias
        )
        super().__init__(params, defaults)
        self.kernels = kernels
        # for a matrix with sparse gradients: its first moment, by which a loaded state is told from
        # an old one, and which rows a gradient has reached, (rows,) bool
        self.seen: dict[Tensor, tuple[Tensor, Tensor]] = {}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take some more parameters. Raises ValueError as `check_group` does."""
        inspect.unwrap(torch.optim.Optimizer.add_param_group)(self, param_group)
        group = self.param_groups.pop()  # and back, once it is checked
        check_group(group)
        self.param_groups.append(group)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickle keeps: the choice of kernels too."""
        return {**super().__getstate__(), "kernels": self.kernels}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take a copy's or a state_dict's content, also that of torch.optim.AdamW.

        Raises ValueError as `check_group` does.
        """
        for group in state["param_groups"]:
            check_group(group)
        super().__setstate__({"kernels": getattr(self, "kernels", "minbert"), **state})
        self.seen = {}
        for group in self.param_groups:
            for name, default in self.defaults.items():
                group.setdefault(name, default)
        for values in self.state.values():
            if "step" in values:
                values["step"] = int(values["step"])  # a tensor in torch.optim.AdamW's

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned; moments are fp32 at least, whatever p is."""
        inspect.unwrap(torch.optim.Optimizer.load_state_dict)(self, state_dict)
        numbers = (i for group in state_dict["param_groups"] for i in group["params"])
        params = (p for group in self.param_groups for p in group["params"])
        for i, p in zip(numbers, params, strict=True):
            for name, value in state_dict["state"].get(i, {}).items():
                if name != "step":
                    dtype = torch.promote_types(value.dtype, torch.float32)
                    self.state[p][name] = value.to(p.device, dtype, copy=True)

    @torch.no_grad()
    def step(
        self, closure: Callable[[], Tensor] | None = None, scale: float | Tensor = 1.0
    ) -> Tensor | None:
        """Update every parameter that has a gradient; g is p.grad times `scale`.

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
                    buckets[self.begin_step(p)].append(p)
            for t, params in buckets.items():
                a = corrected_rate(group, t)
                for p, g, m, v in self.blocks(params, bool(group["weight_decay"])):
                    fast = self.kernels == "torch" and all(map(kernels.fits_adamw, p, g))
                    update = kernels.adamw if fast else adamw_equations
                    update(p, g, m, v, a, group["betas"], group["eps"], scale)
                    if group["weight_decay"]:
                        # not p *= 1 - lr wd: that factor drifts in fp32 by 1e-6 within 50 steps
                        decay = float(group["lr"]) * group["weight_decay"]
                        torch._foreach_add_(p, p, alpha=-decay)
        return loss

    def begin_step(self, p: nn.Parameter) -> int:
        """Count one more step of p and return the count, t; at the first, make its state."""
        state = self.state[p]
        if "step" not in state:  # the state may have a mean of the weights, see averaging.py
            dtype = torch.promote_types(p.dtype, torch.float32)
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(p, dtype=dtype)
            state["exp_avg_sq"] = torch.zeros_like(p, dtype=dtype)
        state["step"] += 1
        return state["step"]

    def mark_seen_rows(self, p: nn.Parameter) -> Tensor:
        """Mark the rows of p's sparse gradient; return all rows marked so far, ascending."""
        m, v = self.state[p]["exp_avg"], self.state[p]["exp_avg_sq"]
        if p not in self.seen or self.seen[p][0] is not m:  # the state was made or loaded just now
            self.seen[p] = m, m.flatten(1).any(1) | v.flatten(1).any(1)
        seen = self.seen[p][1]
        seen[p.grad.indices()[0]] = True
        return seen.nonzero().squeeze(1)

    def blocks(self, params: Iterable[nn.Parameter], all_rows: bool) -> Iterator[Block]:
        """Cut parameters, gradients and states into blocks; small parameters share one.

        On a GPU all share one: there each further block costs a dozen kernel launches and gains
        no cache. all_rows: of a matrix with a sparse gradient, also rows that it has not reached.
        """
        small: Block = ([], [], [], [])
        for p in params:
            tensors = (p, p.grad, self.state[p]["exp_avg"], self.state[p]["exp_avg_sq"])
            if p.grad.is_sparse:
                if p.grad.sparse_dim() == 1 and p.ndim > 1:
                    p.grad = p.grad.coalesce()
                    rows = self.mark_seen_rows(p)
                    rows = torch.arange(len(p), device=p.device) if all_rows else rows
                    yield from row_blocks(p, p.grad, *tensors[2:], rows)
                    continue
                tensors = (p, p.grad.to_dense(), *tensors[2:])
            self.seen.pop(p, None)  # every row may have moments now
            is_large = p.numel() > BLOCK and p.device.type == "cpu"
            if is_large and all(t.is_contiguous() for t in tensors):
                parts = (t.view(-1).split(BLOCK) for t in tensors)
                yield from (tuple([part] for part in row) for row in zip(*parts, strict=True))
            else:
                for tensor, column in zip(tensors, small, strict=True):
                    column.append(tensor)
        if small[0]:
            yield small


def check_group(group: dict[str, Any]) -> None:
    """Raise ValueError for complex parameters, and for what only torch.optim.AdamW computes."""
    if any(p.is_complex() for p in group["params"]):
        raise ValueError("AdamW: complex parameters; give it torch.view_as_real of them")
    for option in ("amsgrad", "maximize"):
        if group.get(option):
            raise ValueError(f"AdamW: a parameter group has {option}=True, which is not supported")


def corrected_rate(group: dict[str, Any], t: int) -> float:
    """Return a of step t: the learning rate, corrected for m and v that start at zero."""
    lr = float(group["lr"])  # which may be a tensor that a scheduler changes
    if not group["correct_bias"]:
        return lr
    b1, b2 = group["betas"]
    return lr * math.sqrt(1 - b2**t) / (1 - b1**t)


def adamw_equations(
    p: Tensors, g: Tensors, m: Tensors, v: Tensors, a: float, betas: tuple[float, float],
    eps: float, scale: float | Tensor,
) -> None:  # fmt: skip
    """Compute the class's equations, over lists of tensors at once; `a` is the corrected rate."""
    b1, b2 = betas
    if isinstance(scale, Tensor):  # on a GPU: a number would have to be waited for
        g, scale = torch._foreach_mul(g, scale), 1.0
    torch._foreach_mul_(m, b1)
    torch._foreach_add_(m, g, alpha=(1 - b1) * scale)
    torch._foreach_mul_(v, b2)
    torch._foreach_addcmul_(v, g, g, value=(1 - b2) * scale**2)
    # A CPU takes 6 to 30 times as long for the root of 0 or of a denormal number, which is what the
    # embeddings of unseen words have. Below this floor the root vanishes in fp32's rounding of eps.
    d = torch._foreach_clamp_min(v, (eps * 2**-26) ** 2)
    torch._foreach_sqrt_(d)
    torch._foreach_add_(d, eps)
    torch._foreach_addcdiv_(p, m, d, value=-a)


def row_blocks(p: Tensor, g: Tensor, m: Tensor, v: Tensor, rows: Tensor) -> Iterator[Block]:
    """Cut rows of a matrix, in ascending order, into blocks, with what a sparse g has for them.

    Consecutive rows are yielded as views. Others are yielded as copies, which are written back when
    the next block is asked for.
    """
    if not len(rows):
        return
    places, values = g.indices()[0], g.values()
    for block in rows.split(max(1, BLOCK // max(1, p[0].numel()))):
        first, last = int(block[0]), int(block[-1])
        start, end = torch.searchsorted(places, places.new_tensor([first, last + 1])).tolist()
        gradient = values.new_zeros(len(block), *values.shape[1:])
        gradient[torch.searchsorted(block, places[start:end])] = values[start:end]
        if last - first + 1 == len(block):
            yield [p[first : last + 1]], [gradient], [m[first : last + 1]], [v[first : last + 1]]
        else:
            copies = [t.index_select(0, block) for t in (p, m, v)]
            yield [copies[0]], [gradient], [copies[1]], [copies[2]]
            for t, copy in zip((p, m, v), copies, strict=True):
                t.index_copy_(0, block, copy)


def clip_scale(parameters: Iterable[Tensor], max_norm: float) -> float | Tensor:
    """Return min(1, max_norm / (norm + 1e-6)), norm: that of all gradients (Pascanu et al., 2013).

    What torch.nn.utils.clip_grad_norm_ multiplies by, without its pass over memory. On a GPU it is
    a tensor there, so that nothing waits for it. max_norm 0: no limit. Coalesces sparse gradients.
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
