"""Directories that are whole or not there: what is saved survives kill -9 at any moment."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from minbert.errors import UserError

MANIFEST = "manifest.json"  # file sizes; written last, so its presence means the rest is whole


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yields an empty directory to fill; it replaces `path` only when all went well."""
    new, old = _beside(path, "new"), _beside(path, "old")
    recover(path)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    yield new
    files = sorted(new.iterdir())
    (new / MANIFEST).write_text(json.dumps({f.name: f.stat().st_size for f in files}, indent=1))
    for file in (*files, new / MANIFEST, new):
        _to_disk(file)
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(path, old)
    os.replace(new, path)
    _to_disk(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _to_disk(path: Path) -> None:
    """To the disk now: a rename that gets there before its data is lost by a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")


def recover(path: Path) -> None:
    """Finish a swap cut between its renames: a whole directory beside takes the place."""
    for candidate in (_beside(path, "new"), _beside(path, "old")):
        if not path.exists() and (candidate / MANIFEST).is_file():
            os.replace(candidate, path)


def is_whole(directory: Path) -> bool:
    """False when nothing was saved yet. Raises UserError when what was saved is damaged."""
    recover(directory)
    if not directory.exists():
        return False
    check_manifest(directory)
    return True


def check_manifest(directory: Path) -> None:
    """Raises UserError when a file listed in the manifest is missing or has another size."""
    try:
        sizes = json.loads((directory / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{directory}: no readable {MANIFEST}: not a finished checkpoint"
        ) from error
    for name, size in sizes.items():
        file = directory / name
        if not file.is_file() or file.stat().st_size != size:
            raise UserError(
                f"{file}: missing or cut short (expected {size} bytes); --model with the run's "
                f"other checkpoint starts anew from it"
            )


def save_training_state(
    directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """optimizer.safetensors (moments by parameter name) and state.json (numbers and text)."""
    tensors, steps = {}, {}
    for name, p in model.named_parameters():
        for key, value in optimizer.state.get(p, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{key}/{name}"] = value.detach().cpu().contiguous()
            else:
                steps[name] = value
    save_file(tensors, directory / "optimizer.safetensors")
    (directory / "state.json").write_text(json.dumps({**state, "optimizer_steps": steps}, indent=1))


def load_training_state(
    directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Put the moments back and return the numbers and text; the model is loaded before."""
    tensors = load_tensors(directory / "optimizer.safetensors")
    state = json.loads((directory / "state.json").read_text())
    params = dict(model.named_parameters())
    for name, step in state.pop("optimizer_steps").items():
        optimizer.state[params[name]]["step"] = step
    for name, tensor in tensors.items():
        key, parameter = name.split("/", 1)
        p = params[parameter]
        optimizer.state[p][key] = tensor.to(p.device)
    return state


def load_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file; a damaged or missing one is a UserError."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged or missing ({str(error)[:100]})") from error
