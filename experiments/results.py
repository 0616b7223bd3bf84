"""Finished runs -> RESULTS.md and results.json."""

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.recipes import QUESTIONS, Cell, Table
from minbert.files import read_json_lines as read_log
from minbert.training.device import cpu_model

OPEN = "Open: the paper's own settings (`--budget full`, all rows of Quora, on a GPU).\n"


@dataclass(frozen=True)
class RunKey:
    """One job with one seed."""

    root: Path
    job: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.job}-{self.seed}"

    @property
    def folder(self) -> Path:
        return self.root / self.name


def is_finished(folder: Path) -> bool:
    """The log's last line says so."""
    path = folder / "log.jsonl"
    return path.is_file() and any(line["event"] == "end" for line in read_log(path)[-1:])


def score(key: RunKey, cell: Cell) -> float | None:
    """The task's score at the run's best step for this metric; None while there is none."""
    if not is_finished(key.folder):
        return None
    stages = [x for x in read_log(key.folder / "log.jsonl") if x["event"] == "dev" and x["step"]]
    best = max(stages, key=lambda line: line["overall"])["scores"][cell.task]
    if cell.metric:
        return max(line["scores"][cell.task][cell.metric] for line in stages)
    return next(iter(best.values()))  # a task's first metric is its main one


@dataclass(frozen=True)
class Result:
    """One cell of a table, over the seeds that are there."""

    table: str
    row: str
    column: str
    scores: tuple[float, ...]
    paper: float | None
    ours: bool  # the row is not in the paper
    job: str

    @property
    def mean(self) -> float:
        return statistics.fmean(self.scores)

    @property
    def spread(self) -> float:
        return statistics.stdev(self.scores) if len(self.scores) > 1 else 0.0


def collect(chosen: list[Table], root: Path, seeds: int) -> list[Result]:
    """Every cell, with an empty tuple of scores where nothing has run."""
    found = []
    for table in chosen:
        for row in table.rows:
            for column, cell in row.cells.items():
                keys = (RunKey(root, cell.job, 11711 + i) for i in range(seeds))
                scores = tuple(s for key in keys if (s := score(key, cell)) is not None)
                result = Result(
                    table.title, row.label, column, scores, cell.paper, row.ours, cell.job
                )
                found.append(result)
    return found


def shown(result: Result) -> str:
    """Ours, with the spread of several seeds, and the paper's in brackets."""
    ours = f"{result.mean:.3f}" if result.scores else "open"
    if len(result.scores) > 1:
        ours += f" ± {result.spread:.3f}"
    return ours + (f" ({result.paper:.3f})" if result.paper is not None else "")


def markdown(results: list[Result], table: Table) -> str:
    """One table; a row that is not in the paper is marked."""
    own = [r for r in results if r.table == table.title]
    columns, rows = table.columns, list(dict.fromkeys(r.row for r in own))
    lines = ["| | " + " | ".join(columns) + " | runs |", "| --- " * (len(columns) + 2) + "|"]
    for row in rows:
        cells = {r.column: r for r in own if r.row == row}
        mark = " *" if next(iter(cells.values())).ours else ""
        values = [shown(cells[c]) if c in cells else "-" for c in columns]
        runs = ", ".join(f"`{j}`" for j in dict.fromkeys(r.job for r in cells.values()))
        lines.append(f"| {row}{mark} | " + " | ".join(values) + f" | {runs} |")
    return "\n".join(lines)


def write_results(chosen: list[Table], root: Path, args: Any, data: str) -> list[Result]:
    """RESULTS.md for people, results.json for programs. data: how many rows of what."""
    results = collect(chosen, root, args.seeds)
    folder = Path(args.results)
    folder.mkdir(parents=True, exist_ok=True)
    flags = f"--table {args.table} --model {args.model} --budget {args.budget} --seeds {args.seeds}"
    head = f"""# Results

Dev scores of the best step: ours, and in brackets the paper's (bert-base-uncased, all data). Rows
with * are not in the paper; `open` is what has not run. Written by

    python -m experiments.paper {flags} --data-dir DIR

on {machine()}, torch {torch.__version__}. Seeds: {args.seeds}{" (no spread)" * (args.seeds == 1)}.
Data: {data}.
{OPEN if args.budget == "cpu" else ""}"""
    parts = [head]
    for table in chosen:
        parts.append(f"## {table.title}\n\n{markdown(results, table)}\n")
    if comparisons := compared(results, chosen):
        parts.append(f"## What it says\n\n{comparisons}\n")
    if stages := stages_table(RunKey(root, "sequential", 11711).folder):
        parts.append(f"## Dev scores after every stage of sequential training\n\n{stages}\n")
    parts.append(f"## The runs\n\n{commands(chosen, args)}\n")
    (folder / "RESULTS.md").write_text("\n".join(parts), encoding="utf-8")
    rows = [asdict(r) for r in results]
    (folder / "results.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return results


def compared(results: list[Result], chosen: list[Table]) -> str:
    """Every question's difference between two rows, by column, and the paper's in brackets."""
    columns = list(dict.fromkeys(column for table in chosen for column in table.columns))
    by_row = {(r.row, r.column): r for r in results if r.scores}
    lines = []
    for question in QUESTIONS:
        cells = []
        for column in columns:
            one = by_row.get((question.row, column))
            # the calibrated column of a row without a threshold is its only one
            plain = by_row.get((question.against, column.split(",")[0]))
            other = by_row.get((question.against, column), plain)
            cells.append(difference(one, other) if one and other else "-")
        if any(cell != "-" for cell in cells):
            name = f"{question.text} {question.row} less {question.against}".strip()
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if not lines:
        return ""
    head = ["| | " + " | ".join(columns) + " |", "| --- " * (len(columns) + 1) + "|"]
    return "\n".join([*head, *lines])


def difference(one: Result, other: Result) -> str:
    shown = f"{one.mean - other.mean:+.3f}"
    if one.paper is None or other.paper is None:
        return shown
    return f"{shown} ({one.paper - other.paper:+.3f})"


def stages_table(folder: Path) -> str:
    """What each stage of a run leaves of every task."""
    if not is_finished(folder):
        return ""
    stages = [x for x in read_log(folder / "log.jsonl") if x["event"] == "dev"]
    tasks = list(stages[0]["scores"])
    lines = ["| after | " + " | ".join(tasks) + " |", "| --- " * (len(tasks) + 1) + "|"]
    for stage in stages:
        values = (next(iter(stage["scores"][task].values())) for task in tasks)
        lines.append(f"| {stage['stage']} | " + " | ".join(f"{v:.3f}" for v in values) + " |")
    return "\n".join(lines)


def commands(chosen: list[Table], args: Any) -> str:
    """What to type for each run by itself, with the first seed."""
    lines = []
    for job in {job.name: job for table in chosen for job in table.jobs}.values():
        model = f"checkpoints/{job.start}" if job.start else args.model
        words = f"python {job.script}.py {' '.join(job.arguments)} --model {model} --data-dir DIR"
        lines.append(f"- `{job.name}`: `{words} --name {job.name}`")
    return "\n".join(lines)


def machine() -> str:
    """The processor that did the work, as the system names it."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{cpu_model()}, {torch.get_num_threads()} threads"
