"""Is one model as good as three? python -m experiments.one_model --model all-MiniLM-L6-v2 --seeds 3

Prints the plan, then runs it; a finished run is reused, a stopped one goes on.
"""

from pathlib import Path

from experiments.jobs import Job, check_places, print_plan, run_jobs
from experiments.jobs import JobArgs as Args
from minbert.cli import parse_arguments, run_script

TASKS = ("sst", "quora", "sts")
RATES = ("5e-5", "1e-4")  # of the single tasks, which have the better one
PASSES = {"sst": 10, "quora": 3, "sts": 10}
SMOOTH = ("--schedule", "linear", "--warmup", "0.1")
STEPS = ("--eval-every", "2000")  # the best step is chosen by dev, as in the paper
ROWS = {  # of one pass over Quora, each with what the row above it has
    "decay": ("--mode", "parallel", *SMOOTH),
    "annealed": ("--mode", "annealed", *SMOOTH, "--average", "0.3"),
    "heads-first": ("--mode", "annealed", *SMOOTH, "--heads-first", "5"),
    "r-drop": ("--mode", "annealed", *SMOOTH, "--r-drop", "sst=1,sts=1"),
    "joint": ("--mode", "joint", *SMOOTH),
    "pcgrad": ("--mode", "joint", "--combine", "pcgrad", *SMOOTH),
}


def alone(task: str, rate: str) -> Job:
    """Return the run of one task by itself."""
    words = ("--mode", "single", "--tasks", task, "--epochs", str(PASSES[task]), "--lr", rate)
    return Job(f"alone-{task}-{rate}", (*words, *SMOOTH, "--skip-predictions"))


def every_job() -> list[Job]:
    """Return all runs of a seed, teachers before what learns from them."""
    singles = [alone(task, rate) for task in ("sst", "sts", "quora") for rate in RATES]
    teachers = ",".join(f"{task}={{alone-{task}-{RATES[0]}}}" for task in TASKS)
    rows = ROWS | {"teachers": (*ROWS["annealed"], "--teacher", teachers)}
    one_pass = ("--epochs", "1", "--lr", RATES[0], *STEPS, "--skip-predictions")
    return [
        *singles,
        *(Job(name, (*words, *one_pass)) for name, words in rows.items()),
        Job("parallel", ("--mode", "parallel", "--epochs", "3", "--lr", RATES[0], *STEPS)),
        Job("one-model", ("--config", "recipes/one-model.toml")),
    ]


def main(argv: list[str]) -> int:
    """Print the plan and run it."""
    args = parse_arguments(Args, argv, __doc__.split("\n")[0])
    check_places(args)
    root, jobs = Path(args.output_dir) / f"one-model-{Path(args.model).name}", every_job()
    print_plan(jobs, root, args)
    if not args.plan:
        run_jobs(jobs, root, args, lambda: None)
    return 0


if __name__ == "__main__":
    run_script(main)
