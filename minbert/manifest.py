"""Hashes of files, and the manifest by which a saved directory is known to be whole."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from minbert.errors import UserError

# Sizes and hashes of a directory's files. It is written last: with it, all of them are there.
MANIFEST = "manifest.json"
LFS = b"version https://git-lfs"  # how a Git LFS pointer begins, which stands in place of a file
LFS_MESSAGE = "a Git LFS pointer, not the file; run `git lfs pull`"
RENAMED_WITHIN_S = 0.1  # between the two renames that replace a directory


@contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """Put the name of this file into an OSError of the block that has none, as for a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno and not error.filename:
            error.filename = str(path)
        raise


def flush_to_disk(path: Path) -> None:
    """Force a file or directory to the disk; a rename could otherwise get there before the data."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with named_in_errors(path):
            os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """Return the hash of a file of any size, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_by_map(path: Path) -> str:
    """Return the hash of a file that nobody else changes: in two thirds of the time, by a map."""
    if path.stat().st_size == 0:  # of which there is no map
        return sha256_of(path)
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        return hashlib.sha256(content).hexdigest()


def flush_and_hash(path: Path) -> str:
    """Force a file that nobody else changes to the disk; return its hash, made meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        digest = pool.submit(sha256_by_map, path)
        flush_to_disk(path)
        return digest.result()


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
            f"{directory}: no readable {MANIFEST}: not a finished checkpoint; put back a copy"
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


def sibling_of(path: Path, ending: str) -> Path:
    """Return the "new" or the "old" directory beside one that is replaced, or that a link names."""
    path = Path(os.path.realpath(path))
    return path.with_name(f".{path.name}.{ending}")  # hidden: best.old may be a user's copy


def whole_directory_of(path: Path, older: bool = True) -> Path:
    """Return a saved directory, or the complete one beside it that a power cut left to replace it.

    older: if `path` is missing or incomplete, look also for NAME.new and NAME.old, as older runs
    named them. Nothing is renamed: a trainer may be writing.
    """
    places = [sibling_of(path, "new"), sibling_of(path, "old")]
    if older and not has_all_files(path):
        places += [path.with_name(f"{path.name}.{ending}") for ending in ("new", "old")]
    if not (others := [other for other in places if other.is_dir()]):
        return path
    if not has_all_files(path):
        time.sleep(RENAMED_WITHIN_S)  # a trainer that is at it comes to its second rename
    return next((place for place in (path, *others) if has_all_content(place)), path)


def check_content(path: Path) -> None:
    """Raise UserError for a pointer of Git LFS, or if a manifest beside the file has another hash.

    A manifest without the file's name may be another program's, and is none of ours.
    """
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(LFS)) == LFS:
                raise UserError(f"{path}: {LFS_MESSAGE}")
    manifest = path.parent / MANIFEST
    if not manifest.is_file():
        return
    with reading_manifest(path.parent):
        entries = json.loads(manifest.read_text(encoding="utf-8"))
        _, digest = parse_entry(entries[path.name]) if path.name in entries else (0, "")
    if digest and sha256_of(path) != digest:
        raise UserError(
            f"{path}: damaged: its content is not what was saved; put back a copy, or name the "
            f"run's other checkpoint, from which a new run starts by --model"
        )


@contextmanager
def unchanged(files: dict[str, Path]) -> Iterator[dict[str, str]]:
    """Yield the hashes of files that the block reads, by the files' names.

    Raises UserError if one changes meanwhile: what was read would be taken for what it was before.
    """
    hashes = {path: sha256_of(path) for path in files.values()}
    yield {name: hashes[path] for name, path in files.items()}
    check_unchanged(hashes)


def check_unchanged(hashes: dict[Path, str]) -> None:
    """Raise UserError if a file has another hash now."""
    for path, digest in hashes.items():
        if not path.is_file() or sha256_of(path) != digest:
            raise UserError(f"{path}: changed while it was read; give the command again")
