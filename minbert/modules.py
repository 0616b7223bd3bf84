"""For any nn.Module: build it without values, compare two, and evaluate one for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from minbert.errors import UserError

CONSTANTS = ("eps", "num_heads")  # of a module, which outputs depend on


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
    """Give new modules parameters without values, for which no random number is drawn."""
    with torch.device("meta"), NoInitialisation():
        yield


def traits(model: nn.Module) -> dict[str, Any]:
    """Return the shapes of a model's parameters, and its modules' constants, by name."""
    found: dict[str, Any] = {
        name: tuple(x.shape) if isinstance(x, Tensor) else x  # a quantized module has its dtype
        for name, x in model.state_dict().items()
    }
    for name, module in model.named_modules(remove_duplicate=False):
        own = {f"{name}.{key}": getattr(module, key, None) for key in CONSTANTS}
        found |= {key: value for key, value in own.items() if value is not None}
    return found


def check_same_form(
    model: nn.Module, expected: nn.Module, ignored_prefixes: tuple[str, ...] = ()
) -> None:
    """Raise UserError for a model whose files could not be loaded into `expected`."""
    if difference := find_difference(model, expected, ignored_prefixes):
        raise UserError(f"cannot save a model whose {difference}; torch.save keeps any model")


def find_difference(
    model: nn.Module, expected: nn.Module, ignored_prefixes: tuple[str, ...] = ()
) -> str:
    """Return how a model's form differs from that of `expected`; "" if it does not.

    Constants are compared where both models have them, as a module that replaces another may not.
    ignored_prefixes: prefixes of names that are not compared.
    """
    ours, theirs = traits(model), traits(expected)
    for name in theirs | ours:
        if name.rpartition(".")[2] in CONSTANTS and not (name in ours and name in theirs):
            continue
        has, expects = ours.get(name, "missing"), theirs.get(name, "nothing")
        if has != expects and not name.startswith(ignored_prefixes):
            return f"{name} is {has}, where its config makes {expects}"
    return ""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch a model to evaluation; then give each of its modules back the mode that it had.

    A model in training mode is evaluated in one thread at a time: the first to end would switch it
    back under the others.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
