"""Which batch of which task each step has: pure functions of the step, so that a run can resume.

Paper, section 3.3. B_i is the number of batches in one pass over task i. A global epoch is one pass
over the largest set (parallel, joint, and in expectation annealed), one pass over every set
(shuffle), or N_i passes over each set (sequential).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# "single" has one task, whose batches are drawn as by "parallel"
MODES = ("parallel", "sequential", "shuffle", "annealed", "joint", "single")


@dataclass(frozen=True)
class TaskBatch:
    """Name a batch: number `batch` of pass `epoch` over `task`, both from 0.

    stage_end: in sequential mode, whether it ends the N_i passes over its task of a global epoch.
    """

    task: str
    epoch: int  # over this task's set, where a Plan's epochs are global
    batch: int
    stage_end: bool = False


@dataclass(frozen=True)
class Plan:
    """A whole run: `draws(step)` for step 0 .. steps-1, in equal global epochs."""

    mode: str  # one of MODES
    batches: dict[str, int]  # B_i, in the order of the tasks
    epochs: int
    sub_epochs: dict[str, int]  # N_i, for sequential
    seed: int = 0  # for shuffle and annealed
    powers: tuple[float, float] = (1.0, 1.0)  # for annealed: exponent at first and last step
    max_steps: int = 0  # the run ends after so many; 0: after its epochs

    @property
    def epoch_steps(self) -> int:
        """How many steps a global epoch has."""
        if self.mode == "sequential":
            return sequential_steps(self.batches, self.sub_epochs)
        if self.mode == "shuffle":
            return sum(self.batches.values())
        if self.mode == "annealed":
            return annealed_steps(tuple(self.batches.values()), self.powers)
        if self.mode == "joint":
            return max(self.batches.values())
        # every task has as many as the largest set
        return len(self.batches) * max(self.batches.values())

    @property
    def steps(self) -> int:
        """How many steps the run has."""
        return self.max_steps or self.epochs * self.epoch_steps

    def draws(self, step: int) -> tuple[TaskBatch, ...]:
        """Return the batches of a step: one, but in joint mode one of every task."""
        if self.mode == "joint":
            return tuple(TaskBatch(task, *divmod(step, b)) for task, b in self.batches.items())
        return (self._draw(step),)

    def _draw(self, step: int) -> TaskBatch:
        """Return the batch of a step that has one."""
        if self.mode == "sequential":
            return sequential_draw(self.batches, self.sub_epochs, step)
        if self.mode == "shuffle":
            return shuffle_draw(self.batches, self.seed, step)
        if self.mode == "annealed":
            return annealed_draw(self.batches, self.powers, self.steps, self.seed, step)
        return parallel_draw(self.batches, step)

    def count_steps(self, task: str) -> int:
        """Return how many of the run's steps have a batch of the task, as `steps_with` lists."""
        if self.mode == "annealed":
            sizes = tuple(self.batches.values())
            tasks, _ = annealed_order(sizes, self.powers, self.steps, self.seed)
            return int((tasks == list(self.batches).index(task)).sum())
        if self.mode == "sequential":
            in_epoch = self.batches[task] * self.sub_epochs[task]
        elif self.mode == "shuffle":
            in_epoch = self.batches[task]
        else:
            in_epoch = max(self.batches.values())
        epochs, rest = divmod(self.steps, self.epoch_steps)
        begun = range(self.steps - rest, self.steps)  # of an epoch that --steps ends
        in_rest = sum(any(d.task == task for d in self.draws(step)) for step in begun)
        return epochs * in_epoch + in_rest

    def passes(self) -> dict[str, float]:
        """Return how many passes over its set each task gets."""
        return {task: self.count_steps(task) / b for task, b in self.batches.items()}

    def steps_with(self, task: str) -> Iterator[int]:
        """Return the numbers of the steps that have a batch of the task, in ascending order."""
        every = range(self.steps)
        return (step for step in every if any(d.task == task for d in self.draws(step)))

    def stage_after(self, steps: int) -> str | None:
        """Name what ends after so many steps: an epoch, a task's stage or the run; else None."""
        if steps == 0:
            return "before training"
        last, epoch = self.draws(steps - 1)[0], (steps - 1) // self.epoch_steps + 1
        if last.stage_end:
            return f"epoch {epoch} {last.task}"
        if steps % self.epoch_steps == 0:
            return f"epoch {epoch}"
        return f"step {steps}" if steps == self.steps else None


def describe_passes(passes: dict[str, float]) -> str:
    """Return how many passes over its set each task gets, in words."""
    return "passes over each set: " + ", ".join(f"{t} {n:.1f}" for t, n in passes.items())


def resolve_sub_epochs(batches: dict[str, int], given: dict[str, int]) -> dict[str, int]:
    """Return N_i = floor(max B / B_i), the paper's N_i B_i ~ C, for tasks without a given one."""
    largest = max(batches.values())
    return {task: given.get(task, largest // b) for task, b in batches.items()}


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
    """Take every set's batches once, in a new random order each epoch (MT-DNN, Liu et al. 2019)."""
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


@lru_cache(maxsize=2)
def annealed_steps(sizes: tuple[int, ...], powers: tuple[float, float]) -> int:
    """Return the number of steps after which the largest set is expected to be seen once."""
    return math.ceil(max(sizes) / annealed_shares(sizes, powers, 1000).mean(0).max())


def annealed_shares(sizes: tuple[int, ...], powers: tuple[float, float], steps: int) -> np.ndarray:
    """Return each task's probability at every step, (steps, tasks): proportional to B_i^a.

    a goes linearly from the first of `powers` to the second (BERT and PALs, Stickland and Murray,
    2019: 1 to 0.2). With a = 1 tasks are drawn by their sizes, with 0 all alike; where a is above 1
    at the start, the small sets come later still.
    """
    a = np.linspace(*powers, steps)[:, None]
    weights = (np.array(sizes) / max(sizes)) ** a
    return weights / weights.sum(1, keepdims=True)


def annealed_draw(
    batches: dict[str, int], powers: tuple[float, float], steps: int, seed: int, step: int
) -> TaskBatch:
    """Draw the task of a step; its batches come in order, a pass after the other."""
    tasks, turns = annealed_order(tuple(batches.values()), powers, steps, seed)
    task = list(batches)[tasks[step]]
    return TaskBatch(task, *divmod(int(turns[step]), batches[task]))


@lru_cache(maxsize=2)  # one order serves a whole run
def annealed_order(
    sizes: tuple[int, ...], powers: tuple[float, float], steps: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return every step's task, and how many earlier steps were that task's, (steps,) twice."""
    uniform = np.random.default_rng(seed).random(steps)[:, None]
    shares = annealed_shares(sizes, powers, steps)
    tasks = (uniform > shares.cumsum(1)[:, :-1]).sum(1).astype(np.int16)
    turns = np.empty(steps, dtype=np.int32)
    for task in range(len(sizes)):
        its_steps = np.flatnonzero(tasks == task)
        turns[its_steps] = np.arange(len(its_steps))
    return tasks, turns
