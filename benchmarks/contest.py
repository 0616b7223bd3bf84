"""Contestants in processes of their own, asked in turn (A B A B ...): ratios, not seconds.

A child process builds its contestant once and then waits; only one works at a time.
"""

import importlib
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from minbert.errors import UserError

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TIMEOUT_S = 10  # for a contestant to end by itself


@dataclass(frozen=True)
class Work:
    """What one turn got done. `seconds`: measured inside, where a library does more around it."""

    examples: int = 0
    tokens: int = 0  # real ones, no padding
    flops: float = 0.0  # of the encoder's products
    seconds: float | None = None
    each: tuple[float, ...] = ()  # seconds of every call in it, for percentiles
    score: float = 0.0  # of the model after it
    parts: dict[str, float] = field(default_factory=dict)  # seconds of what it consists of


@dataclass(frozen=True)
class Contestant:
    """`factory`: "module:function" of `benchmarks`; called with `settings`, it returns the turn."""

    name: str
    factory: str
    settings: dict[str, Any] = field(default_factory=dict)
    ours: bool = False
    precision: str = ""  # of its products, "bf16" or "fp32": which limit it is held against


@dataclass(frozen=True)
class Outcome:
    """All turns of a contestant."""

    name: str
    seconds: tuple[float, ...]
    works: tuple[Work, ...]
    peak_mib: float  # the process's largest size, everything included; on a GPU its tensors'
    precision: str = ""

    def rate(self, of: str) -> float:
        """Median over the turns of examples, tokens or flops a second."""
        return statistics.median(self.rates(of))

    def rates(self, of: str) -> list[float]:
        return [getattr(w, of) / s for w, s in zip(self.works, self.seconds, strict=True)]

    @property
    def calls(self) -> list[float]:
        return sorted(second for work in self.works for second in work.each)


def hold(contestants: list[Contestant], turns: int) -> dict[str, Outcome]:
    """Everyone warms up with one turn that does not count, then takes `turns` in turn."""
    context = multiprocessing.get_context("spawn")
    children: list[tuple[Contestant, Any, Connection]] = []
    try:
        for contestant in contestants:
            here, there = context.Pipe()
            child = context.Process(target=_child, args=(contestant, there), daemon=True)
            child.start()
            there.close()
            children.append((contestant, child, here))
            _ask(contestant, here)  # built, one after another: no two work at once
        answers: dict[str, list[tuple[float, Work, float]]] = {c.name: [] for c in contestants}
        for turn in range(turns + 1):
            for contestant, _, pipe in children:
                answer = _ask(contestant, pipe)
                if turn > 0:
                    answers[contestant.name].append(answer)
    finally:
        for _, child, pipe in children:
            pipe.close()  # what its next recv takes as the end
            child.join(TIMEOUT_S)
            child.terminate()
    return {
        c.name: Outcome(
            c.name,
            tuple(a[0] for a in given),
            tuple(a[1] for a in given),
            given[-1][2],
            c.precision,
        )
        for c in contestants
        if (given := answers[c.name])
    }


def _ask(contestant: Contestant, pipe: Connection) -> tuple[float, Work, float]:
    pipe.send("go")
    try:
        return pipe.recv()
    except EOFError as error:
        raise UserError(f"benchmark {contestant.name} failed; its message is above") from error


def _asked(pipe: Connection) -> bool:
    try:
        return bool(pipe.recv())
    except EOFError:
        return False


def _child(contestant: Contestant, pipe: Connection) -> None:
    """Answers the first word with a finished set-up, every later one with a turn."""
    if contestant.ours:  # as minbert's scripts do
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    module, name = contestant.factory.split(":")
    pipe.recv()
    turn: Callable[[], Work] = getattr(importlib.import_module(module), name)(contestant.settings)
    pipe.send((0.0, Work(), 0.0))
    while _asked(pipe):
        started = time.perf_counter()
        work = turn()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started if work.seconds is None else work.seconds
        pipe.send((seconds, work, _peak_mib()))


def _peak_mib() -> float:
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage's figure is not less than the parent's at the child's start
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
