"""Scores of a trained run on its tasks' dev sets: evaluate.py --checkpoint RUN --data-dir DIR."""

import math
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from minbert.data.encoded import EncodedSplit, take
from minbert.data.items import gold_of
from minbert.data.pairs import sides_of
from minbert.errors import UserError
from minbert.files import check_writable
from minbert.inference import MultitaskModel
from minbert.metrics import accuracy, bootstrap_interval, decimals, overall
from minbert.printable import silence
from minbert.run_files import data_hashes, folders_of_run
from minbert.task.calibration import calibration_if_any
from minbert.task.classes import ClassScore, class_scores, scores_to_show
from minbert.task.evaluation import (
    AT_HALF,
    WHY_UNDEFINED,
    above_half,
    compute_outputs,
    cosine_threshold,
    outputs_by_row,
)
from minbert.task.loading import DataSource, changed_dev_files, load_task, load_test
from minbert.task.predictions import logits_file, write_predictions
from minbert.task.task import SPLITS, Task, Tasks, has_2024_form

SPEED_ROWS = 1000  # pairs that the speeds of both encodings are measured on


@dataclass(frozen=True)
class DevReport:
    """What was printed of a task's dev set; {} or [] where a task has no such thing."""

    scores: dict[str, dict[str, float]]  # by metric: value, low, high
    classes: list[dict[str, object]]
    calibrated: dict[str, float]
    pairs_per_s: dict[str, float]


def score_run(model: MultitaskModel, data_dir: Path, output: Path) -> dict[str, object]:
    """Print dev metrics with intervals; write the predictions for dev and, if it has files, test.

    output: the folder of the predictions. Returns what was printed, by name.
    """
    source = DataSource(data_dir, None, model.max_length, model.network.siamese_tasks)
    check_writable(output, "--output")
    check_keeps_data(model.tasks, data_dir, output)
    # all are read before anything is written: a file that cannot be read leaves nothing behind
    splits = {name: load_splits(model, task, source) for name, task in model.tasks.items()}
    reports = {}
    for name, task in model.tasks.items():
        for split_name, split in splits[name].items():
            what = f"{task.title}: {split_name}"
            outputs = outputs_by_row(model.network, task, split, what)
            write_predictions(output, task, split_name, split, outputs)
            if split_name == "dev":
                reports[name] = report_dev(model, task, split, outputs, source)
    main = {name: of.scores[model.tasks[name].main_metric]["value"] for name, of in reports.items()}
    mean, form_2024 = overall(main, {n for n, task in model.tasks.items() if task.is_regression})
    form = f", 2024 form {form_2024:.4f}" if has_2024_form(list(model.tasks.values())) else ""
    print(f"overall: raw mean {mean:.4f}{form}; predictions in {output}")
    by_kind = {
        kind: {name: found for name, of in reports.items() if (found := getattr(of, kind))}
        for kind in (field.name for field in fields(DevReport))
    }
    return {**by_kind, "overall": mean, "overall_2024": form_2024}


def report_dev(
    model: MultitaskModel, task: Task, split: EncodedSplit, outputs: np.ndarray, source: DataSource
) -> DevReport:
    """Print and return how good a task's outputs are on its dev set."""
    head = model.network.heads[task.name]
    scores = intervals(task, outputs, gold_of(split), cosine_threshold(task, head))
    classes = class_scores(task, task.decode(outputs), gold_of(split))
    print_classes(task, classes)
    calibration = calibration_if_any(task, head.config, outputs, split.labels)
    if calibration:
        print(f"{task.title:7} {'calibration':15} {calibration}")
    reads_pairs = model.network.encoder.config.type_vocab_size > 1  # together, for the comparison
    is_siamese = task.name in model.network.siamese_tasks
    return DevReport(
        scores, list(map(asdict, classes)), calibration.to_json() if calibration else {},
        pairs_per_second(model, task, split, source) if is_siamese and reads_pairs else {},
    )  # fmt: skip


def check_keeps_data(tasks: Tasks, data_dir: Path, output: Path) -> None:
    """Raise UserError if predictions would take the place of a data file."""
    data = {path.resolve() for t in tasks.values() for s in SPLITS for path in t.paths(s, data_dir)}
    for task in tasks.values():
        for split in SPLITS[1:]:
            names = (task.prediction_file.format(split=split), logits_file(task.name, split))
            for path in (output / name for name in names):
                if path.resolve() in data:
                    raise UserError(f"{path}: a data file; --output DIR names another folder")


def check_own_data(run: Path, tasks: Tasks, data_dir: Path) -> None:
    """Raise UserError if a dev file is not the one that a run was evaluated on.

    From another working folder a relative --data-dir leads to other files, whose predictions would
    replace the run's own. A dev set that is a share of the training rows is checked by dev_rows.py.
    """
    folder = next(iter(folders_of_run(run)), run)
    begun_with = data_hashes(folder)
    for task in (task for task in tasks.values() if not task.dev_share):
        for path in changed_dev_files(task, data_dir, begun_with):
            if path.is_file():  # else reading it says so
                what = f"not the file that {folder} was evaluated on"
                raise UserError(f"{path}: {what}; name its folder, or this one, by --data-dir")


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

    threshold: that of a siamese task, set on training pairs; then the accuracy at 0.5 is added.
    """
    rows = {name: (metric, task.decode(outputs)) for name, metric in task.metrics.items()}
    if threshold is not None:
        rows[AT_HALF] = (accuracy, above_half(outputs, threshold))
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
    shown = scores_to_show(scores)
    width = min(60, max([18, *(len(s.label) for s in shown)]))
    if shown:
        print(f"{task.title:7} {'':{width}} precision    recall        F1   count")
    for s in shown:
        numbers = f"{s.precision:9.4f} {s.recall:9.4f} {s.f1:9.4f} {s.rows:7,}  {s.note}"
        print(f"{task.title:7} {s.label[:width]:{width}} {numbers}".rstrip())
    if more := len(scores) - len(shown):
        print(f"{task.title:7} and {more:,} more classes; --json has them")


def pairs_per_second(
    model: MultitaskModel, task: Task, siamese: EncodedSplit, source: DataSource
) -> dict[str, float]:
    """Measure the encoder on a file's first rows, cross and siamese, in turn, best of two."""
    rates, encoder = {"cross": 0.0, "siamese": 0.0}, model.network.encoder
    with silence(True):  # all has been said of the file, when it was read as the run does
        cross = load_task(task, "dev", model.tokenizer, replace(source, siamese_tasks=frozenset()))
    splits = {
        kind: take(split, np.arange(min(SPEED_ROWS, len(split))))
        for kind, split in (("cross", cross), ("siamese", siamese))
    }
    for kind, split in [*splits.items()] * 2:
        started = time.perf_counter()
        towers, sides = [encoder], [split]
        if kind == "siamese":
            towers = model.network.encoders
            sides, _ = sides_of(split, len(towers))
        for tower, sequences in zip(towers, sides, strict=True):
            compute_outputs(tower.pooled_output, sequences, encoder.device)
        rates[kind] = max(rates[kind], len(split) / (time.perf_counter() - started))
    print(
        f"{task.title:7} pairs/s         cross {rates['cross']:.0f}, siamese {rates['siamese']:.0f}"
    )
    return rates
