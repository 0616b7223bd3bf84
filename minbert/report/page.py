"""One HTML page of several runs: charts and tables for phones, in light and dark colours."""

from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from typing import Any

from minbert.report.charts import Figure, Point, Series, key, line_chart, mean_points, thinned
from minbert.report.runs import LoggedRun
from minbert.report.style import STYLE
from minbert.report.tables import beside, details, figures, line_table, table
from minbert.report.task_section import task_section


def page(runs: Sequence[LoggedRun]) -> str:
    """Return the whole page."""
    names = ", ".join(run.name for run in runs)
    parts = [f"<h1>{escape(names)}</h1>"]
    if len(runs) > 1:
        keys = "".join(key(run.name, i) for i, run in enumerate(runs))
        parts.append(f'<ul class="legend">{keys}</ul>')
    parts += [
        section("Dev scores", dev_scores(runs)),
        section("Scores after every stage", beside(stages(run) for run in runs)),
        *(section(*task_section(task, runs)) for task in tasks_of(runs)),
        section("Loss", losses(runs)),
        section("Gradients of two tasks", conflicts(runs)),
        section("Learning rate and throughput", rates(runs)),
        section("Arguments", arguments(runs)),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(names)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def section(title: str, inside: str) -> str:
    """Return a section with its heading, or nothing if it is empty."""
    return f"<section><h2>{escape(title)}</h2>{inside}</section>" if inside else ""


def arguments(runs: Sequence[LoggedRun]) -> str:
    """Return a folded table of all arguments and, for several runs, one of those that differ."""
    names = list(dict.fromkeys(name for run in runs for name in run.args))
    rows = [(n, *(format_argument(run.args.get(n)) for run in runs)) for n in names]
    head = ("", *(run.name for run in runs))
    differences = ""
    if len(runs) > 1:
        differ = [row for row in rows if len(set(row[1:])) > 1]
        differences = table(head, differ, "Arguments that differ") if differ else "<p>The same.</p>"
    return differences + details("all arguments", table(head, rows, "All arguments"))


def format_argument(value: Any) -> str:
    """Return a value of args.json as text; a dash for one that is not set."""
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return "-" if value in (None, "") else str(value)


def lines(title: str, series: Sequence[Series]) -> Figure:
    """Return a chart of several runs' lines over their steps, with its numbers."""
    return title, line_chart(title, series), line_table(title, series, "step")


def over_steps(
    runs: Sequence[LoggedRun], values: Callable[[LoggedRun], list[Point]], title: str,
    thin: Callable[[list[Point]], list[Point]] = mean_points,
) -> Figure:  # fmt: skip
    """Return a chart over the steps; `values` gives a run's points, `thin` leaves fewer of them."""
    series = [Series(run.name, i, thin(values(run))) for i, run in enumerate(runs)]
    return lines(title, [one for one in series if one.points])


def tasks_of(runs: Sequence[LoggedRun]) -> list[str]:
    """Return the tasks that the runs trained on, in the order of their logs.

    Pre-training has one task, mlm, which the oldest logs do not name.
    """
    steps = (line.get("task", "mlm") for run in runs for line in run.events("step"))
    return list(dict.fromkeys(steps))


def losses(runs: Sequence[LoggedRun]) -> str:
    """Return a chart of each task's training loss."""
    return figures(
        [
            over_steps(runs, partial(losses_of, task=task), f"{task}: training loss")
            for task in tasks_of(runs)
        ]
    )


def losses_of(run: LoggedRun, task: str) -> list[Point]:
    """Return a task's training loss at every step that has one."""
    return [
        (x["step"], x["loss"])
        for x in run.events("step")
        if x.get("task", "mlm") == task and x["loss"] is not None  # null: no loss in a batch
    ]


def conflicts(runs: Sequence[LoggedRun]) -> str:
    """Return the cosines between each two tasks' gradients, of runs in joint mode.

    A chart has means of neighbouring steps; how often one is below 0 is a table.
    """
    pairs = dict.fromkeys(
        pair for run in runs for x in run.events("step") for pair in x.get("cosines", {})
    )
    if not pairs:
        return ""
    drawn = [
        over_steps(runs, partial(cosines_of, pair=pair), f"{pair}: cosine of gradients")
        for pair in pairs
    ]
    rows = [(run.name, *(share_below_0(cosines_of(run, pair)) for pair in pairs)) for run in runs]
    label = "steps with a cosine below 0"
    return figures(drawn) + table((label, *pairs), rows, label.capitalize())


def cosines_of(run: LoggedRun, pair: str) -> list[Point]:
    """Return the cosine of two tasks' gradients at every step that has one."""
    steps = run.events("step")
    return [(x["step"], x["cosines"][pair]) for x in steps if pair in x.get("cosines", {})]


def share_below_0(points: Sequence[Point]) -> str:
    """Return the share of points below 0, in words; of none a dash."""
    return f"{sum(y < 0 for _, y in points) / len(points):.0%}" if points else "-"


def dev_scores(runs: Sequence[LoggedRun]) -> str:
    """Return a table of the best step and a chart of each task's main metric."""
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
        drawn.append(lines(title, series))
    return best_steps(runs) + figures(drawn)


def best_steps(runs: Sequence[LoggedRun]) -> str:
    """Return a table of each run's best step and its scores."""
    rows = [best_step(run) for run in runs]
    head = list(dict.fromkeys(name for row in rows for name in row))
    cells = [
        [run.name, *(row.get(name, "-") for name in head)]
        for run, row in zip(runs, rows, strict=True)
    ]
    return table(("best step", *head), cells, "Best step") if head else ""


def best_step(run: LoggedRun) -> dict[str, str]:
    """Return the step that best/ holds and its scores, with intervals if there are predictions."""
    ends = [line["best"] for line in run.events("end") if line.get("best")]
    if not ends:
        return {}
    row = {"at step": f"{ends[-1]['step']:,}"}  # with a blank: no task is called so
    if ends[-1].get("is_mean"):
        row["whose weights"] = "mean of the last steps"
    for task, score in ends[-1]["scores"].items():
        row[task] = f"{score:.3f}"
        if (found := run.findings.get(task)) and found.interval:
            low, high = found.interval
            row[task] += f" ({low:.3f} to {high:.3f})"
    return row


def rates(runs: Sequence[LoggedRun]) -> str:
    """Return charts of the learning rate and of the real tokens a second in training steps."""

    def rate(run: LoggedRun) -> list[Point]:
        return [(x["step"], x["lr"]) for x in run.events("step")]

    return figures(
        [
            over_steps(runs, rate, "learning rate", thinned),
            over_steps(runs, throughput, "real tokens a second"),
        ]
    )


def throughput(run: LoggedRun) -> list[Point]:
    """Return the tokens a second of every ten lines, without the first step's: a warm-up.

    In joint mode a step has a line of each task.
    """
    lines = run.events("step")
    steps = [x for x in lines if x["step"] > lines[0]["step"] and "seconds" in x]
    points = []
    for start in range(0, len(steps) - 9, 10):
        ten = steps[start : start + 10]
        seconds = max(sum(x["seconds"] for x in ten), 1e-9)  # of a coarse clock they may be 0
        points.append((ten[-1]["step"], sum(x["tokens"] for x in ten) / seconds))
    return points


def stages(run: LoggedRun) -> str:
    """Return a table of the scores after every stage: it shows what later stages make forget.

    Those of the weights' mean stand below the weights' own.
    """
    found = run.events("dev") + run.events("mean-dev")
    evaluations = sorted(found, key=lambda line: line["step"])
    if len(evaluations) < 2:
        return ""
    tasks = list(evaluations[0]["scores"])
    rows = []
    for line in evaluations:
        scores = (line["scores"].get(task) for task in tasks)
        cells = (f"{next(iter(own.values())):.3f}" if own else "-" for own in scores)
        weights = ", mean of the weights" if line["event"] == "mean-dev" else ""
        rows.append((line["stage"] + weights, *cells))
    return table((run.name, *tasks), rows, f"Scores of {run.name} after every stage")
