"""What a finished run leaves beside its weights: predictions of best/, and what they are worth."""

import json
from pathlib import Path

import numpy as np
import torch

from minbert.data.encoded import EncodedSplit
from minbert.data.tokenizer import BertTokenizer
from minbert.metrics import bootstrap_interval
from minbert.report.files import FINDINGS
from minbert.report.findings import findings
from minbert.task.evaluation import cosine_threshold, predict_task
from minbert.task.loading import Where, load_task
from minbert.task.predictions import has_test, write_predictions
from minbert.task.task import Task
from minbert.training import distributed
from minbert.weights.multitask import load_multitask

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
