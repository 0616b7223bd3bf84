"""Does the fast path cost quality? python -m benchmarks.quality --data-dir data --seeds 3

It trains twice for each seed: by default, and in fp32 with the written-out equations.
Finished runs are reused; one of another model or of other data is refused. The scores become a
section of BENCHMARKS.md.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import train_multitask
from benchmarks.report import Section, check_report, write_report
from experiments.jobs import (
    Job,
    JobArgs,
    Origin,
    RunKey,
    check_run,
    current_origin,
    seeds_of,
)
from experiments.results import format_mean
from experiments.run_records import RunRecord, computed_on, record_of
from experiments.run_table import script_arguments
from minbert.cli import arg, parse_arguments, run_script
from minbert.run.runlog import is_finished
from minbert.run_files import ARGS

PATHS = ("default", "fp32, written out")


@dataclass(frozen=True)
class Args:
    """What to train, and where the results go."""

    model: str = arg("all-MiniLM-L6-v2", "model name or directory")
    data_dir: str = arg("data", "directory with the tasks' files")
    limit: str = arg("quora=16000", "rows to train on")
    limit_dev: str = arg("quora=4000", "rows to evaluate on")
    epochs: int = arg(1, "global epochs", low=1, high=1000)
    lr: str = arg("5e-5", "learning rate")
    seeds: int = arg(3, "runs of each path", low=1, high=100)
    output_dir: str = arg("checkpoints", "the runs go to a folder in it")
    results: str = arg("benchmarks", "BENCHMARKS.md and benchmarks.json go here")


def main(argv: list[str]) -> int:
    args = parse_arguments(Args, argv, __doc__)
    check_report(Path(args.results))  # before hours of training
    root = Path(args.output_dir) / "quality"
    now = current_origin(job_args(args))
    runs: dict[str, list[RunRecord]] = {path: [] for path in PATHS}
    for seed in seeds_of(job_args(args)):
        for path in PATHS:
            key = RunKey(root, f"{path.split(',')[0]}-{settings(args)}", seed)
            train(args, key, now, path == PATHS[1])
            runs[path].append(record_of(key.folder))
    what = f"epochs {args.epochs}, {args.limit}, lr {args.lr}, seeds {args.seeds}"
    section = compared_scores(f"Quality of the fast path: {what}", runs)
    command = (
        f"python -m benchmarks.quality --model {Path(args.model).name} --data-dir DIR "
        f"--seeds {args.seeds} --epochs {args.epochs} "
        f"--limit {args.limit} --limit-dev {args.limit_dev} --lr {args.lr}"
    )
    write_report(Path(args.results), "quality", section, command)
    for row in section.rows:
        print("  ".join(row))
    return 0


def job_args(args: Args) -> JobArgs:
    """Return the arguments as the functions of experiments take them."""
    return JobArgs(model=args.model, data_dir=args.data_dir, seeds=args.seeds)


def settings(args: Args) -> str:
    """Return the arguments that scores depend on, for a run's name: only equal runs are reused."""
    model = Path(args.model).name
    words = (model, args.epochs, args.lr, args.limit, args.limit_dev)
    return re.sub(r"[^\w.-]+", "_", "-".join(map(str, words)))


def train(args: Args, key: RunKey, now: Origin, written_out: bool) -> None:
    """Run train_multitask.py, or continue a run that was stopped; do nothing if it is finished.

    now: what the run is to be made of. Raises UserError for one of something else, or that was made
    with other settings.
    """
    argv = ["--epochs", str(args.epochs), "--lr", args.lr, "--limit", args.limit]
    argv += ["--limit-dev", args.limit_dev, "--skip-predictions"]
    argv += ["--precision", "fp32", "--kernels", "written-out"] if written_out else []
    job = Job(key.job, tuple(argv))
    if (key.folder / ARGS).is_file():
        check_run(job, key.folder, now, job_args(args))
    if not is_finished(key.folder):
        train_multitask.main(script_arguments(job, key, job_args(args)))


def compared_scores(title: str, by_path: dict[str, list[RunRecord]]) -> Section:
    """Return a section with the mean and spread of every score, a row for each path."""
    columns = list(next(iter(by_path.values()))[0].best().scores)
    rows = []
    for path, runs in by_path.items():
        cells = [format_mean([run.best().scores[column] for run in runs]) for column in columns]
        passes = " / ".join(f"{n:.1f}" for n in runs[0].passes.values())  # old runs have none
        rows.append((path, *cells, f"{runs[0].updates:,}", passes or "-"))
    every = [run for runs in by_path.values() for run in runs]
    lines = (f"trained, now or before, on {computed_on(every) or 'a machine that is not known'}",)
    return Section(title, ("", *columns, "updates", "passes"), tuple(rows), lines)


if __name__ == "__main__":
    run_script(main)
