"""Runs -> one HTML page: sections of charts and tables, readable on a phone and in the dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from minbert.report.charts import Series, averaged, key, line_chart, scatter
from minbert.report.style import STYLE


@dataclass(frozen=True)
class Run:
    """What is read of a run's folder."""

    name: str
    args: dict[str, Any]
    log: list[dict[str, Any]]
    findings: dict[str, dict[str, Any]]  # by task; empty without predictions

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["event"] == kind]


def page(runs: Sequence[Run]) -> str:
    """The whole file."""
    names = ", ".join(run.name for run in runs)
    parts = [f"<h1>{escape(names)}</h1>"]
    if len(runs) > 1:
        keys = "".join(key(run.name, i) for i, run in enumerate(runs))
        parts.append(f'<ul class="legend">{keys}</ul>')
    parts += [
        section("Arguments", arguments(runs)),
        section("Loss", losses(runs)),
        section("Dev scores", dev_scores(runs)),
        section("Learning rate and throughput", rates(runs)),
        section("Scores after every stage", "".join(stages(run) for run in runs)),
        *(section(*task_findings(task, runs)) for task in tasks_of(runs)),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(names)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def section(title: str, inside: str) -> str:
    """With its heading; nothing if there is nothing in it."""
    return f"<section><h2>{escape(title)}</h2>{inside}</section>" if inside else ""


def charts(drawn: Sequence[tuple[str, str]]) -> str:
    """(title, svg) side by side where there is room."""
    figures = (
        f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>"
        for title, svg in drawn
        if svg
    )
    inside = "".join(figures)
    return f'<div class="charts">{inside}</div>' if inside else ""


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], label: str) -> str:
    """The first column names the row. Wide ones scroll by themselves, by keyboard too."""
    cells = "".join(f'<th scope="col">{escape(h)}</th>' for h in head)
    lines = [f"<tr>{cells}</tr>"]
    for first, *rest in rows:
        row = "".join(f"<td>{escape(str(cell))}</td>" for cell in rest)
        lines.append(f'<tr><th scope="row">{escape(str(first))}</th>{row}</tr>')
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(label)}">'
        f"<table>{''.join(lines)}</table></div>"
    )


def details(summary: str, inside: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{inside}</details>"


def arguments(runs: Sequence[Run]) -> str:
    """All of them, folded; of several runs those that differ, open."""
    names = list(dict.fromkeys(name for run in runs for name in run.args))
    rows = [(n, *(_argument(run.args.get(n)) for run in runs)) for n in names]
    head = ("", *(run.name for run in runs))
    shown = ""
    if len(runs) > 1:
        differ = [row for row in rows if len(set(row[1:])) > 1]
        shown = table(head, differ, "Arguments that differ") if differ else "<p>The same.</p>"
    return shown + details("all arguments", table(head, rows, "All arguments"))


def _argument(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return "-" if value in (None, "") else str(value)


def over_steps(runs: Sequence[Run], values: Any, title: str, name: str, mean: bool = True) -> str:
    """values(run) -> points by step."""
    series = []
    for i, run in enumerate(runs):
        points = values(run)
        series.append(Series(run.name, i, averaged(points) if mean else points))
    return line_chart(title, [s for s in series if s.points], "step", name)


def tasks_of(runs: Sequence[Run]) -> list[str]:
    """In the order of the log; pre-training has one without a name."""
    steps = (line.get("task", "") for run in runs for line in run.events("step"))
    return list(dict.fromkeys(steps))


def losses(runs: Sequence[Run]) -> str:
    """A chart a task."""

    def of(task: str) -> Any:
        return lambda run: [
            (x["step"], x["loss"])
            for x in run.events("step")
            if x.get("task", "") == task and x["loss"] is not None  # a batch without two pairs
        ]

    return charts(
        [(f"{t or 'mlm'}: training loss", over_steps(runs, of(t), f"training loss of {t}", ""))
         for t in tasks_of(runs)]
    )  # fmt: skip


def dev_scores(runs: Sequence[Run]) -> str:
    """A chart for each task's main metric, and a table of the best step."""
    curves: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for i, run in enumerate(runs):
        for line in run.events("dev"):
            for task, scores in line["scores"].items():
                metric, value = next(iter(scores.items()))
                points = curves.setdefault(f"{task}: {metric}", {}).setdefault(i, [])
                points.append((line["step"], value))
        for line in run.events("held-out"):
            for metric in ("accuracy", "perplexity"):
                points = curves.setdefault(f"held-out tokens: {metric}", {}).setdefault(i, [])
                points.append((line["step"], line[metric]))
    drawn = []
    for title, by_run in curves.items():
        series = [Series(runs[i].name, i, points) for i, points in by_run.items()]
        drawn.append((title, line_chart(title, series, "step", "")))
    rows = [_best(run) for run in runs]
    head = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[run.name, *(row.get(n, "-") for n in head)] for run, row in zip(runs, rows)]  # noqa: B905
    best = table(("best step", *head), cells, "Best step") if head else ""
    return best + charts(drawn)


def _best(run: Run) -> dict[str, str]:
    """The scores of best/, with intervals where there are any."""
    ends = [line["best"] for line in run.events("end") if "best" in line]
    if not ends:
        return {}
    row = {"step": f"{ends[-1]['step']:,}"}
    for task, score in ends[-1]["scores"].items():
        row[task] = f"{score:.3f}"
        if interval := run.findings.get(task, {}).get("interval"):
            row[task] += f" ({interval[0]:.3f} to {interval[1]:.3f})"
    return row


def rates(runs: Sequence[Run]) -> str:
    """Learning rate, and tokens a second of wall time between the evaluations."""
    rate = over_steps(runs, lambda r: [(x["step"], x["lr"]) for x in r.events("step")],
                      "learning rate", "", mean=False)  # fmt: skip
    speed = over_steps(runs, throughput, "real tokens a second", "")
    return charts([("learning rate", rate), ("real tokens a second", speed)])


def throughput(run: Run) -> list[tuple[float, float]]:
    """Of ten steps at a time, where nothing but steps lies between them."""
    points, began, tokens, count = [], None, 0, 0
    for line in run.log:
        if line["event"] != "step":
            began = None
            continue
        if began is not None:
            tokens, count = tokens + line["tokens"], count + 1
            if count == 10 and line["time"] > began:
                points.append((line["step"], tokens / (line["time"] - began)))
        if began is None or count == 10:
            began, tokens, count = line["time"], 0, 0
    return points


def stages(run: Run) -> str:
    """What a task keeps while the others are trained: the forgetting table."""
    lines = run.events("dev")
    if len(lines) < 2:
        return ""
    tasks = list(lines[0]["scores"])
    rows = []
    for line in lines:
        scores = (next(iter(line["scores"][task].values())) for task in tasks)
        rows.append((line["stage"], *(f"{score:.3f}" for score in scores)))
    return table((run.name, *tasks), rows, f"Scores of {run.name} after every stage")


def task_findings(task: str, runs: Sequence[Run]) -> tuple[str, str]:
    """A task's heading, and what the best model of each run does with its dev set."""
    found = [(i, run, run.findings[task]) for i, run in enumerate(runs) if task in run.findings]
    if not found:
        return task, ""
    drawn = []
    for name, one in (("points", scatter), ("calibration", calibration_chart)):
        series = [Series(run.name, i, f[name]) for i, run, f in found if name in f]
        if series:
            titles = {"points": "predicted against right", "calibration": "said against seen"}
            axes = ("right", "predicted") if name == "points" else ("said", "seen")
            drawn.append((titles[name], one(titles[name], series, *axes)))
    parts = [charts(drawn)]
    for _, run, f in found:
        if "confusion" in f:
            parts.append(confusion_table(run, f))
        if "labels" in f:
            rows = [tuple(row.values()) for row in f["labels"]]
            parts.append(table(tuple(f["labels"][0]), rows, f"Labels of {run.name}"))
        if f.get("worst"):
            parts.append(worst(run, f, opened=len(found) == 1))
    return found[0][2]["title"], "".join(parts)


def calibration_chart(title: str, series: Sequence[Series], x_name: str, y_name: str) -> str:
    """How often the answer was yes where a probability was said; on the line is honest."""
    cut = [Series(s.name, s.number, [(p[0], p[1]) for p in s.points]) for s in series]
    return scatter(title, cut, x_name, y_name, marks=True)


def confusion_table(run: Run, f: dict[str, Any]) -> str:
    """Rows are right, columns predicted; the darker, the larger its share of the row."""
    lines = ["".join(f'<th scope="col">{escape(n)}</th>' for n in ("right / said", *f["names"]))]
    for name, counts in zip(f["names"], f["confusion"], strict=True):
        total = sum(counts) or 1
        cells = (
            f'<td class="share" style="--share:{count / total:.2f}">{count}</td>'
            for count in counts
        )  # fmt: skip
        lines.append(f'<th scope="row">{escape(name)}</th>' + "".join(cells))
    label = f"Confusion matrix of {run.name}"
    rows = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f"<h3>{escape(label)}</h3>"
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(label)}">'
        f"<table>{rows}</table></div>"
    )


def worst(run: Run, f: dict[str, Any], opened: bool) -> str:
    """The rows that a model is most wrong about."""
    sure = "sure" in f["worst"][0]
    head = ("text", "right", "predicted", *(["sure"] if sure else []), "id")
    rows = []
    for w in f["worst"]:
        texts = " / ".join(w["texts"])
        more = [w["sure"]] if sure else []
        rows.append((texts, w["right"], w["predicted"], *more, w["id"]))
    inside = table(head, rows, f"Worst rows of {run.name}")
    what = "most confident mistakes" if sure else "largest differences"
    if opened:
        return f"<h3>{escape(run.name)}: {what}</h3>{inside}"
    return details(f"{run.name}: {what}", inside)
