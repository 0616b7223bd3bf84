"""Draw the results, each figure for a light and for a dark page: python -m experiments.figures

Everything comes from results.json: no run is needed. The background is transparent.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from experiments.results import PaperRecord, Result, Stage, read_record
from minbert.cli import arg, parse_arguments, run_script
from minbert.errors import UserError
from tasks import TASKS

FIGURES = "figures"
GAP = 0.06  # between two labels of the forgetting figure, as a score
STYLE = {
    "font.size": 10,
    "svg.hashsalt": "minbert",  # the same picture is the same file
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Args:
    """Where results.json is, beside which the figures go."""

    results: str = arg("experiments", "folder with results.json")


@dataclass(frozen=True)
class Theme:
    """The colours of a page; the tasks' are Okabe and Ito's, which the colour-blind tell apart."""

    name: str
    ink: str
    soft: str
    edge: str
    tasks: tuple[str, ...]


THEMES = (
    Theme("light", "#1b1f24", "#57606a", "#d0d7de", ("#b85c00", "#0072b2", "#00795a", "#a3487e")),
    Theme("dark", "#e6edf3", "#9aa5b1", "#30363d", ("#e69f00", "#56b4e9", "#2fc39b", "#e08fc0")),
)


def figure_names(title: str) -> dict[str, str]:
    """Return a figure's file names by theme; a table's begin with its number."""
    stem = title.split(":")[0].lower().replace(" ", "-")
    return {theme.name: f"{stem}-{theme.name}.svg" for theme in THEMES}


def draw_figures(record: PaperRecord, folder: Path) -> list[Path]:
    """Draw a dot plot of every table and the forgetting of sequential training; return the files.

    Raises UserError without matplotlib.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise UserError('figures need matplotlib: pip install -e ".[figures]"') from error
    drawn: dict[str, Callable[[Theme], Any]] = {}
    for title in record.tables:
        own = [r for r in record.results if r.table == title and r.scores]
        if own:
            drawn[title] = lambda theme, own=own: dot_plot(record, own, theme)
    if record.stages:
        drawn["forgetting"] = lambda theme: forgetting_plot(record, theme)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for title, draw in drawn.items():
        for theme in THEMES:
            colours = {
                "text.color": theme.ink, "axes.edgecolor": theme.edge, "axes.labelcolor": theme.ink,
                "xtick.color": theme.soft, "ytick.color": theme.soft,
                "ytick.labelcolor": theme.ink, "grid.color": theme.edge,
            }  # fmt: skip
            path = folder / figure_names(title)[theme.name]
            with matplotlib.rc_context(STYLE | colours):
                figure = draw(theme)
                figure.savefig(path, transparent=True, metadata={"Date": None})
            paths.append(path)
    return paths


def dot_plot(record: PaperRecord, results: list[Result], theme: Theme) -> Any:
    """Draw a table: a column of dots for every task, ours with its interval, the paper's hollow."""
    from matplotlib.figure import Figure

    table = record.tables[results[0].table]
    columns = [c for c in table.columns if any(r.column == c for r in results)]
    marks = {
        r.row: r.row + (" *" if r.ours else "") + (" †" if r.is_small else "") for r in results
    }
    rows = list(reversed(marks))  # the first is at the top
    figure = Figure(figsize=(8, 0.3 * len(rows) + 1.3), layout="constrained")
    every = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axes, column in zip(every, columns, strict=True):
        for result in (r for r in results if r.column == column):
            counts = table.small_rows if result.is_small else table.rows
            dev_rows = counts[task_title(column)][1]
            handles = draw_result(axes, result, rows.index(result.row), dev_rows, theme)
        axes.set_title(column, fontsize=10, fontweight="bold", loc="left")
        axes.grid(linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        axes.margins(x=0.12)
        axes.locator_params(axis="x", nbins=4)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_yticks(range(len(rows)), [marks[row] for row in rows])
    of_seeds = [len(result.scores) > 1 for result in results]
    ends = ["spread of the seeds"] if any(of_seeds) else []
    ends += [] if all(of_seeds) else ["95 % interval of the dev rows"]
    figure.legend(
        handles, [f"this repository, {' or '.join(ends)}", "the paper"],
        loc="outside upper left", ncols=2, frameon=False,
    )  # fmt: skip
    return figure


def draw_result(axes: Any, result: Result, place: int, dev_rows: int, theme: Theme) -> list[Any]:
    """Draw one cell of a table at a height; return its marks, ours and the paper's."""
    mean, ours, papers = result.mean, theme.tasks[1], theme.tasks[0]
    low, high = interval(result, dev_rows)
    (dot, *_) = axes.errorbar(
        mean, place, xerr=[[mean - low], [high - mean]], fmt="o", color=ours, markersize=6,
        elinewidth=1.6,
    )  # fmt: skip
    (mark,) = axes.plot(
        math.nan if result.paper is None else result.paper, place, "D", markersize=6,
        markerfacecolor="none", markeredgecolor=papers, markeredgewidth=1.4,
    )  # fmt: skip
    return [dot, mark]


def interval(result: Result, rows: int) -> tuple[float, float]:
    """Return a result's interval: its seeds' spread or, of one seed, 95 % over `rows` dev rows.

    An accuracy's is the binomial one, a correlation's Fisher's.
    """
    mean = result.mean
    if len(result.scores) > 1:
        return mean - result.spread, mean + result.spread
    if any(t.is_regression for t in TASKS.values() if t.title == task_title(result.column)):
        half = 1.96 / math.sqrt(max(rows - 3, 1))
        if abs(mean) == 1:
            return mean, mean
        return math.tanh(math.atanh(mean) - half), math.tanh(math.atanh(mean) + half)
    half = 1.96 * math.sqrt(mean * (1 - mean) / rows)
    return mean - half, mean + half


def task_title(column: str) -> str:
    """Return whose scores a column has: "Quora, calibrated" are Quora's."""
    return column.split(",")[0]


def forgetting_plot(record: PaperRecord, theme: Theme) -> Any:
    """Draw every task's score from stage to stage, and at the right what parallel training ends at.

    Both are of the first seed, parallel at its last step if that was kept. Each line has its name
    and score at its end, and the score of the stage that trained it.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.9), layout="constrained")
    axes = figure.subplots()
    titles, last = list(record.stages[0].scores), len(record.stages) - 1
    unit, crowded = max(last / 3, 1.0), last > 6  # unit: as wide as one of three stages
    place = last + 1.2 * unit  # of the parallel run's levels
    of_parallel = [r for r in record.results if r.row == "parallel" and r.scores]
    parallel = {r.column: next(iter((r.last or r.scores).values())) for r in of_parallel}
    for title, colour in zip(titles, theme.tasks, strict=False):
        scores = [stage.scores[title] for stage in record.stages]
        axes.plot(scores, "o-", color=colour, linewidth=2.2, markersize=5)
        for x in range(1, 0 if crowded else last):
            if trained_task(record.stages[x]) == title:
                label_point(axes, record.stages[x], title, x, colour)
        if title in parallel:
            ends = [place - 0.25 * unit, place + 0.25 * unit]
            axes.plot(ends, [parallel[title]] * 2, color=colour, linewidth=3)
    for x, scores in ((last, record.stages[-1].scores), (place + 0.25 * unit, parallel)):
        for title, y in spread_out(scores).items():
            text = f"{title} {score_label(scores[title])}"
            colour = theme.tasks[titles.index(title)]
            axes.text(x + 0.1 * unit, y, text, color=colour, va="center", fontweight="bold")
    border = place - 0.4 * unit
    axes.axvline(border, color=theme.edge, linewidth=1)
    for x, text in ((0, "Sequential: one task after another"), (border, "  Parallel: in turn")):
        axes.text(x, 1.02, text, transform=axes.get_xaxis_transform(), fontweight="bold")
    axes.set_xticks(range(last + 1), [stage_label(stage, crowded) for stage in record.stages])
    axes.tick_params(length=0)
    axes.tick_params(axis="x", rotation=90 if crowded else 0)
    axes.set_xlim(-0.2 * unit, place + 1.1 * unit)
    axes.margins(y=0.1)  # room for labels above the highest points
    axes.set_ylabel("dev score (accuracy; STS: Pearson's r)")
    axes.grid(axis="y", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure


def label_point(axes: Any, stage: Stage, title: str, x: int, colour: str) -> None:
    """Write a task's score above its point; below it where another task's point is above."""
    score = stage.scores[title]
    side = -1 if any(0 < other - score < GAP for other in stage.scores.values()) else 1
    axes.annotate(
        score_label(score), (x, score), xytext=(0, 8 * side), textcoords="offset points",
        ha="center", va="bottom" if side > 0 else "top", color=colour,
    )  # fmt: skip


def score_label(score: float) -> str:
    """Write a score as the tables of the README do: .475"""
    return f"{score:.3f}".replace("0.", ".")


def trained_task(stage: Stage) -> str:
    """Return the title of the task that a stage of sequential training was of; "" before it."""
    name = stage.name.split()[-1]
    return TASKS[name].title if name in TASKS else ""


def stage_label(stage: Stage, crowded: bool) -> str:
    """Write what has just been trained, for the axis, in two lines where there is room."""
    title = trained_task(stage)
    label = f"after {title}" if title else stage.name
    return label if crowded else label.replace(" ", "\n")


def spread_out(scores: dict[str, float], gap: float = GAP) -> dict[str, float]:
    """Move scores apart that are closer than `gap`, each of two as far, their order kept."""
    moved = dict(scores)
    order = sorted(moved, key=lambda name: moved[name])
    for _ in range(100):
        for low, high in pairwise(order):
            lacking = max(0.0, gap - (moved[high] - moved[low]))
            moved[low] -= lacking / 2
            moved[high] += lacking / 2
    return moved


def main(argv: list[str]) -> int:
    """Draw the figures anew, out of results.json."""
    args = parse_arguments(Args, argv, __doc__)
    folder = Path(args.results)
    for path in draw_figures(read_record(folder), folder / FIGURES):
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    run_script(main)
