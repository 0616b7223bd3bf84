"""What became of a command, and whether a run's folder is that of the uninterrupted run."""

import json
from pathlib import Path
from typing import Any

from minbert.files import read_json_lines
from tests.forked import Outcome

DONE, REFUSED = "done", "refused"
# what must never happen, whatever a command is given
NEVER = ("traceback", "hang", "memory", "crash", "not one line", "other code")
OUT_OF_MEMORY = ("MemoryError", "allocate memory", "not enough memory", "bad_alloc", "CPUAllocator")
TIMES = ("time", "seconds", "examples_per_s", "tokens_per_s")
NOT_COMPARED = (".lock", "report.html")


def verdict(outcome: Outcome, codes: tuple[int, ...] = (0,)) -> str:
    """Return DONE, REFUSED (in one line, with exit code 2) or one of NEVER.

    codes: what the command may end with when it has done what it was told.
    """
    if outcome.code is None:
        return "hang"
    if any(words in outcome.err for words in OUT_OF_MEMORY):
        return "memory"
    if "Traceback (most recent call last)" in outcome.err:
        return "traceback"
    if outcome.code < 0:
        return "crash"
    if outcome.code in codes:
        return DONE
    if outcome.code != 2:
        return "other code"
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    return REFUSED if [outcome.error] == errors else "not one line"


def detail(outcome: Outcome) -> str:
    """Return the last line on stderr; of a traceback also the last place of ours in it."""
    lines = [line.strip() for line in outcome.err.splitlines()]
    frames = [line for line in lines if line.startswith("File ") and "site-packages" not in line]
    ours = [frame for frame in frames if "/lib/python" not in frame]
    return f"{outcome.error[:200]} {ours[-1] if ours else ''}".strip()


def differences(whole: Path, other: Path) -> list[str]:
    """Return what tells a run's folder from the uninterrupted run's; nothing: they are equal.

    All files are compared byte for byte, but the log without its times, and not the report.
    """
    one, two = files_of(whole), files_of(other)
    found = [f"missing {name}" for name in sorted(one.keys() - two.keys())]
    found += [f"left over {name}" for name in sorted(two.keys() - one.keys())]
    for name in sorted(one.keys() & two.keys()):
        if name.endswith("log.jsonl"):
            found += log_differences(one[name], two[name], name)
        elif one[name].read_bytes() != two[name].read_bytes():
            found.append(f"other {name}")
    return found


def files_of(folder: Path) -> dict[str, Path]:
    """Return the files that are compared, by their path in the folder."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): p for p in sorted(paths) if p.name not in NOT_COMPARED}


def log_differences(whole: Path, other: Path, name: str) -> list[str]:
    """Return what tells two logs apart: each step, evaluation and end must be there once."""
    one, two = events_of(whole), events_of(other)
    names = ("event", "step", "stage", "task")  # a joint step has a line for each task
    keys = [json.dumps([line.get(name) for name in names]) for line in two]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        return [f"logged twice in {name}: {twice[0]}"]
    return [] if one == two else [f"other {name}"]


def events_of(path: Path) -> list[dict[str, Any]]:
    """Return a log's lines without times, and without those of starts."""
    lines = ({k: v for k, v in x.items() if k not in TIMES} for x in read_json_lines(path))
    return [line for line in lines if line["event"] not in ("start", "resume")]
