"""What is in a run's folder, and in that of several runs: names of files, args.json, places.

args.json, tasks.toml and dev_rows.json are what a run was made with. They are text, so that people
can read them and may correct them: what they say is used. args.json keeps a hash of each and a
change is reported, because a damaged disk changes them, too.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from minbert.errors import DAMAGED, UserError
from minbert.files import read_json, write_json
from minbert.manifest import MANIFEST, sha256_of
from minbert.typed import parse

ARGS = "args.json"  # the arguments a run was made with
TASKS_FILE = "tasks.toml"
LOG = "log.jsonl"
FINDINGS = "findings.json"  # what best/ gets right and wrong on dev
PREDICTIONS = "predictions"  # a folder: the answers of best/ for the dev and test files
TEACHER_OUTPUTS = "teachers"  # a folder: what teachers say of the rows that are trained on
STATE = "state.json"  # in last/: how far the training is
BEST_STEP = "step.json"  # in best/ and best-TASK/: which step they hold, and its scores
DEV_ROWS = "dev_rows.json"  # ids, if a dev set is a share of the training rows
OWN_FILES = (ARGS, TASKS_FILE, LOG, FINDINGS, DEV_ROWS)  # that are read again
HASHES = "sha256"  # in args.json: of it, tasks.toml and dev_rows.json; the oldest runs have none


def folders_of_run(folder: Path) -> list[Path]:
    """Return which folders have an args.json: of this one itself and the three around it.

    Three, as around seed-1/sst/best. [] for the name of a model.
    """
    # between the two renames that replace best/ it is no folder, but its run is one
    in_run = folder.parent != Path() and (folder.parent / ARGS).is_file()
    if not (folder.is_dir() or in_run):
        return []
    # a link, as of best/ to another disk, is in the run that it stands in
    around = (*as_written(folder).parents[:3], *folder.resolve().parents[:3])
    return [place for place in dict.fromkeys((folder, *around)) if (place / ARGS).is_file()]


def as_written(path: Path) -> Path:
    """Return a path from the root on, without `..`, whose links are not followed."""
    return Path(os.path.abspath(path))


def data_hashes(run: Path) -> dict[str, str]:
    """Return the hashes of the files that a run trains on, by name; {} if its last/ is gone."""
    path = run / "last" / STATE
    try:
        state = parse(dict[str, Any], read_json(path), str(path))
        return parse(dict[str, str], state.get("data", {}), f"{path}: data")
    except UserError:  # gone or damaged, which best/ outlives
        return {}


def is_one_by_one(arguments: dict[str, Any]) -> bool:
    """Return whether a command, by its args.json, trains every task in a folder of its own."""
    return arguments.get("mode") == "single" and len(arguments.get("tasks", ())) > 1


def runs_of(folder: Path, args: dict[str, Any]) -> list[Path]:
    """Return the folders of a command's runs: of each seed, and in it of each task alone."""
    first, count = args["seed"], args.get("seeds", 1)
    seeds = [folder / f"seed-{seed}" for seed in range(first, first + count)]
    places = seeds if count > 1 else [folder]
    return [place / t for place in places for t in args["tasks"]] if is_one_by_one(args) else places


def command_folder(run: Path) -> Path:
    """Return the folder to --resume for a run: its own or, of one of several, their command's."""
    for folder in run.parents[1::-1]:  # as of seed-1/sst, the folder that is furthest out first
        if _has_run(folder, run):
            return folder
    return run


def _has_run(folder: Path, run: Path) -> bool:
    """Return whether a run is one of a folder's; an args.json there may be another program's."""
    try:
        return (folder / ARGS).is_file() and run in runs_of(folder, read_json(folder / ARGS))
    except (UserError, KeyError, TypeError):
        return False


def write_arguments(run: Path, arguments: dict[str, Any]) -> None:
    """Write a run's args.json, beside its other two files."""
    write_json(run / ARGS, {**arguments, HASHES: _hashes(run, arguments)})


def read_arguments(run: Path) -> dict[str, Any]:
    """Return the values of a run's args.json; say so if one of the files was changed.

    Raises UserError if it is missing or damaged.
    """
    path = run / ARGS
    arguments = read_json(path)
    if not isinstance(arguments, dict):
        raise UserError(f"{path}: not an object of arguments; {DAMAGED}")
    hashes = arguments.pop(HASHES, {})
    for name, found in _hashes(run, arguments).items():
        if hashes and (not isinstance(hashes, dict) or hashes.get(name) != found):
            text = "not what the run wrote; it is used as it is now"
            print(f"{run / name}: {text}", file=sys.stderr)
    return arguments


def data_dir_of(run: Path) -> str:
    """Return the --data-dir that a run was trained with; data, if nothing says it."""
    folders = folders_of_run(run)
    return str(read_json(folders[0] / ARGS).get("data_dir", "data")) if folders else "data"


def predictions_folder(checkpoint: Path) -> Path:
    """Return where predictions of a run, or of one of its saved models, go by default.

    RUN/best-sst has them beside it, in RUN/predictions-best-sst: it is replaced as a whole.
    """
    for saved in (as_written(checkpoint), checkpoint.resolve()):  # a link, as to another disk
        if not (saved / ARGS).is_file() and (saved.parent / ARGS).is_file():
            return saved.parent / f"{PREDICTIONS}-{saved.name}"
    return checkpoint / PREDICTIONS


def check_not_replaced(path: Path, flag: str) -> None:
    """Raise UserError for a place in best/ or another folder that a run replaces as a whole.

    Also for a file that would be lost: one of the run's own, or a model's weights.
    """
    place = Path(os.path.realpath(path))
    if place.name in OWN_FILES and (place.parent / ARGS).is_file():
        raise UserError(f"{flag} {path}: the run's own file; choose another place")
    is_model = place.suffix == ".safetensors" and (place.parent / "config.json").is_file()
    if is_model and place.is_file():
        raise UserError(f"{flag} {path}: among a model's weights; choose another place")
    written = as_written(path)
    for folder in (place, *place.parents, written, *written.parents):
        if (folder / MANIFEST).is_file() and (folder.parent / ARGS).is_file():
            text = f"in {folder}, which its run replaces as a whole; choose another place"
            raise UserError(f"{flag} {path}: {text}")


def _hashes(run: Path, arguments: dict[str, Any]) -> dict[str, str]:
    """Return the hashes of the arguments, and of the files beside them that are there."""
    files = [name for name in (TASKS_FILE, DEV_ROWS) if (run / name).is_file()]
    return {ARGS: _hash_of(arguments), **{name: sha256_of(run / name) for name in files}}


def _hash_of(arguments: dict[str, Any]) -> str:
    """Return the hash of values, however they are laid out in a file."""
    return hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()
