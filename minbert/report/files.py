"""Reading the runs' folders for the page, and writing it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minbert.errors import UserError
from minbert.files import read_json, read_json_lines, write_text
from minbert.report.page import Run, page

LOG, FINDINGS, REPORT = "log.jsonl", "findings.json", "report.html"
# Keys of findings.json in runs of before 2026-12, and what they are called since.
RENAMED = {"right": "gold", "sure": "confidence", "calibration": "reliability"}


def read_runs(folder: Path) -> list[Run]:
    """Return the run in a folder, or the runs inside it: one task each, one seed each, or both.

    Raises UserError for a folder without any.
    """
    if (folder / LOG).is_file():
        return [read_run(folder, folder.name)]
    logs = (path for depth in ("*", "*/*") for path in folder.glob(f"{depth}/{LOG}"))
    inside = sorted(path.parent for path in logs)
    if not inside:
        raise UserError(f"{folder}: no {LOG} in it; give a run's folder, as checkpoints/NAME")
    return [read_run(path, f"{folder.name}/{path.relative_to(folder)}") for path in inside]


def read_run(folder: Path, name: str) -> Run:
    """Read args.json, log.jsonl and, if there are predictions, findings.json."""
    args, findings = (
        read_json(path) if path.is_file() else {}
        for path in (folder / "args.json", folder / FINDINGS)
    )
    return Run(name, args, read_json_lines(folder / LOG), renamed(findings))


def renamed(found: Any) -> Any:
    """Return findings with the present names of their keys."""
    if isinstance(found, dict):
        return {RENAMED.get(key, key): renamed(value) for key, value in found.items()}
    return [renamed(value) for value in found] if isinstance(found, list) else found


def write_page(runs: Sequence[Run], path: Path) -> None:
    """Write the page whole or not at all. Raises UserError where it cannot be written."""
    try:
        write_text(path, page(runs))
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def write_report(folder: Path) -> None:
    """Write report.html of one run or of several, in their folder."""
    write_page(read_runs(folder), folder / REPORT)
