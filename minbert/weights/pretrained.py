"""Files -> an initialised encoder, and back."""

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from minbert.config import BertConfig
from minbert.errors import UserError
from minbert.model.encoder import BertModel
from minbert.weights.convert import convert, to_ours, to_published
from minbert.weights.resolve import resolve

POOLER = "pooler_dense."


def read_tensors(directory: Path) -> tuple[dict[str, Tensor], Path]:
    """model.safetensors, else pytorch_model.bin (tensors only, never code)."""
    path = directory / "model.safetensors"
    if path.is_file():
        return load_tensors(path), path
    path = directory / "pytorch_model.bin"
    try:
        if path.is_file():
            return torch.load(path, map_location="cpu", weights_only=True), path
    except (EOFError, RuntimeError, OSError) as error:
        raise UserError(
            f"{path}: damaged or cut short ({_first_line(error)}); fetch it again"
        ) from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: holds more than tensors and is not loaded (it could run code)"
        ) from error
    raise UserError(f"{directory}: neither model.safetensors nor pytorch_model.bin is there")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:120]


def load_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file; a damaged one is a UserError."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: damaged or cut short ({_first_line(error)}); fetch it again"
        ) from error


class NoInitialisation(TorchFunctionMode):
    """Without torch.nn.init, whose functions make a meta tensor wait for 1.5 s of imports."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def load_encoder(name_or_dir: str | Path, **changes: Any) -> BertModel:
    """The encoder in eval mode, fp32. `changes` replace config fields (the dropouts, say).

    Raises UserError: model not found, unknown / missing / misshapen parameters, a damaged file.
    """
    directory = resolve(name_or_dir)
    config = BertConfig.from_file(directory / "config.json")
    config = BertConfig.from_dict({**config.to_dict(), **changes})
    with torch.device("meta"), NoInitialisation():  # the weights would overwrite it at once
        model = BertModel(config)
    tensors, path = read_tensors(directory)
    pooler = {} if any(to_ours(name).startswith(POOLER) for name in tensors) else new_pooler(config)
    state = convert(tensors | pooler, model.state_dict(), str(path))
    if pooler:
        print(f"{path}: no pooler in it; a new one is made, to be trained", file=sys.stderr)
    model.load_state_dict({k: v.float().contiguous() for k, v in state.items()}, assign=True)
    return model.eval()


def new_pooler(config: BertConfig) -> dict[str, Tensor]:
    """For what transformers saves of a model that has none: for masked words, answers or tokens."""
    weight = torch.empty(config.hidden_size, config.hidden_size)
    nn.init.normal_(weight, std=config.initializer_range)
    return {f"{POOLER}weight": weight, f"{POOLER}bias": torch.zeros(config.hidden_size)}


def save_encoder(model: BertModel, directory: Path) -> None:
    """config.json and model.safetensors in the published naming, as AutoModel reads them."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(model.config.to_dict(), indent=2) + "\n")
    tensors = {
        to_published(k): v.detach().cpu().contiguous() for k, v in model.state_dict().items()
    }
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
