"""CPU threads: how many there are, and whether other programs keep them from running.

All threads of a product wait for the slowest of them. One that shares its core with another program
halves the speed, or worse: it is made to wait for milliseconds, and a product takes microseconds.
"""

import math
import time
from contextlib import suppress
from pathlib import Path

import torch

THREADS = Path("/proc/self/task")  # Linux: a folder for each of the process's threads
WATCH_S = 30.0
MOST_WAITING = 0.4  # threads without a core, as a mean over time


def set_threads(count: int) -> None:
    """Let the products run in so many threads; 0: as many as PyTorch chooses."""
    if count:
        torch.set_num_threads(count)


def waiting_seconds() -> float | None:
    """Return how long this process's threads were ready to run and had no core, all together.

    None where the system does not say: only Linux does.
    """
    waited = []
    for path in THREADS.glob("*/schedstat"):
        with suppress(OSError):  # as of a thread that has ended meanwhile
            waited.append(int(path.read_text().split()[1]))  # running, waiting (ns), times it ran
    return sum(waited) / 1e9 if waited else None


def describe_busy(waiting: float, threads: int) -> str:
    """Return the line for a machine that is too busy for these threads; "" for one that is not.

    waiting: how many of them had no core, as a mean over time. A product stands still while one of
    its threads waits: half a thread that waits is half of the time.
    """
    if waiting < MOST_WAITING:
        return ""
    line = f"this machine is busy: {waiting:.1f} of {threads} threads wait for a core at any time"
    if threads == 1:
        return f"{line}; training is that much slower"
    fewer = max(1, threads - math.ceil(waiting))
    return f"{line}; try --threads {fewer} (--resume takes it, too)"


class BusyWatch:
    """Says once that a machine is too busy for this process's threads."""

    def __init__(self) -> None:
        self.since, self.waited = time.monotonic(), waiting_seconds()
        self.said = False

    def check(self) -> str:
        """Return the line to print, once, after WATCH_S busy seconds; "" at all other calls."""
        now = time.monotonic()
        if self.said or now - self.since < WATCH_S:
            return ""
        waited = waiting_seconds()
        line = ""
        if waited is not None and self.waited is not None:
            waiting = (waited - self.waited) / (now - self.since)
            line = describe_busy(waiting, torch.get_num_threads())
        self.since, self.waited, self.said = now, waited, bool(line)
        return line
