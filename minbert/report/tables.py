"""Tables in HTML and Markdown; every chart has one of its numbers, for screen readers too."""

import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from minbert.report.charts import Figure, Series, short
from minbert.report.task_findings import TaskFindings
from minbert.task.classes import scores_to_show

CODE = re.compile("`[^`]*`")  # of Markdown, which reads no entities in it


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], label: str) -> str:
    """Return an HTML table; the first column names the row."""
    cells = "".join(f'<th scope="col">{escape(h)}</th>' for h in head)
    lines = [f"<tr>{cells}</tr>"]
    for first, *rest in rows:
        row = "".join(f"<td>{escape(str(cell))}</td>" for cell in rest)
        lines.append(f'<tr><th scope="row">{escape(str(first))}</th>{row}</tr>')
    return scrolling(f"<table>{''.join(lines)}</table>", label)


def scrolling(inside: str, label: str) -> str:
    """Return a part that scrolls, by keyboard too, if it is wider than the window."""
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(label)}">{inside}</div>'
    )


def details(summary: str, inside: str) -> str:
    """Return a part that is folded until its summary is clicked."""
    return f"<details><summary>{escape(summary)}</summary>{inside}</details>"


def figures(drawn: Sequence[Figure]) -> str:
    """Return figures of (title, drawing, table) side by side, the tables folded."""
    return beside(
        f"<figure><figcaption>{escape(title)}</figcaption>{svg}"
        f"{details(f'{title}: the numbers', numbers)}</figure>"
        for title, svg, numbers in drawn
        if svg
    )


def beside(parts: Iterable[str]) -> str:
    """Return parts side by side if the window is wide enough; nothing if there are none."""
    inside = "".join(parts)
    return f'<div class="charts">{inside}</div>' if inside else ""


def line_table(title: str, series: Sequence[Series], x_name: str) -> str:
    """Return a table with a row for every x and a column for every run."""
    columns = [dict(one.points) for one in series]
    rows = [
        (f"{x:.10g}", *(short(column[x]) if x in column else "-" for column in columns))
        for x in sorted({x for column in columns for x in column})
    ]
    return table((x_name, *(one.name for one in series)), rows, title)


def scatter_table(title: str, series: Sequence[Series]) -> str:
    """Return a table of the predictions by rounded gold score; a row a point would be too long.

    Scores are rounded, halves up, to a power of ten that is at most half of their range: 1 from 0
    to 5.
    """
    every = [gold for one in series for gold, _ in one.points]
    span = max(every, default=0) - min(every, default=0)
    unit = 10.0 ** math.floor(math.log10(span / 2)) if span else 0.0  # 0: all are one score
    rows = []
    for one in series:
        near: dict[float, list[float]] = {}
        for gold, predicted in one.points:
            # .15 / .1 is a little less than 1.5
            rounded = math.floor(round(gold / unit, 6) + 0.5) * unit if unit else gold
            near.setdefault(rounded, []).append(predicted)
        for gold, values in sorted(near.items()):
            mean = sum(values) / len(values)
            numbers = (short(v) for v in (mean, min(values), max(values)))
            rows.append((one.name, f"{gold:.10g}", len(values), *numbers))
    return table(("run", "gold", "rows", "mean predicted", "lowest", "highest"), rows, title)


def confusion_table(run: str, f: TaskFindings) -> str:
    """Return a table of gold by predicted classes; a darker cell is a larger share of its row."""
    lines = ["".join(f'<th scope="col">{escape(n)}</th>' for n in ("gold / predicted", *f.names))]
    for name, counts in zip(f.names, f.confusion, strict=True):
        total = sum(counts) or 1
        cells = (
            f'<td class="share" style="--share:{count / total:.2f}">{count}</td>'
            for count in counts
        )
        lines.append(f'<th scope="row">{escape(name)}</th>' + "".join(cells))
    label = f"Confusion matrix of {run}"
    rows = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<h3>{escape(label)}</h3>" + scrolling(f"<table>{rows}</table>", label)


def class_table(run: str, f: TaskFindings) -> str:
    """Return a table of precision, recall and F1 of each class; one never found is marked."""
    scores = scores_to_show(f.classes)
    rows = [
        (s.label, f"{s.rows:,}", *(f"{x:.3f}" for x in (s.precision, s.recall, s.f1)), s.note)
        for s in scores
    ]
    label = f"Classes of {run}" + (", the worst" if len(scores) < len(f.classes) else "")
    head = ("class", "count", "precision", "recall", "F1", "")
    return f"<h3>{escape(label)}</h3>" + table(head, rows, label)


def worst_table(run: str, f: TaskFindings, opened: bool) -> str:
    """Return a table of the rows with the largest errors; folded unless `opened`."""
    titles = {"confidence": "most confident mistakes", "mistakes": "most mistakes"}
    more = [key for key in titles if getattr(f.worst[0], key) is not None]
    keys = ("gold", "predicted", *more, "id")
    # of a siamese yes/no task, which has no probabilities
    names = {} if f.reliability else {"confidence": "cosine from threshold"}
    head = ("text", *(names.get(key, key) for key in keys))
    rows = [
        (" / ".join(row.texts), *("-" if (x := getattr(row, key)) is None else x for key in keys))
        for row in f.worst
    ]
    inside = f'<div class="texts">{table(head, rows, f"Worst rows of {run}")}</div>'
    title = f"{run}: {titles[more[0]] if more else 'largest differences'}"
    return f"<h3>{escape(title)}</h3>{inside}" if opened else details(title, inside)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; the first row is its head.

    Cells are text, not HTML; what is in backticks stands as it is.
    """

    def line(row: Sequence[str]) -> str:
        shown = (cell if CODE.fullmatch(cell) else escape(cell, quote=False) for cell in row)
        cells = (cell.replace("|", "\\|") for cell in shown)
        return f"| {' | '.join(cells)} |"

    head, *body = map(line, rows)
    return "\n".join([head, "| --- " * len(rows[0]) + "|", *body])
