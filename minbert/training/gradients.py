"""The gradients of several tasks in one step: how much they conflict, and one direction for all."""

from collections.abc import Iterable
from itertools import combinations

import numpy as np
import torch
from torch import Tensor, nn

SMALL = 1e-30  # instead of a norm of 0


class TaskGradients:
    """The gradients of the parameters that tasks share, a vector for each task."""

    def __init__(self, shared: Iterable[nn.Parameter]) -> None:
        self.shared = list(shared)
        self.reached: set[int] = set()  # places of the parameters that some task has a gradient of
        self.by_task: dict[str, Tensor] = {}

    def take(self, task: str) -> None:
        """Keep the gradients of a task's backward pass, and leave the parameters without."""
        parts = []
        for place, p in enumerate(self.shared):
            if p.grad is not None:
                self.reached.add(place)
            parts.append((torch.zeros_like(p) if p.grad is None else p.grad).flatten())
            p.grad = None
        self.by_task[task] = torch.cat(parts)

    def put(self, combine: str, seed: list[int]) -> None:
        """Give the parameters the tasks' gradients, combined: "sum", or "pcgrad" (projected)."""
        project = combine == "pcgrad"
        total = projected_sum(self.by_task, seed) if project else sum(self.by_task.values())
        parts = total.split([p.numel() for p in self.shared])
        for place, (p, part) in enumerate(zip(self.shared, parts, strict=True)):
            p.grad = part.view_as(p) if place in self.reached else None


def cosines(gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the cosine, (), of each two tasks' gradients by their names; below 0 they conflict.

    It is 0 where one of them is 0, as of a batch without a loss.
    """
    norms = {task: dot(g, g).sqrt().clamp(min=SMALL) for task, g in gradients.items()}
    return {
        # one after the other: the product of two small norms would be 0
        f"{a} {b}": dot(gradients[a], gradients[b]) / norms[a] / norms[b]
        for a, b in combinations(gradients, 2)
    }


def projected_sum(gradients: dict[str, Tensor], seed: list[int]) -> Tensor:
    """Return the sum of gradients, each without its part against the others (Yu et al., 2020).

    PCGrad: g_i -= min(0, g_i . g_j) / |g_j|^2 g_j for the other tasks j in random order, where g_j
    is the gradient before any projection. Nothing waits for a GPU.
    """
    rng, parts = np.random.default_rng(seed), []
    for name, gradient in gradients.items():
        others = [g for other, g in gradients.items() if other != name]
        projected = gradient.clone()
        for place in rng.permutation(len(others)):
            g = others[place]
            projected -= dot(projected, g).clamp(max=0) / dot(g, g).clamp(min=SMALL) * g
        parts.append(projected)
    return torch.stack(parts).sum(0)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the dot product, (), of two vectors as long as an encoder has weights.

    Not by `@` and norm(), which on a CPU add one number after the other: of 10^8 equally large ones
    they lose 1 % in fp32, where sum() adds in pairs.
    """
    return (a * b).sum()
