"""Any nn.Module: built without values, and used in evaluation mode for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


class NoInitialisation(TorchFunctionMode):
    """Skip torch.nn.init's functions: the first call on a meta tensor imports modules for 1.5 s."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


@contextmanager
def without_values() -> Iterator[None]:
    """Give new modules the shapes of their parameters alone, and draw no random number for them."""
    with torch.device("meta"), NoInitialisation():
        yield


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch a model to evaluation; then give each of its modules back the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
