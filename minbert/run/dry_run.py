"""--dry-run: a run's data, steps, time and memory, measured on a few steps that are not kept."""

import json
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
from minbert.data.items import gold_of
from minbert.data.sampler import ADAPTIVE_MEAN, shuffled
from minbert.errors import UserError
from minbert.parsers import arg_text
from minbert.printable import silence
from minbert.progress import duration, progress
from minbert.run import pre_training
from minbert.run.fine_tuning import FineTuning, prepare_reading, set_up
from minbert.run.mlm_args import Args as MlmArgs
from minbert.run.pre_training import PreTraining
from minbert.run.several import arguments_of_task
from minbert.run.teachers import teacher_folder
from minbert.run.train_args import FROZEN, Args
from minbert.task.classes import describe_labels
from minbert.task.evaluation import encode_features
from minbert.task.loading import check_files
from minbert.task.siamese import BOTH
from minbert.task.task import Tasks
from minbert.training.averaging import add_to_average
from minbert.training.mixing import Plan, describe_passes
from minbert.training.schedule import describe_long_warmup
from minbert.weights.resolve import resolve

WARM_UP, MEASURED = 2, 6  # steps
TrainStep = Callable[[FineTuning, int], None]
MlmTrainStep = Callable[[PreTraining, int], None]


@dataclass(frozen=True)
class Forecast:
    """Steps, time and memory of all runs of a command, without evaluation and saving."""

    steps: int
    minutes: float
    gib: float  # the peak of one process, or of the GPU's tensors, in what was measured


def seconds_per_step(
    run: FineTuning | PreTraining, train_step: TrainStep | MlmTrainStep, steps: Sequence[int]
) -> float:
    """Measure the mean time of some steps, the first of which warm up."""
    for step in steps[:WARM_UP]:
        train_step(run, step)
    run.records.flush()  # waits until the device has done these steps
    started, measured = time.monotonic(), steps[WARM_UP:] or steps
    for step in progress(measured, "steps that are measured"):
        train_step(run, step)
    run.records.flush()
    return (time.monotonic() - started) / len(measured)


def forecast(run: FineTuning, args: Args, train_step: TrainStep) -> Forecast:
    """Measure a few steps of every task, and the step with the most tokens for the memory.

    run: from set_up_to_measure. args: the command's own, of all its runs.
    """
    plan, counts = run.plan, steps_by_task(args, run.plan)
    if args.fine_tune_mode == FROZEN:
        seconds = features_seconds(run)
    else:
        some = {t: list(islice(plan.steps_with(t), WARM_UP + MEASURED)) for t in counts}
        seconds = sum(n * seconds_per_step(run, train_step, some[t]) for t, n in counts.items())
        if args.average:  # the weights' mean, which the last steps have
            add_to_average(run.optimizer, 1)
        train_step(run, longest_step(run))
    run.progress.close()
    gib = peak_gib(run.model.encoder.device)
    return Forecast(args.seeds * sum(counts.values()), args.seeds * seconds / 60, gib)


def steps_by_task(args: Args, plan: Plan) -> dict[str, int]:
    """Return how many steps of each task there are; in joint mode the first stands for all."""
    if args.is_one_by_one:
        epochs = {task: arguments_of_task(args, task)["epochs"] for task in plan.batches}
        return {task: args.steps or epochs[task] * b for task, b in plan.batches.items()}
    if args.mode == "joint":
        return {next(iter(plan.batches)): plan.steps}
    # a short annealed run may never draw a task
    return {task: steps for task in plan.batches if (steps := plan.count_steps(task))}


def set_up_to_measure(args: Args, folder: Path, tasks: Tasks) -> FineTuning:
    """Set up a run without a frozen encoder's features, which are most of its work."""
    more: dict[str, Any] = {"heads_first": 0, "teacher": {}}  # which read every row once
    if isinstance(args.epochs, dict):
        more["epochs"] = max(args.epochs.values())
    if args.is_one_by_one:
        # measured in one run, each task in turn, whose warm-up is none of theirs
        more |= {"steps": args.steps * len(args.tasks), "warmup": 0.0}
    measured = replace(args, fine_tune_mode="full-model", seeds=1, quiet=True, **more)
    return set_up(measured, folder, tasks)


def features_seconds(run: FineTuning) -> float:
    """Measure the dev sets' features and return the time of all features.

    A frozen encoder reads every row once, and the steps of the heads take next to no time.
    """
    of_train, of_dev = (
        sum(len(split.lengths) for split in splits.values())
        for splits in (run.train_sequences, run.dev_splits)
    )
    started = time.monotonic()
    encode_features(run.model, run.dev_splits)
    return (time.monotonic() - started) * (of_train + of_dev) / of_dev


def longest_step(run: FineTuning) -> int:
    """Return the step, of each task's first pass, whose batch has the most tokens in memory.

    R-Drop, and reading pairs both ways, each count the batch's tokens once more.
    """
    longest = (0, 0)  # tokens, step
    for task, batches in run.plan.batches.items():
        split = run.train_sequences[task]
        times = 1 + (run.args.r_drop.get(task, 0) > 0) + (run.args.pair_encoding.get(task) == BOTH)
        for step in islice(run.plan.steps_with(task), batches):
            draw = next(d for d in run.plan.draws(step) if d.task == task)
            tokens = int(split.lengths_of(run.rows_of(draw)).sum())
            longest = max(longest, (times * tokens, step))
    return longest[1]


def padding_factor(split: EncodedSplit, batch_size: int) -> float:
    """Return the tokens of padded random batches over the real tokens, which packing leaves."""
    lengths = split.lengths[shuffled(len(split.lengths), 0, "", 0)]
    batches = np.array_split(lengths, max(1, len(lengths) // batch_size))
    return sum(len(b) * int(b.max()) for b in batches) / int(lengths.sum())


def peak_gib(device: torch.device) -> float:
    """Return the largest size so far of the GPU's tensors, or else of this process, in GiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import resource  # here, so that training runs where there is none

    unit = 1 if sys.platform == "darwin" else 1024  # macOS has ru_maxrss in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def describe(args: Args | MlmArgs, data: list[str], found: Forecast) -> str:
    """Return a forecast for people: lines of arguments, data, time and memory."""
    lines = ["arguments:"]
    given = {name: value for name, value in asdict(args).items() if value not in ("", {}, (), None)}
    lines += [f"  {name}: {arg_text(value)}" for name, value in given.items()]
    lines += data
    time_, left_out = duration(60 * found.minutes), ["evaluation"]
    if isinstance(args, Args):
        left_out += ["teachers"] if args.teacher else []
        left_out += ["heads first"] if args.heads_first else []
        left_out += ["averaging"] if args.average else []
        if args.fine_tune_mode == FROZEN:
            time_ = f"of the heads alone: the encoder reads every row once, {time_}"
    time_ += f", without {', '.join(left_out)}"
    lines.append(f"steps: {found.steps:,}, {time_}")
    longest = isinstance(args, Args) and args.fine_tune_mode != FROZEN
    when = "at the longest batch" if longest else "in what was measured"
    lines.append(f"memory: {found.gib:.2f} GiB {when}")
    return "\n".join(lines)


def show(args: Args | MlmArgs, make: Callable[[Path], tuple[str, Forecast]]) -> None:
    """Print a forecast, with --json as JSON too.

    make: returns its text and numbers; the folder that it may write to is removed. Raises
    UserError if nothing would be printed.
    """
    if args.quiet and not args.json:
        raise UserError("--dry-run --quiet prints nothing: add --json, or leave --quiet out")
    with tempfile.TemporaryDirectory() as scratch, silence(args.quiet):
        text, found = make(Path(scratch))
        print(text)
    if args.json:
        print(json.dumps(asdict(found)))


def preview(args: Args, tasks: Tasks, train_step: TrainStep, folder: Path) -> tuple[str, Forecast]:
    """Return the forecast of train_multitask.py, as text and numbers."""
    for name, teacher in args.teacher.items():
        teacher_folder(name, Path(teacher))  # raises for one that is no run
    known = list(tasks.values())
    check_files(known, Path(args.data_dir), ("train", "dev"))  # before a model is downloaded
    prepare_reading(args, known, resolve(args.model))
    run = set_up_to_measure(args, folder, tasks)
    found = forecast(run, args, train_step)
    data = ["data (rows to train and evaluate on, mean tokens, what padding would add):"]
    size = args.batch_size if isinstance(args.batch_size, int) else ADAPTIVE_MEAN
    for name, split in run.train_splits.items():
        more = padding_factor(split, size) - 1
        rows = f"{len(split):,} and {len(run.dev_splits[name]):,}"
        data.append(f"  {name}: {rows}, {split.lengths.sum() / len(split):.1f}, {more:+.0%}")
    data.append("labels to train on:")
    for name, split in run.train_splits.items():
        data.append(f"  {name}: {describe_labels(tasks[name], gold_of(split))}")
    passes = run.plan.passes()
    if args.is_one_by_one:  # the plan has all tasks in one run
        steps = steps_by_task(args, run.plan)
        passes = {task: n / run.plan.batches[task] for task, n in steps.items()}
        said = [describe_long_warmup(args.warmup, n) for n in dict.fromkeys(steps.values())]
        data += filter(None, said)
    data.append(describe_passes(passes))
    return describe(args, data, found), found


def preview_mlm(
    args: MlmArgs, tasks: Tasks, train_step: MlmTrainStep, folder: Path
) -> tuple[str, Forecast]:
    """Return the forecast of pretrain_mlm.py, as text and numbers."""
    run = pre_training.set_up(replace(args, quiet=True), folder, tasks)
    seconds = seconds_per_step(run, train_step, range(min(run.steps, WARM_UP + MEASURED)))
    run.progress.close()
    found = Forecast(run.steps, run.steps * seconds / 60, peak_gib(run.model.encoder.device))
    data = f"rows to train on and held out: {run.train_rows:,} and {len(run.held_out):,}, "
    mean, more = len(run.text.ids) / len(run.text), padding_factor(run.text, args.batch_size) - 1
    data += f"{mean:.1f} tokens each, to which padding would add {more:.0%}"
    return describe(args, [data], found), found
