"""Reading and writing files: one is written completely or not at all, damage is a UserError."""

import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, BinaryIO

from minbert.errors import UserError

HOST = re.sub(r"\W", "-", socket.gethostname())  # a process has its number on one machine alone
RENAMED_WITHIN_S = 0.1  # between the two renames that replace a directory
# Sizes and hashes of a directory's files. It is written last: with it, all of them are there.
MANIFEST = "manifest.json"
HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


@contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """Give an error of the block that names no file, as that of a full disk, the name of this."""
    try:
        yield
    except OSError as error:
        if error.errno and not error.filename:
            error.filename = str(path)
        raise


@contextmanager
def replaced_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write that takes the place of `path` at the end, but not after an error.

    kill -9 or a power cut at any moment leaves the old file or the new: that is written beside it,
    forced to the disk and renamed. A link stays, and the file that it names is replaced; what is no
    file, as a pipe or /dev/null, is written to.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not (path.is_file() or path.is_dir()):
        with path.open("wb") as file:
            yield file
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # another process may write it, too, perhaps on another machine with the same disk
    new = path.with_name(f"{path.name}.{HOST}.{os.getpid()}.new")
    try:
        with named_in_errors(path), new.open("wb") as file:
            yield file
        flush_to_disk(new)
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)
    flush_to_disk(path.parent)


def finished_name(name: str) -> str:
    """Return the name of the file that one of `replaced_file` is to replace; others stay."""
    return re.sub(r"\.[\w-]+\.\d+\.new$", "", name)


def remove_unfinished(folder: Path) -> None:
    """Remove the files that `replaced_file` began in a folder and a killed process left.

    Those of other machines stay.
    """
    for path in folder.rglob(f"*.{HOST}.*.new"):
        pid = path.name.removesuffix(".new").rpartition(".")[2]
        if path.is_file() and pid.isdecimal() and not _is_running(int(pid)):
            path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    """Return whether this machine has a process of that number."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def write_text(path: Path, text: str) -> None:
    """Replace a file's text, as safely as `replaced_file`."""
    with replaced_file(path) as file:  # half a surrogate pair is no character of any text
        file.write(text.encode(errors="replace"))


def write_json(path: Path, value: Any) -> None:
    """Replace a file's content by a value as JSON, as safely as `write_text`."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """Return the value of a JSON file. Raises UserError if it is missing or damaged."""
    try:
        check_content(path)
        return parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error


def parse_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises ValueError also for half of a surrogate pair: it is no character, and nothing that it
    stands in could be written or be the name of a file.
    """
    value = json.loads(text)
    if HALF_PAIR.search(text):  # as an escape, perhaps with its other half
        json.dumps(value, ensure_ascii=False).encode()
    return value


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON-lines file, as a run's log.jsonl, which has one a line.

    An unfinished last line, which a power cut leaves behind, is skipped. Raises UserError for
    another line that is not JSON.
    """
    lines = path.read_bytes().split(b"\n")[:-1]
    return [parse_json_line(line, f"{path}:{n}") for n, line in enumerate(lines, start=1)]


def parse_json_line(line: bytes, where: str) -> Any:
    """Return the value of a line of JSON. Raises UserError for a damaged one."""
    try:
        return parse_json(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: damaged, take that line out ({error})") from error


def first_line(error: Exception) -> str:
    """Return the beginning of an exception's message, or its type if it has none."""
    return (str(error) or type(error).__name__).splitlines()[0][:120]


def sha256_of(path: Path) -> str:
    """Return the hash of a file of any size, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_own(path: Path) -> str:
    """Return the hash of a file that nobody else changes: in two thirds of the time, by a map."""
    if path.stat().st_size == 0:  # of which there is no map
        return sha256_of(path)
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        return hashlib.sha256(content).hexdigest()


def flush_and_hash(path: Path) -> str:
    """Force a file that nobody else changes to the disk; return its hash, made meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        digest = pool.submit(sha256_of_own, path)
        flush_to_disk(path)
        return digest.result()


def write_hash(path: Path) -> None:
    """Write a file's hash beside it."""
    write_text(path.with_name(f"{path.name}.sha256"), sha256_of(path))


def has_its_hash(path: Path) -> bool:
    """Return whether a file is there, with the content that `write_hash` saw."""
    hash_file = path.with_name(f"{path.name}.sha256")
    there = path.is_file() and hash_file.is_file()
    return there and sha256_of(path).encode() == hash_file.read_bytes()


def write_manifest(directory: Path) -> None:
    """Write the sizes and hashes of a directory's files, and force all of them to the disk."""
    files = sorted(directory.iterdir())
    with ThreadPoolExecutor(2) as pool:
        hashes = list(pool.map(flush_and_hash, files))
    entries = {
        file.name: {"size": file.stat().st_size, "sha256": digest}
        for file, digest in zip(files, hashes, strict=True)
    }
    (directory / MANIFEST).write_text(json.dumps(entries, indent=1), encoding="utf-8")
    flush_to_disk(directory / MANIFEST)
    flush_to_disk(directory)


@contextmanager
def reading_manifest(directory: Path) -> Iterator[None]:
    """Raise UserError in place of what a missing or damaged manifest raises in the block."""
    try:
        yield
    except (
        OSError, ArithmeticError, ValueError, AttributeError, TypeError, KeyError, RecursionError,
    ) as error:  # fmt: skip
        raise UserError(
            f"{directory}: no readable {MANIFEST}: not a finished checkpoint"
        ) from error


def read_manifest(directory: Path) -> dict[str, tuple[int, str]]:
    """Return size and hash of each file that a manifest lists; the oldest have no hashes.

    Raises UserError for a manifest that is missing or damaged.
    """
    with reading_manifest(directory):
        entries = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        return {name: parse_entry(entry) for name, entry in entries.items()}


def parse_entry(entry: Any) -> tuple[int, str]:
    """Return size and hash of a manifest's entry, which is a size alone in the oldest runs."""
    size, digest = (entry, "") if isinstance(entry, int) else (entry["size"], entry["sha256"])
    return int(size), str(digest)


def unfinished_file(directory: Path) -> tuple[Path, int] | None:
    """Return a file that the manifest lists and its size, if it is missing or has another size.

    Contents are checked when they are read. Raises UserError as `read_manifest`.
    """
    for name, (size, _) in read_manifest(directory).items():
        file = directory / name
        if not file.is_file() or file.stat().st_size != size:
            return file, size
    return None


def has_all_files(directory: Path) -> bool:
    """Return whether a directory has a manifest, and all files of it with their sizes."""
    try:
        return unfinished_file(directory) is None
    except UserError:
        return False


def has_all_content(directory: Path) -> bool:
    """Return whether a directory has all files of its manifest, as they were saved."""
    try:
        return has_all_files(directory) and all(
            not digest or sha256_of(directory / name) == digest
            for name, (_, digest) in read_manifest(directory).items()
        )
    except UserError:
        return False


def beside(path: Path, ending: str) -> Path:
    """Return the "new" or the "old" directory beside one that is replaced, or that a link names."""
    path = Path(os.path.realpath(path))
    return path.with_name(f".{path.name}.{ending}")  # hidden: best.old may be a user's copy


def whole_directory_of(path: Path, older: bool = True) -> Path:
    """Return a saved directory, or the complete one beside it that a power cut left to replace it.

    older: also by its name in older runs, best.old, if `path` is torn or not there. Nothing is
    changed: a trainer may be writing.
    """
    places = [beside(path, "new"), beside(path, "old")]
    if older and not has_all_files(path):
        places += [path.with_name(f"{path.name}.{ending}") for ending in ("new", "old")]
    if not (others := [other for other in places if other.is_dir()]):
        return path
    if not has_all_files(path):
        time.sleep(RENAMED_WITHIN_S)  # a trainer that is at it comes to its second rename
    return next((place for place in (path, *others) if has_all_content(place)), path)


def check_content(path: Path) -> None:
    """Raise UserError if a manifest beside the file has another hash for it.

    A manifest without the file's name may be another program's, and is none of ours.
    """
    manifest = path.parent / MANIFEST
    if not manifest.is_file():
        return
    with reading_manifest(path.parent):
        entries = json.loads(manifest.read_text(encoding="utf-8"))
        _, digest = parse_entry(entries[path.name]) if path.name in entries else (0, "")
    if digest and sha256_of(path) != digest:
        raise UserError(
            f"{path}: damaged: its content is not what was saved; --model with the run's other "
            f"checkpoint starts anew from it"
        )


def flush_to_disk(path: Path) -> None:
    """Force a file or directory to the disk; a rename could otherwise get there before the data."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with named_in_errors(path):
            os.fsync(handle)
    finally:
        os.close(handle)
