"""Which task's which batch comes at which step: pure functions, so resuming needs a number only.

Paper, section 3.3. B_i: batches of one pass over task i; a global epoch is one pass over the
largest set.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class TaskBatch:
    """Batch `batch` of pass `epoch` over `task`; `stage_end`: its sub-epochs end here."""

    task: str
    epoch: int
    batch: int
    stage_end: bool = False


@dataclass(frozen=True)
class Plan:
    """A whole run: `draw(step)` for step 0 .. steps-1, in equal global epochs."""

    mode: str  # parallel, sequential, shuffle, or single (parallel with one task)
    batches: dict[str, int]  # B_i, in the order of the tasks
    epochs: int
    sub_epochs: dict[str, int]  # N_i, for sequential
    seed: int = 0  # for shuffle

    @property
    def epoch_steps(self) -> int:
        if self.mode == "sequential":
            return sequential_steps(self.batches, self.sub_epochs)
        if self.mode == "shuffle":
            return sum(self.batches.values())
        return parallel_steps(self.batches)

    @property
    def steps(self) -> int:
        return self.epochs * self.epoch_steps

    def draw(self, step: int) -> TaskBatch:
        if self.mode == "sequential":
            return sequential_draw(self.batches, self.sub_epochs, step)
        if self.mode == "shuffle":
            return shuffle_draw(self.batches, self.seed, step)
        return parallel_draw(self.batches, step)

    def steps_of(self, task: str) -> int:
        """Return how many of the steps are the task's."""
        if self.mode == "sequential":
            return self.epochs * self.batches[task] * self.sub_epochs[task]
        if self.mode == "shuffle":
            return self.epochs * self.batches[task]
        return self.epochs * max(self.batches.values())

    def first_steps(self, task: str) -> Iterator[int]:
        """Return the numbers of the task's steps, in order."""
        before = list(self.batches)[: list(self.batches).index(task)]
        sequential = self.mode == "sequential"
        start = sum(self.batches[t] * self.sub_epochs[t] for t in before) if sequential else 0
        return (step for step in range(start, self.steps) if self.draw(step).task == task)

    def stage_after(self, steps: int) -> str | None:
        """Name what ends after so many steps; None in the middle of an epoch."""
        if steps == 0:
            return "before training"
        last, epoch = self.draw(steps - 1), (steps - 1) // self.epoch_steps + 1
        if last.stage_end:
            return f"epoch {epoch} {last.task}"
        return f"epoch {epoch}" if steps % self.epoch_steps == 0 else None


def resolve_sub_epochs(batches: dict[str, int], given: dict[str, int]) -> dict[str, int]:
    """Return N_i = floor(largest B / B_i), at least 1, for each task without a given one."""
    largest = max(batches.values())
    return {task: given.get(task, max(1, largest // b)) for task, b in batches.items()}


def parallel_steps(batches: dict[str, int]) -> int:
    """Return the steps of a global epoch: every task has as many as the largest set."""
    return len(batches) * max(batches.values())


def parallel_draw(batches: dict[str, int], step: int) -> TaskBatch:
    """Let tasks take turns batch by batch; a smaller set starts over when it is used up."""
    tasks = list(batches)
    turn, place = divmod(step, len(tasks))
    task = tasks[place]
    epoch, batch = divmod(turn, batches[task])
    return TaskBatch(task, epoch, batch)


def sequential_steps(batches: dict[str, int], sub_epochs: dict[str, int]) -> int:
    """Return the steps of a global epoch: the sum of N_i B_i."""
    return sum(batches[task] * sub_epochs[task] for task in batches)


def sequential_draw(batches: dict[str, int], sub_epochs: dict[str, int], step: int) -> TaskBatch:
    """Take N_i whole passes of the first task, then of the next, in the order of `batches`."""
    global_epoch, place = divmod(step, sequential_steps(batches, sub_epochs))
    for task, b in batches.items():
        stage = b * sub_epochs[task]
        if place < stage:
            epoch, batch = divmod(place, b)
            epoch += global_epoch * sub_epochs[task]
            return TaskBatch(task, epoch, batch, place == stage - 1)
        place -= stage
    raise AssertionError("step lies inside one of the stages")


def shuffle_draw(batches: dict[str, int], seed: int, step: int) -> TaskBatch:
    """Take all batches of all sets, each once, in a new random order every epoch (MT-DNN)."""
    epoch, place = divmod(step, sum(batches.values()))
    number = int(shuffled_batches(sum(batches.values()), seed, epoch)[place])
    for task, b in batches.items():
        if number < b:
            return TaskBatch(task, epoch, number)
        number -= b
    raise AssertionError("number lies inside one of the sets")


@lru_cache(maxsize=2)  # one order serves a whole epoch
def shuffled_batches(batches: int, seed: int, epoch: int) -> np.ndarray:
    """Return a new order of all batches for every epoch."""
    return np.random.default_rng([seed, epoch]).permutation(batches)
