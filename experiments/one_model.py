"""Is one model as good as three? python -m experiments.one_model --model all-MiniLM-L6-v2 --seeds 3

Prints the plan, then runs it; a run whose record is kept is done, a stopped one goes on. Table 5
of RESULTS.md is written anew after every run.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from experiments.ablation import Row
from experiments.jobs import Job, JobArgs, RunKey, seeds_of, starts_of
from experiments.markdown import ONE_MODEL
from experiments.run_ablation import jobs_of, run_ablation
from minbert.cli import arg, comma_list, parse_arguments, run_script
from minbert.errors import UserError

TITLE = "Table 5: one model beside three, all rows of all sets"
TASKS = ("sst", "quora", "sts")
RATES = ("5e-5", "1e-4")  # of the single tasks, which have the better one
PASSES = {"sst": 10, "quora": 3, "sts": 10}
MEAN = ("--pooling", "mean")  # of all tokens, which this encoder was pre-trained for
SMOOTH = ("--schedule", "linear", "--warmup", "0.1")
# The ingredients are compared at equal numbers of examples: as many as Quora has rows. A joint step
# has a batch of each task. They are evaluated at their end alone, so that no step is chosen.
SHORT = ("--lr", RATES[1], "--steps", "4423")
ANNEALED = ("--mode", "annealed", *SHORT, *SMOOTH)
SHORT_JOINT = ("--mode", "joint", "--lr", RATES[1], *SMOOTH, "--steps", "1475")
# The paper's rate is 1e-5, for bert-base and five passes; 5e-5 is what Tables 1 to 3 have, too.
PARALLEL = "parallel as in the paper, at 5e-5"
HANDED_IN = ("parallel", "one-model")  # whose test predictions are kept
NOTE = (
    "Short rows have equal numbers of updates and examples, a joint step counted as three. On top\n"
    "come R-Drop's second reading of its tasks, the one reading of all rows and the heads' passes\n"
    "of heads first, and the training of teachers. The test predictions of `parallel` and\n"
    "`one-model`, ids and labels only, are in `predictions/NAME-SEED/` for each seed that has\n"
    "run; what they score is not known here."
)


@dataclass(frozen=True)
class Args(JobArgs):
    """Those of all experiments, and which of the runs."""

    only: tuple[str, ...] = arg((), "of the runs, by the names in the plan", parse=comma_list)


def alone(task: str, rate: str, *more: str) -> Job:
    """Return the run of one task by itself; more: that its head reads all tokens."""
    words = ("--mode", "single", "--tasks", task, "--epochs", str(PASSES[task]), "--lr", rate)
    return Job(f"alone-{task}-{rate}" + "-mean" * bool(more), (*words, *SMOOTH, *more))


def table_5() -> list[Row]:
    """Return the rows of the table: each ingredient beside what it is compared with."""
    alone_runs = {
        task: (*(alone(task, rate) for rate in RATES), alone(task, RATES[1], *MEAN))
        for task in TASKS
    }
    teachers = ",".join(f"{task}={{{runs[1].name}}}" for task, runs in alone_runs.items())

    def row(
        label: str, name: str, *words: str, is_mean: bool | None = False, beside: str = ""
    ) -> Row:
        return Row(label, dict.fromkeys(TASKS, (Job(name, words),)), is_mean, beside)

    annealed, joint = "short: annealed", "short: joint"
    return [
        Row("single tasks (three models)", alone_runs),
        row(PARALLEL, "parallel", "--mode", "parallel", "--epochs", "3", "--lr", RATES[0]),
        row("short: parallel", "short", "--mode", "parallel", *SHORT),
        row("short: + warm-up and decay", "decay", "--mode", "parallel", *SHORT, *SMOOTH,
            beside="short: parallel"),
        row(annealed, "annealed", *ANNEALED, "--average", "0.3",
            beside="short: + warm-up and decay"),
        row(f"{annealed} + averaging", "annealed", *ANNEALED, "--average", "0.3", is_mean=True,
            beside=annealed),
        row(f"{annealed} + mean of tokens", "mean-pooling", *ANNEALED, *MEAN, beside=annealed),
        row(f"{annealed} + heads first", "heads-first", *ANNEALED, "--heads-first", "5",
            beside=annealed),
        row(f"{annealed} + teachers", "teachers", *ANNEALED, "--teacher", teachers,
            beside=annealed),
        row(f"{annealed} + R-Drop", "r-drop", *ANNEALED, "--r-drop", "sst=1,sts=1",
            beside=annealed),
        row(joint, "joint", *SHORT_JOINT, beside="short: + warm-up and decay"),
        row(f"{joint} + PCGrad", "pcgrad", *SHORT_JOINT, "--combine", "pcgrad", beside=joint),
        row("one model: recipes/one-model.toml", "one-model", "--config",
            "recipes/one-model.toml", is_mean=None, beside=PARALLEL),
    ]  # fmt: skip


def chosen_jobs(jobs: list[Job], names: tuple[str, ...]) -> list[Job]:
    """Return the jobs of these names and those that they need, in order; without any name all.

    Raises UserError for a name of none.
    """
    known = {job.name: job for job in jobs}
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"--only {unknown[0]}: write names of {', '.join(known)}")
    needed = set().union(*(starts_of(known[name]) for name in names))
    return [job for job in jobs if job.name in {*names, *needed}] or jobs


def keep_predictions(root: Path, folder: Path, seeds: range) -> None:
    """Copy the test predictions that are handed in, ids and labels only."""
    for job in HANDED_IN:
        for seed in seeds:
            for path in (RunKey(root, job, seed).folder / "predictions").glob("*-test-output.csv"):
                place = folder / "predictions" / f"{job}-{seed}"
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, place)


def main(argv: list[str]) -> int:
    """Print the plan, run it, write what it came to."""
    args = parse_arguments(Args, argv, __doc__.split("\n")[0])
    root, rows = Path(args.output_dir) / f"one-model-{Path(args.model).name}", table_5()
    jobs = chosen_jobs(jobs_of(rows), args.only)
    run_ablation(
        TITLE, "experiments.one_model", ONE_MODEL, rows, jobs, root, args,
        lambda: keep_predictions(root, Path(args.results), seeds_of(args)), NOTE,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    run_script(main)
