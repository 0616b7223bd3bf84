"""A task's section of the page: what the best model of each run gets right and wrong on dev."""

from collections.abc import Sequence

from minbert.errors import DAMAGED, UserError
from minbert.log_lines import LARGEST
from minbert.metrics import decimals
from minbert.report.charts import Figure, Series, scatter
from minbert.report.runs import LoggedRun
from minbert.report.tables import (
    class_table,
    confusion_table,
    figures,
    line_table,
    scatter_table,
    table,
    worst_table,
)
from minbert.report.task_findings import TaskFindings
from minbert.task.labels import as_number

# Keys of a task's calibration in findings.json, and what they are called on the page.
CALIBRATED = {
    "ece_before": "expected calibration error",
    "ece_after": "with a temperature of the other half",
    "temperature": "temperature of all rows",
}
Found = list[tuple[int, LoggedRun, TaskFindings]]  # number, run, its findings on a task


def task_section(task: str, runs: Sequence[LoggedRun]) -> tuple[str, str]:
    """Return a task's title, and the findings on its dev set for the best model of each run."""
    found = [(i, run, run.findings[task]) for i, run in enumerate(runs) if task in run.findings]
    if not found:
        return task, ""
    drawn = [
        predicted_against_gold(found),
        reliability_diagram(found, "reliability", "reliability diagram"),
        reliability_diagram(found, "reliability_calibrated", "the same with the temperature"),
    ]
    parts = [figures(drawn), calibration_table(found)]
    if any(len(f.metrics) > 1 for _, _, f in found):
        parts.append(metrics_table(found))
    for _, run, f in found:
        if f.classes:
            parts.append(class_table(run.name, f))
        if f.confusion is not None:
            parts.append(confusion_table(run.name, f))
        if f.labels:
            rows = [tuple(row.values()) for row in f.labels]
            parts.append(table(tuple(f.labels[0]), rows, f"Labels of {run.name}"))
        if f.worst:
            parts.append(worst_table(run.name, f, opened=len(found) == 1))
    return found[0][2].title, "".join(parts)


def metrics_table(found: Found) -> str:
    """Return a table of all metrics of a task, a row for each run."""
    names = list(dict.fromkeys(name for _, _, f in found for name in f.metrics))
    rows = []
    for _, run, f in found:
        shown = (decimals(f.metrics[n]) if n in f.metrics else "-" for n in names)
        rows.append((run.name, *shown))
    return table(("best step", *names), rows, "All metrics")


def predicted_against_gold(found: Found) -> Figure:
    """Draw scores as dots; the largest differences, which a table lists, are marked."""
    title = "predicted against gold"
    with_points = [(i, run, f) for i, run, f in found if f.points is not None]
    dots = [Series(run.name, i, f.points) for i, run, f in with_points]
    marked = [
        Series(run.name, i,
               [(number(w.gold, run.name), number(w.predicted, run.name)) for w in f.worst],
               [" / ".join(w.texts) for w in f.worst])
        for i, run, f in with_points
    ]  # fmt: skip
    return title, scatter(title, dots, marked, "gold", "predicted"), scatter_table(title, dots)


def number(text: str, run: str) -> float:
    """Read a score of a run. Raises UserError for another text, as a damaged file may have."""
    value = as_number(text)
    if value is None or not abs(value) < LARGEST:  # NaN, too
        raise UserError(f"{run}: findings.json: {text!r} is not a score; {DAMAGED}")
    return value


def reliability_diagram(found: Found, name: str, title: str) -> Figure:
    """Draw observed frequency over predicted probability: if calibrated, they are equal.

    name: of the points, see `findings.predicted_and_true`.
    """
    series = [
        Series(run.name, i, [(p, share) for p, share, _ in getattr(f, name)])
        for i, run, f in found
        if getattr(f, name) is not None
    ]
    x, y = "predicted probability", "observed frequency"
    return title, scatter(title, [], series, x, y), line_table(title, series, x)


def calibration_table(found: Found) -> str:
    """Return a table of the expected calibration errors on rows of dev that were held out."""
    rows = [
        (run.name, *(f"{f.calibrated[key]:.4g}" for key in CALIBRATED))
        for _, run, f in found
        if f.calibrated
    ]
    head = ("calibration", *CALIBRATED.values())
    return table(head, rows, "Calibration") if rows else ""
