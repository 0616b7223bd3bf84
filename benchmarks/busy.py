"""What a laptop is like: another program at work while something is measured."""

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager


def spin() -> None:
    """Keep a core busy until the parent has ended."""
    parent = os.getppid()
    while os.getppid() == parent:
        sum(range(100_000))


@contextmanager
def busy_core() -> Iterator[None]:
    """Keep one core busy within the block."""
    process = multiprocessing.get_context("spawn").Process(target=spin, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()
