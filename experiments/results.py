"""Finished runs -> RESULTS.md, results.json and a figure a table."""

import json
import platform
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.recipes import Cell, Table
from minbert.training.runlog import read_log


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


def markdown(results: list[Result], table: str) -> str:
    """One table; a row that is not in the paper is marked."""
    own = [r for r in results if r.table == table]
    columns, rows = (list(dict.fromkeys(getattr(r, k) for r in own)) for k in ("column", "row"))
    lines = ["| | " + " | ".join(columns) + " | runs |", "| --- " * (len(columns) + 2) + "|"]
    for row in rows:
        cells = {r.column: r for r in own if r.row == row}
        mark = " *" if next(iter(cells.values())).ours else ""
        values = [shown(cells[c]) if c in cells else "-" for c in columns]
        runs = ", ".join(f"`{j}`" for j in dict.fromkeys(r.job for r in cells.values()))
        lines.append(f"| {row}{mark} | " + " | ".join(values) + f" | {runs} |")
    return "\n".join(lines)


def write_results(folder: Path, results: list[Result], args: Any) -> None:
    """RESULTS.md for people, results.json for programs."""
    folder.mkdir(parents=True, exist_ok=True)
    flags = f"--table {args.table} --model {args.model} --budget {args.budget} --seeds {args.seeds}"
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, {device()}"
    head = f"""# Results

Dev scores of the best step: ours, and in brackets the paper's (bert-base-uncased, all data). Rows
with * are not in the paper; `open` is what has not run. Each run's arguments are in its folder's
`args.json`. Written by

    python -m experiments.paper {flags}

on {machine}, torch {torch.__version__}; seeds: {args.seeds}.
"""
    parts = [head]
    for table in dict.fromkeys(r.table for r in results):
        parts.append(f"## {table}\n\n{markdown(results, table)}\n")
    (folder / "RESULTS.md").write_text("\n".join(parts), encoding="utf-8")
    rows = [asdict(r) for r in results]
    (folder / "results.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def draw_figures(folder: Path, results: list[Result], root: Path) -> None:
    """Bars with the paper's figure marked, a file a table; each task after every sub-epoch."""
    try:
        import matplotlib
    except ImportError:
        print("no figures: they need matplotlib, `pip install -e .[report]`")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    for table in dict.fromkeys(r.table for r in results):
        own = [r for r in results if r.table == table and r.scores]
        if not own:
            continue
        figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(own) + 1.5))
        labels = [f"{r.row}: {r.column}" for r in own]
        axes.barh(labels, [r.mean for r in own], xerr=[r.spread for r in own], color="#4c78a8")
        marks = [(r.paper, i) for i, r in enumerate(own) if r.paper is not None]
        axes.plot(*zip(*marks, strict=True), "D", color="#e45756", label="paper") if marks else None
        axes.invert_yaxis()
        axes.set(title=table, xlabel="dev score")
        if marks:
            axes.legend()
        name = table.split(":")[0].lower().replace(" ", "-")
        figure.savefig(folder / f"{name}.png", dpi=120, bbox_inches="tight")
        pyplot.close(figure)
    forgetting = RunKey(root, "sequential", 11711).folder
    if is_finished(forgetting):
        stages = [x for x in read_log(forgetting / "log.jsonl") if x["event"] == "dev"]
        figure, axes = pyplot.subplots(figsize=(8, 4))
        for task in stages[0]["scores"]:
            values = [next(iter(x["scores"][task].values())) for x in stages]
            axes.plot([x["stage"] for x in stages], values, marker="o", label=task)
        axes.set(title="Sequential training: dev scores after each stage", ylabel="dev score")
        axes.tick_params(axis="x", rotation=45)
        axes.legend()
        figure.savefig(folder / "forgetting.png", dpi=120, bbox_inches="tight")
        pyplot.close(figure)
