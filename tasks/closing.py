"""What a finished run leaves beside its weights: predictions of best/, and a README.md of it."""

import hashlib
import json
import platform
import shlex
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from minbert.data.encoded import EncodedSplit
from minbert.data.tokenizer import BertTokenizer
from minbert.metrics import bootstrap_interval
from minbert.report.files import FINDINGS
from minbert.training import distributed
from minbert.weights.multitask import load_multitask
from tasks.base import Task
from tasks.evaluation import cosine_threshold, predict_task
from tasks.findings import findings
from tasks.loading import Where, load_task
from tasks.predictions import has_test, write_predictions

CARD = "README.md"
LIBRARIES = ("torch", "numpy", "tokenizers", "safetensors")
UNTOLD = ("name", "resume", "output_dir")  # arguments that are of one machine, not of the run
Splits = dict[str, EncodedSplit]
Interval = tuple[float, float, float]  # value, and the ends of its 95 % interval


def predict_best(
    folder: Path, tasks: list[Task], dev: Splits, tokenizer: BertTokenizer, where: Where,
    device: torch.device, dtype: torch.dtype,
) -> dict[str, Interval]:  # fmt: skip
    """Write best/'s predictions for dev and, where there is a file, test; score its dev ones.

    And findings.json, what the report shows of them. dtype: the precision of the run. Returns every
    task's main metric with its interval.
    """
    distributed.wait()  # for the first process to have written best/
    model, _ = load_multitask(folder / "best")
    model.to(device)
    for encoder in model.encoders:
        encoder.for_inference(dtype)
    intervals, found = {}, {}
    for task in tasks:
        splits = {"dev": dev[task.name]}
        if has_test(task, where.data_dir):
            splits["test"] = load_task(task, "test", tokenizer, where)
        for name, split in splits.items():
            outputs = predict_task(model, task, split, device).numpy()
            if distributed.rank() == 0:
                write_predictions(folder / "predictions", task, name, split, outputs)
            if name == "dev":
                intervals[task.name] = scored(task, outputs, split.labels)
                path = Path(where.data_dir) / task.files["dev"]
                cosines = cosine_threshold(task, model.heads[task.name]) is not None
                found[task.name] = findings(task, outputs, split, path, cosines)
                found[task.name]["interval"] = intervals[task.name][1:]
    if distributed.rank() == 0:
        (folder / FINDINGS).write_text(json.dumps(found), encoding="utf-8")
    return intervals


def scored(task: Task, outputs: np.ndarray, labels: np.ndarray) -> Interval:
    """The main metric with its bootstrap interval."""
    metric, predictions = task.metrics[task.main_metric], task.decode(outputs)
    return (metric(predictions, labels), *bootstrap_interval(metric, predictions, labels))


def write_card(
    folder: Path, args: Any, script: str, tasks: list[Task], train: Splits, dev: Splits,
    best: dict[str, Any], intervals: dict[str, Interval],
) -> None:  # fmt: skip
    """README.md: the scores of the best step, the data, the versions, how to make it again."""
    if distributed.rank() > 0:
        return
    scores = ["| task | metric | dev score | 95 % interval | rows |", "| --- " * 5 + "|"]
    files = ["| file | rows used | sha256 |", "| --- " * 3 + "|"]
    for task in tasks:
        value, interval = best["scores"][task.name], "-"
        if task.name in intervals:
            value, low, high = intervals[task.name]
            interval = f"{low:.3f} to {high:.3f}"
        rows = len(dev[task.name])
        scores.append(
            f"| {task.title} | {task.main_metric} | {value:.3f} | {interval} | {rows:,} |"
        )
        for split, used in (("train", train), ("dev", dev)):
            path = Path(args.data_dir) / task.files[split]
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            files.append(f"| {path.name} | {len(used[task.name]):,} | `{digest}` |")
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    text = f"""# {folder.name}

One BERT encoder fine-tuned on {", ".join(t.title for t in tasks)} by minbert, starting from
`{args.model}`. `best/` holds step {best["step"]}, `last/` the end of training.

{chr(10).join(scores)}

## Use

    python evaluate.py --checkpoint {folder} --data-dir DIR
    python -m minbert.export {folder} NEW_DIRECTORY --to transformers --task {tasks[0].name}

## Data

{chr(10).join(files)}

## Made by

    {command(args, script)}

with Python {platform.python_version()}, {versions}. Every argument is in `args.json`.
"""
    (folder / CARD).write_text(text, encoding="utf-8")


def command(args: Any, script: str) -> str:
    """What to type for the same run: the arguments that are not the defaults."""
    words = [f"python {script}"]
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
