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
ARGS = "args.json"
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
        if (root / name).exists():
            raise UserError(f"{root / name} exists: --resume {name} goes on, another --name is new")
        return root / name
    number, run = 1, root / default
    while run.exists():
        number += 1
        run = root / f"{default}-{number}"
    return run


def find_run(root: Path, name: str) -> Path:
    """A run to resume, by its directory or its name."""
    for run in (Path(name), root / name):
        if (run / ARGS).is_file():
            return run
    raise UserError(f"--resume {name}: no {ARGS} in {name} or {root / name}; give a run's folder")


@contextmanager
def alone_in(run: Path) -> Iterator[None]:
    """Within it no other command trains in this folder: UserError when one does.

    The system lets go of it with the process, however that ends.
    """
    if fcntl is None or distributed.rank() > 0:
        yield
        return
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("w") as file:
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


def keep_file(path: Path, run: Path, name: str) -> Path:
    """A copy in the run's folder. Of several processes the first one writes."""
    kept = run / name
    if distributed.rank() == 0:
        run.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(path.read_bytes())
    return kept


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
