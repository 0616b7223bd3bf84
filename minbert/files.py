"""Reading and writing files: one is written completely or not at all, damage is a UserError."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from minbert.errors import UserError

MANIFEST = (
    "manifest.json"  # sizes and hashes of a directory's files; written last, so all are there
)


def write_text(path: Path, text: str) -> None:
    """Replace a file's text; kill -9 or a power cut at any moment leaves the old text or the new.

    The new text is written to a file beside it, forced to the disk and renamed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")  # another process may write it, too
    try:
        new.write_text(text, encoding="utf-8")
        flush_to_disk(new)
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)
    flush_to_disk(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Replace a file's content by a value as JSON, as safely as `write_text`."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """Return the value of a JSON file. Raises UserError if it is missing or damaged."""
    try:
        check_content(path)
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
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
    check_content(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: damaged or cut short ({first_line(error)}); fetch it again"
        ) from error


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors, with the metadata that transformers requires."""
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    try:
        save_file(plain, path, metadata={"format": "pt"})
    except SafetensorError as error:  # what the library makes of a full disk
        raise UserError(f"{path}: cannot be written ({first_line(error)})") from error
    path.chmod(0o666 & ~umask())  # the library makes files that nobody else can read


def umask() -> int:
    """Return the permissions that the user keeps from new files."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def first_line(error: Exception) -> str:
    """Return the beginning of an exception's message, or its type if it has none."""
    return (str(error) or type(error).__name__).splitlines()[0][:120]


def sha256_of(path: Path) -> str:
    """Return the hash of a file of any size, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(directory: Path) -> None:
    """Write the sizes and hashes of a directory's files, and force all of them to the disk.

    A file is hashed while another one is being written, which takes longer.
    """
    files = sorted(directory.iterdir())
    with ThreadPoolExecutor(2) as pool:
        hashes = pool.map(sha256_of, files)
        flushed = pool.map(flush_to_disk, files)
        entries = {
            file.name: {"size": file.stat().st_size, "sha256": digest}
            for file, digest in zip(files, hashes, strict=True)
        }
        list(flushed)
    (directory / MANIFEST).write_text(json.dumps(entries, indent=1), encoding="utf-8")
    flush_to_disk(directory / MANIFEST)
    flush_to_disk(directory)


def read_manifest(directory: Path) -> dict[str, tuple[int, str]]:
    """Return size and hash of each file that a manifest lists; before 2026-12 it had no hashes.

    Raises UserError for a manifest that is missing or damaged.
    """
    try:
        entries = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        return {name: parse_entry(entry) for name, entry in entries.items()}
    except (OSError, ArithmeticError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise UserError(
            f"{directory}: no readable {MANIFEST}: not a finished checkpoint"
        ) from error


def parse_entry(entry: Any) -> tuple[int, str]:
    """Return size and hash of a manifest's entry, which was a size alone before 2026-12."""
    size, digest = (entry, "") if isinstance(entry, int) else (entry["size"], entry["sha256"])
    return int(size), str(digest)


def has_all_files(directory: Path) -> bool:
    """Return whether all files of a directory's manifest are there with their sizes."""
    try:
        entries = read_manifest(directory)
    except UserError:
        return False
    files = ((directory / name, size) for name, (size, _) in entries.items())
    return all(file.is_file() and file.stat().st_size == size for file, size in files)


def whole_directory_of(path: Path) -> Path:
    """Return a saved directory, or the complete one beside it that a power cut left to replace it.

    That is `<name>.new` or `<name>.old`. Nothing is changed: a trainer may be writing.
    """
    beside = (path.with_name(f"{path.name}.{ending}") for ending in ("new", "old"))
    return next((p for p in (path, *beside) if has_all_files(p)), path)


def check_content(path: Path) -> None:
    """Raise UserError if a manifest beside the file has another hash for it."""
    if (path.parent / MANIFEST).is_file():
        _, digest = read_manifest(path.parent).get(path.name, (0, ""))
        if digest and sha256_of(path) != digest:
            raise UserError(
                f"{path}: damaged: its content is not what was saved; --model with the run's other "
                f"checkpoint starts anew from it"
            )


def flush_to_disk(path: Path) -> None:
    """Force a file or directory to the disk; a rename could otherwise get there before the data."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
