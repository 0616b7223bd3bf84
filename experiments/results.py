"""What the finished runs came to: read from their logs, kept in results.json."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from experiments.jobs import FIRST_SEED, Job, RunKey
from experiments.recipes import Cell, PaperTable
from minbert.files import read_json, read_json_lines
from minbert.run.runlog import is_finished
from minbert.run_files import LOG
from minbert.training.device import (
    choose_device,
    choose_precision,
    describe_machine,
    precision_name,
)  # fmt: skip
from minbert.typed import from_json
from tasks import TASKS

RESULTS = "results.json"


def evaluations(folder: Path) -> list[dict[str, Any]]:
    """Return the dev scores of a run's log, a line for every stage."""
    return [x for x in read_json_lines(folder / LOG) if x["event"] == "dev"]


def read_score(key: RunKey, cell: Cell) -> float | None:
    """Return the task's score at the run's best step; None if the run is not finished."""
    if not is_finished(key.folder):
        return None
    lines = [line for line in evaluations(key.folder) if line["step"]]
    best = max(lines, key=chosen_by)
    return best["scores"][cell.task][cell.metric] if cell.metric else main_score(best, cell.task)


def chosen_by(line: dict[str, Any]) -> float:
    """Return what an evaluation was compared by: of runs of before 2026-11-27 the mean score."""
    return line.get("chosen_by", line["overall"])


def main_score(line: dict[str, Any], task: str) -> float:
    """Return a task's score out of a line of the log; the first metric is the main one."""
    return next(iter(line["scores"][task].values()))


@dataclass(frozen=True)
class Result:
    """One cell of a table, over the seeds that are there."""

    table: str
    row: str
    column: str
    scores: tuple[float, ...]  # by seed; empty if nothing has run
    paper: float | None
    ours: bool  # the row is not in the paper
    job: str
    is_small: bool = False  # of less data than the table's other runs have

    @property
    def mean(self) -> float:
        """The mean of the seeds."""
        return statistics.fmean(self.scores)

    @property
    def spread(self) -> float:
        """The standard deviation of the seeds; 0 for a single one."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else 0.0


def is_within_spread(difference: float, one: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether two means over seeds differ by less than their scores spread.

    With a single seed on one side it is not known, and False.
    """
    if min(len(one), len(other)) < 2:
        return False
    return abs(difference) < math.hypot(statistics.stdev(one), statistics.stdev(other))


@dataclass(frozen=True)
class Trained:
    """How much a run was trained."""

    updates: int
    passes: dict[str, float]  # over each task's set, by its title; {} of runs of before 2026-11-26


@dataclass(frozen=True)
class Stage:
    """The dev score of every task, by its title, when a stage of sequential training ends."""

    name: str
    scores: dict[str, float]


@dataclass(frozen=True)
class TableRecord:
    """Which columns a table has, and what made its scores."""

    columns: list[str]
    command: str
    seeds: int
    machine: str
    note: str = ""  # written by hand: in what these runs are not what the command makes today


@dataclass(frozen=True)
class PaperRecord:
    """Everything that RESULTS.md and the figures are made from; results.json holds it."""

    model: str
    budget: str
    rows: dict[str, list[int]]  # by the task's title: to train on and to evaluate on
    tables: dict[str, TableRecord]  # by the table's title
    results: list[Result]
    stages: list[Stage]  # of the sequential run with the first seed; empty if it has not run
    runs: dict[str, str]  # each job's command, by its name
    trained: dict[str, Trained] = field(default_factory=dict)  # by job: of fine-tuning that ran
    small_rows: dict[str, list[int]] = field(default_factory=dict)  # of results with less data

    def to_json(self) -> dict[str, Any]:
        """Return it as results.json has it."""
        return asdict(self)


def read_record(folder: Path) -> PaperRecord:
    """Return what a folder's results.json holds. Raises UserError if it is damaged."""
    path = folder / RESULTS
    return from_json(PaperRecord, read_json(path), str(path))


def gather(
    chosen: list[PaperTable], root: Path, args: Any, rows: dict[str, list[int]],
    small_rows: dict[str, list[int]],
) -> PaperRecord:  # fmt: skip
    """Read what the runs in `root` came to. rows, small_rows: as a record has them."""
    flags = f"--table {args.table} --model {args.model} --budget {args.budget} --seeds {args.seeds}"
    jobs = {job.name: job for table in chosen for job in table.jobs}
    command = f"python -m experiments.paper {flags} --data-dir DIR"
    seeds = range(FIRST_SEED, FIRST_SEED + args.seeds)
    runs = [RunKey(root, name, seed).folder for name in jobs for seed in seeds]
    machine = f"{machines_of(runs)}, torch {torch.__version__}"
    tables = {
        table.title: TableRecord(list(table.columns), command, args.seeds, machine)
        for table in chosen
    }
    return PaperRecord(
        model=args.model,
        budget=args.budget,
        rows=rows,
        tables=tables,
        results=collect(chosen, root, args.seeds),
        stages=read_stages(RunKey(root, "sequential").folder),
        runs={name: job.command(args.model) for name, job in jobs.items()},
        trained=collect_trained([job for job in jobs.values() if job.is_fine_tuning], root),
        small_rows=small_rows,
    )


def with_other_tables(record: PaperRecord, folder: Path) -> PaperRecord:
    """Return a record with the tables that results.json has beside, each with what made it.

    Those of another model, budget or number of rows are left out, which is said.
    """
    if not (folder / RESULTS).is_file():
        return record
    old = read_record(folder)
    others = {title: table for title, table in old.tables.items() if title not in record.tables}
    if not others:
        return record
    same = ("model", "budget", "rows", "small_rows")
    if differing := [name for name in same if getattr(old, name) != getattr(record, name)]:
        print(f"{folder / RESULTS}: had other {differing[0]}; its other tables are left out")
        return record
    kept = [result for result in old.results if result.table in others]
    return replace(
        record,
        tables=dict(sorted((others | record.tables).items())),
        results=sorted(kept + record.results, key=lambda result: result.table),
        stages=record.stages or old.stages,
        runs=old.runs | record.runs,
        trained=old.trained | record.trained,
    )


def collect(chosen: list[PaperTable], root: Path, seeds: int) -> list[Result]:
    """Return every cell of the tables, without scores where nothing has run."""
    found = []
    for table in chosen:
        for row in table.rows:
            for column, cell in row.cells.items():
                keys = (RunKey(root, cell.job, FIRST_SEED + i) for i in range(seeds))
                scores = tuple(s for key in keys if (s := read_score(key, cell)) is not None)
                found.append(
                    Result(
                        table.title, row.label, column, scores, cell.paper, row.ours, cell.job,
                        cell.is_small,
                    )
                )  # fmt: skip
    return found


def collect_trained(jobs: list[Job], root: Path) -> dict[str, Trained]:
    """Return how much each finished run with the first seed was trained, by job."""
    folders = {job.name: RunKey(root, job.name).folder for job in jobs}
    return {name: read_trained(folder) for name, folder in folders.items() if is_finished(folder)}


def read_trained(folder: Path) -> Trained:
    """Return how much a finished run was trained, from its log."""
    lines = read_json_lines(folder / LOG)
    updates = max(line["step"] for line in lines if line["event"] == "step")
    return Trained(updates, {TASKS[task].title: n for task, n in logged_passes(lines).items()})


def logged_passes(lines: list[dict[str, Any]]) -> dict[str, float]:
    """Return the passes over each task's set out of a log; a run may have gone on for more."""
    return next((line["passes"] for line in reversed(lines) if "passes" in line), {})


def read_stages(folder: Path) -> list[Stage]:
    """Return what each stage of a run left of every task; nothing if it is not finished."""
    if not is_finished(folder):
        return []
    return [
        Stage(line["stage"], {TASKS[t].title: main_score(line, t) for t in line["scores"]})
        for line in evaluations(folder)
    ]


def machine_now(arguments: dict[str, Any]) -> str:
    """Return what a run with these arguments is computed on here: machine, precision."""
    device = choose_device(arguments["device"])
    products = precision_name(choose_precision(arguments["precision"], device))
    return f"{describe_machine(device)}, {products} products"


def machines_of(runs: list[Path]) -> str:
    """Return what finished runs were computed on; of runs of before 2026-11-28 this machine."""
    found = [logged_machines(read_json_lines(run / LOG)) for run in runs if is_finished(run)]
    here = machine_now({"device": "auto", "precision": "auto"})
    return "; ".join(sorted(set().union(*(names or {here} for names in found)) or {here}))


def logged_machines(lines: list[dict[str, Any]]) -> set[str]:
    """Return what a run was computed on, from its log; nothing of a run of before 2026-11-28."""
    return {line["machine"] for line in lines if "machine" in line}
