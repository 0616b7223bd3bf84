"""The folder of a run: a new one overwrites nothing, a resumed one has its own arguments."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from minbert.cli import check_values, flag_of
from minbert.data.tables import valid_unicode
from minbert.errors import DAMAGED, UserError
from minbert.files import write_text
from minbert.locks import is_locked, locked
from minbert.parsers import as_typed
from minbert.run.checkpoint import TrainState
from minbert.run.common_args import CommonArgs, ScriptArgs
from minbert.run.recipe_args import RecipeArgs, runs_of
from minbert.run_files import (
    ARGS,
    DEV_ROWS,
    LOG,
    TASKS_FILE,
    TEACHER_OUTPUTS,
    check_stays,
    read_arguments,
    write_arguments,
)  # fmt: skip
from minbert.task.dev_rows import draw_dev_rows, write_dev_rows
from minbert.task.task import Tasks
from minbert.task.taskfile import (
    check_prediction_files,
    is_copied,
    read_task_file,
    tasks_of_run,
    text_of_run,
)
from minbert.training import distributed
from minbert.typed import from_json

LOCK = ".lock"
BEFORE_FIRST_CHECKPOINT = {LOCK, ARGS, TASKS_FILE, DEV_ROWS, TEACHER_OUTPUTS, LOG, "tensorboard"}
# Arguments that a resumed run may change: where files are, what saves memory, what it leaves.
FREE_ON_RESUME = {
    "resume", "output_dir", "data_dir", "corpus", "device", "use_gpu", "save_minutes",
    "tensorboard", "quiet", "json", "accumulate", "checkpoint_activations", "threads",
    "skip_predictions",
}  # fmt: skip
SCRIPT_OF = {"mode": "train_multitask.py", "corpus": "pretrain_mlm.py"}  # that has the argument
LENGTH = {"epochs", "steps"}  # more of them make another schedule of rates and of tasks
# What the oldest runs do not have.
NEWER = {f.name for f in fields(RecipeArgs)} - {f.name for f in fields(CommonArgs)} | {"threads"}
VISIBLE_WITHIN_S = 60  # other machines may see a new file on a network disk only after a while


def open_run(
    given: dict[str, Any], cls: type[ScriptArgs], builtin: Tasks,
    resolve: Callable[[dict[str, Any], Tasks], ScriptArgs],
    default_name: Callable[[ScriptArgs], str],
) -> tuple[ScriptArgs, Tasks, Path]:  # fmt: skip
    """Return arguments, tasks and folder of a new run, or of the one that --resume names.

    given: the fields of `cls` that the command line sets. resolve: checks them and fills in the
    others. The folder of a --dry-run is the one that all runs are in.
    """
    for name, value in given.items():
        if (text := as_typed(value)) != valid_unicode(text):  # args.json could not be read again
            raise UserError(f"{flag_of(name)} {text!r}: not UTF-8; choose another")
    root = Path(given.get("output_dir", cls.output_dir))
    check_stays(root, "--output-dir")
    if "resume" in given:
        folder = find_run(root, given["resume"])
        saved = saved_arguments(cls, folder)
        tasks = tasks_of_run(folder, saved.tasks)
        args = resumed_arguments(saved, given, folder, lambda fields: resolve(fields, tasks))
        return replace(args, resume=given["resume"]), tasks, folder
    given, known = with_task_file(given, cls, builtin)
    args = resolve(given, known)
    tasks = {name: known[name] for name in args.tasks}
    check_prediction_files(tasks, args.task_file)  # those of the file, and built-in ones
    tasks = draw_dev_rows(tasks, Path(args.data_dir))
    if args.dry_run:
        return args, tasks, root
    folder = new_run(root, args.name, default_name(args), Path(args.task_file))
    return replace(args, name=folder.name), tasks, folder


def with_task_file(
    given: dict[str, Any], cls: type[ScriptArgs], builtin: Tasks
) -> tuple[dict[str, Any], Tasks]:
    """Return what is given, where --task-file's tasks are the default, and all known tasks."""
    if not given.get("task_file"):
        return given, builtin
    data_dir = Path(given.get("data_dir", cls.data_dir))
    own = read_task_file(Path(given["task_file"]), data_dir)
    return {"tasks": tuple(own), **given}, {**builtin, **own}


def new_run(root: Path, name: str, default: str, task_file: Path) -> Path:
    """Return root/name, or root/default, root/default-2, ... Raises UserError for a taken name.

    All processes take the first one's choice. None makes the folder before all have chosen. What a
    stopped start left there is removed: the task file must not be among it.
    """
    run = distributed.all_gather(_new_run(root, name, default))[0]
    if task_file.is_file() and task_file.resolve().parent == run.resolve():
        raise UserError(f"--task-file {task_file}: in the folder of the new run; put it elsewhere")
    if distributed.rank() == 0 and (left := left_behind(run)):
        print(f"{run}: stopped before its first checkpoint; it starts anew")
        for path in left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return run


def left_behind(run: Path) -> list[Path]:
    """Return what a start that was stopped before its first checkpoint left in a folder."""
    return [path for path in run.iterdir() if path.name != LOCK] if run.is_dir() else []


def _new_run(root: Path, name: str, default: str) -> Path:
    """Return this process's choice, as `new_run`."""
    if name:
        if Path(name).name != name:
            raise UserError(f"--name {name}: a plain name; --output-dir says where runs are kept")
        if not _is_free(root / name):
            raise UserError(f"{root / name} exists: --resume {name} goes on, another --name is new")
        return root / name
    number, run = 1, root / default
    while not _is_free(run):
        number += 1
        run = root / f"{default}-{number}"
    return run


def _is_free(run: Path) -> bool:
    """Return whether a new run may take a folder: it is missing, or a failed start left it bare."""
    if not run.is_dir():
        return not run.exists()
    names = [path.name for path in run.iterdir()]
    if any(name not in BEFORE_FIRST_CHECKPOINT and not name.endswith(".new") for name in names):
        return False
    return not is_locked(run / LOCK)  # by another command that is starting a run in it


def find_run(root: Path, name: str) -> Path:
    """Return the folder of a run to resume. Raises UserError if neither path has one.

    name: the folder itself, or a name in `root`.
    """
    for run in (Path(name), root / name):
        if (run / ARGS).is_file():
            return run
    raise UserError(f"--resume {name}: no {ARGS} in {name} or {root / name}; give a run's folder")


def command_folder(run: Path) -> Path:
    """Return the folder to --resume for a run: its own or, of one of several, their command's."""
    for folder in run.parents[1::-1]:  # as of seed-1/sst, the folder that is furthest out first
        if (folder / ARGS).is_file() and run in runs_of(folder, read_arguments(folder)):
            return folder
    return run


@contextmanager
def alone_in(run: Path, resumed: bool) -> Iterator[None]:
    """Keep other commands from training in this folder.

    Raises UserError if one does already, or has done so since a new run's folder was chosen.
    """
    if distributed.rank() > 0:
        yield
        return
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(run / LOCK, wait=False))
        except BlockingIOError as error:
            raise UserError(f"{run} is being trained by another process: wait for it") from error
        if not resumed and left_behind(run):
            raise UserError(f"{run}: another command has begun that run; another --name is new")
        yield


def save_arguments(run: Path, args: ScriptArgs, tasks: Tasks) -> ScriptArgs:
    """Write args.json and, unless the run has them, tasks.toml and dev_rows.json.

    Returns the arguments, in which tasks.toml takes the place of --task-file. Of several processes
    the first one writes.
    """
    kept = run / TASKS_FILE
    if distributed.rank() == 0 and not kept.is_file():
        write_text(kept, text_of_run(args.task_file, tasks))
    args = replace(args, task_file=str(kept) if args.task_file else "")
    if distributed.rank() == 0:
        write_dev_rows(run, tasks)
        write_arguments(run, asdict(replace(args, resume="")))
    return args


def check_steps(run: Path, begun_with: int, now: int) -> None:
    """Raise UserError if a resumed run has another number of steps: its data has changed."""
    if begun_with != now:
        raise UserError(
            f"{run} is a run of {begun_with} steps, with the data that is there now it would be "
            f"{now}: give it the data it began with, or start a new run"
        )


def check_data(
    run: Path, begun_with: dict[str, str], files: dict[str, Path], now: dict[str, str]
) -> None:
    """Raise UserError if a file has another content than the one of its name that the run had.

    begun_with, now: hashes by name.
    """
    if begun_with and len(begun_with) != len(now):
        what = f"{run} began with {len(begun_with)} files to train and evaluate on, not {len(now)}"
        raise UserError(f"{what}: give it those, or start a new run")
    if not begun_with.keys() & now.keys():  # pre-training of before 2026-11-29 numbered its files
        begun_with = dict(zip(now, begun_with.values(), strict=False))
    for name, path in files.items():
        if begun_with.get(name, now[name]) != now[name]:
            raise UserError(
                f"{path}: not what {run} began with (sha256 {now[name][:12]}, then "
                f"{begun_with[name][:12]}): give it that data again, or start a new run"
            )


def check_shared(run: Path, state: TrainState) -> None:
    """Raise UserError in all processes unless all see this folder and start at the same step.

    Machines without a shared disk would otherwise continue from different checkpoints. It waits up
    to VISIBLE_WITHIN_S for the folder.
    """
    end = time.monotonic() + VISIBLE_WITHIN_S
    while not (run / ARGS).is_file() and time.monotonic() < end:
        time.sleep(0.1)
    start = (state.step, state.assessed)  # a new run differs from one that was saved at step 0
    found = distributed.all_gather(start if (run / ARGS).is_file() else None)
    for number, other in enumerate(found):
        if other != found[0]:
            what = f"starts at step {other[0]}, process 0 at {found[0][0]}" if other else "has none"
            raise UserError(
                f"{run.absolute()}: process {number} {what}: a run's folder must be one for all "
                f"machines, on a shared disk"
            )


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


def resumed_arguments(
    saved: ScriptArgs, given: dict[str, Any], run: Path,
    resolve: Callable[[dict[str, Any]], ScriptArgs],
) -> ScriptArgs:  # fmt: skip
    """Return a run's saved arguments, changed by those given now that are in FREE_ON_RESUME.

    Others may be given as they were typed for the run, or as it has them. Raises UserError if one
    means another value.
    """
    begun = vars(saved)
    for name, value in given.items():
        if name in FREE_ON_RESUME or value == begun[name]:
            continue
        if name == "task_file" and is_copied(value, run):
            continue
        if not changes_nothing(resolve, begun, name, value):
            mend = "leave it out"
            if name in LENGTH:
                mend += f", or start a new run from this one: --model {run}"
            now, then = as_typed(value), as_typed(begun[name])
            raise UserError(f"{flag_of(name)} {now} differs from the run's {then}: {mend}")
    free = {name: value for name, value in given.items() if name in FREE_ON_RESUME}
    if free.get("use_gpu") and "device" not in free:
        free |= {"use_gpu": False, "device": "cuda"}
    return resolve({**begun, **free})


def changes_nothing(
    resolve: Callable[[dict[str, Any]], ScriptArgs], begun: dict[str, Any], name: str, value: Any
) -> bool:
    """Return whether a run's arguments resolve to the same ones if `name` has this value."""
    try:
        return vars(resolve({**begun, name: value})) == vars(resolve(begun))
    except UserError:  # it does not go with the others, which did go together
        return False
