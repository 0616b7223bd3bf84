"""Running a table of ablations, and writing its file and RESULTS.md after every run."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from experiments.ablation import AblationRow, jobs_of_rows
from experiments.gather import gather_ablation
from experiments.jobs import JobArgs
from experiments.markdown import write_results_page
from experiments.run_table import check_results, run_table
from minbert.files import write_json


def run_ablation(
    title: str, module: str, file: str, rows: list[AblationRow], root: Path, args: JobArgs,
    after_each: Callable[[], None] = lambda: None, note: str = "",
) -> None:  # fmt: skip
    """Run a table of ablations.

    title, file, note: of the table. module: that is run, as `python -m` names it. root: where the
    runs' folders are.
    """
    folder = Path(args.results)

    def write_table() -> None:
        table = gather_ablation(title, module, rows, root, args, note)
        write_json(folder / file, asdict(table))
        write_results_page(folder)
        after_each()

    if not args.plan:
        check_results(folder)
    if run_table(jobs_of_rows(rows), root, args, write_table):
        print(f"\nwrote {folder / 'RESULTS.md'} and {file}")
