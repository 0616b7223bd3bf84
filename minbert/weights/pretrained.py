"""The files of an encoder: config.json and tensors, read in any naming, written as published."""

import json
import pickle
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from minbert.config import BertConfig
from minbert.errors import UserError
from minbert.files import first_line, load_tensors, save_tensors
from minbert.weights.convert import convert, to_ours

POOLER = "pooler_dense."


def read_tensors(directory: Path) -> tuple[dict[str, Tensor], Path]:
    """Return a directory's tensors and their file: model.safetensors, else pytorch_model.bin.

    Code in the file is never run. Raises UserError for a file that is missing, damaged or holds
    more than tensors.
    """
    path = directory / "model.safetensors"
    if path.is_file():
        return load_tensors(path), path
    path = directory / "pytorch_model.bin"
    try:
        if path.is_file():
            return torch.load(path, map_location="cpu", weights_only=True), path
    except (EOFError, RuntimeError, OSError) as error:
        raise UserError(
            f"{path}: damaged or cut short ({first_line(error)}); fetch it again"
        ) from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: holds more than tensors and is not loaded (it could run code)"
        ) from error
    raise UserError(f"{directory}: neither model.safetensors nor pytorch_model.bin is there")


def read_encoder(
    directory: Path, config: BertConfig, expected: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return the encoder's tensors by our names, in fp32, checked against the `expected` shapes.

    Raises UserError for a damaged file, and for parameters as `convert` does.
    """
    tensors, path = read_tensors(directory)
    pooler = {} if any(to_ours(name).startswith(POOLER) for name in tensors) else new_pooler(config)
    state = convert(tensors | pooler, expected, str(path))
    if pooler:
        print(f"{path}: no pooler in it; a new one is made, to be trained", file=sys.stderr)
    return {name: tensor.float().contiguous() for name, tensor in state.items()}


def new_pooler(config: BertConfig) -> dict[str, Tensor]:
    """Return a random pooler, by our names.

    transformers saves models without one for masked words, tokens and answers.
    """
    weight = torch.empty(config.hidden_size, config.hidden_size)
    nn.init.normal_(weight, std=config.initializer_range)
    return {f"{POOLER}weight": weight, f"{POOLER}bias": torch.zeros(config.hidden_size)}


def write_pretrained(
    directory: Path, config: BertConfig, tensors: dict[str, Tensor], architecture: str
) -> None:
    """Write config.json and model.safetensors.

    tensors: by published names. architecture: the class of transformers that loads them.
    """
    directory.mkdir(parents=True, exist_ok=True)
    values = config.to_dict() | {"architectures": [architecture]}
    (directory / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    save_tensors(tensors, directory / "model.safetensors")
