"""The temperatures of a finished run's heads, fitted on dev and kept with what they belong to."""

import json
from pathlib import Path

import torch

from minbert.data.encoded import EncodedSplit
from minbert.files import link_or_copy, read_json, read_manifest
from minbert.model.multitask import CONFIGS, MultitaskNetwork, load_multitask
from minbert.run.checkpoint import atomic_directory, task_best_folder
from minbert.run.loop import Training
from minbert.task.calibration import calibration_of
from minbert.task.evaluation import predict_task
from minbert.task.task import Task
from minbert.training import distributed


def load_for_use(directory: Path, device: torch.device, precision: torch.dtype) -> MultitaskNetwork:
    """Load a saved model for predictions in a precision."""
    model, _ = load_multitask(directory)
    model.to(device)
    for encoder in model.encoders:
        encoder.for_inference(precision)
    return model


def keep_temperatures(directory: Path, temperatures: dict[str, float]) -> None:
    """Put heads' temperatures into a saved model's heads.json; kill -9 leaves the old or the new.

    Its weights are the same files as before.
    """
    saved = read_json(directory / CONFIGS)
    heads = {name: {**head, "temperature": temperatures.get(name, 1.0)}
             for name, head in saved.items()}  # fmt: skip
    if heads == saved:
        return
    with atomic_directory(directory) as new:
        for name in read_manifest(directory).keys() - {CONFIGS}:
            link_or_copy(directory / name, new / name)
        (new / CONFIGS).write_text(json.dumps(heads, indent=1) + "\n")


def calibrate_task_bests(
    run: Training, tasks: list[Task], dev_splits: dict[str, EncodedSplit],
    of_best: dict[str, float], device: torch.device, precision: torch.dtype,
) -> None:  # fmt: skip
    """Give the folder of each task's best step that task's temperature.

    of_best: the temperatures of best/, which are those of a task whose best step it holds.
    """
    state = run.state
    for task in (task for task in tasks if task.name in of_best):
        folder = run.folder / task_best_folder(task.name)
        own, temperature = state.task_best[task.name], of_best[task.name]
        if (own.step, own.is_mean) != (state.best.step, state.best.is_mean):
            model, split = load_for_use(folder, device, precision), dev_splits[task.name]
            outputs = predict_task(model, task, split, device, f"{task.title}: dev").numpy()
            temperature = calibration_of(task, outputs, split.labels).temperature
        if distributed.rank() == 0:
            keep_temperatures(folder, {task.name: temperature})
