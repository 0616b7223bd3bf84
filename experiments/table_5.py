"""Table 5: one model beside three, with what each ingredient brings; one-model.json holds it."""

import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.jobs import Job, JobArgs, RunKey, seeds_of
from experiments.results import machine, main_score
from minbert.data.examples import read_examples
from minbert.files import read_json, read_json_lines
from minbert.report.tables import markdown_table
from minbert.run.runlog import is_finished
from minbert.typed import from_json
from tasks import TASKS

ONE_MODEL = "one-model.json"
RAW, AVERAGED = "dev", "mean-dev"  # in a run's log
RESAMPLES = 1000
SELECTED = (
    "Dev scores of the step that is best by the mean dev score, and in brackets those of the\n"
    "last step: choosing among evaluations on the rows that are reported makes a score look\n"
    "better than it is. Below each the difference to the single tasks, with a 95 % interval by\n"
    "resampling the dev rows (paired, over all seeds that both have); one that has 0 in it may\n"
    "be luck."
)


@dataclass(frozen=True)
class Row:
    """A line of the table: for each task the jobs that it has the best one of.

    events: whose scores count, of the weights (RAW), of their mean (AVERAGED), or of both.
    """

    label: str
    jobs: dict[str, tuple[Job, ...]]
    events: tuple[str, ...] = (RAW,)


@dataclass(frozen=True)
class Scores:
    """A task's main score by seed; its difference to the single task is over the dev rows."""

    job: str
    best: list[float]  # at the best step
    last: list[float]  # at the last one
    difference: list[float] | None = None  # mean, and the ends of its interval


@dataclass(frozen=True)
class Line:
    """A row's figures. examples, minutes: of training, of a seed's run or runs, as a mean."""

    label: str
    scores: dict[str, Scores]
    examples: float
    minutes: float


@dataclass(frozen=True)
class Table5:
    """What one-model.json holds."""

    command: str
    machine: str
    lines: list[Line]
    runs: dict[str, str] = field(default_factory=dict)  # each job's command, by its name

    def to_json(self) -> dict[str, Any]:
        """Return it as one-model.json has it."""
        return asdict(self)


def read_table_5(path: Path) -> Table5:
    """Return what one-model.json holds. Raises UserError if it is damaged."""
    return from_json(Table5, read_json(path), str(path))


def gather_table_5(rows: list[Row], root: Path, args: JobArgs) -> Table5:
    """Read what the finished runs in `root` came to; the first row is what others are beside."""
    single = {task: best_job(rows[0], task, root, seeds_of(args)) for task in rows[0].jobs}
    lines = []
    for row in rows:
        scores, keys = {}, set()
        for task in row.jobs:
            job = best_job(row, task, root, seeds_of(args))
            done = finished(root, job, seeds_of(args))
            keys |= set(done)
            found = [run_scores(key, task, row.events) for key in done]
            difference = None
            if job != single[task] and all(is_best(key, row.events) for key in done):
                both = [RunKey(root, single[task].name, key.seed) for key in done]
                difference = paired_difference(task, done, both, Path(args.data_dir))
            best, last = ([pair[i] for pair in found] for i in (0, 1))
            scores[task] = Scores(job.name, best, last, difference)
        seeds = max(1, len({key.seed for key in keys}))
        examples, minutes = map(sum, zip(*map(cost, keys), strict=True)) if keys else (0, 0)
        lines.append(Line(row.label, scores, examples / seeds, minutes / seeds))
    flags = f"--model {args.model} --seeds {args.seeds} --data-dir DIR"
    jobs = {job.name: job for row in rows for runs in row.jobs.values() for job in runs}
    runs = {name: job.command(args.model) for name, job in jobs.items()}
    return Table5(f"python -m experiments.one_model {flags}", machine(), lines, runs)


def finished(root: Path, job: Job, seeds: range) -> list[RunKey]:
    """Return a job's runs that have come to their end."""
    keys = (RunKey(root, job.name, seed) for seed in seeds)
    return [key for key in keys if is_finished(key.folder)]


def best_job(row: Row, task: str, root: Path, seeds: range) -> Job:
    """Return the job with the highest mean of a task's scores; without any run the first."""

    def mean(job: Job) -> float:
        done = finished(root, job, seeds)
        found = [run_scores(key, task, row.events)[0] for key in done]
        return statistics.fmean(found) if found else -1.0

    return max(row.jobs[task], key=mean)


def evaluations(key: RunKey, events: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return a run's evaluations of these kinds after the first step."""
    lines = read_json_lines(key.folder / "log.jsonl")
    return [line for line in lines if line["event"] in events and line["step"]]


def best_of(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the evaluation with the highest mean."""
    return max(lines, key=lambda line: line["overall"])


def run_scores(key: RunKey, task: str, events: tuple[str, ...]) -> tuple[float, float]:
    """Return a task's main score at a run's best and at its last evaluation."""
    lines = evaluations(key, events)
    return main_score(best_of(lines), task), main_score(lines[-1], task)


def is_best(key: RunKey, events: tuple[str, ...]) -> bool:
    """Return whether best/, which the run's predictions are of, is the best of these events."""
    chosen, best = best_of(evaluations(key, events)), best_of(evaluations(key, (RAW, AVERAGED)))
    return (chosen["step"], chosen["event"]) == (best["step"], best["event"])


def cost(key: RunKey) -> tuple[float, float]:
    """Return how many examples a run has seen, and the minutes of its steps."""
    lines = [x for x in read_json_lines(key.folder / "log.jsonl") if x["event"] == "step"]
    batch = read_json(key.folder / "args.json")["batch_size"]
    return batch * len(lines), sum(line["seconds"] for line in lines) / 60


def paired_difference(
    task: str, one: list[RunKey], other: list[RunKey], data_dir: Path
) -> list[float] | None:
    """Return the mean difference of a task's score over seeds, and its bootstrap interval.

    The same dev rows are drawn for all runs. None if a run has no predictions of them.
    """
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if is_finished(b.folder)]
    files = [[logits_of(key, task) for key in pair] for pair in pairs]
    if not pairs or not all(path.is_file() for pair in files for path in pair):
        return None
    known = TASKS[task]
    examples, _ = read_examples(known.paths("dev", data_dir), known.columns, labelled=True)
    labels = np.array([example.label for example in examples], dtype=np.float32)
    ids = [example.id for example in examples]
    decoded = [[decode(path, task, ids) for path in pair] for pair in files]
    metric, rng = known.metrics[known.main_metric], np.random.default_rng(0)

    def difference(rows: np.ndarray) -> float:
        found = [metric(a[rows], labels[rows]) - metric(b[rows], labels[rows]) for a, b in decoded]
        return statistics.fmean(found)

    n = len(labels)
    resampled = [difference(rng.integers(0, n, n)) for _ in range(RESAMPLES)]
    ends = np.percentile(resampled, [2.5, 97.5])
    return [difference(np.arange(n)), *map(float, ends)]


def logits_of(key: RunKey, task: str) -> Path:
    """Return the file of a run's outputs on a task's dev rows."""
    return key.folder / "predictions" / f"{task}-dev-logits.jsonl"


def decode(path: Path, task: str, ids: list[str]) -> np.ndarray:
    """Return a file's predictions in the order of some ids."""
    logits = {row["id"]: row["logits"] for row in read_json_lines(path)}
    return TASKS[task].decode(np.array([logits[id_] for id_ in ids], dtype=np.float32))


def table_5_text(table: Table5) -> str:
    """Return the section of RESULTS.md."""
    tasks = list(table.lines[0].scores)
    head = ["", *(TASKS[task].title for task in tasks), "seeds", "examples seen", "minutes"]
    rows = [head]
    for line in table.lines:
        seeds = min(len(scores.best) for scores in line.scores.values())
        cells = [format_scores(line.scores[task]) for task in tasks]
        many = [f"{line.examples:,.0f}", f"{line.minutes:.0f}"] if line.examples else ["-", "-"]
        rows.append([line.label, *cells, str(seeds), *many])
        if any(scores.difference for scores in line.scores.values()):
            cells = [format_difference(line.scores[task].difference) for task in tasks]
            rows.append(["less single tasks", *cells, "", "", ""])
    runs = "\n".join(f"- `{name}`: `{command}`" for name, command in table.runs.items())
    return "\n\n".join(
        [
            "## Table 5: one model beside three",
            f"All rows of all sets, written by `{table.command}` on {table.machine}; the time\n"
            "stands beside other work on the same machine.",
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
