"""The README.md of a run, a model card made of what the run's other files say."""

import os
import platform
import shlex
from collections.abc import Sequence
from dataclasses import fields
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from minbert.cli import flag_of
from minbert.data.encoded import EncodedSplit, Splits
from minbert.data.items import gold_of
from minbert.files import write_text
from minbert.metrics import decimals, summarize_seeds
from minbert.parsers import arg_text
from minbert.report.tables import markdown_table
from minbert.report.task_findings import TaskFindings
from minbert.task.calibration import ECE_BINS
from minbert.task.classes import describe_labels, display_counts, scores_to_show
from minbert.task.loading import count_trained_on, training_files
from minbert.task.task import Task
from minbert.training import distributed
from minbert.version import VERSION

CARD = "README.md"
LIBRARIES = ("torch", "numpy", "tokenizers", "safetensors")
NOT_SHOWN = ("name", "resume", "output_dir", "threads")  # arguments about place and machine
CALIBRATED = """\
Before and after are means of both halves of dev, each with the temperature that was fitted on the
other half; the probabilities of `best/` use the one that was fitted on all of it."""
Findings = dict[str, TaskFindings]  # by task; empty without predictions
Rows = list[tuple[str, ...]]  # of a table; the first one is its head


def command_line(args: Any) -> str:
    """Return what to type for the same run: the arguments that are not the defaults.

    args: a script's dataclass of arguments, resolved.
    """
    words = [f"{launcher()} {args.script}"]
    for f in fields(args):
        value = getattr(args, f.name)
        is_needed = f.name == "tasks" and args.task_file  # the file may have more tasks
        is_default = value in (f.default, None, {}, "") and not is_needed
        if f.name in NOT_SHOWN or is_default:
            continue
        flag = flag_of(f"no_{f.name}" if value is False else f.name)
        typed = value if "nargs" in f.metadata else [arg_text(value)]
        word = " ".join(map(shlex.quote, typed))
        words.append(flag if isinstance(value, bool) else f"{flag} {word}")
    return " ".join(words)


def launcher() -> str:
    """Return what starts a script in as many processes, on as many machines, as there are now."""
    if distributed.world_size() == 1:
        return "python"
    of_machine = int(os.environ.get("LOCAL_WORLD_SIZE", distributed.world_size()))
    machines = distributed.world_size() // of_machine
    several = f"--nnodes {machines} " if machines > 1 else ""
    return f"torchrun {several}--nproc-per-node {of_machine}"


def write_card(
    folder: Path, args: Any, tasks: list[Task], train_splits: Splits, dev_splits: Splits,
    hashes: dict[str, str], kept: str, best_scores: dict[str, float], found: Findings,
) -> None:  # fmt: skip
    """Write the card of a fine-tuned run: the scores of its best step, and of each class.

    hashes: of the files that it began with, by name. kept: what best/ holds, in words.
    """
    scores: Rows = [
        ("task", "metric", "dev score, best step by dev", "95 % interval", "rows", "others")
    ]
    data: Rows = [("file", "rows used", "sha256")]
    for task in tasks:
        train, dev, own = (by_task.get(task.name) for by_task in (train_splits, dev_splits, found))
        scores.append(score_row(task, best_scores[task.name], len(dev), own))
        data += data_rows(task, train, dev, Path(args.data_dir), hashes)
    titles = ", ".join(escape(task.title, quote=False) for task in tasks)
    about = (
        f"One BERT encoder fine-tuned on {titles} by minbert, starting from\n"
        f"`{args.model}`. `best/` holds {kept}, `last/` the end of training."
    )
    score = f"python evaluate.py --checkpoint {shlex.quote(str(folder))} --data-dir DIR"
    labels = [labels_of(task, gold_of(train_splits[task.name]), found) for task in tasks]
    use = [score, *exports(folder, args)]
    more = ["## Labels", *labels, *calibrations_of(tasks, found)]
    write_sections(folder, args, about, scores, use, data, more)


def score_row(
    task: Task, best_score: float, dev_rows: int, found: TaskFindings | None
) -> tuple[str, ...]:
    """Return a task's line of the table of scores."""
    value, interval, metrics = best_score, "-", dict(found.metrics if found else {})
    if found and found.interval:
        low, high = found.interval
        value, interval = metrics.pop(task.main_metric, best_score), f"{low:.3f} to {high:.3f}"
    others = ", ".join(f"{name} {decimals(score)}" for name, score in metrics.items()) or "-"
    return task.title, task.main_metric, f"{value:.3f}", interval, f"{dev_rows:,}", others


def data_rows(
    task: Task, train: EncodedSplit, dev: EncodedSplit, data_dir: Path, hashes: dict[str, str]
) -> Rows:
    """Return a task's lines of the table of files; a split's first file has the rows of all."""
    of_file = {path: hashes[name] for name, path in training_files([task], data_dir).items()}
    again, lines = count_trained_on(dev, train), []
    of_dev = f" ({again:,} as in train)" if again else ""
    share = ", a part of it: dev" if task.dev_share else ""
    for name, used, part in (
        ("train", f"{len(train):,}{left_out(train)}", ""),
        ("dev", f"{len(dev):,}{of_dev}{left_out(dev)}", share),
    ):
        for number, path in enumerate(task.paths(name, data_dir)):
            rows = "" if number else used
            lines.append((path.name + part, rows, f"`{of_file[path]}`"))
    return lines


def left_out(split: EncodedSplit) -> str:
    """Return how many rows of a split's files cannot be used, and why; "" if all can."""
    counts = ", ".join(f"{count:,} {reason}" for reason, count in split.left_out_counts.items())
    return f"; left out: {counts}" if counts else ""


def labels_of(task: Task, labels: np.ndarray, found: Findings) -> str:
    """Return how many training rows a task's classes have, and how well they are found on dev."""
    scores = found[task.name].classes if task.name in found else []
    if not scores:
        rows = f"{task.title}, training rows: {describe_labels(task, labels)}"
        return escape(rows, quote=False)
    counts = display_counts(task, labels)
    head = (task.title, "in training", "in dev", "precision", "recall", "F1", "")
    rows = [
        (s.label, f"{counts[s.label]:,}", f"{s.rows:,}",
         *(f"{x:.3f}" for x in (s.precision, s.recall, s.f1)), s.note)
        for s in scores_to_show(scores)
    ]  # fmt: skip
    table = markdown_table([head, *rows])
    if more := len(scores) - len(rows):
        table += f"\n\nAnd {more:,} more classes, which are found no worse or are not in dev."
    return table


def calibrations_of(tasks: list[Task], found: Findings) -> list[str]:
    """Return how far the tasks' probabilities are off, before and after; nothing without any."""
    error = f"expected calibration error ({ECE_BINS} bins)"
    table: Rows = [("task", error, "with a temperature", "temperature of all of dev")]
    for own in (found[task.name] for task in tasks if task.name in found):
        if numbers := own.calibrated:
            errors = (f"{numbers[key]:.4f}" for key in ("ece_before", "ece_after"))
            table.append((own.title, *errors, f"{numbers['temperature']:g}"))
    return ["## Calibration", markdown_table(table), CALIBRATED] if len(table) > 1 else []


def exports(folder: Path, args: Any) -> list[str]:
    """Return the commands that export a run; args: its arguments.

    transformers loads a task whose pairs are encoded together, sentence-transformers a siamese one,
    ONNX also a head that reads all tokens. None takes two separate towers, nor heads that read
    other layers than the top one.
    """
    start = f"python -m minbert.export {shlex.quote(str(folder))} NEW_DIRECTORY --to"
    cross = [name for name in args.tasks if name not in args.pair_loss]
    commands = []
    for name in [] if args.pool_layers else cross[:1]:
        # transformers reads [CLS] alone
        library = "transformers" if args.pooling_of(name) == "cls" else "onnx"
        commands.append(f"{start} {library} --task {name}")
    if len(cross) < len(args.tasks) and args.towers != "separate":
        # without a task it is the mean of all tokens, which a siamese task may not compare
        apart = [name for name in args.pair_loss if name in args.siamese_tasks]
        task = f" --task {apart[0]}" if apart else ""
        commands.append(f"{start} sentence-transformers{task}")
    return commands


def write_mlm_card(
    folder: Path, args: Any, hashes: dict[Path, str], rows: int, held_out: int, kept: str,
    step: int, found: dict[str, float], task_flags: str,
) -> None:  # fmt: skip
    """Write the card of a pre-trained run: how well what it keeps predicts held-out tokens.

    hashes: of the files that it began with. rows: trained on; held_out: not. kept: the folder
    that --model RUN means; step, found: its step, and its scores then. task_flags: by which
    train_multitask.py has the same tasks.
    """
    head = ("held-out masked tokens", f"step {step}")
    shown = {name: f"{value:.3f}" for name, value in found.items()} or {"none": "-"}
    scores: Rows = [head, *shown.items()]
    data: Rows = [("file", "sha256"), *((f.name, f"`{own}`") for f, own in hashes.items())]
    about = (
        f"A BERT encoder pre-trained further by minbert on {rows:,} rows, beside {held_out:,} "
        f"held out, starting from\n"
        f"`{args.model}`. `{kept}/` holds step {step}; `--model` takes that."
    )
    start = f"python train_multitask.py --model {shlex.quote(str(folder))}"
    use = [f"{start} --data-dir DIR{task_flags}"]
    write_sections(folder, args, about, scores, use, data)


def write_several_card(
    folder: Path, args: Any, tasks: list[Task], by_seed: list[dict[str, float]]
) -> None:
    """Write the card of a folder of runs, one for each seed or task: scores and their spread.

    by_seed: the scores of each seed.
    """
    scores: Rows = [
        ("task", "metric", "mean dev score, best step by dev", "spread", "lowest to highest")
    ]
    summary, seeds = summarize_seeds(by_seed), f"{len(by_seed)} seed{'s' * (len(by_seed) > 1)}"
    for task in tasks:
        s = summary[task.name]
        spread = "-" if s["spread"] is None else f"{s['spread']:.4f}"
        ends = f"{s['lowest']:.3f} to {s['highest']:.3f}"
        scores.append((task.title, task.main_metric, f"{s['mean']:.3f}", spread, ends))
    about = (
        f"Runs of minbert from `{args.model}`, each in a folder of its own with its "
        f"README.md;\n"
        f"`scores.json` has the scores of {seeds} one by one, `report.html` "
        f"the curves."
    )
    report = f"python -m minbert.report {shlex.quote(str(folder))}"
    write_sections(folder, args, about, scores, [report], [])


def write_sections(
    folder: Path, args: Any, about: str, scores: Rows, use: list[str], data: Rows,
    more: Sequence[str] = (),
) -> None:  # fmt: skip
    """Write a card's text; more: parts of it."""
    libraries = (f"{name} {version(name)}" for name in LIBRARIES)
    versions = ", ".join((f"minbert {VERSION}", *libraries))
    typed = ((k, "" if v is None else arg_text(v)) for k, v in vars(args).items())
    listed = ((k, f"`{v}`" if v else "-") for k, v in typed if k not in NOT_SHOWN)
    arguments: Rows = [("argument", "value"), *listed]
    parts = [
        f"# {escape(folder.name, quote=False)}", about, markdown_table(scores), *more,
        "## Use", "\n".join(f"    {line}" for line in use),
        *(["## Data", markdown_table(data)] if data else []),
        "## Made by", f"    {command_line(args)}",
        f"with Python {platform.python_version()}, {versions}.", markdown_table(arguments),
    ]  # fmt: skip
    write_text(folder / CARD, "\n\n".join(parts) + "\n")
