"""The lines of log.jsonl, checked: what a reader of them may rely on."""

from pathlib import Path
from typing import Any

from minbert.errors import DAMAGED, UserError
from minbert.files import parse_json_line, read_json_lines
from minbert.typed import parse

LARGEST = 1e100  # of all numbers: a chart's axis is computed from them
SCORES = {"step": int, "stage": str, "scores": dict[str, dict[str, float]], "overall": float}
# What the report needs of a line, by its event.
LINES: dict[str, dict[str, Any]] = {
    "step": {"step": int, "loss": float | None, "lr": float, "tokens": int},
    "dev": SCORES,
    "mean-dev": SCORES,  # of the weights' mean
    "held-out": {"step": int, "accuracy": float, "perplexity": float},
}
# What it reads if it is there.
OPTIONAL: dict[str, dict[str, Any]] = {
    "start": {"steps": int},
    "resume": {"steps": int},
    "step": {"task": str, "seconds": float, "cosines": dict[str, float]},
    "end": {"best": dict[str, Any] | None},
}
BEST: dict[str, Any] = {"step": int, "scores": dict[str, float]}


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return a log's lines, checked. Raises UserError, with its number, for a damaged one."""
    lines = read_json_lines(path)
    for number, line in enumerate(lines, start=1):
        check_log_line(line, f"{path}:{number}")
    return lines


def check_log_line(line: Any, where: str) -> None:
    """Raise UserError for a value that is no line of a log."""
    if not isinstance(line, dict) or not isinstance(line.get("event"), str):
        raise UserError(f"{where}: not a line of a log; take it out")
    parse(int, line.get("step", 0), f"{where}: step")
    for key, kind in LINES.get(line["event"], {}).items():
        if key not in line:
            raise UserError(f"{where}: {key} is missing; take the line out")
        parse(kind, line[key], f"{where}: {key}")
    if LINES.get(line["event"]) is SCORES and not all(line["scores"].values()):
        raise UserError(f"{where}: a task without a score; take the line out")
    for key, kind in OPTIONAL.get(line["event"], {}).items():
        if key in line:
            parse(kind, line[key], f"{where}: {key}")
    best = line.get("best") if line["event"] == "end" else None
    if best:
        for key, kind in BEST.items():
            parse(kind, best.get(key), f"{where}: best: {key}")
    check_numbers(line, where)


def check_numbers(value: Any, where: str) -> None:
    """Raise UserError if a number somewhere in a value of JSON is not finite, or huge."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            check_numbers(part, where)
    elif isinstance(value, int | float) and not abs(value) < LARGEST:  # NaN, too
        raise UserError(f"{where}: the number {str(value)[:60]} is out of range; {DAMAGED}")


def readable_log_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the lines of a log that are whole, and how many are damaged."""
    found, damaged = [], 0
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            value = parse_json_line(line, str(path))
            check_log_line(value, str(path))
            found.append(value)
        except UserError:
            damaged += 1
    return found, damaged
