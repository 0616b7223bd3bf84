"""Run the paper's tables: python -m experiments.paper --table 3 --model all-MiniLM-L6-v2

Prints the plan, then runs it; a finished run is reused, a stopped one goes on.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pretrain_mlm
import train_multitask
from experiments.estimate import estimate
from experiments.figures import FIGURES, draw_figures
from experiments.markdown import results_page
from experiments.recipes import BUDGETS, Job, Table, tables
from experiments.results import FIRST_SEED, RESULTS, Record, RunKey, gather
from minbert.cli import arg, parse_arguments, parse_given, run_script
from minbert.config import BertConfig
from minbert.data.tokenizer import BertTokenizer
from minbert.errors import UserError
from minbert.files import write_json, write_text
from minbert.run.runlog import is_finished
from minbert.run.train_args import data_source, resolve_arguments
from minbert.task.loading import load_train_and_dev
from minbert.weights.resolve import resolve
from tasks import TASKS

SCRIPTS = {"train_multitask": train_multitask.main, "pretrain_mlm": pretrain_mlm.main}


@dataclass(frozen=True)
class Args:
    """What to run and where."""

    table: str = arg("all", "which table", choices=["1", "2", "3", "4", "all"])
    model: str = arg("bert-base-uncased", "model name or directory to start from")
    data_dir: str = arg("data", "directory with the tasks' files")
    budget: str = arg("full", "full: the paper's settings; cpu: smaller", choices=list(BUDGETS))
    seeds: int = arg(1, "runs of everything, with seeds 11711, 11712, ...", low=1, high=100)
    output_dir: str = arg("checkpoints", "the runs go to a folder in it")
    results: str = arg("experiments", "RESULTS.md, results.json and figures/ go here")
    plan: bool = arg(False, "print the plan and stop", parse=bool)


def chosen_tables(args: Args, wide: int) -> list[Table]:
    """Return the tables that --table means; Table 4 is made of a run of Table 3."""
    every = tables(args.budget, wide)
    if args.table == "all":
        return list(every.values())
    return [every["3" if args.table == "4" else args.table]]


def jobs_of(chosen: list[Table], only: str) -> list[Job]:
    """Return each job once, every start before what starts from it."""
    jobs = {job.name: job for table in chosen for job in table.jobs}
    return [jobs["parallel"]] if only == "4" else list(jobs.values())


def command(job: Job, key: RunKey, args: Args) -> list[str]:
    """Return the arguments that make a run, or that let it go on."""
    if (key.folder / "args.json").is_file():
        return ["--resume", str(key.folder), "--data-dir", args.data_dir]
    start = str(RunKey(key.root, job.start, key.seed).folder) if job.start else args.model
    places = ["--data-dir", args.data_dir, "--output-dir", str(key.root), "--name", key.name]
    return [*job.arguments, "--model", start, "--seed", str(key.seed), *places]


def print_plan(jobs: list[Job], root: Path, args: Args) -> None:
    """Print each run's script, steps and estimated time; those that are done, as done."""
    seeds = [FIRST_SEED + i for i in range(args.seeds)]
    print(f"{len(jobs) * len(seeds)} runs in {root}; the times are those of a few steps each:")
    total = 0.0
    with tempfile.TemporaryDirectory() as ids:
        for job in jobs:
            folders = [RunKey(root, job.name, seed).folder for seed in seeds]
            done = sum(map(is_finished, folders))
            begun = sum(folder.exists() for folder in folders) - done
            about = f"{done} of {len(seeds)} done" + f", {begun} to go on" * (begun > 0)
            if done < len(seeds):
                places = ["--model", args.model, "--data-dir", args.data_dir, "--output-dir", ids]
                found = estimate(job.script, [*job.arguments, *places])
                minutes = found.minutes * (len(seeds) - done)
                total += minutes
                about += f", {found.steps} steps, {minutes:.1f} min"
            print(f"  {job.name}: {about}\n    {job.script} {' '.join(job.arguments)}", flush=True)
    print(f"about {total:.0f} minutes of training steps in all; evaluation adds about a tenth")


def main(argv: list[str]) -> int:
    """Print the plan, run it, write what it came to."""
    args = parse_arguments(Args, argv, __doc__.split("\n")[0])
    if not Path(args.data_dir).is_dir():
        raise UserError(f"--data-dir {args.data_dir}: no such directory")
    config = BertConfig.from_file(resolve(args.model) / "config.json")
    chosen = chosen_tables(args, wide=4 * config.hidden_size)
    jobs = jobs_of(chosen, args.table)
    root = Path(args.output_dir) / f"paper-{args.budget}-{Path(args.model).name}"
    print_plan(jobs, root, args)
    if args.plan:
        return 0
    rows, folder = count_rows(args, root), Path(args.results)

    def write_results() -> Record:
        record = gather(chosen, root, args, rows)
        write_json(folder / RESULTS, record.to_json())
        write_text(folder / "RESULTS.md", results_page(record))
        return record

    run_jobs(jobs, root, args, write_results)
    record = write_results()
    print(f"\nwrote {folder / 'RESULTS.md'} and {RESULTS}")
    try:
        draw_figures(record, folder / FIGURES)
    except UserError as error:
        print(error)
    if args.table in ("4", "all"):
        predictions = RunKey(root, "parallel").folder / "predictions"
        print(f"Table 4: hand in the test predictions in {predictions} (the labels are not public)")
    return 0


def count_rows(args: Args, root: Path) -> dict[str, list[int]]:
    """Return the rows to train on and to evaluate on, of every task by its title."""
    places = ["--data-dir", args.data_dir, "--output-dir", str(root)]
    given = parse_given(train_multitask.Args, [*BUDGETS[args.budget].data, *places], "")
    where = resolve_arguments(given, TASKS)
    tokenizer = BertTokenizer.from_directory(resolve(args.model))
    tasks = [TASKS[name] for name in where.tasks]
    train, dev = load_train_and_dev(tasks, tokenizer, data_source(where))
    return {task.title: [len(train[task.name]), len(dev[task.name])] for task in tasks}


def run_jobs(jobs: list[Job], root: Path, args: Args, after_each: Callable[[], object]) -> None:
    """Run what is not finished, seed by seed: one seed's tables are whole early."""
    seeds = range(FIRST_SEED, FIRST_SEED + args.seeds)
    keys = [(RunKey(root, job.name, seed), job) for seed in seeds for job in jobs]
    for number, (key, job) in enumerate(keys, start=1):
        if is_finished(key.folder):
            continue
        print(f"\n=== {number} of {len(keys)}: {key.name}", flush=True)
        started = time.monotonic()
        SCRIPTS[job.script](command(job, key, args))
        print(f"took {(time.monotonic() - started) / 60:.1f} min", flush=True)
        after_each()


if __name__ == "__main__":
    run_script(main)
