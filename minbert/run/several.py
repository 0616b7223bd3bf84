"""Several runs in one command: each task alone, each of several seeds."""

import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from minbert.run.tables import closing_table
from minbert.run.train_args import FROZEN, Args
from minbert.task.task import Task
from tasks import TASKS

State = dict[str, Any]  # what train_multitask.train returns
BestScores = dict[str, float]  # of every task
SCORES = "scores.json"
Train = Callable[[Args, Path], State]
BY_TASK = ("limit", "limit_dev", "pair_encoding", "pair_loss")


def is_one_by_one(args: Args) -> bool:
    """Whether every task is trained alone, in a folder of its own."""
    return args.mode == "single" and len(args.tasks) > 1


def train_all(args: Args, folder: Path, train: Train) -> list[State]:
    """One run, or one for each task from the same start; a stopped one goes on."""
    if not is_one_by_one(args):
        return [train(args, folder)]
    states = []
    for name in args.tasks:
        print(f"\n{TASKS[name].title} alone")
        own = {f: {k: v for k, v in getattr(args, f).items() if k == name} for f in BY_TASK}
        states.append(train(replace(args, tasks=(name,), **own), folder / name))
    return states


def train_seeds(args: Args, folder: Path, train: Train) -> list[list[State]]:
    """--seeds of them, from --seed on, each in a folder of its own."""
    if args.seeds == 1:
        return [train_all(args, folder, train)]
    every = []
    for seed in range(args.seed, args.seed + args.seeds):
        print(f"\nseed {seed}")
        one = replace(args, seed=seed, seeds=1)
        every.append(train_all(one, folder / f"seed-{seed}", train))
    return every


def first_run(args: Args, folder: Path) -> Path:
    """The folder of the first run in it."""
    if args.seeds > 1:
        folder = folder / f"seed-{args.seed}"
    return folder / args.tasks[0] if is_one_by_one(args) else folder


def best_scores(states: list[State]) -> BestScores:
    """By task, of one run or of several of a task each."""
    return {name: score for state in states for name, score in state["best"]["scores"].items()}


def shown(args: Args, folder: Path, every: list[list[State]]) -> str:
    """What all runs of a command came to, by seed and run, and what to type next."""
    tasks = [TASKS[name] for name in args.tasks]
    trained = args.mode + (" (frozen)" if args.fine_tune_mode == FROZEN else "")
    parts = [
        f"\nDev scores of the best step on {args.data_dir} ({args.model}, {folder})",
        closing_table(tasks, every[0], trained),
    ]
    if args.seeds > 1:
        parts.append(seeds_table(tasks, list(map(best_scores, every))))
    run = first_run(args, folder)
    parts.append(f"next: python evaluate.py --checkpoint {run} --data-dir {args.data_dir}")
    return "\n\n".join(parts)


def summary(every: list[BestScores]) -> dict[str, dict[str, float]]:
    """Of every task over the seeds: mean, spread (standard deviation), lowest and highest."""
    found = {}
    for name in every[0]:
        values = [scores[name] for scores in every]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        ends = {"lowest": min(values), "highest": max(values)}
        found[name] = {"mean": statistics.fmean(values), "spread": spread, **ends}
    return found


def seeds_table(tasks: list[Task], every: list[BestScores]) -> str:
    """`summary` for people."""
    lines = [f"over {len(every)} seeds   mean   spread   lowest to highest"]
    for task in tasks:
        s = summary(every)[task.name]
        ends = f"{s['lowest']:.3f} to {s['highest']:.3f}"
        lines.append(f"{task.title:<13}{s['mean']:7.3f}  {s['spread']:7.4f}   {ends}")
    return "\n".join(lines)
