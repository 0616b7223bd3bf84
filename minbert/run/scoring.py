"""Scores of a trained run on its tasks' dev sets: evaluate.py --checkpoint RUN --data-dir DIR."""

import math
import os
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from minbert.data.encoded import EncodedSplit, take
from minbert.data.items import gold_of
from minbert.data.pairs import sentences_of
from minbert.errors import UserError
from minbert.inference import MultitaskModel
from minbert.metrics import accuracy, bootstrap_interval, decimals, overall
from minbert.task.calibration import calibration_if_any
from minbert.task.classes import ClassScore, class_scores, worst_first
from minbert.task.evaluation import (
    WHY_UNDEFINED,
    above_half,
    cosine_threshold,
    outputs_by_row,
    predict,
)
from minbert.task.loading import DataSource, load_task, load_test
from minbert.task.predictions import write_predictions
from minbert.task.task import Task, has_2024_form

SPEED_ROWS = 1000  # pairs that the speeds of both encodings are measured on


def score_run(model: MultitaskModel, data_dir: Path, output: Path) -> dict[str, object]:
    """Print dev metrics with intervals; write the predictions for dev and, if it has files, test.

    output: the folder of the predictions. Returns what was printed, by name.
    """
    network, heads = model.network, model.network.heads
    source = DataSource(data_dir, None, model.max_length, network.siamese_tasks)
    result: dict[str, dict[str, dict[str, float]]] = {}
    reads_pairs = network.encoder.config.type_vocab_size > 1  # together, for the comparison
    speed: dict[str, dict[str, float]] = {}
    classes: dict[str, list[dict[str, object]]] = {}
    calibrated: dict[str, dict[str, float]] = {}
    check_writable(output)
    # all are read before anything is written: a file that cannot be read leaves nothing behind
    splits = {name: load_splits(model, task, source) for name, task in model.tasks.items()}
    for name, task in model.tasks.items():
        for split_name, split in splits[name].items():
            outputs = outputs_by_row(network, task, split, f"{task.title}: {split_name}")
            write_predictions(output, task, split_name, split, outputs)
            if split_name == "dev":
                threshold = cosine_threshold(task, heads[name])
                result[name] = intervals(task, outputs, gold_of(split), threshold)
                found = class_scores(task, task.decode(outputs), gold_of(split))
                classes |= {name: list(map(asdict, found))} if found else {}
                print_classes(task, found)
                head = heads[name].config
                if calibration := calibration_if_any(task, head, outputs, split.labels):
                    calibrated[name] = calibration.to_json()
                    print(f"{task.title:7} {'calibration':15} {calibration}")
                if name in network.siamese_tasks and reads_pairs:
                    speed[name] = pairs_per_second(model, task, source)
    main = {name: rows[model.tasks[name].main_metric]["value"] for name, rows in result.items()}
    mean, form_2024 = overall(main, {n for n, task in model.tasks.items() if task.is_regression})
    form = f", 2024 form {form_2024:.4f}" if has_2024_form(list(model.tasks.values())) else ""
    print(f"overall: raw mean {mean:.4f}{form}; predictions in {output}")
    overalls = {"overall": mean, "overall_2024": form_2024}
    more = {"classes": classes, "calibrated": calibrated, "pairs_per_s": speed}
    return {"scores": result, **more, **overalls}


def check_writable(folder: Path) -> None:
    """Raise UserError for a folder that nothing can be written to, or that cannot be made."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not (place.is_dir() and os.access(place, os.W_OK)):
        raise UserError(f"{folder}: cannot be written; --output DIR says where predictions go")


def load_splits(model: MultitaskModel, task: Task, source: DataSource) -> dict[str, EncodedSplit]:
    """Load a task's dev set and, if there is a file, its test set."""
    splits = {"dev": load_task(task, "dev", model.tokenizer, source)}
    if test := load_test(task, model.tokenizer, source):
        splits["test"] = test
    return splits


def intervals(
    task: Task, outputs: np.ndarray, labels: np.ndarray, threshold: float | None
) -> dict[str, dict[str, float]]:
    """Return each metric with its bootstrap 95 % interval, printed a line each.

    threshold: the calibrated one of a siamese task; then the accuracy at 0.5, the paper's, is
    there too.
    """
    rows = {name: (metric, task.decode(outputs)) for name, metric in task.metrics.items()}
    if threshold is not None:
        rows["accuracy_at_0.5"] = (accuracy, above_half(outputs, threshold))
    result = {}
    for name, (metric, predictions) in rows.items():
        value = metric(predictions, labels)
        low, high = bootstrap_interval(metric, predictions, labels)
        shown, *ends = (decimals(x, 4) for x in (value, low, high))
        shown = f"{shown}  95 % [{', '.join(ends)}]  n {len(labels)}"
        if math.isnan(value):
            shown, value, low, high = f"not defined: {WHY_UNDEFINED}; counted as 0", 0.0, 0.0, 0.0
        result[name] = {"value": value, "low": low, "high": high}
        print(f"{task.title:7} {name:15} {shown}")
    return result


def print_classes(task: Task, scores: list[ClassScore]) -> None:
    """Print a line for each class, or for those of many that are found least."""
    shown = worst_first(scores)
    if shown:
        print(f"{task.title:7} {'precision':>28} {'recall':>9} {'F1':>9} {'rows':>7}")
    for s in shown:
        numbers = f"{s.precision:9.4f} {s.recall:9.4f} {s.f1:9.4f} {s.rows:7,}  {s.note}"
        print(f"{task.title:7} {s.label[:18]:18} {numbers}".rstrip())
    if more := len(scores) - len(shown):
        print(f"{task.title:7} and {more:,} classes with a higher F1; --json has them")


def pairs_per_second(model: MultitaskModel, task: Task, source: DataSource) -> dict[str, float]:
    """Measure the encoder on a file's first rows, cross and siamese, in turn, best of two."""
    rates, encoder = {"cross": 0.0, "siamese": 0.0}, model.network.encoder
    kinds, splits = {"cross": frozenset(), "siamese": frozenset([task.name])}, {}
    for kind, names in kinds.items():
        split = load_task(task, "dev", model.tokenizer, replace(source, siamese=names))
        splits[kind] = take(split, np.arange(min(SPEED_ROWS, len(split))))
    for kind, split in [*splits.items()] * 2:
        started = time.perf_counter()
        sequences = sentences_of(split)[0] if kinds[kind] else split
        predict(encoder.pooled_output, sequences, encoder.device)
        rates[kind] = max(rates[kind], len(split) / (time.perf_counter() - started))
    print(
        f"{task.title:7} pairs/s         cross {rates['cross']:.0f}, siamese {rates['siamese']:.0f}"
    )
    return rates
