"""A table of ablations: rows of runs over seeds, each beside the first row and others."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiments.jobs import Job
from experiments.results import format_mean
from minbert.files import read_json
from minbert.report.tables import markdown_table
from minbert.typed import from_json
from tasks import TASKS

LEGEND = (
    "- Scores: dev, at the step with the best mean dev score; in brackets the last step. Choosing\n"
    "  on the rows that are reported makes a score look better than it is. `best of`: among how\n"
    "  many evaluations, for each task those of all rates and ways of reading that were tried.\n"
    "  ± is the standard deviation over seeds. Updates, passes and examples are of whole runs.\n"
    "- `less ...`: the difference to that row, with a 95 % interval by resampling the dev rows\n"
    "  (paired, over the seeds that both have). Other seeds would differ more; with one seed the\n"
    "  interval says nothing of them. ~ marks a difference below the spread over seeds, the root\n"
    "  of the sum of both sides' squared ± (where both have two or more seeds). Two equally good\n"
    "  rows differ by more than this spread in 29 % of cases with two seeds, in 16 % with three.\n"
    "  There is no correction for the number of comparisons.\n"
    "- `open` has not run. Minutes: the steps, and what is computed before the first one. Each\n"
    "  run's evaluations and dev predictions are in `runs/`."
)


@dataclass(frozen=True)
class AblationRow:
    """A line of the table: for each task some jobs, of which the best one is shown.

    is_mean: whether the scores of the weights' mean count, not those of the weights.
    beside: the label of one more row to compare with; every row is compared with the first one.
    """

    label: str
    jobs: dict[str, tuple[Job, ...]]
    is_mean: bool = False
    beside: str = ""


def jobs_of_rows(rows: list[AblationRow]) -> list[Job]:
    """Return every job once, those of the first row first: they may teach others."""
    jobs = (job for row in rows for runs in row.jobs.values() for job in runs)
    return list({job.name: job for job in jobs}.values())


@dataclass(frozen=True)
class SeedScores:
    """A task's main score by seed."""

    best: list[float]  # at the best step
    last: list[float]  # at the last one
    best_of: int  # evaluations, over all jobs that were tried

    def by_seed(self, at_last: bool) -> list[float]:
        """Return the scores at the last step, or at the best one."""
        return self.last if at_last else self.best


@dataclass(frozen=True)
class Gain:
    """The difference to another row, by task: mean, and the ends of its interval over dev rows."""

    beside: str
    at_last: bool  # of the last step's scores, not of the best one's
    by_task: dict[str, list[float] | None]


@dataclass(frozen=True)
class RowFigures:
    """A row's figures. examples, minutes: of training, of a seed's run or runs, as a mean."""

    label: str
    scores: dict[str, SeedScores]
    gains: list[Gain]
    updates: dict[str, int]  # by job
    passes: dict[str, float]  # over each task's set
    examples: float
    minutes: float
    # between two tasks' gradients, means over steps and seeds, by "a b"; {}: a step has one task
    cosines: dict[str, float] = field(default_factory=dict)
    opposed: dict[str, float] = field(default_factory=dict)  # the share of steps with one below 0


@dataclass(frozen=True)
class Ablation:
    """What a table's JSON file holds."""

    title: str
    command: str
    machines: list[str]
    lines: list[RowFigures]
    runs: dict[str, str]  # each job's command, by its name
    note: str = ""  # what its page says beside


def read_ablation(path: Path) -> Ablation:
    """Return what a table's file holds. Raises UserError if it is damaged."""
    return from_json(Ablation, read_json(path), str(path))


def ablation_text(table: Ablation) -> str:
    """Return the section of RESULTS.md."""
    tasks = list(table.lines[0].scores)
    figures = ["seeds", "best of", "updates", "passes", "examples", "minutes", "runs"]
    rows = [["", *(TASKS[task].title for task in tasks), *figures]]
    for line in table.lines:
        rows.append([line.label, *(format_scores(line.scores[task]) for task in tasks)])
        rows[-1] += format_figures(line)
        for gain in line.gains:
            label = f"less {gain.beside}{', last step' if gain.at_last else ''}"
            other = next(one for one in table.lines if one.label == gain.beside)
            cells = []
            for task, values in gain.by_task.items():
                of_both = [one.scores[task].by_seed(gain.at_last) for one in (line, other)]
                cells.append(format_gain(values, *of_both))
            rows.append([label, *cells, *[""] * len(figures)])
    on = f" on\n{'; '.join(table.machines)}" if table.machines else ""
    runs = "\n".join(f"- `{name}`: `{command}`" for name, command in table.runs.items())
    return "\n\n".join(
        [
            f"## {table.title}",
            f"Written by `{table.command}`{on}.\n"
            "Other work on the same machine may have made the minutes longer.",
            LEGEND, markdown_table(rows), *conflicts(table.lines),
            *([table.note] if table.note else []),
            "Its runs:", runs,
        ]
    )  # fmt: skip


def conflicts(lines: list[RowFigures]) -> list[str]:
    """Write how far the tasks' gradients agree, a paragraph for each row that knows it."""
    return [
        f"{line.label}: cosines between the tasks' gradients of the encoder, means over the "
        f"steps:\n{', '.join(format_cosine(line, pair) for pair in line.cosines)}. Below 0 the "
        "tasks pull against each other."
        for line in lines
        if line.cosines
    ]


def format_cosine(line: RowFigures, pair: str) -> str:
    """Write the mean cosine of two tasks' gradients, and how often it was below 0 if known."""
    often = f", below 0 in {line.opposed[pair]:.0%} of the steps" if line.opposed else ""
    return f"{line.cosines[pair]:+.3f} ({pair}{often})"


def format_figures(line: RowFigures) -> list[str]:
    """Write what a row's runs were: one value, or one for each task or run."""
    if not line.examples:
        return ["-"] * 7
    scores = line.scores.values()
    several = (
        [str(len(one.best)) for one in scores],
        [str(one.best_of) for one in scores],
        [f"{n:,}" for n in line.updates.values()],
    )
    passes = " / ".join(f"{n:.1f}" for n in line.passes.values())
    runs = ", ".join(f"`{name}`" for name in line.updates)
    return [
        *map(in_short, several),
        passes, f"{line.examples:,.0f}", f"{line.minutes:.0f}", runs,
    ]  # fmt: skip


def in_short(values: list[str]) -> str:
    """Write several values, or one that all of them are."""
    return values[0] if len({*values}) == 1 else " / ".join(values)


def format_scores(scores: SeedScores) -> str:
    """Write the mean over seeds, with its spread, of the best step and of the last."""
    if not scores.best:
        return "open"
    return f"{format_mean(scores.best)} ({statistics.fmean(scores.last):.3f})"


def format_gain(gain: list[float] | None, scores: list[float], others: list[float]) -> str:
    """Write a difference with the ends of its interval; ~ marks one within the seeds' spread."""
    if gain is None:
        return "-"
    mark = "~ " if is_within_spread(gain[0], scores, others) else ""
    return mark + "{:+.3f} [{:+.3f}, {:+.3f}]".format(*gain)


def is_within_spread(difference: float, one: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether two means over seeds differ by less than their scores spread.

    Returns False if one side has a single seed: its spread is not known.
    """
    if min(len(one), len(other)) < 2:
        return False
    return abs(difference) < math.hypot(statistics.stdev(one), statistics.stdev(other))
