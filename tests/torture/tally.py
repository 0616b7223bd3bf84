"""Trials of random numbers, one after the other or several at once, and what came of them."""

import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Effort:
    """How much a part tries, and its lines of figures."""

    world: Path  # with a model, data of all kinds and room for trials
    scale: float  # share of the full counts
    seed: int
    seconds: float
    workers: int  # how many trials run at once
    only: int | None = None  # the number of the only trial
    figures: list[str] = field(default_factory=list)


@dataclass
class Trial:
    """One attempt: its random numbers, an empty folder to work in, and where it is counted."""

    number: int
    rng: random.Random
    folder: Path
    tally: "Tally"
    how: str = ""

    def count(self, name: str) -> None:
        """Count what is no fault."""
        self.tally.counts[name] += 1

    def fault(self, kind: str, what: str, how: str) -> None:
        """Count a fault; its folder is kept, if it is the first one.

        what: the same for faults that are one. how: what this trial did.
        """
        self.tally.counts[kind] += 1
        self.how = how
        key = f"{kind}: " + re.sub(r"\d+", "#", what.replace(str(self.folder), ""))
        self.tally.faults.setdefault(key, []).append(self)


class Tally:
    """What a part counts; `faults` must stay empty."""

    def __init__(self, part: str, effort: Effort, never: tuple[str, ...]) -> None:
        self.part, self.effort = part, effort
        self.counts: Counter[str] = Counter(dict.fromkeys(never, 0))
        self.faults: dict[str, list[Trial]] = {}
        self.started = time.monotonic()

    def run(self, full_count: int, attempt: Callable[[Trial], None]) -> None:
        """Make the attempts, each with random numbers of its own, until time is up.

        full_count: how many at scale 1. Fails, with a reproduction of each, for any fault.
        """
        effort = self.effort
        count = max(4, round(full_count * effort.scale))
        numbers = range(count) if effort.only is None else [effort.only]
        with ThreadPoolExecutor(effort.workers) as pool:
            list(pool.map(lambda number: self._try(number, attempt), numbers))
        listed = ", ".join(f"{n} {name}" for name, n in self.counts.items())
        seconds = time.monotonic() - self.started
        effort.figures.append(f"{self.part}, seed {effort.seed}: {listed}; {seconds:.0f} s")
        assert not self.faults, self.report()
        assert self.counts["tried"], f"{self.part}: time was up before the first attempt"

    def _try(self, number: int, attempt: Callable[[Trial], None]) -> None:
        """Make one attempt; remove its folder unless it shows a fault that was not seen before."""
        if time.monotonic() - self.started > self.effort.seconds:
            return
        folder = self.effort.world / "trials" / str(number) / "t"
        folder.mkdir(parents=True)
        rng = random.Random(f"{self.effort.seed} {self.part} {number}")
        trial = Trial(number, rng, folder, self)
        attempt(trial)
        self.counts["tried"] += 1
        if not any(trial is found[0] for found in self.faults.values()):
            shutil.rmtree(folder.parent)

    def report(self) -> str:
        """Return a line for each kind of fault, with the trial that shows it first."""
        lines = [f"{len(self.faults)} kinds of faults:"]
        for key, found in self.faults.items():
            trial = found[0]
            lines.append(
                f"{len(found)}x {key}\n    {trial.how}\n    TORTURE_SEED={self.effort.seed} "
                f"TORTURE_TRIAL={trial.number} python -m pytest -m thorough "
                f"tests/torture/test_{self.part}.py; "
                f"left in {trial.folder.parent}"
            )
        return "\n".join(lines)
