"""What a run would be: its data, steps, time and memory, from a few steps that are thrown away."""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from minbert.data.encoded import EncodedSplit
from minbert.data.sampler import batch_rows, shuffled
from minbert.run.runlog import silence
from minbert.run.several import is_one_by_one
from minbert.run.train_args import FROZEN, Args
from minbert.task.evaluation import encode_features
from minbert.task.task import Task

WARM_UP, MEASURED = 2, 6  # steps
Tasks = dict[str, Task]
SetUp = Callable[[Any, Path, Tasks], Any]  # of a script: arguments, a folder, tasks -> its Run
TrainStep = Callable[[Any, int], None]


@dataclass(frozen=True)
class Forecast:
    """Of all runs of a command; evaluation and saving come on top of the time."""

    steps: int
    minutes: float
    gib: float  # the largest size of one process, or of the GPU's tensors


def seconds_a_step(
    run: Any, train_step: TrainStep, steps: Sequence[int] = range(WARM_UP + MEASURED)
) -> float:
    """Mean of some steps, after the first of them to warm up."""
    for step in steps[:WARM_UP]:
        train_step(run, step)
    run.records.flush()  # waits until the device has done them
    started, measured = time.monotonic(), steps[WARM_UP:] or steps
    for step in measured:
        train_step(run, step)
    run.records.flush()
    return (time.monotonic() - started) / len(measured)


def forecast(run: Any, args: Args, train_step: TrainStep) -> Forecast:
    """A few steps of every task, and the one with most tokens. args: the command's.

    run: as set_up_to_measure gives it.
    """
    plan, alone = run.plan, is_one_by_one(args)
    counts = {t: args.epochs * b if alone else plan.steps_of(t) for t, b in plan.batches.items()}
    if args.fine_tune_mode == FROZEN:
        seconds = features_seconds(run)
    else:
        some = {t: list(islice(plan.first_steps(t), WARM_UP + MEASURED)) for t in counts}
        seconds = sum(n * seconds_a_step(run, train_step, some[t]) for t, n in counts.items())
        train_step(run, longest_step(run, args))
    run.progress.close()
    gib = peak_gib(run.model.encoder.device)
    return Forecast(args.seeds * sum(counts.values()), args.seeds * seconds / 60, gib)


def set_up_to_measure(args: Args, set_up: SetUp, folder: Path, tasks: Tasks) -> Any:
    """Set up a run without a frozen encoder's features, which are most of its work."""
    return set_up(replace(args, fine_tune_mode="full-model", seeds=1), folder, tasks)


def features_seconds(run: Any) -> float:
    """A frozen encoder reads every row once; its heads' steps cost next to nothing."""
    rows = sum(len(split) for part in (run.train_splits, run.dev_splits) for split in part.values())
    started = time.monotonic()
    encode_features(run.model.encoder, run.dev_splits, run.model.encoder.device)
    return (time.monotonic() - started) / sum(map(len, run.dev_splits.values())) * rows


def longest_step(run: Any, args: Args) -> int:
    """The step of each task's first pass whose batch has most tokens."""
    best = (0, 0)
    for task, batches in run.plan.batches.items():
        split = run.train_splits[task]
        for step in islice(run.plan.first_steps(task), batches):
            draw = run.plan.draw(step)
            where = (args.seed, task, draw.epoch, draw.batch)
            rows = batch_rows(len(split), args.batch_size, batches, *where)
            best = max(best, (int(split.lengths_of(rows).sum()), step))
    return best[1]


def padded_share(split: EncodedSplit, batch_size: int) -> float:
    """Tokens of random batches padded to their longest, over real tokens: what packing saves."""
    lengths = split.lengths[shuffled(len(split), 0, "", 0)]
    batches = np.array_split(lengths, max(1, len(lengths) // batch_size))
    return sum(len(b) * int(b.max()) for b in batches) / int(lengths.sum())


def peak_gib(device: torch.device) -> float:
    """The largest size so far: of the GPU's tensors, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def described(args: Any, data: list[str], found: Forecast) -> str:
    """Lines for people: arguments, data, time and memory."""
    lines = ["arguments:"]
    lines += [f"  {name}: {value}" for name, value in asdict(args).items() if value not in ("", {})]
    lines += data
    took = f"{found.minutes:.1f} minutes, evaluation apart"
    if getattr(args, "fine_tune_mode", "") == FROZEN:
        took = f"of the heads alone: the encoder reads every row once, {took}"
    lines.append(f"steps: {found.steps:,}, {took}")
    lines.append(f"memory: {found.gib:.2f} GiB at the longest batch")
    return "\n".join(lines)


def show(args: Any, preview: Callable[[Path], tuple[str, Forecast]]) -> None:
    """Print a forecast, and as JSON if that is asked for. preview: makes it in a folder to lose."""
    with tempfile.TemporaryDirectory() as scratch, silence(args.quiet):
        text, found = preview(Path(scratch))
        print(text)
    if args.json:
        print(json.dumps(asdict(found)))


def preview(
    args: Args, tasks: Tasks, set_up: SetUp, train_step: TrainStep, folder: Path
) -> tuple[str, Forecast]:
    """Say what a run of train_multitask.py would be."""
    run = set_up_to_measure(args, set_up, folder, tasks)
    found = forecast(run, args, train_step)
    data = ["data (rows to train and evaluate on, mean tokens, what padding would add):"]
    size = args.batch_size if isinstance(args.batch_size, int) else 32
    for name, split in run.train_splits.items():
        more = padded_share(split, size) - 1
        rows = f"{len(split):,} and {len(run.dev_splits[name]):,}"
        data.append(f"  {name}: {rows}, {float(split.lengths.mean()):.1f}, {more:+.0%}")
    return described(args, data, found), found


def preview_mlm(
    args: Any, tasks: Tasks, set_up: SetUp, train_step: TrainStep, folder: Path
) -> tuple[str, Forecast]:
    """Say what a run of pretrain_mlm.py would be."""
    run = set_up(args, folder, tasks)
    seconds = seconds_a_step(run, train_step, range(min(run.steps, WARM_UP + MEASURED)))
    run.progress.close()
    found = Forecast(run.steps, run.steps * seconds / 60, peak_gib(run.model.encoder.device))
    data = f"rows to train on and held out: {len(run.rows):,} and {len(run.held_out):,}, "
    return described(args, [f"{data}{run.text.lengths.mean():.1f} tokens each"], found), found
