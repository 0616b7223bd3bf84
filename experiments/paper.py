"""Run the paper's tables: python -m experiments.paper --table 3 --model all-MiniLM-L6-v2

Prints the plan, then runs it; a run whose record is kept is done, a stopped one goes on.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import train_multitask
from experiments.figures import FIGURES, draw_figures
from experiments.jobs import Job, JobArgs, RunKey
from experiments.markdown import write_results_page
from experiments.recipes import BUDGETS, PaperTable, tables
from experiments.results import RESULTS, gather_tables, read_record, with_other_tables
from experiments.run_records import Records
from experiments.run_table import run_table
from minbert.cli import arg, parse_arguments, parse_given, run_script
from minbert.config import BertConfig
from minbert.data.tokenizer import BertTokenizer
from minbert.errors import UserError
from minbert.files import write_json
from minbert.run.resolve_args import resolve_arguments
from minbert.run.train_args import data_source
from minbert.task.loading import load_train_and_dev
from minbert.weights.resolve import resolve
from tasks import TASKS


@dataclass(frozen=True)
class Args(JobArgs):
    """Which tables."""

    table: str = arg("all", "which table", choices=["1", "2", "3", "4", "all"])
    budget: str = arg(
        "full",
        "full: the paper's settings; cpu: 16,000 rows of Quora, one or two passes; all-rows: all "
        "rows, three passes, but siamese pairs and pre-training as in cpu",
        choices=list(BUDGETS),
    )


def chosen_tables(args: Args, wide: int) -> list[PaperTable]:
    """Return the tables that --table means; Table 4 is made of a run of Table 3."""
    every = tables(args.budget, wide)
    if args.table == "all":
        return list(every.values())
    return [every["3" if args.table == "4" else args.table]]


def jobs_of_tables(chosen: list[PaperTable], only: str) -> list[Job]:
    """Return each job once, every start before what starts from it."""
    jobs = {job.name: job for table in chosen for job in table.jobs}
    return [jobs["parallel"]] if only == "4" else list(jobs.values())


def main(argv: list[str]) -> int:
    """Print the plan, run it, write what it came to."""
    args = parse_arguments(Args, argv, __doc__.split("\n")[0])
    config = BertConfig.from_file(resolve(args.model) / "config.json")
    chosen = chosen_tables(args, wide=4 * config.hidden_size)
    root = Path(args.output_dir) / f"paper-{args.budget}-{Path(args.model).name}"
    folder, budget = Path(args.results), BUDGETS[args.budget]

    @cache
    def rows_of(data: tuple[str, ...]) -> dict[str, list[int]]:
        return count_rows(args, root, data)

    def write_results() -> None:
        rows = rows_of(budget.data)
        small_rows = rows_of(budget.small) if budget.small != budget.data else {}
        record = gather_tables(chosen, Records(root, args), args, rows, small_rows)
        write_json(folder / RESULTS, with_other_tables(record, folder).to_json())
        write_results_page(folder)

    jobs = jobs_of_tables(chosen, args.table)
    if not run_table(jobs, root, args, write_results, keeps_predictions=False):
        return 0
    print(f"\nwrote {folder / 'RESULTS.md'} and {RESULTS}")
    try:
        draw_figures(read_record(folder), folder / FIGURES)
    except UserError as error:
        print(error)
    predictions = RunKey(root, "parallel").folder / "predictions"
    if args.table in ("4", "all") and predictions.is_dir():
        print(f"Table 4: hand in the test predictions in {predictions} (the labels are not public)")
    return 0


def count_rows(args: Args, root: Path, data: tuple[str, ...]) -> dict[str, list[int]]:
    """Return the rows to train on and to evaluate on, of every task by its title.

    data: arguments that make them fewer.
    """
    places = ["--data-dir", args.data_dir, "--output-dir", str(root)]
    given = parse_given(train_multitask.Args, [*data, *places], "")
    resolved = resolve_arguments(given, TASKS)
    tokenizer = BertTokenizer.from_directory(resolve(args.model))
    tasks = [TASKS[name] for name in resolved.tasks]
    train, dev = load_train_and_dev(tasks, tokenizer, data_source(resolved))
    return {task.title: [len(train[task.name]), len(dev[task.name])] for task in tasks}


if __name__ == "__main__":
    run_script(main)
