"""RESULTS.md: what results.json holds, as tables and differences for people."""

from collections.abc import Iterable
from pathlib import Path

from experiments.ablation import ablation_text, in_short, read_ablation
from experiments.figures import figure_names, task_title
from experiments.recipes import PAPER_TEST_SCORES, QUESTIONS, TABLE_3
from experiments.results import (
    RESULTS,
    PaperRecord,
    Result,
    TableRecord,
    is_within_spread,
    read_record,
)
from minbert.files import write_text
from minbert.report.tables import markdown_table

ONE_MODEL, LONG_TEXTS = "one-model.json", "long-texts.json"  # files of tables of ablations
NOTES = {
    "cpu": "Open: the paper's own settings (`--budget full`, all rows of Quora, on a GPU).",
    "all-rows": "Open: the paper's own settings (`--budget full`, more passes, on a GPU).",
    "all-MiniLM-L6-v2": "all-MiniLM-L6-v2 was itself trained on duplicate questions of Quora: "
    "read the Quora figures with that in mind.",
}
TABLE_4 = (
    "The paper's, with bert-base-uncased: "
    + ", ".join(f"{task} {score:.3f}" for task, score in PAPER_TEST_SCORES.items())
    + ".\nOurs are not known: the labels of the test sets are not public. The run leaves its test\n"
    "predictions in its folder; `predictions/parallel-SEED/` has those of Table 5's on all rows."
)
ONE_SEED = (
    "One seed: the lines in the figure are 95 % intervals of the dev rows. Where those of two "
    "runs overlap, their difference may be luck"
)

NOISE = (
    "Where a side has one seed, a difference below about .04 (SST, Quora) or .03 (STS) may be luck."
)


def write_results_page(folder: Path) -> None:
    """Write RESULTS.md: of results.json and the tables of ablations those that are there."""
    parts = []
    if (folder / RESULTS).is_file():
        parts.append(results_page(read_record(folder)))
    for name in (ONE_MODEL, LONG_TEXTS):
        if (folder / name).is_file():
            parts.append(ablation_text(read_ablation(folder / name)) + "\n")
    write_text(folder / "RESULTS.md", "\n".join(parts))


def results_page(record: PaperRecord) -> str:
    """Return what RESULTS.md says of results.json."""
    parts = [
        "# Results",
        "Dev scores of the best step; in brackets the paper's (bert-base-uncased, all data). The\n"
        "best step is chosen among as many evaluations as the command has `--epochs` (sequential:\n"
        "stages), so it looks better than it is. Rows with * are not in the paper; `open` has not\n"
        "run. Updates (of a run) and passes (over a task's set) count fine-tuning only.",
        f"Rows to train and to evaluate on: {format_rows(record.rows)}."
        + (f"\nWhere † stands: {format_rows(record.small_rows)}." if record.small_rows else ""),
        *(note for key, note in NOTES.items() if key in (record.budget, Path(record.model).name)),
    ]
    for title, table in record.tables.items():
        parts += [f"## {title}", made_by(table), results_table(record, title)]
        if any(r.scores for r in record.results if r.table == title):
            parts.append(picture(figure_names(title), f"{title}: ours and the paper's, as dots"))
        if title == TABLE_3:
            parts += ["## Table 4: test scores of parallel training", TABLE_4]
    if differences := differences_table(record):
        parts += ["## What it says", NOISE, differences]
    if record.stages:
        title = "Dev scores after every stage of sequential training"
        parts += [f"## {title}", stages_table(record), picture(figure_names("forgetting"), title)]
    runs = "\n".join(f"- `{name}`: `{command}`" for name, command in record.runs.items())
    return "\n\n".join([*parts, "## The runs", runs]) + "\n"


def made_by(table: TableRecord) -> str:
    """Return what made a table's scores, and how far they can be told apart."""
    seeds = f"{table.seeds} seeds" if table.seeds > 1 else ONE_SEED
    on = f"On {table.machine}. {seeds}." if table.machine else ""  # "": nothing has run
    parts = [f"`{table.command}`", on, table.note]
    return "\n\n".join(filter(None, parts))


def format_rows(rows: dict[str, list[int]]) -> str:
    """Write how many rows each task has, to train on and to evaluate on."""
    return ", ".join(f"{task} {train:,} and {dev:,}" for task, (train, dev) in rows.items())


def picture(names: dict[str, str], alt: str) -> str:
    """Return the HTML of a figure that has a file for light and one for dark pages."""
    dark = f'<source media="(prefers-color-scheme: dark)" srcset="figures/{names["dark"]}">'
    light = f'<img alt="{alt}" src="figures/{names["light"]}">'
    return f"<picture>\n  {dark}\n  {light}\n</picture>"


def results_table(record: PaperRecord, title: str) -> str:
    """Return one of the paper's tables; a row that is not in the paper is marked."""
    own = [r for r in record.results if r.table == title]
    columns, has_seeds = record.tables[title].columns, record.tables[title].seeds > 1
    lines = [["", *columns, *["seeds"] * has_seeds, "updates", "passes", "runs"]]
    for row in dict.fromkeys(r.row for r in own):
        cells = {r.column: r for r in own if r.row == row}
        mark = " *" if next(iter(cells.values())).ours else ""
        values = [format_cell(cells[c]) if c in cells else "-" for c in columns]
        jobs = ", ".join(f"`{job}`" for job in job_names(cells.values()))
        seeds = [format_seeds(cells)] * has_seeds
        trained = format_trained(record, cells)
        lines.append([row + mark, *values, *seeds, *trained, jobs])
    return markdown_table(lines)


def format_seeds(cells: dict[str, Result]) -> str:
    """Write how many seeds the cells of a row have."""
    return in_short([str(len(result.scores)) for result in cells.values()])


def job_names(results: Iterable[Result]) -> list[str]:
    """Return the names of the jobs behind some cells, each once."""
    return list(dict.fromkeys(result.job for result in results))


def format_trained(record: PaperRecord, cells: dict[str, Result]) -> tuple[str, str]:
    """Write the updates of a row's runs, and the passes over the set of each task in its cells."""
    trained = [record.trained.get(job) for job in job_names(cells.values())]
    if not all(trained) or not all(result.scores for result in cells.values()):
        return "-", "-"
    by_task = {task_title(column): record.trained[r.job].passes for column, r in cells.items()}
    passes = [f"{of[task]:.1f}" if task in of else "-" for task, of in by_task.items()]
    return " / ".join(f"{one.updates:,}" for one in trained), " / ".join(passes)


def format_cell(result: Result) -> str:
    """Write our score, with the spread of several seeds, and the paper's in brackets.

    † marks one of less data than the other runs of its table have.
    """
    ours = f"{result.mean:.3f}" if result.scores else "open"
    if len(result.scores) > 1:
        ours += f" ± {result.spread:.3f}"
    ours += " †" * result.is_small
    return ours + (f" ({result.paper:.3f})" if result.paper is not None else "")


def differences_table(record: PaperRecord) -> str:
    """Return every question's difference between two rows, by column; nothing if there is none."""
    columns = sorted({c for table in record.tables.values() for c in table.columns}, key=place_of)
    by_row = {(r.row, r.column): r for r in record.results if r.scores}
    lines = [["", *columns, "seeds", "updates", "passes"]]
    for question in QUESTIONS:
        cells = []
        for column in columns:
            one = by_row.get((question.row, column))
            # the calibrated column of a row without a threshold is its only one
            plain = by_row.get((question.against, task_title(column)))
            other = by_row.get((question.against, column), plain)
            comparable = one and other and one.is_small == other.is_small
            cells.append(format_difference(one, other) if comparable else "-")
        if any(cell != "-" for cell in cells):
            name = f"{question.text} {question.row} less {question.against}".strip()
            both = (question.row, question.against)
            trained = zip(*(trained_of(record, row) for row in both), strict=True)
            lines.append([name, *cells, *map(" against ".join, trained)])
    return markdown_table(lines) if len(lines) > 1 else ""


def place_of(column: str) -> tuple[int, str]:
    """Return where a column stands: in the order of the paper's tasks."""
    return list(PAPER_TEST_SCORES).index(task_title(column)), column


def trained_of(record: PaperRecord, row: str) -> tuple[str, str, str]:
    """Write the seeds of a row's runs, their updates, and their passes."""
    cells = {r.column: r for r in record.results if r.row == row}
    return format_seeds(cells), *format_trained(record, cells)


def format_difference(one: Result, other: Result) -> str:
    """Write by how much one score is above another, and in brackets the same of the paper.

    One below the spread over seeds, of which both have several, is called that.
    """
    difference = one.mean - other.mean
    ours = f"{difference:+.3f}"
    if is_within_spread(difference, one.scores, other.scores):
        ours += " (within the spread)"
    if one.paper is None or other.paper is None:
        return ours
    return f"{ours} ({one.paper - other.paper:+.3f})"


def stages_table(record: PaperRecord) -> str:
    """Return what each stage of sequential training left of every task."""
    titles = list(record.stages[0].scores)
    rows = ([s.name, *(f"{s.scores[title]:.3f}" for title in titles)] for s in record.stages)
    return markdown_table([["after", *titles], *rows])
