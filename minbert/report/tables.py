"""Tables in HTML and Markdown; every chart has one of its numbers, to be read aloud."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from minbert.report.charts import Series, short


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], label: str) -> str:
    """Lay out a table; the first column names the row."""
    cells = "".join(f'<th scope="col">{escape(h)}</th>' for h in head)
    lines = [f"<tr>{cells}</tr>"]
    for first, *rest in rows:
        row = "".join(f"<td>{escape(str(cell))}</td>" for cell in rest)
        lines.append(f'<tr><th scope="row">{escape(str(first))}</th>{row}</tr>')
    return scrolling(f"<table>{''.join(lines)}</table>", label)


def scrolling(inside: str, label: str) -> str:
    """Let what is too wide for the window scroll by itself, by keyboard too."""
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(label)}">{inside}</div>'
    )


def details(summary: str, inside: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{inside}</details>"


def charts(drawn: Sequence[tuple[str, str, str]]) -> str:
    """Lay out (title, svg, table), side by side; the tables folded."""
    return beside(
        f"<figure><figcaption>{escape(title)}</figcaption>{svg}"
        f"{details(f'{title}: the numbers', numbers)}</figure>"
        for title, svg, numbers in drawn
        if svg
    )


def beside(parts: Iterable[str]) -> str:
    """Put parts side by side where there is room; nothing if there is nothing."""
    inside = "".join(parts)
    return f'<div class="charts">{inside}</div>' if inside else ""


def line_table(title: str, series: Sequence[Series], x_name: str) -> str:
    """Lay out a row for every x, a column for every run."""
    columns = [dict(one.points) for one in series]
    rows = [
        (f"{x:.10g}", *(short(column[x]) if x in column else "-" for column in columns))
        for x in sorted({x for column in columns for x in column})
    ]
    return table((x_name, *(one.name for one in series)), rows, title)


def scatter_table(title: str, series: Sequence[Series]) -> str:
    """Sum up predictions by the gold score, rounded: a row a point would be too long."""
    rows = []
    for one in series:
        near: dict[int, list[float]] = {}
        for gold, predicted in one.points:
            near.setdefault(round(gold), []).append(predicted)
        for gold, values in sorted(near.items()):
            mean = sum(values) / len(values)
            numbers = (short(round(v, 3)) for v in (mean, min(values), max(values)))
            rows.append((one.name, gold, len(values), *numbers))
    return table(("run", "gold", "rows", "mean predicted", "lowest", "highest"), rows, title)


def confusion_table(run: str, f: dict[str, Any]) -> str:
    """Lay out gold by predicted classes; the darker a cell, the larger its share of the row."""
    lines = [
        "".join(f'<th scope="col">{escape(n)}</th>' for n in ("gold / predicted", *f["names"]))
    ]
    for name, counts in zip(f["names"], f["confusion"], strict=True):
        total = sum(counts) or 1
        cells = (
            f'<td class="share" style="--share:{count / total:.2f}">{count}</td>'
            for count in counts
        )  # fmt: skip
        lines.append(f'<th scope="row">{escape(name)}</th>' + "".join(cells))
    label = f"Confusion matrix of {run}"
    rows = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<h3>{escape(label)}</h3>" + scrolling(f"<table>{rows}</table>", label)


def worst_table(run: str, f: dict[str, Any], opened: bool) -> str:
    """List the rows that a model is most wrong about."""
    sure = "confidence" in f["worst"][0]
    head = ("text", "gold", "predicted", *(["confidence"] if sure else []), "id")
    rows = []
    for w in f["worst"]:
        texts = " / ".join(w["texts"])
        more = [w["confidence"]] if sure else []
        rows.append((texts, w["gold"], w["predicted"], *more, w["id"]))
    inside = f'<div class="texts">{table(head, rows, f"Worst rows of {run}")}</div>'
    what = "most confident mistakes" if sure else "largest differences"
    if opened:
        return f"<h3>{escape(run)}: {what}</h3>{inside}"
    return details(f"{run}: {what}", inside)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; the first row is its head."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "| --- " * len(rows[0]) + "|", *lines[1:]])
