"""Reading and writing files: one is written completely or not at all, damage is a UserError."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from minbert.errors import UserError


def write_text(path: Path, text: str) -> None:
    """Replace a file's text; kill -9 or a power cut at any moment leaves the old text or the new.

    The new text is written to a file beside it, forced to the disk and renamed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="utf-8")
    flush_to_disk(new)
    os.replace(new, path)
    flush_to_disk(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Replace a file's content by a value as JSON, as safely as `write_text`."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """Return the value of a JSON file. Raises UserError if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON-lines file, as a run's log.jsonl, which has one a line.

    An unfinished last line, which a power cut leaves behind, is skipped. Raises UserError for
    another line that is not JSON.
    """
    found = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            raise UserError(f"{path}:{number}: damaged, take that line out ({error})") from error
    return found


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Return a safetensors file's tensors by name. Raises UserError if it is damaged or missing."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: damaged or cut short ({first_line(error)}); fetch it again"
        ) from error


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors, with the metadata that transformers requires."""
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    save_file(plain, path, metadata={"format": "pt"})


def first_line(error: Exception) -> str:
    """Return the beginning of an exception's message, or its type if it has none."""
    return (str(error) or type(error).__name__).splitlines()[0][:120]


def sha256_of(path: Path) -> str:
    """Return the hash of a file of any size, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_to_disk(path: Path) -> None:
    """Force a file or directory to the disk; a rename could otherwise get there before the data."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
