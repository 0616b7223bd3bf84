"""The mean of the weights over the last steps of a run (Izmailov et al., 2018).

It lies in the optimizer's state, beside the moments, and is saved and loaded with them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

MEAN, KEPT = "mean", "kept"  # kept: the weights, while the model has their mean


def averaged_steps(step: int, steps: int, share: float) -> int:
    """Return how many steps the weights' mean is over after `step` of `steps`; 0: there is none.

    share: the last part of the steps that the mean is over; it has one step at least.
    """
    first = min(round(steps * (1 - share)), steps - 1)
    return max(0, step - first) if share else 0


@torch.no_grad()
def add_to_average(optimizer: torch.optim.Optimizer, count: int) -> None:
    """Add the present weights to the mean, as the `count`-th of it, from 1.

    If there is no mean yet, it becomes a copy of the weights, whatever `count` is: a dry run skips
    to late steps. The mean is fp64: a step changes a weight little, and divided by a count of
    hundreds the change would be lost in fp32's rounding.
    """
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    for p in weights:
        state, dtype = optimizer.state[p], mean_dtype(p.device)
        if count == 1 or MEAN not in state:
            state[MEAN] = p.detach().to(dtype, copy=True)
        else:  # an older run's is fp32
            state[MEAN] = state[MEAN].to(dtype).lerp_(p.detach().to(dtype), 1 / count)


def mean_dtype(device: torch.device) -> torch.dtype:
    """Return fp64, or fp32 for a device that has no fp64."""
    return torch.float32 if device.type == "mps" else torch.float64


@contextmanager
def averaged(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Let the model have the mean weights within the block."""
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    try:  # before the copies: Ctrl-C between them must not leave the model with the mean
        for p in weights:
            optimizer.state[p][KEPT] = p.detach().clone()
        with torch.no_grad():
            torch._foreach_copy_(weights, [optimizer.state[p][MEAN] for p in weights])
        yield
    finally:
        put_back(optimizer)


@torch.no_grad()
def put_back(optimizer: torch.optim.Optimizer) -> None:
    """Give the model its own weights if it has their mean.

    Where Ctrl-C has cut it off it can be called again.
    """
    for p, state in optimizer.state.items():
        if KEPT in state:
            p.copy_(state[KEPT])
            del state[KEPT]
