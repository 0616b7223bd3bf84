"""A table of ablations: rows of runs over seeds, each beside the first row."""

import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.jobs import Job, JobArgs, RunKey, seeds_of
from experiments.run_records import RunRecord, read_run_record
from minbert.data.examples import read_examples
from minbert.files import read_json
from minbert.report.tables import markdown_table
from minbert.typed import from_json
from tasks import TASKS

RESAMPLES = 1000
SELECTED = (
    "Dev scores of the step that is best by the mean dev score, and in brackets those of the\n"
    "last step: choosing among evaluations on the rows that are reported makes a score look\n"
    "better than it is. Below each the difference to the first row, with a 95 % interval by\n"
    "resampling the dev rows (paired, over all seeds that both have); one that has 0 in it may\n"
    "be luck. A row that is open has not run; `seeds` is how many runs a row has. Each run's\n"
    "evaluations and dev predictions are in `runs/`."
)


@dataclass(frozen=True)
class Row:
    """A line of the table: for each task the jobs that it has the best one of.

    is_mean: whose scores count, of the weights, of their mean, or (None) of both.
    """

    label: str
    jobs: dict[str, tuple[Job, ...]]
    is_mean: bool | None = False


@dataclass(frozen=True)
class Scores:
    """A task's main score by seed; its difference to the first row's is over the dev rows."""

    job: str
    best: list[float]  # at the best step
    last: list[float]  # at the last one
    difference: list[float] | None = None  # mean, and the ends of its interval


@dataclass(frozen=True)
class Line:
    """A row's figures. examples, minutes: of training, of a seed's run or runs, as a mean."""

    label: str
    scores: dict[str, Scores]
    updates: dict[str, int]  # by job
    passes: dict[str, float]  # over each task's set
    examples: float
    minutes: float


@dataclass(frozen=True)
class Ablation:
    """What a table's JSON file holds."""

    title: str
    command: str
    machines: list[str]
    lines: list[Line]
    runs: dict[str, str]  # each job's command, by its name

    def to_json(self) -> dict[str, Any]:
        """Return it as the file has it."""
        return asdict(self)


def read_ablation(path: Path) -> Ablation:
    """Return what a table's file holds. Raises UserError if it is damaged."""
    return from_json(Ablation, read_json(path), str(path))


def gather_ablation(
    title: str, module: str, rows: list[Row], root: Path, args: JobArgs
) -> Ablation:
    """Put the records of the runs that there are in a table. module: what to type for it."""
    records = Records(root, args)
    first = {task: records.best_job(rows[0], task) for task in rows[0].jobs}
    lines = []
    for row in rows:
        scores, runs, updates, passes = {}, {}, {}, {}
        for task in row.jobs:
            job = records.best_job(row, task)
            own = records.of(job)
            runs |= {(job.name, seed): record for seed, record in own.items()}
            best = [record.best(row.is_mean).scores[task] for record in own.values()]
            last = [record.last(row.is_mean).scores[task] for record in own.values()]
            # best/, which the predictions are of, has to be what this row is about
            same = all(record.best(row.is_mean) == record.best() for record in own.values())
            beside = job != first[task] and same
            difference = records.difference(task, job, first[task]) if beside else None
            scores[task] = Scores(job.name, best, last, difference)
            for record in own.values():  # the same for every seed
                updates[job.name] = record.updates
                passes |= {task: record.passes[task]} if record.passes else {}
        seeds = max(1, len({seed for _, seed in runs}))
        examples = sum(record.examples for record in runs.values()) / seeds
        minutes = sum(record.minutes for record in runs.values()) / seeds
        lines.append(Line(row.label, scores, updates, passes, examples, minutes))
    flags = f"--model {args.model} --seeds {args.seeds} --data-dir DIR"
    jobs = {job.name: job for row in rows for runs in row.jobs.values() for job in runs}
    every = [record for job in jobs.values() for record in records.of(job).values()]
    return Ablation(
        title, f"python -m {module} {flags}", sorted({record.machine for record in every}),
        lines, {name: job.command(args.model) for name, job in jobs.items()},
    )  # fmt: skip


class Records:
    """The records of a table's runs, by job and seed, and what is computed of them."""

    def __init__(self, root: Path, args: JobArgs) -> None:
        self.root, self.args = root, args
        self.known: dict[str, dict[int, RunRecord]] = {}

    def of(self, job: Job) -> dict[int, RunRecord]:
        """Return the records of a job by seed, of the seeds whose run has come to its end."""
        if job.name not in self.known:
            keys = (RunKey(self.root, job.name, seed) for seed in seeds_of(self.args))
            found = {key.seed: read_run_record(Path(self.args.results), key) for key in keys}
            self.known[job.name] = {seed: one for seed, one in found.items() if one}
        return self.known[job.name]

    def best_job(self, row: Row, task: str) -> Job:
        """Return the job with the highest mean of a task's scores; without any run the first.

        The mean is over the seeds that all of them have which have any.
        """
        tried = [self.of(job).keys() for job in row.jobs[task] if self.of(job)]
        seeds = set.intersection(*map(set, tried)) if tried else set()

        def mean(job: Job) -> float:
            found = [self.of(job)[s].best(row.is_mean).scores[task] for s in seeds if self.of(job)]
            return statistics.fmean(found) if found else -1.0

        return max(row.jobs[task], key=mean)

    def difference(self, task: str, one: Job, other: Job) -> list[float] | None:
        """Return the mean difference of a task's score over seeds, and its bootstrap interval.

        It is of the seeds that both have; None if there is none. The same dev rows are drawn for
        all runs.
        """
        seeds = self.of(one).keys() & self.of(other).keys()
        pairs = [
            (self.of(one)[s].predicted(task), self.of(other)[s].predicted(task)) for s in seeds
        ]
        if not pairs:
            return None
        known, data_dir = TASKS[task], Path(self.args.data_dir)
        examples, _ = read_examples(known.paths("dev", data_dir), known.columns, labelled=True)
        labels = np.array([example.label for example in examples], dtype=np.float32)
        metric, rng, n = known.metrics[known.main_metric], np.random.default_rng(0), len(labels)

        def mean_difference(rows: np.ndarray) -> float:
            gains = (
                metric(a[rows], labels[rows]) - metric(b[rows], labels[rows]) for a, b in pairs
            )
            return statistics.fmean(gains)

        resampled = [mean_difference(rng.integers(0, n, n)) for _ in range(RESAMPLES)]
        ends = np.percentile(resampled, [2.5, 97.5])
        return [mean_difference(np.arange(n)), *map(float, ends)]


def ablation_text(table: Ablation) -> str:
    """Return the section of RESULTS.md."""
    tasks = list(table.lines[0].scores)
    figures = ["seeds", "updates", "passes", "examples seen", "minutes"]
    rows = [["", *(TASKS[task].title for task in tasks), *figures]]
    for line in table.lines:
        seeds = min(len(scores.best) for scores in line.scores.values())
        cells = [format_scores(line.scores[task]) for task in tasks]
        updates = " / ".join(f"{n:,}" for n in line.updates.values())
        passes = " / ".join(f"{n:.1f}" for n in line.passes.values())
        many = [updates, passes, f"{line.examples:,.0f}", f"{line.minutes:.0f}"]
        rows.append([line.label, *cells, str(seeds), *(many if line.examples else "-" * 4)])
        if any(scores.difference for scores in line.scores.values()):
            cells = [format_difference(line.scores[task].difference) for task in tasks]
            rows.append([f"less {table.lines[0].label}", *cells, *[""] * len(figures)])
    runs = "\n".join(f"- `{name}`: `{command}`" for name, command in table.runs.items())
    return "\n\n".join(
        [
            f"## {table.title}",
            f"Written by `{table.command}` on\n{'; '.join(table.machines)}.\n"
            "The time stands beside other work on the same machine.",
            SELECTED, markdown_table(rows), "Its runs:", runs,
        ]
    )  # fmt: skip


def format_scores(scores: Scores) -> str:
    """Write the mean over seeds, with its spread, of the best step and of the last."""
    if not scores.best:
        return "open"
    best, last = statistics.fmean(scores.best), statistics.fmean(scores.last)
    spread = f" ± {statistics.stdev(scores.best):.3f}" if len(scores.best) > 1 else ""
    return f"{best:.3f}{spread} ({last:.3f})"


def format_difference(difference: list[float] | None) -> str:
    """Write a difference with the ends of its interval."""
    if difference is None:
        return "-"
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*difference)
