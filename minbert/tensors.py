"""Files of tensors: safetensors, and what torch.save wrote; damage is a UserError."""

import pickle
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from minbert.errors import UserError, first_line
from minbert.manifest import check_content

# how files of torch.save begin: a zip archive, or before PyTorch 1.6 a pickled number
TORCH_SAVE = (b"PK\x03\x04", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.")


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Return a safetensors file's tensors by name. Raises UserError if it is damaged or missing.

    They are copies, in memory as PyTorch allocates it: where a tensor begins in the file depends on
    the length of its header, and products round otherwise where memory is aligned otherwise.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    check_content(path)
    try:
        return {name: tensor.clone() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: damaged or cut short ({first_line(error)}); fetch it again"
        ) from error


def load_pickled(path: Path) -> Any:
    """Return what torch.save wrote; code in the file is never run.

    Raises UserError if it is damaged or holds more than tensors in plain containers. What does
    not begin as such a file is not tried: its bytes, read as a length, could ask for all memory.
    """
    check_content(path)
    with path.open("rb") as file:
        if not file.read(16).startswith(TORCH_SAVE):
            raise UserError(f"{path}: not a file of torch.save, or damaged; fetch it again")
    try:
        with warnings.catch_warnings():  # about old formats; damage raises, below
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: holds more than tensors and is not loaded (it could run code)"
        ) from error
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to say
        raise UserError(
            f"{path}: damaged or cut short ({first_line(error)}); fetch it again"
        ) from error


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors, with the metadata that transformers requires.

    A tensor that several names share is written once for each.
    """
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    places = Counter(t.untyped_storage().data_ptr() for t in plain.values())
    shared = {name for name, t in plain.items() if places[t.untyped_storage().data_ptr()] > 1}
    plain |= {name: plain[name].clone() for name in shared}
    path.touch()
    permissions = path.stat().st_mode  # as the user wants new files
    try:
        save_file(plain, path, metadata={"format": "pt"})
    except SafetensorError as error:  # what the library makes of a full disk
        raise UserError(f"{path}: cannot be written ({first_line(error)})") from error
    path.chmod(permissions)  # the library makes files that nobody else can read
