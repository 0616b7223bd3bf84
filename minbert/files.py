"""Reading and writing files: one is written completely or not at all, damage is a UserError."""

import glob
import json
import os
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from minbert.errors import UserError
from minbert.manifest import check_content, flush_to_disk, named_in_errors, sha256_of

HOST = re.sub(r"\W", "-", socket.gethostname())  # a process has its number on one machine alone
HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


@contextmanager
def replaced_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write that takes the place of `path` at the end, but not after an error.

    kill -9 or a power cut at any moment leaves the old file or the new: that is written beside it,
    forced to the disk and renamed. A link stays, and the file that it names is replaced; what is no
    file, as a pipe or /dev/null, is written to. Raises IsADirectoryError for a folder.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    path = Path(os.path.realpath(path))  # after that: a pipe's, as /dev/fd/63, is no path
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left(path.parent.glob(f"{glob.escape(path.name)}.{HOST}.*.new"))
    # another process may write it, too, perhaps on another machine with the same disk
    new = path.with_name(f"{path.name}.{HOST}.{os.getpid()}.new")
    try:
        try:
            with named_in_errors(path), new.open("wb") as file:
                yield file
            flush_to_disk(new)
            os.replace(new, path)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        if error.filename == str(new):  # as in a folder that may not be written
            error.filename = str(path)
        raise
    flush_to_disk(path.parent)


def finished_name(name: str) -> str:
    """Return the final name of a file that `replaced_file` writes, any other name as it is."""
    return re.sub(r"\.[\w-]+\.\d+\.new$", "", name)


def remove_unfinished(folder: Path) -> None:
    """Remove the files that `replaced_file` began in a folder and a killed process left.

    Those of other machines stay.
    """
    _remove_left(folder.rglob(f"*.{HOST}.*.new"))


def _remove_left(unfinished: Iterable[Path]) -> None:
    """Remove those of these files whose process has ended."""
    for path in unfinished:
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


def check_writable(folder: Path, flag: str) -> None:
    """Raise UserError for a folder that nothing can be written to, or that cannot be made.

    flag: that names the folder, for the message.
    """
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not (place.is_dir() and os.access(place, os.W_OK)):
        raise UserError(f"{folder}: cannot be written; {flag} DIR names another folder")


def write_hash(path: Path) -> None:
    """Write a file's hash beside it."""
    write_text(path.with_name(f"{path.name}.sha256"), sha256_of(path))


def has_its_hash(path: Path) -> bool:
    """Return whether a file is there, with the content that `write_hash` saw."""
    hash_file = path.with_name(f"{path.name}.sha256")
    there = path.is_file() and hash_file.is_file()
    return there and sha256_of(path).encode() == hash_file.read_bytes()
