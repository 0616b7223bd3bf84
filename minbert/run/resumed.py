"""What a resumed run goes on with: its own arguments, and the data that it began with."""

import argparse
import shlex
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from minbert.cli import flag_of
from minbert.errors import DAMAGED, UserError
from minbert.manifest import has_all_files, whole_directory_of
from minbert.parsers import arg_text
from minbert.run.checkpoint import TrainState, read_state
from minbert.run.common_args import CommonArgs, ScriptArgs
from minbert.run.recipe_args import RecipeArgs
from minbert.run_files import ARGS, TASKS_FILE, read_arguments, runs_of
from minbert.task.taskfile import defines_same
from minbert.typed import from_json

# Arguments that a resumed run may change: where files are, what computes, what is kept and said.
FREE_ON_RESUME = {
    "resume", "output_dir", "data_dir", "corpus", "device", "use_gpu", "save_minutes",
    "tensorboard", "quiet", "json", "accumulate", "checkpoint_activations", "threads",
    "skip_predictions",
}  # fmt: skip
SCRIPT_OF = {"mode": "train_multitask.py", "corpus": "pretrain_mlm.py"}  # that has the argument
# Who wants to change one of these is told to start a new run from this one: more steps change the
# schedule of learning rates, and more tasks the order of batches.
BY_NEW_RUN = {"epochs", "steps", "tasks", "task_file"}
# What the oldest runs do not have.
NEWER = {f.name for f in fields(RecipeArgs)} - {f.name for f in fields(CommonArgs)} | {"threads"}


def saved_arguments(cls: type[ScriptArgs], run: Path) -> ScriptArgs:
    """Return what a run's args.json has. Raises UserError if it is damaged."""
    saved, own = read_arguments(run), {f.name for f in fields(cls)}
    for name, script in SCRIPT_OF.items():
        if name in saved and name not in own:
            raise UserError(f"--resume {run}: a run of {script}, which goes on with that script")
    # the oldest runs have no such argument, and used PyTorch's kernels; what else an older run
    # has not is off by default
    saved.setdefault("kernels", "written-out" if saved.get("written_out") else "torch")
    if hasattr(cls, "keep"):
        saved.setdefault("keep", "best")
    if missing := sorted(own - {*saved, *NEWER}):
        raise UserError(f"{run / ARGS}: {missing[0]} is missing; {DAMAGED}")
    args = from_json(cls, saved, str(run / ARGS))
    check_values(args, str(run / ARGS))
    return replace(args, task_file=str(run / TASKS_FILE) if args.task_file else "")


def check_values(args: Any, where: str) -> None:
    """Raise UserError for a value of a dataclass of arguments that its flag would not take.

    where: the file that the values are from, for messages.
    """
    for f in fields(args):
        value, low = getattr(args, f.name), f.metadata.get("low")
        if isinstance(value, dict):  # of numbers by task
            outside = any(isinstance(n, int) and n < 1 for n in value.values())
        else:
            limited = low is not None and value is not None
            outside = limited and not low <= value <= f.metadata["high"]
        parse = f.metadata.get("parse", str)
        if isinstance(value, str) and parse is not str:  # such as a text for a number
            try:
                parse(value)
            except (argparse.ArgumentTypeError, ValueError):
                outside = True
        choices = f.metadata.get("choices", ())
        if outside or (choices and value not in (*choices, f.default)):
            what = f"{f.name} is {repr(value)[:60]}, which {flag_of(f.name)} does not take"
            raise UserError(f"{where}: {what}; {DAMAGED}")


def resumed_arguments(
    saved: ScriptArgs, given: dict[str, Any], run: Path,
    resolve: Callable[[dict[str, Any]], ScriptArgs],
) -> ScriptArgs:  # fmt: skip
    """Return a run's saved arguments, changed by those given now that are in FREE_ON_RESUME.

    Others may be given as they were typed for the run, or as it has them. Raises UserError if one
    means another value.
    """
    run_args = vars(saved)
    if given.get("dry_run"):
        raise UserError(
            "--dry-run measures a new run, not the rest of one: leave out --resume, and write the "
            "run's own arguments"
        )
    for name, value in given.items():
        is_free = name in FREE_ON_RESUME and (name != "corpus" or run_args[name])
        if is_free or value == run_args[name]:
            continue
        if name == "task_file" and run_args[name] and defines_same(value, run, saved.tasks):
            continue
        if not changes_nothing(resolve, run_args, name, value):
            mend = "leave it out"
            if name in BY_NEW_RUN:
                first = shlex.quote(str(runs_of(run, run_args)[0]))  # of a command's several runs
                mend += f", or start a new run from this one: --model {first}"
            typed, the_run = (
                f"{flag_of(name)} {arg_text(value)}",
                f"the run's {arg_text(run_args[name])}",
            )
            if isinstance(value, bool):
                typed, the_run = flag_of(name if value else f"no_{name}"), "the run"
            elif run_args[name] in (None, "", (), {}):
                the_run = "the run, which has none"
            raise UserError(f"{typed} differs from {the_run}: {mend}")
    free = {name: value for name, value in given.items() if name in FREE_ON_RESUME}
    if free.get("use_gpu") and "device" not in free:
        free |= {"use_gpu": False, "device": "cuda"}
    return resolve({**run_args, **free})


def changes_nothing(
    resolve: Callable[[dict[str, Any]], ScriptArgs], run_args: dict[str, Any], name: str, value: Any
) -> bool:
    """Return whether a run's arguments resolve to the same ones if `name` has this value."""
    try:
        return vars(resolve({**run_args, name: value})) == vars(resolve(run_args))
    except UserError:  # it does not go with the others, which did go together
        return False


def check_steps(run: Path, begun_with: int, now: int) -> None:
    """Raise UserError if a resumed run has another number of steps: a file of it has changed."""
    if begun_with != now:
        raise UserError(
            f"{run} is a run of {begun_with} steps, by its files as they are now it would be "
            f"{now}: put its {ARGS}, its {TASKS_FILE} and the data back as they were, or start anew"
        )


def begun_state(run: Path) -> TrainState | None:
    """Return a run's state, None if it has not begun."""
    last = whole_directory_of(run / "last")
    return read_state(last)[0] if has_all_files(last) else None


def check_begun(run: Path, files: dict[str, Path], now: dict[str, str]) -> TrainState | None:
    """Raise UserError if a run has begun with other content of these files, as `check_data`.

    What else it began with (its teachers' outputs) is not looked at. Returns `begun_state`.
    """
    state = begun_state(run)
    begun_with = {name: d for name, d in state.data.items() if name in files} if state else {}
    check_data(run, begun_with, files, now)
    return state


def check_data(
    run: Path, begun_with: dict[str, str], files: dict[str, Path], now: dict[str, str]
) -> None:
    """Raise UserError if a file's content is not what the run began with under the same name.

    begun_with, now: hashes by name.
    """
    if begun_with and len(begun_with) != len(now):
        what = f"files to train and evaluate on: {len(begun_with)} when it began, now {len(now)}"
        raise UserError(f"{run}: {what}: give it the files that it began with, or start a new run")
    if not begun_with.keys() & now.keys():  # pre-training before 2026-11-29 numbered its files
        begun_with = dict(zip(now, begun_with.values(), strict=False))
    for name, path in files.items():
        if begun_with.get(name, now[name]) != now[name]:
            raise UserError(
                f"{path}: not what {run} began with (sha256 {now[name][:12]}, the "
                f"run's was {begun_with[name][:12]}): give it that data again, or start a new run"
            )
