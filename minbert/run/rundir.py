"""The folder of a run: a new one never overwrites, a resumed one brings its own arguments."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from minbert.errors import UserError
from minbert.training import distributed

try:
    import fcntl
except ImportError:  # Windows: there nobody looks whether a run is being trained
    fcntl = None

T = TypeVar("T")
ARGS, LOCK = "args.json", ".lock"
SEEN_WITHIN_S = 60  # a network disk may show a new file to another machine that late


def new_run(root: Path, name: str, default: str) -> Path:
    """root/name, or root/default, root/default-2, ...; UserError if the name is taken.

    Of several processes all look before the first makes it, and go where that one goes.
    """
    return distributed.gathered(_new_run(root, name, default))[0]


def _new_run(root: Path, name: str, default: str) -> Path:
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
    """Not there, or left by a start that ended before it had found weights and data."""
    if not run.is_dir():
        return not run.exists()
    if not {path.name for path in run.iterdir()} <= {LOCK}:
        return False
    try:
        with alone_in(run):
            return True
    except UserError:  # another command is at its start there
        return False


def find_run(root: Path, name: str) -> Path:
    """A run to resume, by its directory or its name."""
    for run in (Path(name), root / name):
        if (run / ARGS).is_file():
            return run
    raise UserError(f"--resume {name}: no {ARGS} in {name} or {root / name}; give a run's folder")


def whole_of(run: Path) -> Path:
    """What to resume for a run: its folder, or the one around it that holds several."""
    around = [folder for folder in (run, *run.parents[:2]) if (folder / ARGS).is_file()]
    return around[-1] if around else run


@contextmanager
def alone_in(run: Path) -> Iterator[None]:
    """Within it no other command trains in this folder: UserError when one does.

    The system lets go of it with the process, however that ends.
    """
    if fcntl is None or distributed.rank() > 0:
        yield
        return
    run.mkdir(parents=True, exist_ok=True)
    with (run / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{run} is being trained by another process: wait for it") from error
        yield


def save_arguments(run: Path, args: Any) -> None:
    """args.json: every field, resolved. Of several processes the first one writes."""
    if distributed.rank() > 0:
        return
    run.mkdir(parents=True, exist_ok=True)
    (run / ARGS).write_text(json.dumps(asdict(args), indent=1) + "\n", encoding="utf-8")


def check_steps(run: Path, begun_with: int, now: int) -> None:
    """Raises UserError when a run's data, which may be elsewhere on --resume, has changed."""
    if begun_with != now:
        raise UserError(
            f"{run} is a run of {begun_with} steps, with the data that is there now it would be "
            f"{now}: give --data-dir the data it began with, or start a new run"
        )


def keep_file(path: str, run: Path, name: str) -> str:
    """A copy in the run's folder, or none of none. Of several processes the first one writes."""
    if not path:
        return ""
    kept = run / name
    if distributed.rank() == 0 and not kept.is_file():  # it is there when the run goes on
        run.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(Path(path).read_bytes())
    return str(kept)


def check_shared(run: Path, state: dict[str, Any]) -> None:
    """Raises UserError, in all processes, when not all see this folder and start at one step.

    On several machines each would otherwise go on from what its own disk happens to hold.
    """
    end = time.monotonic() + SEEN_WITHIN_S
    while not (run / ARGS).is_file() and time.monotonic() < end:
        time.sleep(0.1)
    start = (state["step"], state["assessed"])  # no checkpoint is not the same as one of step 0
    found = distributed.gathered(start if (run / ARGS).is_file() else None)
    for number, other in enumerate(found):
        if other != found[0]:
            what = f"starts at step {other[0]}, process 0 at {found[0][0]}" if other else "has none"
            raise UserError(
                f"{run.absolute()}: process {number} {what}: a run's folder must be one for all "
                f"machines, on a shared disk"
            )


def resumed_arguments(cls: type[T], run: Path, given: dict[str, Any], free: set[str]) -> T:
    """The run's saved arguments, with those given now that may change (`free`).

    Raises UserError when another one is given with another value.
    """
    try:
        saved = json.loads((run / ARGS).read_text(encoding="utf-8"))
        args = cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()})
    except (ValueError, TypeError) as error:
        raise UserError(f"{run / ARGS}: cannot be read ({error})") from error
    for name, value in given.items():
        if name not in free and value != getattr(args, name):
            flag = "--" + name.replace("_", "-")
            raise UserError(
                f"{flag} {value} differs from the run's {getattr(args, name)}: leave it out"
            )
    return cls(**{**vars(args), **{k: v for k, v in given.items() if k in free}})
