"""Running a table: its plan, its runs, a record of each, and what is written after each."""

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from experiments.estimate import SCRIPTS, estimate
from experiments.jobs import (
    NAMED_JOB,
    Job,
    JobArgs,
    RunKey,
    check_data_dir,
    check_run,
    check_settings,
    chosen_jobs,
    current_origin,
    needed_jobs,
    seeds_of,
)
from experiments.markdown import whole_page
from experiments.run_records import Records, record_of, record_path, with_predictions
from minbert.files import check_writable, write_json
from minbert.progress import duration
from minbert.run.runlog import is_finished
from minbert.run_files import ARGS, PREDICTIONS

IsDone = Callable[[RunKey], bool]


def run_table(
    jobs: list[Job], root: Path, args: JobArgs, write_table: Callable[[], None],
    keeps_predictions: bool = True,
) -> bool:  # fmt: skip
    """Print the plan of the chosen runs, run those without a record, write the table after each.

    jobs: all jobs of the table. root: the folder of the runs. keeps_predictions: whether a run's
    record has its dev predictions. Returns False if only the plan was printed.
    """
    check_data_dir(args)
    folder, chosen = Path(args.results), chosen_jobs(jobs, args.only)
    is_done = is_done_in(folder, chosen)
    check_records(jobs, Records(root, args))
    print_plan(chosen, root, args, is_done)
    if args.plan:
        return False
    keys = [
        (RunKey(root, job.name, seed), job)
        for seed in seeds_of(args)  # seed by seed: one seed's table is whole early
        for job in jobs_due(chosen, root, seed, is_done)
    ]
    for number, (key, job) in enumerate(keys, start=1):
        print(f"\n=== {number} of {len(keys)}: {key.name}", flush=True)
        started = time.monotonic()
        if not is_finished(key.folder):  # a finished run without a record is only recorded
            SCRIPTS[job.script].main(script_arguments(job, key, args))
        print(f"took {duration(time.monotonic() - started)}", flush=True)
        if job.is_fine_tuning and not is_done(key):  # else it ran again as another's start
            record = record_of(key.folder)
            if job.start:  # the folder of its run is of this machine alone
                record = replace(record, origin=replace(record.origin, model=job.start))
            if keeps_predictions:
                record = with_predictions(record, key.folder, Path(args.data_dir))
            write_json(record_path(folder, key), asdict(record))
        write_table()
    write_table()
    return True


def check_results(folder: Path) -> None:
    """Raise UserError, before hours of work, for results that are damaged or cannot be written."""
    check_writable(folder, "--results")
    whole_page(folder)


def check_records(jobs: list[Job], records: Records) -> None:
    """Raise UserError, before hours of work, if a record or its start had other settings."""
    by_name = {job.name: job for job in jobs}
    for job in jobs:
        for seed, record in records.of(job).items():
            if job.start:
                path = record_path(Path(records.args.results), RunKey(records.root, job.name, seed))
                check_settings(by_name[job.start], record.start, path, records.args)


def is_done_in(folder: Path, jobs: list[Job]) -> IsDone:
    """Return a function that tells whether a run is done: it has a record in this folder.

    Pre-training has no record: it is done if it has finished or if every run that needs it is done.
    """
    by_name = {job.name: job for job in jobs}

    def is_done(key: RunKey) -> bool:
        if by_name[key.job].is_fine_tuning:
            return record_path(folder, key).is_file()
        needing = [replace(key, job=job.name) for job in jobs if key.job in needed_jobs(job)]
        return is_finished(key.folder) or (bool(needing) and all(map(is_done, needing)))

    return is_done


def print_plan(jobs: list[Job], root: Path, args: JobArgs, is_done: IsDone) -> None:
    """Print each run's script, steps and estimated time; those that are done, as done.

    Raises UserError for a run that is there with other settings than its job has, or of another
    model or data.
    """
    seeds, now = seeds_of(args), current_origin(args)
    print(f"{len(jobs) * len(seeds)} runs in {root}; the times are those of a few steps each:")
    due = {RunKey(root, j.name, s) for s in seeds for j in jobs_due(jobs, root, s, is_done)}
    total = 0.0
    with tempfile.TemporaryDirectory() as ids:
        for job in jobs:
            keys = [RunKey(root, job.name, seed) for seed in seeds]
            for folder in (key.folder for key in keys if (key.folder / ARGS).is_file()):
                check_run(job, folder, now, args)
            left = [key for key in keys if key in due and not is_finished(key.folder)]
            counts = {
                "to go on": sum(key.folder.exists() and not is_done(key) for key in left),
                "to be recorded": sum(is_finished(key.folder) and not is_done(key) for key in keys),
                "to run again, whose folders others need": sum(map(is_done, left)),
            }
            about = f"{sum(map(is_done, keys))} of {len(seeds)} done"
            about += "".join(f", {count} {what}" for what, count in counts.items() if count)
            if left:
                places = ["--model", args.model, "--data-dir", args.data_dir, "--output-dir", ids]
                found = estimate(job.script, [*without_teachers(job.arguments), *places])
                minutes = found.minutes * len(left)
                total += minutes
                about += f", {found.steps * len(left):,} steps, {duration(60 * minutes)}"
            print(f"  {job.name}: {about}\n    {job.script} {' '.join(job.arguments)}", flush=True)
    print(
        f"about {duration(60 * total)} of training steps in all; evaluation adds about a tenth,\n"
        "and teachers and heads first read every row once"
    )


def jobs_due(jobs: list[Job], root: Path, seed: int, is_done: IsDone) -> list[Job]:
    """Return the jobs of a seed that are not done, and those that they need the folders of."""
    due = [job for job in jobs if not is_done(RunKey(root, job.name, seed))]
    needed = {name for job in due for name in needed_jobs(job)}
    gone = [
        job
        for job in jobs
        if job.name in needed and not is_finished(RunKey(root, job.name, seed).folder)
    ]
    return [job for job in jobs if job in due or job in gone]


def script_arguments(job: Job, key: RunKey, args: JobArgs) -> list[str]:
    """Return the arguments with which a job's script starts a run, or continues it.

    A {job} in them stands for the folder of that job's run with the same seed.
    """
    if (key.folder / ARGS).is_file():
        return ["--resume", str(key.folder), "--data-dir", args.data_dir]
    start = str(RunKey(key.root, job.start, key.seed).folder) if job.start else args.model
    places = ["--data-dir", args.data_dir, "--output-dir", str(key.root), "--name", key.name]
    words = [
        NAMED_JOB.sub(lambda match: str(RunKey(key.root, match[1], key.seed).folder), word)
        for word in job.arguments
    ]
    return [*words, "--model", start, "--seed", str(key.seed), *places]


def without_teachers(arguments: tuple[str, ...]) -> list[str]:
    """Return arguments without --teacher, whose runs may not be there yet."""
    words = list(arguments)
    if "--teacher" in words:
        place = words.index("--teacher")
        del words[place : place + 2]
    return words


def keep_test_predictions(results: Path, key: RunKey, place: Path) -> None:
    """Copy a run's test predictions, ids and labels only; nothing without its record or folder.

    results: the folder of records.
    """
    if not record_path(results, key).is_file():
        return
    for path in (key.folder / PREDICTIONS).glob("*-test-output.csv"):
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
