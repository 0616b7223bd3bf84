"""Runs of the scripts that an experiment is made of, and what tells one from another."""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from experiments.estimate import resolved
from minbert.cli import arg
from minbert.errors import UserError
from minbert.manifest import sha256_of
from minbert.parsers import arg_text, comma_list
from minbert.run.resumed import FREE_ON_RESUME
from minbert.run_files import data_hashes, read_arguments
from minbert.task.loading import training_files
from tasks import TASKS

FIRST_SEED = 11711
NAMED_JOB = re.compile(r"\{([\w.-]+)\}")  # in an argument: the folder of its run


@dataclass(frozen=True)
class JobArgs:
    """What to start from, and where things are."""

    model: str = arg("bert-base-uncased", "model name or directory to start from")
    data_dir: str = arg("data", "directory with the tasks' files")
    seeds: int = arg(1, "runs of everything, with seeds 11711, 11712, ...", low=1, high=100)
    output_dir: str = arg("checkpoints", "the runs go to a folder in it")
    results: str = arg(
        "experiments",
        "RESULTS.md, the tables' .json, runs/ and what else the tables have go here; what has a "
        "record in runs/ is done",
    )
    plan: bool = arg(False, "print the plan and stop", parse=bool)
    only: tuple[str, ...] = arg((), "some of the runs, by the plan's names", parse=comma_list)


@dataclass(frozen=True)
class Job:
    """One run of a script. `start`: the job whose run is the model to start from.

    {NAME} in an argument stands for the folder of another job's run.
    """

    name: str
    arguments: tuple[str, ...]
    script: str = "train_multitask"
    start: str = ""

    @property
    def is_fine_tuning(self) -> bool:
        """Whether it trains tasks, not the encoder on text."""
        return self.script == "train_multitask"

    def command(self, model: str) -> str:
        """Return what to type for the run by itself, with the first seed."""
        start = f"checkpoints/{self.start}" if self.start else model
        words = NAMED_JOB.sub(r"checkpoints/\1", " ".join(self.arguments))
        return f"python {self.script}.py {words} --model {start} --data-dir DIR --name {self.name}"


@dataclass(frozen=True)
class RunKey:
    """One job with one seed."""

    root: Path
    job: str
    seed: int = FIRST_SEED

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return f"{self.job}-{self.seed}"

    @property
    def folder(self) -> Path:
        """Where the run is."""
        return self.root / self.name


# Arguments in which runs of the same job may differ: places, the seed, what a resumed run may
# change.
NOT_SETTINGS = {*FREE_ON_RESUME, "model", "name", "seed", "task_file"}


def settings_in(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return those arguments of a run that all runs of its job have, as JSON has them.

    Teachers are named by their jobs.
    """
    settings = {name: v for name, v in arguments.items() if name not in NOT_SETTINGS}
    for task, run in settings.get("teacher", {}).items():
        job = Path(run).name.removesuffix(f"-{arguments['seed']}")
        settings["teacher"] = settings["teacher"] | {task: job}
    return json.loads(json.dumps(settings))


def check_settings(job: Job, settings: dict[str, Any], where: Path, args: JobArgs) -> None:
    """Raise UserError for a run that was made with other settings than its job has now.

    where: the folder or record that has them. Settings that an older run lacks are not compared.
    """
    named = [NAMED_JOB.sub(r"\1", word) for word in job.arguments]
    words = [*named, "--data-dir", args.data_dir]
    asked, _ = resolved(job.script, words)
    now = settings_in(asdict(asked))
    if "--max-length" not in job.arguments:  # older runs of a short model lowered it themselves
        now.pop("max_length", None)

    def shown(value: Any) -> str:
        return arg_text(tuple(value) if isinstance(value, list) else value) or "none"

    for name, value in now.items():
        if settings.get(name, value) != value:
            raise UserError(
                f"{where}: made with {name} {shown(settings[name])}, and {job.name} has "
                f"{shown(value)} now: remove it, and folders and records of what starts from it or "
                f"is taught by it, and they are run anew"
            )


@dataclass(frozen=True)
class Origin:
    """What a run was made of. Of older runs it is not known."""

    model: str = ""  # --model
    data: dict[str, str] = field(default_factory=dict)  # sha256 of the files, by name


def origin_of(run: Path, arguments: dict[str, Any]) -> Origin:
    """Read what a run's folder says of its model and data."""
    return Origin(arguments.get("model", ""), data_hashes(run))


def current_origin(args: JobArgs) -> Origin:
    """Return what a run would be made of now."""
    files = training_files(list(TASKS.values()), Path(args.data_dir))
    data = {name: sha256_of(path) for name, path in files.items() if path.is_file()}
    return Origin(args.model, data)


def check_origin(job: Job, begun_with: Origin, now: Origin, where: Path) -> None:
    """Raise UserError for a run of another model or of other data.

    where: the run's folder or record, for messages.
    """
    mend = "give what it was made of, or other --output-dir and --results"
    then, today = begun_with.model, now.model
    if then and not job.start and Path(then).resolve() != Path(today).resolve():
        raise UserError(f"{where}: made of --model {then}, not of {today}: {mend}")
    for name, digest in begun_with.data.items():
        if now.data.get(name, digest) != digest:
            raise UserError(f"{where}: made of another file of {name} than --data-dir has: {mend}")


def seeds_of(args: JobArgs) -> range:
    """Return the seeds of every job's runs."""
    return range(FIRST_SEED, FIRST_SEED + args.seeds)


def check_data_dir(args: JobArgs) -> None:
    """Raise UserError for a data directory that is not there."""
    if not Path(args.data_dir).is_dir():
        raise UserError(f"--data-dir {args.data_dir}: no such directory")


def needed_jobs(job: Job) -> set[str]:
    """Return the names of the jobs whose runs a job needs: its start, and its teachers."""
    named = NAMED_JOB.findall(" ".join(job.arguments))
    return {*named, *([job.start] if job.start else [])}


def chosen_jobs(jobs: list[Job], names: tuple[str, ...]) -> list[Job]:
    """Return the jobs of these names and those that they need, in order; without any name all.

    Raises UserError for a name of none.
    """
    known = {job.name: job for job in jobs}
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"--only {unknown[0]}: write names of {', '.join(known)}")
    needed = set().union(*(needed_jobs(known[name]) for name in names))
    return [job for job in jobs if job.name in {*names, *needed}] or jobs


def check_run(job: Job, run: Path, now: Origin, args: JobArgs) -> None:
    """Raise UserError for a run of other settings than its job has, or of another model or data."""
    arguments = read_arguments(run)
    check_settings(job, settings_in(arguments), run, args)
    check_origin(job, origin_of(run, arguments), now, run)
