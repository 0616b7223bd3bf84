"""RESULTS.md: what results.json holds, as tables and differences for people."""

from collections.abc import Iterable
from pathlib import Path

from experiments.ablation import ablation_text, in_short, read_ablation
from experiments.figures import figure_names, task_title
from experiments.paper_tables import PAPER_TEST_SCORES, QUESTIONS, TABLE_2, TABLE_3
from experiments.results import (
    RESULTS,
    PaperRecord,
    Result,
    TableRecord,
    format_mean,
    read_record,
)
from minbert.files import write_text
from minbert.report.tables import markdown_table
from minbert.task.evaluation import THRESHOLD_ROWS

Pairs = dict[str, tuple[Result, Result]]  # cells that are compared, by column
ONE_MODEL, LONG_TEXTS = "one-model.json", "long-texts.json"  # files of tables of ablations
HEAD = """Dev scores (accuracy, of STS Pearson's r) of {model}, in brackets those of "How to
Fine-Tune BERT for Multiple Tasks?" (bert-base-uncased, all rows). Rows with * are not in it; `open`
has not run. `DIR` is the folder of the tasks' files.

- **Which step**: the one with the best mean dev score of a run's tasks among its evaluations, one
  at the end of each epoch (sequential: of each stage). It is chosen on the rows that are reported,
  so its scores look better than they are. If the last step is another one, its scores are in the
  row below.
- **±**: the standard deviation over seeds. The line through a dot in a table's figure shows it or,
  with one seed, a 95 % interval over dev rows. If the lines of two runs overlap, their difference
  may be luck; if not, it may still be the luck of the seed or, with several seeds, of the dev rows.
- **Updates and passes** (over each set) are of fine-tuning, without pre-training, and of the whole
  run, also where its best step is an earlier one.
- **Seen before**: 13 of STS's 863 dev rows and 2 of SST's 1,101 are training rows, too.{seen}"""
SEEN_BEFORE = {"all-MiniLM-L6-v2": "\n  The model was trained on duplicate questions of Quora."}
FULL_NOTE = "Open: the paper's own settings (`--budget full`, on a GPU)."
QUORA_NOTE = (
    "Quora of siamese rows: a pair is a duplicate where its cosine is above 0.5 (the paper names\n"
    "no rule); calibrated: above the threshold that is best on "
    f"{THRESHOLD_ROWS:,} training pairs, by which the\n"
    "best step is chosen. Vanilla and softmax have no threshold; below, calibrated scores are\n"
    "compared with vanilla's only one."
)
TABLE_4_NOTE = (
    "The paper's, with bert-base-uncased: "
    + ", ".join(f"{task} {score:.3f}" for task, score in PAPER_TEST_SCORES.items())
    + ".\nOurs are not known: the labels of the test sets are not public. A run leaves its "
    "predicted labels, by\nid, in `predictions/paper-BUDGET-MODEL-parallel-SEED/`; "
    "`predictions/parallel-SEED/` has those of\nTable 5's parallel training."
)
NOISE_NOTE = (
    "± is the standard deviation of the difference over the seeds that both sides have. Of one "
    "seed a\ndifference below about .04 (SST), .03 (STS) or .04 (4,000 dev rows of Quora; .01 of "
    "all 20,212) may be\nluck."
)


def write_results_page(folder: Path) -> None:
    """Write RESULTS.md."""
    write_text(folder / "RESULTS.md", whole_page(folder))


def whole_page(folder: Path) -> str:
    """Return RESULTS.md: of results.json and the tables of ablations those that are there.

    Raises UserError for a damaged one.
    """
    parts = []
    if (folder / RESULTS).is_file():
        parts.append(results_page(read_record(folder)))
    for name in (ONE_MODEL, LONG_TEXTS):
        if (folder / name).is_file():
            parts.append(ablation_text(read_ablation(folder / name)) + "\n")
    return "\n".join(parts)


def results_page(record: PaperRecord) -> str:
    """Return what RESULTS.md says of results.json."""
    name = Path(record.model).name
    parts = ["# Results", HEAD.format(model=name, seen=SEEN_BEFORE.get(name, ""))]
    if not all(table.budget == "full" for table in record.tables.values()):
        parts.append(FULL_NOTE)
    for title, table in record.tables.items():
        parts += [f"## {title}", made_by(table)]
        if title == TABLE_2:
            parts.append(QUORA_NOTE)
        parts.append(results_table(record, title))
        if any(r.scores for r in record.results if r.table == title):
            parts.append(picture(figure_names(title), f"{title}: ours and the paper's, as dots"))
        if title == TABLE_3:
            parts += ["## Table 4: test scores of parallel training", TABLE_4_NOTE]
    if differences := differences_table(record):
        parts += ["## What it says", NOISE_NOTE, differences]
    if record.stages:
        title = "Dev scores after every stage of sequential training"
        parts += [f"## {title}", stages_table(record), picture(figure_names("forgetting"), title)]
    runs = (run for table in record.tables.values() for run in table.runs.items())
    listed = dict.fromkeys(f"- `{name}`: `{command}`" for name, command in runs)
    return "\n\n".join([*parts, "## The runs", "\n".join(listed)]) + "\n"


def made_by(table: TableRecord) -> str:
    """Return what made a table's scores, and of how many rows of its tasks."""
    own = {task_title(column) for column in table.columns}
    rows = {task: counts for task, counts in table.rows.items() if task in own}
    fewer = {task: n for task, n in table.small_rows.items() if n != table.rows[task]}
    said = f"Rows to train and to evaluate on: {format_rows(rows)}."
    if fewer:
        said += f"\nWhere † stands: {format_rows(fewer)}."
    on = f"On {table.machine}." if table.machine else ""  # "": nothing has run
    return "\n\n".join(filter(None, [f"`{table.command}`", said, on]))


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
    table = record.tables[title]
    lines = [["", *table.columns, "seeds", "updates", "passes", "runs"]]
    for row in dict.fromkeys(r.row for r in own):
        cells = {r.column: r for r in own if r.row == row}
        mark = " *" if next(iter(cells.values())).ours else ""
        values = [format_cell(cells[c]) if c in cells else "-" for c in table.columns]
        jobs = ", ".join(f"`{job}`" for job in job_names(cells.values()))
        trained = format_trained(table, cells)
        lines.append([row + mark, *values, format_seeds(cells), *trained, jobs])
        if any(r.ends_elsewhere for r in cells.values()):
            values = [format_cell(cells[c].at_last) if c in cells else "-" for c in table.columns]
            lines.append([f"{row}{mark}, last step", *values, "", "", "", ""])
    return markdown_table(lines)


def format_seeds(cells: dict[str, Result]) -> str:
    """Write how many seeds the cells of a row have."""
    return in_short([str(len(result.scores)) for result in cells.values()])


def job_names(results: Iterable[Result]) -> list[str]:
    """Return the names of the jobs behind some cells, each once."""
    return list(dict.fromkeys(result.job for result in results))


def format_trained(table: TableRecord, cells: dict[str, Result]) -> tuple[str, str]:
    """Write the updates of cells' runs, and the passes over the set of each task in the cells."""
    trained = [table.trained.get(job) for job in job_names(cells.values())]
    if not all(trained) or not all(result.scores for result in cells.values()):
        return "-", "-"
    by_task = {task_title(column): table.trained[r.job].passes for column, r in cells.items()}
    passes = [f"{of[task]:.1f}" if task in of else "-" for task, of in by_task.items()]
    return " / ".join(f"{one.updates:,}" for one in trained), " / ".join(passes)


def format_cell(result: Result) -> str:
    """Write our score, with the spread of several seeds, and the paper's in brackets.

    † marks one of less data than the other runs of its table have.
    """
    ours = format_scores(result.scores) + (" †" if result.is_small else "")
    return ours + (f" ({result.paper:.3f})" if result.paper is not None else "")


def format_scores(by_seed: dict[str, float]) -> str:
    """Write the mean of the seeds' scores, with the spread of several."""
    return format_mean([*by_seed.values()]) if by_seed else "open"


def differences_table(record: PaperRecord) -> str:
    """Return every question's difference between two rows, by column; nothing if there is none."""
    columns = sorted({c for table in record.tables.values() for c in table.columns}, key=place_of)
    by_row = {(r.row, r.column): r for r in record.results if r.scores}
    lines = [["", *columns, "seeds", "updates", "passes"]]
    for question in QUESTIONS:
        pairs: Pairs = {}
        for column in columns:
            one = by_row.get((question.row, column))
            # the calibrated column of a row without a threshold is its only one
            plain = by_row.get((question.against, task_title(column)))
            other = by_row.get((question.against, column), plain)
            if one and other and are_comparable(one, other):
                pairs[column] = (one, other)
        if pairs:
            name = f"{question.text} {question.row} less {question.against}".strip()
            cells = format_differences(pairs, columns)
            lines.append([name, *cells, *format_compared(record, pairs)])
        at_last = {c: (a.at_last, b.at_last) for c, (a, b) in pairs.items() if a.last and b.last}
        if any(result.ends_elsewhere for c in at_last for result in pairs[c]):
            lines.append(["the same, last step", *format_differences(at_last, columns), "", "", ""])
    return markdown_table(lines) if len(lines) > 1 else ""


def place_of(column: str) -> tuple[int, str]:
    """Return where a column stands: in the order of the paper's tasks."""
    return list(PAPER_TEST_SCORES).index(task_title(column)), column


def are_comparable(one: Result, other: Result) -> bool:
    """Return whether two cells are of the same data, and have a seed in common."""
    return one.is_small == other.is_small and bool(one.scores.keys() & other.scores.keys())


def format_compared(record: PaperRecord, pairs: Pairs) -> list[str]:
    """Write how many seeds compared cells have in common, and both sides' updates and passes."""
    seeds = in_short([str(len(a.scores.keys() & b.scores)) for a, b in pairs.values()])
    sides = []
    for side in zip(*pairs.values(), strict=True):
        sides.append(format_trained(record.tables[side[0].table], {r.column: r for r in side}))
    return [seeds, *map(" against ".join, zip(*sides, strict=True))]


def format_differences(pairs: Pairs, columns: list[str]) -> list[str]:
    """Write the difference of each column that is compared."""
    return [format_difference(*pairs[c]) if c in pairs else "-" for c in columns]


def format_difference(one: Result, other: Result) -> str:
    """Write by how much one score is above another, and in brackets the same of the paper.

    It is the mean over the seeds that both have, with the spread of several.
    """
    common = [seed for seed in one.scores if seed in other.scores]
    ours = format_mean([one.scores[seed] - other.scores[seed] for seed in common], sign="+")
    if one.paper is None or other.paper is None:
        return ours
    return f"{ours} ({one.paper - other.paper:+.3f})"


def stages_table(record: PaperRecord) -> str:
    """Return what each stage of sequential training left of every task."""
    titles = list(record.stages[0].scores)
    rows = ([s.name, *(f"{s.scores[title]:.3f}" for title in titles)] for s in record.stages)
    return markdown_table([["after", *titles], *rows])
