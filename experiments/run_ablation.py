"""Running a table of ablations: plan, runs, records, the table's file and RESULTS.md."""

from collections.abc import Callable
from pathlib import Path

from experiments.ablation import AblationRow
from experiments.gather import Records, gather_ablation
from experiments.jobs import (
    Job,
    JobArgs,
    RunKey,
    check_places,
    chosen_jobs,
    print_plan,
    run_jobs,
)  # fmt: skip
from experiments.markdown import write_results_page
from experiments.run_records import record_path, write_run_record
from minbert.files import write_json


def jobs_of_rows(rows: list[AblationRow]) -> list[Job]:
    """Return every job once, those of the first row first: they may teach others."""
    jobs = (job for row in rows for runs in row.jobs.values() for job in runs)
    return list({job.name: job for job in jobs}.values())


def run_ablation(
    title: str, module: str, file: str, rows: list[AblationRow], root: Path, args: JobArgs,
    after_each: Callable[[], None] = lambda: None, note: str = "",
) -> None:  # fmt: skip
    """Print the plan of the chosen runs, run those without a record, write the table after each.

    title, file, note: of the table. module: that is run, as `python -m` names it. root: where the
    runs' folders are.
    """
    check_places(args)
    folder, every = Path(args.results), jobs_of_rows(rows)
    jobs = chosen_jobs(every, args.only)

    def is_done(key: RunKey) -> bool:
        return record_path(folder, key).is_file()

    def write_table() -> None:
        write_json(folder / file, gather_ablation(title, module, rows, root, args, note).to_json())
        write_results_page(folder)
        after_each()

    def keep(key: RunKey) -> None:
        write_run_record(folder, key, Path(args.data_dir))
        write_table()

    records = Records(root, args)
    for job in every:
        records.of(job)  # before hours of work: records of other settings are no use
    print_plan(jobs, root, args, is_done)
    if args.plan:
        return
    run_jobs(jobs, root, args, keep, is_done)
    write_table()
    print(f"\nwrote {folder / 'RESULTS.md'} and {file}")
