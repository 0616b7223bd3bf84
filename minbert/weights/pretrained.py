"""The files of an encoder: config.json and tensors, read in any naming, written as published."""

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from minbert.config import BertConfig
from minbert.errors import DAMAGED, UserError
from minbert.files import read_json
from minbert.tensors import load_pickled, load_tensors, save_tensors
from minbert.weights.convert import PREFIX, convert, to_ours

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
OTHER_FRAMEWORKS = ("tf_model.h5", "flax_model.msgpack", "model.ckpt.index", "rust_model.ot")
LARGEST = 1e18  # of a weight that could be meant: the square of a larger one is infinite
POOLER = "pooler_dense."
HEAD_NAMES = re.compile(r"(classifier|qa_outputs|heads?)\.")  # without PREFIX


def read_tensors(directory: Path) -> tuple[dict[str, Tensor], Path]:
    """Return tensors and their file: model.safetensors, else pytorch_model.bin (never code).

    A file may be in shards, which its index lists. Raises UserError for a file that is damaged,
    holds anything but tensors, or is missing.
    """
    path, files = find_weights(directory)
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= read_file(file)
    return tensors, path


def find_weights(directory: Path) -> tuple[Path, list[Path]]:
    """Return the weights file, or the index of its shards, and a list of the files with tensors.

    Raises UserError if none is there, and for a damaged index.
    """
    for name in WEIGHTS:
        path, index = directory / name, directory / f"{name}.index.json"
        if path.is_file():
            return path, [path]
        if index.is_file():
            return index, [directory / shard for shard in shards_of(index)]
    others = [name for name in OTHER_FRAMEWORKS if (directory / name).is_file()]
    found = f"; {others[0]} is of another framework" if others else ""
    raise UserError(f"{directory}: neither {' nor '.join(WEIGHTS)} is there{found}")


def shards_of(index: Path) -> list[str]:
    """Return the names of the files that an index lists. Raises UserError if it is damaged."""
    values = read_json(index)
    shards = values.get("weight_map") if isinstance(values, dict) else None
    names = list(shards.values()) if isinstance(shards, dict) else [None]
    # a name without a folder in it: nothing outside of the directory is read
    if not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise UserError(f"{index}: not a list of weights by file; fetch it again")
    return sorted({*names})


def read_file(path: Path) -> dict[str, Tensor]:
    """Return the tensors of one file. Raises UserError for one that is damaged or no such file."""
    if path.suffix == ".safetensors":
        return load_tensors(path)
    if not path.is_file():  # a shard, or a name that no file can have
        raise UserError(f"{path}: no such file")
    tensors = load_pickled(path)
    if not isinstance(tensors, dict):
        raise UserError(f"{path}: holds a {type(tensors).__name__}, not tensors by name")
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not is_dense_on_cpu(tensor):
            what = f"a {type(tensor).__name__}, not a dense tensor of numbers"
            if any(isinstance(value, dict) for value in tensors.values()):
                what += "; if the weights are inside of an entry, save them alone"
            raise UserError(f"{path}: {str(name)[:60]!r} is {what}")
    return tensors


def is_dense_on_cpu(value: object) -> bool:
    """Return whether a value is a dense tensor on the CPU."""
    return (
        isinstance(value, Tensor) and value.layout == torch.strided
        and value.device.type == "cpu" and not value.is_quantized
    )  # fmt: skip


def read_encoder(
    directory: Path, config: BertConfig, expected: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return the encoder's tensors by our names, in fp32, checked against the `expected` shapes.

    Raises UserError for a damaged file, and for parameters as `convert` does.
    """
    tensors, path = read_tensors(directory)
    has_pooler = names_a_pooler(tensors)
    wanted = {n: t for n, t in expected.items() if has_pooler or not n.startswith(POOLER)}
    state = convert(tensors, wanted, str(path))
    if not has_pooler:  # made after the shapes are checked: a wrong size might not fit in memory
        state |= new_pooler(config)
        print(f"{path}: no pooler in it; a new one is made", file=sys.stderr)
    if left_out := sorted(name for name in tensors if HEAD_NAMES.match(PREFIX.sub("", name))):
        names = ", ".join(left_out)[:80].encode("unicode_escape").decode()
        print(f"{path}: its head is left out ({names})", file=sys.stderr)
    check_weights(state, path)
    return {name: tensor.float().contiguous() for name, tensor in state.items()}


def names_a_pooler(tensors: Iterable[str]) -> bool:
    """Return whether tensors of these names have BERT's pooler among them."""
    return any(to_ours(name).startswith(POOLER) for name in tensors)


def check_weights(tensors: dict[str, Tensor], path: Path) -> None:
    """Raise UserError for weights that are no floats, or not finite."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise UserError(f"{path}: {name} has the type {tensor.dtype}; weights are floats")
        tensor = tensor.float() if tensor.element_size() == 1 else tensor  # fp8 has no comparison
        if not (tensor.abs() < LARGEST).all():  # false for NaN, too
            raise UserError(f"{path}: {name} is not finite in every entry; {DAMAGED}")


def new_pooler(config: BertConfig) -> dict[str, Tensor]:
    """Return a random pooler, by our names.

    transformers saves models for masked words, token classes and answers without one.
    """
    size = config.hidden_size
    weight = torch.empty(size, size, dtype=torch.float32, device="cpu")
    nn.init.normal_(weight, std=config.initializer_range)
    return {f"{POOLER}weight": weight, f"{POOLER}bias": weight.new_zeros(size)}


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
