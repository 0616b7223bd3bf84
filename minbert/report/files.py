"""A run's folder -> what the page needs of it; the page -> a file."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minbert.errors import UserError
from minbert.report.page import Run, page
from minbert.run.runlog import read_log

LOG, FINDINGS, REPORT = "log.jsonl", "findings.json", "report.html"


def read_runs(folder: Path) -> list[Run]:
    """The run in a folder, or those inside it: one task each, one seed each, or both."""
    if (folder / LOG).is_file():
        return [read_run(folder, folder.name)]
    logs = (path for depth in ("*", "*/*") for path in folder.glob(f"{depth}/{LOG}"))
    inside = sorted(path.parent for path in logs)
    if not inside:
        raise UserError(f"{folder}: no {LOG} in it; give a run's folder, as checkpoints/NAME")
    return [read_run(path, f"{folder.name}/{path.relative_to(folder)}") for path in inside]


def read_run(folder: Path, name: str) -> Run:
    """args.json, log.jsonl and, if there are predictions, findings.json."""
    args, findings = _json(folder / "args.json"), _json(folder / FINDINGS)
    return Run(name, args, read_log(folder / LOG), findings)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: cannot be read ({error})") from error


def write_page(runs: Sequence[Run], path: Path) -> None:
    """Whole or not at all."""
    new = path.with_name(path.name + ".new")
    try:
        new.write_text(page(runs), encoding="utf-8")
        os.replace(new, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def write_report(folder: Path) -> None:
    """report.html of one run or of several, in their folder."""
    write_page(read_runs(folder), folder / REPORT)
