"""README.md of a run, a model card: what it says is what the run's other files say."""

import platform
import shlex
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from minbert.data.encoded import EncodedSplit
from minbert.files import sha256_of, write_text
from minbert.metrics import over_seeds
from minbert.report.tables import markdown_table
from minbert.task.task import Task
from minbert.training import distributed
from minbert.version import VERSION

CARD = "README.md"
LIBRARIES = ("torch", "numpy", "tokenizers", "safetensors")
UNTOLD = ("name", "resume", "output_dir")  # arguments that are of one machine, not of the run
Splits = dict[str, EncodedSplit]
Interval = tuple[float, float, float]  # value, and the ends of its 95 % interval
Table = list[tuple[str, ...]]  # the first row is its head


def write_card(
    folder: Path, args: Any, script: str, tasks: list[Task], train: Splits, dev: Splits,
    best_step: int, best_scores: dict[str, float], intervals: dict[str, Interval],
) -> None:  # fmt: skip
    """Write the card of a fine-tuned run: the scores of its best step, with their intervals."""
    scores: Table = [("task", "metric", "dev score", "95 % interval", "rows")]
    data: Table = [("file", "rows used", "sha256")]
    for task in tasks:
        value, interval = best_scores[task.name], "-"
        if task.name in intervals:
            value, low, high = intervals[task.name]
            interval = f"{low:.3f} to {high:.3f}"
        rows = f"{len(dev[task.name]):,}"
        scores.append((task.title, task.main_metric, f"{value:.3f}", interval, rows))
        for split, used in (("train", train), ("dev", dev)):
            path = Path(args.data_dir) / task.files[split]
            data.append((path.name, f"{len(used[task.name]):,}", f"`{sha256_of(path)}`"))
    titles = ", ".join(task.title for task in tasks)
    about = (
        f"One BERT encoder fine-tuned on {titles} by minbert, starting from\n`{args.model}`. "
        f"`best/` holds step {best_step}, `last/` the end of training."
    )
    use = [f"python evaluate.py --checkpoint {folder} --data-dir DIR", *exports(folder, args)]
    write(folder, args, script, about, scores, use, data)


def exports(folder: Path, args: Any) -> list[str]:
    """Return commands that export a run: a task of pairs encoded alone is no classifier."""
    if args.towers == "separate":
        return []
    start = f"python -m minbert.export {folder} NEW_DIRECTORY --to"
    cross = [name for name in args.tasks if name not in args.pair_loss]
    siamese = [f"{start} sentence-transformers"] if len(cross) < len(args.tasks) else []
    return [*(f"{start} transformers --task {name}" for name in cross[:1]), *siamese]


def write_mlm_card(
    folder: Path, args: Any, files: list[Path], rows: int, best_step: int,
    best_scores: dict[str, float],
) -> None:  # fmt: skip
    """Write the card of a pre-trained run: how well its best step guesses held-out tokens."""
    names = ("accuracy", "perplexity", "loss")
    head = ("held-out masked tokens", "best step")
    scores: Table = [head, *((name, f"{best_scores[name]:.3f}") for name in names)]
    data: Table = [("file", "sha256"), *((f.name, f"`{sha256_of(f)}`") for f in files)]
    about = (
        f"A BERT encoder pre-trained further by minbert on {rows:,} rows, starting from\n"
        f"`{args.model}`. `best/` holds step {best_step}, `last/` the end of training."
    )
    use = [f"python train_multitask.py --model {folder} --data-dir DIR"]
    write(folder, args, "pretrain_mlm.py", about, scores, use, data)


def write_several_card(
    folder: Path, args: Any, script: str, tasks: list[Task], every: list[dict[str, float]]
) -> None:
    """Write the card of a folder of runs, a seed or a task each: scores and their spread."""
    scores: Table = [("task", "metric", "mean dev score", "spread", "lowest to highest")]
    for task in tasks:
        s = over_seeds(every)[task.name]
        spread = f"{s['spread']:.4f}" if len(every) > 1 else "-"
        ends = f"{s['lowest']:.3f} to {s['highest']:.3f}"
        scores.append((task.title, task.main_metric, f"{s['mean']:.3f}", spread, ends))
    about = (
        f"Runs of minbert from `{args.model}`, each in a folder of its own with its README.md;\n"
        f"`scores.json` has the scores of {len(every)} seeds one by one, `report.html` the curves."
    )
    write(folder, args, script, about, scores, [f"python -m minbert.report {folder}"], [])


def write(
    folder: Path, args: Any, script: str, about: str, scores: Table, use: list[str], data: Table
) -> None:
    """Write a card's text. Of several processes the first one writes."""
    if distributed.rank() > 0:
        return
    libraries = (f"{name} {version(name)}" for name in LIBRARIES)
    versions = ", ".join((f"minbert {VERSION}", *libraries))
    told = [f.name for f in fields(args) if f.name not in UNTOLD]
    arguments = [("argument", "value"), *((n, f"`{getattr(args, n)}`") for n in told)]
    parts = [
        f"# {folder.name}", about, markdown_table(scores),
        "## Use", "\n".join(f"    {line}" for line in use),
        *(["## Data", markdown_table(data)] if data else []),
        "## Made by", f"    {command(args, script)}",
        f"with Python {platform.python_version()}, {versions}.", markdown_table(arguments),
    ]  # fmt: skip
    write_text(folder / CARD, "\n\n".join(parts) + "\n")


def command(args: Any, script: str) -> str:
    """Return what to type for the same run: the arguments that are not the defaults."""
    several = distributed.size() > 1
    start = f"torchrun --nproc-per-node {distributed.size()}" if several else "python"
    words = [f"{start} {script}"]
    for field in fields(args):
        value = getattr(args, field.name)
        if field.name in UNTOLD or value in (field.default, None, {}, ""):
            continue
        flag = "--" + field.name.replace("_", "-")
        if isinstance(value, dict):
            value = ",".join(f"{k}={v}" for k, v in value.items())
        elif isinstance(value, tuple):
            value = ",".join(map(str, value))
        words.append(flag if value is True else f"{flag} {shlex.quote(str(value))}")
    return " ".join(words)
