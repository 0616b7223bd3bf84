"""The time until a dev score is reached, with the same data, learning rate and rows a step.

A contestant's turn is some steps and then an evaluation; only the steps are timed.
"""

import atexit
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import train_multitask
from benchmarks.contest import DEVICE, Outcome, Work, run_contest
from benchmarks.contestants import FAST_LOOP, Places, ours, theirs
from benchmarks.ours import Turn
from benchmarks.report import Section, target_line
from experiments.estimate import resolved
from minbert.data.sampler import length_sorted_batches
from minbert.data.tokenizer import BertTokenizer
from minbert.metrics import overall
from minbert.run.resolve_args import resolve_arguments
from minbert.run.train_args import data_source
from minbert.task.evaluation import score_tasks
from minbert.task.loading import load_train_and_dev
from minbert.task.task import main_scores
from tasks import TASKS

TURN = {"steps": 60}
TURNS = 10
DEV_ROWS = dict.fromkeys(("sst", "quora", "sts"), 1000)
WANTED = (0.60, 0.65, 0.68, 0.69, 0.70)  # means of the three tasks' main scores
ASKED_AT, ASKED_FACTOR = 0.69, 1.8  # how much sooner than (b) that mean is to be reached


def in_turns(train: Callable[[int], object], steps: int, score: Callable[[], float]) -> Turn:
    """Return a turn of `steps` steps and an evaluation.

    The first one, which only warms up, is the evaluation before training, without steps.
    """
    todo = 0

    def turn() -> Work:
        nonlocal todo
        started = time.perf_counter()
        train(todo)
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        seconds, todo = time.perf_counter() - started, steps
        return Work(seconds=seconds, score=score())

    return turn


def minbert(settings: dict[str, Any]) -> Turn:
    """Set up minbert. settings: arguments of train_multitask.py, and the steps of a turn."""
    args, tasks = resolved("train_multitask", settings["arguments"])
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    run = train_multitask.set_up(
        args, Path(folder.name), {name: tasks[name] for name in args.tasks}
    )

    def train(steps: int) -> None:
        for _ in range(steps):
            train_multitask.train_step(run, run.state.step)
        run.records.flush()

    def score() -> float:
        tasks = list(run.tasks.values())
        scores = score_tasks(run.model, tasks, run.dev_splits)
        return mean_score(main_scores(tasks, scores))

    return in_turns(train, settings["steps"], score)


def loop(settings: dict[str, Any]) -> Turn:
    """Set up a loop. settings: as benchmarks.others.PlainLoop's, and the steps of a turn."""
    from benchmarks.others import PlainLoop  # slow: it imports transformers

    trained = PlainLoop(settings)
    args = resolve_arguments(settings["args"], TASKS)
    tokenizer = BertTokenizer.from_directory(Path(args.model))
    _, dev = load_train_and_dev([TASKS[name] for name in args.tasks], tokenizer, data_source(args))

    @torch.no_grad()
    def score() -> float:
        trained.encoder.eval()
        scores = {}
        for name, split in dev.items():
            outs = np.zeros((len(split), TASKS[name].outputs), dtype=np.float32)
            for rows in length_sorted_batches(split.lengths):
                outs[rows] = trained.forward(name, split, rows).cpu().numpy()
            metric = TASKS[name].metrics[TASKS[name].main_metric]
            scores[name] = metric(TASKS[name].decode(outs), split.labels)
        return mean_score(scores)

    return in_turns(trained.train, settings["steps"], score)


def mean_score(scores: dict[str, float]) -> float:
    """Return the mean of the tasks' main metrics."""
    return overall(scores, {name for name in scores if TASKS[name].is_regression})[0]


def time_to_score(places: Places) -> Section:
    """Measure the seconds of training until the mean dev score reaches each of WANTED."""
    dev = ",".join(f"{name}={rows}" for name, rows in DEV_ROWS.items())
    library = ours("minbert", places, "--limit", "quora=16000", "--limit-dev", dev)
    other = theirs(FAST_LOOP, "plain_loop", places, fast=True, args={"limit_dev": DEV_ROWS})
    contestants = [
        replace(library, factory="benchmarks.to_score:minbert", settings=library.settings | TURN),
        replace(other, factory="benchmarks.to_score:loop", settings=other.settings | TURN),
    ]
    outcomes = run_contest(contestants, TURNS)
    rows = []
    for wanted in WANTED:
        reached = [first_time(outcome, wanted) for outcome in outcomes.values()]
        cells = (f"{s:.0f} s" if s else "not reached" for s in reached)
        ratio = f"{reached[1] / reached[0]:.2f}x" if all(reached) else ""
        rows.append((f"{wanted:.2f}", *cells, ratio))
    ours_s, other_s = (first_time(outcome, ASKED_AT) for outcome in outcomes.values())
    best = (f"{name} {max(w.score for w in o.works):.3f}" for name, o in outcomes.items())
    lines = (
        asked_line(ours_s, other_s),
        f"evaluated every {TURN['steps']} steps, {TURNS} times, on at most 1,000 dev rows of each "
        "task; one seed; the evaluations' time is not counted",
        "best means: " + ", ".join(best),
    )
    title = f"Time to a mean dev score, {places.name}, batch 32"
    return Section(title, ("mean score", *outcomes, "ratio"), tuple(rows), lines)


def asked_line(ours_s: float | None, other_s: float | None) -> str:
    """Return the `target_line` of the seconds to ASKED_AT; None: it was never reached."""
    seen, met = "not reached", False
    if ours_s:
        seen = f"{other_s / ours_s:.2f}x" if other_s else "reached by minbert alone"
        met = not other_s or other_s / ours_s >= ASKED_FACTOR
    return target_line(f"to {ASKED_AT} against (b)", f"{ASKED_FACTOR}x", seen, met)


def first_time(outcome: Outcome, wanted: float) -> float | None:
    """Return the seconds of training until a score is reached; None if it never is."""
    total = 0.0
    for seconds, work in zip(outcome.seconds, outcome.works, strict=True):
        total += seconds
        if work.score >= wanted:
            return total
    return None
