"""Contestants that work in turn (A B A B ...), so that ratios can be trusted more than seconds.

Each has a process of its own, which sets it up once and then waits for its turns. Only one process
works at a time.
"""

import importlib
import multiprocessing
import os
import resource
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from minbert.errors import UserError
from minbert.memory import tune_allocator

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TIMEOUT_S = 10  # after which a contestant that does not end is terminated


@dataclass(frozen=True)
class Work:
    """What one turn has done."""

    examples: int = 0
    tokens: int = 0  # without padding
    flops: float = 0.0  # of the encoder's matrix products
    seconds: float | None = None  # if the turn measures its own time, without a library's set-up
    each: tuple[float, ...] = ()  # seconds of every call in the turn, for percentiles
    score: float = 0.0  # of the model after the turn
    vectors: np.ndarray | None = None  # of the texts that were encoded
    parts: dict[str, float] = field(default_factory=dict)  # seconds by kind of operation


@dataclass(frozen=True)
class Contestant:
    """A program to measure: a function that sets it up and returns the function of a turn."""

    name: str
    factory: str  # the set-up, as "module:function"
    settings: dict[str, Any] = field(default_factory=dict)  # its argument
    ours: bool = False
    precision: str = ""  # of its matrix products, "bf16" or "fp32": which limit it is compared with


@dataclass(frozen=True)
class Outcome:
    """What a contestant did in all of its turns."""

    name: str
    seconds: tuple[float, ...]
    works: tuple[Work, ...]
    peak_mib: float  # of the whole process, or on a GPU of its tensors
    precision: str = ""

    def rate(self, of: str) -> float:
        """Return the examples, tokens or flops a second, the median over the turns."""
        return statistics.median(self.rates(of))

    def rates(self, of: str) -> list[float]:
        """Return the examples, tokens or flops a second of each turn."""
        return [getattr(w, of) / s for w, s in zip(self.works, self.seconds, strict=True)]

    @property
    def calls(self) -> list[float]:
        """The seconds of all calls of all turns, sorted."""
        return sorted(seconds for work in self.works for seconds in work.each)


def run_contest(contestants: list[Contestant], turns: int) -> dict[str, Outcome]:
    """Let the contestants work in turn, each once to warm up and then `turns` times.

    Raises UserError if one of them fails.
    """
    context = multiprocessing.get_context("spawn")
    children: list[tuple[Contestant, Any, Connection]] = []
    try:
        for contestant in contestants:
            pipe, child_pipe = context.Pipe()
            child = context.Process(target=_child, args=(contestant, child_pipe), daemon=True)
            with without_ctrl_c():  # which children inherit: it is for the parent to end them
                child.start()
            child_pipe.close()
            children.append((contestant, child, pipe))
            _work(contestant, pipe)  # wait for its set-up: no two contestants work at a time
        answers: dict[str, list[tuple[float, Work, float]]] = {c.name: [] for c in contestants}
        for turn in range(turns + 1):
            for contestant, _, pipe in children:
                answer = _work(contestant, pipe)
                if turn > 0:
                    answers[contestant.name].append(answer)
    except KeyboardInterrupt:
        for _, child, _ in children:
            child.kill()
        raise
    finally:
        for _, child, pipe in children:
            pipe.close()  # ends the child's loop
            child.join(TIMEOUT_S)
            child.terminate()
    return {
        c.name: Outcome(
            c.name,
            tuple(seconds for seconds, _, _ in turns_of),
            tuple(work for _, work, _ in turns_of),
            turns_of[-1][2],
            c.precision,
        )
        for c in contestants
        if (turns_of := answers[c.name])
    }


@contextmanager
def without_ctrl_c() -> Iterator[None]:
    """Ignore Ctrl-C within the block."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(contestant: Contestant, pipe: Connection) -> tuple[float, Work, float]:
    """Let a child do one job; return its seconds, its work and the peak of its memory in MiB."""
    try:
        pipe.send("go")
        return pipe.recv()
    except (EOFError, ConnectionError) as error:  # the latter between two turns
        why = "its message is above, if it was not killed"
        raise UserError(f"benchmark {contestant.name} failed; {why}") from error


def _wait_for_job(pipe: Connection) -> bool:
    """Wait for the next job and take it; False: the parent has closed the pipe, there is none."""
    try:
        return bool(pipe.recv())
    except EOFError:
        return False


def _child(contestant: Contestant, pipe: Connection) -> None:
    """Do the jobs that come through a pipe: the first is the set-up, every other one a turn."""
    if contestant.ours:  # as minbert's scripts do
        tune_allocator()
    else:  # the parent is such a script, whose environment this is
        os.environ.pop("THP_MEM_ALLOC_ENABLE", None)
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    module, name = contestant.factory.split(":")
    pipe.recv()
    turn: Callable[[], Work] = getattr(importlib.import_module(module), name)(contestant.settings)
    pipe.send((0.0, Work(), 0.0))
    while _wait_for_job(pipe):
        started = time.perf_counter()
        work = turn()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started if work.seconds is None else work.seconds
        pipe.send((seconds, work, _peak_mib()))


def _peak_mib() -> float:
    """Return the largest size so far of the GPU's tensors, or else of this process, in MiB."""
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage's peak would include the parent's size at the start
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
