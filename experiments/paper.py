"""Run the paper's tables: python -m experiments.paper --table 3 --model all-MiniLM-L6-v2

Prints the plan, then runs it; a run whose record is kept is done, a stopped one goes on.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from experiments.estimate import resolved
from experiments.figures import FIGURES, draw_figures
from experiments.jobs import FIRST_SEED, JobArgs, RunKey, chosen_jobs, seeds_of
from experiments.markdown import write_results_page
from experiments.paper_tables import BUDGETS, TABLE_4_JOB, PaperTable, tables
from experiments.results import RESULTS, gather_tables, with_other_tables
from experiments.run_records import Records, record_path
from experiments.run_table import check_results, keep_test_predictions, run_table
from minbert.cli import arg, parse_arguments, run_script
from minbert.config import BertConfig
from minbert.data.tokenizer import BertTokenizer
from minbert.errors import UserError
from minbert.files import write_json
from minbert.run.train_args import data_source
from minbert.task.loading import load_train_and_dev
from minbert.weights.resolve import resolve


@dataclass(frozen=True)
class Args(JobArgs):
    """Which tables."""

    table: str = arg("all", "which table", choices=["1", "2", "3", "4", "all"])
    budget: str = arg(
        "full",
        "full: the paper's settings; cpu: 16,000 rows of Quora, one or two passes; all-rows, for "
        "Table 3: all rows, two passes over Quora, but pre-training and its comparison as in cpu; "
        "the frozen baseline has ten passes in each",
        choices=list(BUDGETS),
    )

    @property
    def table_run(self) -> str:
        """The table whose runs are made: Table 4 is the test predictions of one of Table 3."""
        return "3" if self.table == "4" else self.table


def chosen_tables(args: Args, wide: int) -> list[PaperTable]:
    """Return the tables whose runs --table means.

    Raises UserError for one that the budget does not have.
    """
    every = tables(args.budget, wide)
    if args.table == "all":
        return list(every.values())
    if args.table_run not in every:
        what = f"--table {args.table_run}: --budget {args.budget}"
        raise UserError(f"{what} has no such table: take cpu")
    return [every[args.table_run]]


def main(argv: list[str]) -> int:
    """Print the plan, run it, write what it came to."""
    args = parse_arguments(Args, argv, __doc__)
    if args.table == "4":
        if args.only:
            raise UserError(f"--table 4 is one run, {TABLE_4_JOB}: leave --only out")
        args = replace(args, only=(TABLE_4_JOB,))
    config = BertConfig.from_file(resolve(args.model) / "config.json")
    chosen = chosen_tables(args, wide=4 * config.hidden_size)
    root = Path(args.output_dir) / f"paper-{args.budget}-{Path(args.model).name}"
    folder, budget = Path(args.results), BUDGETS[args.budget]

    jobs = list({job.name: job for table in chosen for job in table.jobs}.values())
    planned = {job.name for job in chosen_jobs(jobs, args.only)}
    kept = {
        seed: folder / "predictions" / f"{root.name}-{TABLE_4_JOB}-{seed}"
        for seed in seeds_of(args)
    }
    rows, small_rows = {}, {}
    if not args.plan:  # before hours of work: it needs the files of all tasks
        check_results(folder)
        rows = count_rows(args, root, budget.data)
        small_rows = count_rows(args, root, budget.small) if budget.small != budget.data else {}

    def write_results() -> None:
        own = gather_tables(chosen, Records(root, args), args, rows, small_rows)
        record = with_other_tables(own, folder)
        write_json(folder / RESULTS, asdict(record))
        write_results_page(folder)
        try:
            draw_figures(record, folder / FIGURES)
        except UserError as error:  # without matplotlib the runs go on
            print(f"{error}; until then the figures of RESULTS.md are old or missing")
        for seed, place in kept.items():
            if TABLE_4_JOB in planned:
                keep_test_predictions(folder, RunKey(root, TABLE_4_JOB, seed), place)

    if not run_table(jobs, root, args, write_results, keeps_predictions=False):
        return 0
    print(f"\nwrote {folder / 'RESULTS.md'} and {RESULTS}")
    key, place = RunKey(root, TABLE_4_JOB), kept[FIRST_SEED]
    record = record_path(folder, key)
    if args.table in ("4", "all") and record.is_file():
        hand_in = f"hand in the test predictions in {place} (the labels are not public)"
        made_anew = f"remove {record} and {key.folder}, and the run is made anew"
        gone = f"{place} is not there: either there are no test files, or {made_anew}"
        print(f"Table 4: {hand_in if place.is_dir() else gone}")
    return 0


def count_rows(args: Args, root: Path, data: tuple[str, ...]) -> dict[str, list[int]]:
    """Return the rows to train on and to evaluate on, of every task by its title.

    data: arguments that make them fewer.
    """
    places = ["--data-dir", args.data_dir, "--output-dir", str(root)]
    of_run, known = resolved("train_multitask", [*data, *places])
    tokenizer = BertTokenizer.from_directory(resolve(args.model))
    tasks = [known[name] for name in of_run.tasks]
    train, dev = load_train_and_dev(tasks, tokenizer, data_source(of_run))
    return {task.title: [len(train[task.name]), len(dev[task.name])] for task in tasks}


if __name__ == "__main__":
    run_script(main)
