"""Reading the runs' folders for the page, and writing it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minbert.errors import UserError
from minbert.files import read_json, write_text
from minbert.log_lines import check_numbers, read_log
from minbert.report.page import page
from minbert.report.runs import LoggedRun
from minbert.report.task_findings import TaskFindings
from minbert.run_files import ARGS, FINDINGS, LOG, read_arguments
from minbert.typed import parse

REPORT = "report.html"


def read_findings(folder: Path) -> dict[str, TaskFindings]:
    """Return what a run's findings.json has, by task; {} if it has made no predictions.

    Raises UserError for what no run writes.
    """
    path = folder / FINDINGS
    if not path.is_file():
        return {}
    saved = read_json(path)
    check_numbers(saved, str(path))
    by_task = parse(dict[str, dict[str, Any]], saved, str(path))
    return {n: TaskFindings.from_json(own, f"{path}: {n}") for n, own in by_task.items()}


def read_runs(folder: Path) -> list[LoggedRun]:
    """Return the run in a folder, or all runs inside it, however deep.

    Raises UserError for a folder without any.
    """
    if (folder / LOG).is_file():
        return [read_run(folder, folder.resolve().name)]
    # rglob goes into no link but the one that it begins with, as of a run on another disk
    inside = sorted(log.parent for place in folder.glob("*/") for log in place.rglob(LOG))
    if not inside:
        raise UserError(f"{folder}: no {LOG} in it; give a run's folder, as checkpoints/NAME")
    name = folder.resolve().name
    return [read_run(path, f"{name}/{path.relative_to(folder)}") for path in inside]


def read_run(folder: Path, name: str) -> LoggedRun:
    """Read args.json, log.jsonl and, if there are predictions, findings.json."""
    args = read_arguments(folder) if (folder / ARGS).is_file() else {}
    return LoggedRun(name, args, read_log(folder / LOG), read_findings(folder))


def write_page(runs: Sequence[LoggedRun], path: Path) -> None:
    """Write the page whole or not at all. Raises UserError where it cannot be written."""
    try:
        write_text(path, page(runs))
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def write_report(folder: Path) -> None:
    """Write report.html of one run or of several, in their folder."""
    write_page(read_runs(folder), folder / REPORT)
