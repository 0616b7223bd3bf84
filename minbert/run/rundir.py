"""The folder of a run: its name, which overwrites nothing, its files and who may write there."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from minbert.cli import flag_of
from minbert.errors import UserError
from minbert.files import finished_name, write_text
from minbert.locks import is_locked, locked
from minbert.parsers import arg_text
from minbert.printable import valid_unicode
from minbert.run.checkpoint import TrainState
from minbert.run.common_args import ScriptArgs
from minbert.run.resumed import resumed_arguments, saved_arguments
from minbert.run.runlog import check_tensorboard, has_trained, say_if_unfinished
from minbert.run_files import (
    ARGS,
    DEV_ROWS,
    LOG,
    TASKS_FILE,
    TEACHER_OUTPUTS,
    check_not_replaced,
    command_folder,
    write_arguments,
)
from minbert.task.dev_rows import draw_dev_rows, write_dev_rows
from minbert.task.task import Tasks
from minbert.task.taskfile import (
    check_prediction_files,
    read_task_file,
    tasks_of_run,
    text_of_run,
)
from minbert.training import distributed
from minbert.training.device import choose_device
from minbert.weights.resolve import say_if_best_is_gone

LOCK = ".lock"
# what a start leaves: these files, and folders whose files are all called so
FILES_OF_A_START = (LOCK, ARGS, TASKS_FILE, DEV_ROWS, LOG)
FOLDERS_OF_A_START = {
    TEACHER_OUTPUTS: ("*.npy", "*.npy.sha256"), "tensorboard": ("events.out.*",),
    ".last.new": ("*",),
}  # fmt: skip
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
        if (text := arg_text(value)) != valid_unicode(text):  # args.json could not be read again
            raise UserError(f"{flag_of(name)} {text!r}: not UTF-8; choose another")
    root = Path(given.get("output_dir", cls.output_dir))
    check_not_replaced(root, "--output-dir")
    if "resume" in given:
        folder = find_run(root, given["resume"])
        saved = saved_arguments(cls, folder)
        tasks = tasks_of_run(folder, saved.tasks)
        args = resumed_arguments(saved, given, folder, lambda fields: resolve(fields, tasks))
        check_machine(args)
        return replace(args, resume=given["resume"]), tasks, folder
    given, known = with_task_file(given, cls, builtin)
    args = resolve(given, known)
    check_machine(args)
    tasks = {name: known[name] for name in args.tasks}
    check_prediction_files(tasks, args.task_file)  # those of the file, and built-in ones
    tasks = draw_dev_rows(tasks, Path(args.data_dir), args.model)
    say_if_unfinished(args.model)
    if distributed.rank() == 0:
        say_if_best_is_gone(Path(args.model))
    if args.dry_run:
        return args, tasks, root
    folder = new_run(root, args.name, default_name(args), Path(args.task_file))
    return replace(args, name=folder.name), tasks, folder


def check_machine(args: ScriptArgs) -> None:
    """Raise UserError for a device or a package that is asked for and not there.

    It is before anything is written: args.json would keep the mistake.
    """
    choose_device(args.device)
    if args.tensorboard:
        check_tensorboard()


def with_task_file(
    given: dict[str, Any], cls: type[ScriptArgs], builtin: Tasks
) -> tuple[dict[str, Any], Tasks]:
    """Return what is given, where --task-file's tasks are the default, and all known tasks."""
    if not given.get("task_file"):
        return given, builtin
    data_dir = Path(given.get("data_dir", cls.data_dir))
    own = read_task_file(Path(given["task_file"]), data_dir, given.get("tasks", ()))
    if "tasks" in given and not {*own} & {*given["tasks"]}:
        raise UserError(
            f"--task-file {given['task_file']}: --tasks {','.join(given['tasks'])} has none of its "
            f"tasks, {', '.join(own)}: name one, or leave the file out"
        )
    return {"tasks": tuple(own), **given}, {**builtin, **own}


def new_run(root: Path, name: str, default: str, task_file: Path) -> Path:
    """Return root/name, or root/default, root/default-2, ... Raises UserError for a taken name.

    All processes take the first one's choice. None makes the folder before all have chosen. What a
    stopped start left there is removed: the task file must not be among it.
    """
    run = distributed.all_gather(_new_run(root, name, default))[0]
    if task_file.is_file() and task_file.resolve().parent == run.resolve():
        raise UserError(f"--task-file {task_file}: in the folder of the new run; put it elsewhere")
    # it may have been locked since it was chosen: `alone_in` will refuse it then
    if distributed.rank() == 0 and not is_locked(run / LOCK) and (left := left_behind(run)):
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
        if Path(name).name != name or name == "..":
            raise UserError(f"--name {name}: a plain name; --output-dir says where runs are kept")
        if not _is_free(root / name):
            goes_on = f"--resume {name} goes on, " if (root / name / ARGS).is_file() else ""
            raise UserError(f"{root / name} exists: {goes_on}another --name is new")
        return root / name
    number, run = 1, root / default
    while not _is_free(run):
        number += 1
        run = root / f"{default}-{number}"
    return run


def _is_free(run: Path) -> bool:
    """Return whether a new run may take a folder: it is missing, or what a stopped start left."""
    if not run.is_dir():
        return not run.exists()
    if not all(map(_is_of_a_start, run.iterdir())) or has_trained(run):
        return False
    return not is_locked(run / LOCK)  # by another command that is starting a run in it


def _is_of_a_start(path: Path) -> bool:
    """Return whether a stopped start may have left a file or folder, by its name and what is in it.

    A new start removes what was left; a run that a user moved there must not be removed with it.
    """
    if path.is_symlink():  # to what is the user's
        return False
    if not path.is_dir():
        return finished_name(path.name) in FILES_OF_A_START
    patterns = FOLDERS_OF_A_START.get(path.name, ())
    return bool(patterns) and all(
        not file.is_dir() and any(fnmatch(finished_name(file.name), p) for p in patterns)
        for file in path.iterdir()
    )


def find_run(root: Path, name: str) -> Path:
    """Return the folder of a run to resume. Raises UserError if neither path has one.

    name: the folder itself, or a name in `root`.
    """
    for run in (Path(name), root / name):
        if (run / ARGS).is_file():
            return run
    for run in (Path(name), root / name):
        if (run / LOCK).is_file() and is_locked(run / LOCK):
            raise UserError(f"--resume {name}: {run} is being started by another command")
        if (run / LOCK).is_file() and _is_free(run):
            whole = command_folder(run)
            mend = f"--resume {whole} begins it" if whole != run else "give its command again"
            raise UserError(f"--resume {name}: {run} stopped before its first checkpoint: {mend}")
    raise UserError(f"--resume {name}: no {ARGS} in {name} or {root / name}; give a run's folder")


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

    Returns the arguments, in which tasks.toml takes the place of --task-file. Only process 0
    writes.
    """
    kept = run / TASKS_FILE
    if distributed.rank() == 0 and not kept.is_file():
        write_text(kept, text_of_run(args.task_file, tasks))
    args = replace(args, task_file=str(kept) if args.task_file else "")
    if distributed.rank() == 0:
        write_dev_rows(run, tasks, args.model)
        write_arguments(run, asdict(replace(args, resume="")))
    return args


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
