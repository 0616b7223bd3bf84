"""Which weight decay and which learning rate each of BERT's parameters has."""

import re
from typing import Any

from torch import nn


def parameter_groups(
    model: nn.Module, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Return groups: matrices with weight decay, biases and norms without, by learning rate.

    `rate`, to be multiplied by the run's, is layer_decay^d for a layer d below the top one, with
    the embeddings below them all; heads and pooler have d = 0 (Sun et al., 2019).
    """
    numbers = [layer_of(name) for name, _ in model.named_parameters()]
    layers = 1 + max((number for number in numbers if number is not None), default=-1)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, p in model.named_parameters():  # a shared tensor is listed once
        if p.requires_grad:
            layer = layer_of(name)
            below = 0 if layer is None else layers - 1 - layer
            groups.setdefault((layer_decay**below, p.ndim >= 2), []).append(p)
    return [
        {"params": params, "weight_decay": weight_decay if matrix else 0.0, "rate": rate}
        for (rate, matrix), params in groups.items()
    ]


def layer_of(name: str) -> int | None:
    """Return the layer of an encoder's parameter, -1 for embeddings; None for what is above it."""
    if match := re.search(r"bert_layers\.(\d+)\.", name):
        return int(match[1])
    is_head = name.startswith("heads.")  # whose task may be called anything
    return -1 if "embed" in name and not is_head else None
