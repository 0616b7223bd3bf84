"""What the paper's tables came to: put together from the runs' records, kept in results.json."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from experiments.paper_tables import TABLE_3, Cell, PaperTable
from experiments.run_records import Evaluation, Records, RunRecord, computed_on
from minbert.files import read_json
from minbert.typed import from_json
from tasks import TASKS

RESULTS = "results.json"


@dataclass(frozen=True)
class Result:
    """One cell of a table, over the seeds that are there."""

    table: str
    row: str
    column: str
    scores: dict[str, float]  # of the best step, by seed; empty if nothing has run
    paper: float | None
    ours: bool  # the row is not in the paper
    job: str
    is_small: bool = False  # of less data than the table's other runs have
    last: dict[str, float] = field(default_factory=dict)  # of the last step; {} of older runs

    @property
    def mean(self) -> float:
        """The mean of the seeds."""
        return statistics.fmean(self.scores.values())

    @property
    def spread(self) -> float:
        """The standard deviation of the seeds, of which there are two or more."""
        return statistics.stdev(self.scores.values())

    @property
    def at_last(self) -> "Result":
        """The same cell at the last step, of which the paper has no figure."""
        return replace(self, scores=self.last, paper=None)

    @property
    def ends_elsewhere(self) -> bool:
        """Whether the last step is known to be another one than the best."""
        return bool(self.last) and self.last != self.scores


def format_mean(values: Sequence[float], sign: str = "") -> str:
    """Write the mean over seeds, with the spread of several: 0.450 ± 0.071; sign: "+" shows it."""
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):{sign}.3f}{spread}"


@dataclass(frozen=True)
class Trained:
    """How much a run was trained."""

    updates: int
    passes: dict[str, float]  # over each task's set, by its title; {} of older runs


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
    machine: str
    budget: str
    rows: dict[str, list[int]]  # by the task's title: to train on and to evaluate on
    small_rows: dict[str, list[int]]  # the same of results with less data; {} without such
    runs: dict[str, str]  # each job's command, by its name
    trained: dict[str, Trained]  # by job: of fine-tuning that ran


@dataclass(frozen=True)
class PaperRecord:
    """Everything that RESULTS.md and the figures are made from; results.json holds it."""

    model: str
    tables: dict[str, TableRecord]  # by the table's title
    results: list[Result]
    stages: list[Stage]  # of the sequential run with the first seed there is; empty if none has run


def read_record(folder: Path) -> PaperRecord:
    """Return what a folder's results.json holds. Raises UserError if it is damaged."""
    path = folder / RESULTS
    return from_json(PaperRecord, read_json(path), str(path))


def gather_tables(
    chosen: list[PaperTable], records: Records, args: Any, rows: dict[str, list[int]],
    small_rows: dict[str, list[int]],
) -> PaperRecord:  # fmt: skip
    """Put what the runs came to in the paper's tables. rows, small_rows: as a record has them."""
    about = f"--model {args.model} --budget {args.budget} --seeds {args.seeds} --data-dir DIR"
    command = f"python -m experiments.paper --table {args.table_run} {about}"
    tables, stages = {}, []
    for table in chosen:
        found = {job.name: [*records.of(job).values()] for job in table.jobs}
        first = {name: runs[0] for name, runs in found.items() if runs}
        trained = {name: Trained(run.updates, by_title(run.passes)) for name, run in first.items()}
        tables[table.title] = TableRecord(
            columns=list(table.columns),
            command=command,
            machine=computed_on([run for runs in found.values() for run in runs]),
            budget=args.budget,
            rows=rows,
            small_rows=small_rows,
            runs={job.name: job.command(args.model) for job in table.jobs},
            trained=trained,
        )
        if "sequential" in first:
            stages = stages_of(first["sequential"])
    results = [result for table in chosen for result in collect(table, records)]
    return PaperRecord(args.model, tables, results, stages)


def with_other_tables(record: PaperRecord, folder: Path) -> PaperRecord:
    """Return a record with the tables that results.json has beside, each with what made it.

    Those of another model are left out, which is said.
    """
    if not (folder / RESULTS).is_file():
        return record
    old = read_record(folder)
    others = {title: table for title, table in old.tables.items() if title not in record.tables}
    if not others:
        return record
    if old.model != record.model:
        print(f"{folder / RESULTS}: was of {old.model}; its other tables are left out")
        return record
    kept = [result for result in old.results if result.table in others]
    return replace(
        record,
        tables=dict(sorted((others | record.tables).items())),
        results=sorted(kept + record.results, key=lambda result: result.table),
        stages=old.stages if TABLE_3 in others else record.stages,
    )


def collect(table: PaperTable, records: Records) -> list[Result]:
    """Return every cell of a table, without scores where nothing has run."""
    by_name, results = {job.name: job for job in table.jobs}, []
    for row in table.rows:
        for column, cell in row.cells.items():
            runs = {str(seed): run for seed, run in records.of(by_name[cell.job]).items()}
            results.append(
                Result(
                    table.title, row.label, column,
                    {seed: score(run.best(), cell) for seed, run in runs.items()},
                    cell.paper, row.ours, cell.job, cell.is_small,
                    {seed: score(run.last(), cell) for seed, run in runs.items()},
                )
            )  # fmt: skip
    return results


def score(evaluation: Evaluation, cell: Cell) -> float:
    """Return what a cell has of an evaluation."""
    return (evaluation.at_half if cell.is_at_half else evaluation.scores)[cell.task]


def stages_of(run: RunRecord) -> list[Stage]:
    """Return what each stage of a run left of every task."""
    of_weights = (one for one in run.evaluations if not one.is_mean)
    return [Stage(one.stage, by_title(one.scores)) for one in of_weights]


def by_title(values: dict[str, float]) -> dict[str, float]:
    """Return a dict by task with each task's title in place of its name."""
    return {TASKS[task].title: value for task, value in values.items()}
