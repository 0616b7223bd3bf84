"""Reading the runs' folders for the page, and writing it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minbert.errors import UserError
from minbert.files import parse_json_line, read_json, read_json_lines, write_text
from minbert.report.page import page
from minbert.report.runs import LARGEST, LoggedRun
from minbert.report.task_findings import TaskFindings
from minbert.task.run_files import ARGS, LOG, read_arguments
from minbert.typed import parse

FINDINGS, REPORT = "findings.json", "report.html"
# What the page needs of the lines of a log, by their event.
LINES: dict[str, dict[str, Any]] = {
    "step": {"step": int, "loss": float | None, "lr": float, "tokens": int},
    "dev": {"step": int, "stage": str, "scores": dict[str, dict[str, float]], "overall": float},
    "held-out": {"step": int, "accuracy": float, "perplexity": float},
}
# What it reads of them if it is there.
OPTIONAL: dict[str, dict[str, Any]] = {
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
    if line["event"] == "dev" and not all(line["scores"].values()):
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
        raise UserError(f"{where}: the number {str(value)[:60]} is out of range")


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


def read_findings(path: Path) -> dict[str, TaskFindings]:
    """Return what findings.json has, by task. Raises UserError for what no run writes."""
    saved = read_json(path)
    check_numbers(saved, str(path))
    by_task = parse(dict[str, dict[str, Any]], saved, str(path))
    return {n: TaskFindings.from_json(own, f"{path}: {n}") for n, own in by_task.items()}


def read_runs(folder: Path) -> list[LoggedRun]:
    """Return the run in a folder, or the runs inside it: one task each, one seed each, or both.

    Raises UserError for a folder without any.
    """
    if (folder / LOG).is_file():
        return [read_run(folder, folder.resolve().name)]
    logs = (path for depth in ("*", "*/*") for path in folder.glob(f"{depth}/{LOG}"))
    inside = sorted(path.parent for path in logs)
    if not inside:
        raise UserError(f"{folder}: no {LOG} in it; give a run's folder, as checkpoints/NAME")
    name = folder.resolve().name
    return [read_run(path, f"{name}/{path.relative_to(folder)}") for path in inside]


def read_run(folder: Path, name: str) -> LoggedRun:
    """Read args.json, log.jsonl and, if there are predictions, findings.json."""
    args = read_arguments(folder) if (folder / ARGS).is_file() else {}
    path = folder / FINDINGS
    findings = read_findings(path) if path.is_file() else {}
    return LoggedRun(name, args, read_log(folder / LOG), findings)


def write_page(runs: Sequence[LoggedRun], path: Path) -> None:
    """Write the page whole or not at all. Raises UserError where it cannot be written."""
    try:
        write_text(path, page(runs))
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def write_report(folder: Path) -> None:
    """Write report.html of one run or of several, in their folder."""
    write_page(read_runs(folder), folder / REPORT)
