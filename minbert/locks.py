"""Locks that the system releases when a process ends, in whatever way."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks: two commands could write the same files
    fcntl = None


@contextmanager
def locked(path: Path, wait: bool) -> Iterator[None]:
    """Keep other processes out of the block while they ask for the same file.

    wait: until the other one has left it; else BlockingIOError is raised.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def is_locked(path: Path) -> bool:
    """Return whether another process is in a block that keeps this file."""
    if fcntl is None or not path.is_file():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
