"""Checkpoints: directories that are complete or not there, even after kill -9 at any moment."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from minbert.errors import DAMAGED, UserError
from minbert.files import read_json
from minbert.log_lines import check_numbers
from minbert.manifest import (
    check_content,
    flush_to_disk,
    has_all_files,
    named_in_errors,
    read_manifest,
    sibling_of,
    unfinished_file,
    whole_directory_of,
    write_manifest,
)
from minbert.run_files import BEST_STEP, STATE
from minbert.tensors import load_tensors, save_tensors
from minbert.training.averaging import mean_dtype
from minbert.typed import from_json, parse

MOMENTS = "optimizer.safetensors"
Scores = dict[str, float]
MLM_SCORES = ("accuracy", "perplexity", "loss")  # of held-out tokens, in pre-training
BestStep = TypeVar("BestStep", "Best", "TaskBest")


@dataclass(frozen=True)
class Best:
    """The step that best/ holds."""

    chosen_by: float  # the mean score, or as --best-by says; of pre-training -loss
    step: int
    scores: Scores  # each task's main metric; in pre-training the scores on held-out tokens
    is_mean: bool = False  # of the weights' mean, see averaging.py


@dataclass(frozen=True)
class TaskBest:
    """A task's best main score so far."""

    score: float
    step: int
    is_mean: bool = False  # of the weights' mean, see averaging.py


@dataclass(slots=True)  # a misspelt counter is an error
class TrainState:
    """A run's counters and scores, which last/ keeps beside the model and the optimizer."""

    steps: int  # of the whole run; it depends on the data
    step: int = 0  # how many steps are done
    assessed: int = -1  # how many steps were done at the last evaluation; -1: there was none
    before: Scores = field(default_factory=dict)  # main scores before training
    best: Best | None = None
    since_best: int = 0  # evaluations since the best one
    task_best: dict[str, TaskBest] = field(default_factory=dict)
    stages: list[tuple[str, Scores]] = field(default_factory=list)  # every evaluation's scores
    data: dict[str, str] = field(default_factory=dict)  # sha256 of the files trained on, by name
    skipped: int = 0  # batches without a loss
    start: str = ""  # hash of the model that it began from; pre-training and older runs have none

    @property
    def is_evaluated(self) -> bool:
        """Whether the present step has been evaluated."""
        return self.assessed == self.step

    def count_evaluation(self, stage: str, scores: Scores, since_best: int = 0) -> None:
        """Note an evaluation of the present step, which is not repeated from now on."""
        stages = [*self.stages, (stage, scores)]
        # one statement, which Ctrl-C cannot divide: an evaluation would count and be repeated
        self.stages, self.since_best, self.assessed = stages, since_best, self.step

    def to_json(self) -> dict[str, Any]:
        """Return the state in types that JSON has."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any], where: str) -> "TrainState":
        """Make a state of what `to_json` returned; `where`: its file, for messages.

        Runs from before 2026-11-29 have `overall` for `chosen_by`, and pre-training's `best` has
        other keys in the oldest. Raises UserError for a damaged one.
        """
        best = saved.get("best")
        if isinstance(best, dict) and "overall" in best:
            rest = {key: value for key, value in best.items() if key != "overall"}
            best = {"chosen_by": best["overall"], **rest}
        elif isinstance(best, dict) and "loss" in best:
            scores = {key: value for key, value in best.items() if key != "step"}
            loss = parse(float, best["loss"], f"{where}: best: loss")
            best = {"chosen_by": -loss, "step": best.get("step"), "scores": scores}
        state = from_json(cls, {**saved, "best": best}, where)
        steps = (state.step, state.assessed + 1, state.best.step if state.best else 0)
        if not all(0 <= step <= state.steps + 1 for step in steps) or state.step > state.steps:
            raise UserError(f"{where}: step {steps[0]} of {state.steps}; {DAMAGED}")
        check_numbers(saved, where)  # the log's last line has them, and the report
        return state


def task_best_folder(task: str) -> str:
    """Return the name of the folder of a task's best step; a task's name has no dash."""
    return f"best-{task}"


def recover_all(run: Path) -> None:
    """Finish the replacements of a run's checkpoints, as `recover`."""
    found = [*run.glob("best-*"), *run.glob(".best-*")]
    names = {path.name.lstrip(".").removesuffix(".new").removesuffix(".old") for path in found}
    for name in ("best", "last", *sorted(names)):
        recover(run / name, older=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield an empty directory to fill; it replaces `path` at the end, but not after an error.

    A link stays, as to another disk, and the directory that it names is replaced.
    """
    path = Path(os.path.realpath(path))
    new, old = sibling_of(path, "new"), sibling_of(path, "old")
    recover(path)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        with named_in_errors(path):
            yield new
            write_manifest(new)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)  # of a full disk, say, where its space is needed
        raise
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(path, old)
    os.replace(new, path)
    flush_to_disk(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover(path: Path, older: bool = False) -> None:
    """Finish a replacement that was cut between its renames, or that a power cut has torn.

    If `path` is missing or damaged, a complete "new" or "old" directory beside it replaces it; once
    `path` has all its files, such directories are removed. older: as in `whole_directory_of`; False
    while a run trains, because those names may then be of a user's copy.
    """
    path = Path(os.path.realpath(path))
    whole = whole_directory_of(path, older)
    if whole != path:
        if path.exists():
            print(f"{path}: damaged; {whole.name}, which a stopped save left, takes its place")
        shutil.rmtree(path, ignore_errors=True)
        os.replace(whole, path)
    if has_all_files(path):
        for ending in ("new", "old"):
            shutil.rmtree(sibling_of(path, ending), ignore_errors=True)


def check_manifest(directory: Path) -> None:
    """Raise UserError if a file listed in the manifest is missing or has another size."""
    if unfinished := unfinished_file(directory):
        file, size = unfinished
        raise UserError(
            f"{file}: missing or cut short (expected {size} bytes); --model with the run's "
            f"other checkpoint starts anew from it"
        )


def check_bests(run: Path, state: TrainState, tasks_with_best: tuple[str, ...]) -> None:
    """Raise UserError for a best step's folder whose files are not as they were saved.

    A run that goes on reads them only at its end, and keeps those that none replaces.
    """
    for directory in (run / name for name in ("best", *map(task_best_folder, tasks_with_best))):
        try:
            if directory.exists():
                check_manifest(directory)
                for name in read_manifest(directory):
                    check_content(directory / name)
        except UserError as error:
            mend = f"or delete {directory}: the best step from {state.step} on takes its place"
            raise UserError(f"{error}; {mend}") from error


def check_scores(state: TrainState, tasks: tuple[str, ...], path: Path) -> None:
    """Raise UserError if a run's state, read from this file, has not the scores of such a run.

    tasks: the run's; () in pre-training, where a stage has no scores if no row is held out.
    """
    for place, scores in (("before", state.before), *state.stages):
        if scores:
            check_names(scores, tasks, f"{path}: {place[:60]!r}")
    if state.best:
        check_names(state.best.scores, tasks, f"{path}: best")
    if not (state.step and state.is_evaluated):
        return
    lacking = ["stages"] * (not state.stages) + ["best"] * bool(tasks and not state.best)
    lacking += [f"task_best: {name}" for name in tasks if name not in state.task_best]
    if lacking:
        raise UserError(f"{path}: {lacking[0]}: none after an evaluation; {DAMAGED}")


def check_names(scores: Scores, tasks: tuple[str, ...], where: str) -> None:
    """Raise UserError if scores, found at `where`, are not one for each task of a run.

    tasks: as in `check_scores`.
    """
    expected = tasks or MLM_SCORES
    if odd := sorted(scores.keys() ^ {*expected}, key=lambda name: (name in scores, name)):
        what = "is not a score of this run" if odd[0] in scores else "has no score"
        raise UserError(f"{where}: {odd[0][:60]!r} {what}; {DAMAGED}")


def read_best_step(directory: Path, kind: type[BestStep]) -> BestStep | None:
    """Return which step a best step's folder holds; None if it is gone or of an older run."""
    path = directory / BEST_STEP
    if not path.is_file():
        return None
    best = from_json(kind, read_json(path), str(path))
    check_numbers(asdict(best), str(path))
    return best


def save_training_state(
    directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: TrainState
) -> None:
    """Write optimizer.safetensors (moments by parameter name) and state.json (all else)."""
    tensors, steps = {}, {}
    for name, p in model.named_parameters():
        for key, value in optimizer.state.get(p, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{key}/{name}"] = value
            else:
                steps[name] = value
    save_tensors(tensors, directory / MOMENTS)
    values = {**state.to_json(), "optimizer_steps": steps}
    (directory / STATE).write_text(json.dumps(values, indent=1))


def read_state(directory: Path) -> tuple[TrainState, dict[str, int]]:
    """Return a last/'s state, and each parameter's updates. Raises UserError for a damaged one."""
    path = directory / STATE
    saved = read_json(path)
    if not isinstance(saved, dict):
        raise UserError(f"{path}: not an object; {DAMAGED}")
    steps = parse(dict[str, int], saved.pop("optimizer_steps", None), f"{path}: optimizer_steps")
    return TrainState.from_json(saved, str(path)), steps


def load_training_state(
    directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> TrainState:
    """Put the moments into the optimizer and return the state; the model is loaded elsewhere."""
    path = directory / STATE
    tensors, (state, steps) = load_tensors(directory / MOMENTS), read_state(directory)
    params = dict(model.named_parameters())
    # in the oldest runs the names of a second tower's parameters begin with "second."
    now, then = "second_tower.", "second."
    params = {
        name.replace(now, then, 1): p for name, p in params.items() if name.startswith(now)
    } | params
    moments: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        key, _, parameter = name.partition("/")
        moments.setdefault(parameter, {})[key] = tensor
    for name in {*moments, *steps}:
        fits = name in params and (name not in steps or 0 < steps[name] <= state.step)
        if not fits or any(t.shape != params[name].shape for t in moments.get(name, {}).values()):
            raise UserError(f"{path}: does not fit {MOMENTS} at {name!r}; {DAMAGED}")
        p = params[name]
        largest = mean_dtype(p.device)  # of the mean, if the run goes on on another device
        optimizer.state[p] = {
            k: t.to(p.device, min(t.dtype, largest, key=lambda dtype: dtype.itemsize))
            for k, t in moments.get(name, {}).items()
        }
        if name in steps:
            optimizer.state[p]["step"] = steps[name]
    return state
