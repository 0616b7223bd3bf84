"""The temperatures of a finished run's heads, fitted on dev and kept with what they belong to."""

import json
import os
import shutil
from pathlib import Path

from minbert.files import read_json
from minbert.manifest import check_content, read_manifest
from minbert.model.layers import set_kernels
from minbert.model.multitask import CONFIGS, MultitaskNetwork, load_multitask
from minbert.run.checkpoint import atomic_directory, task_best_folder
from minbert.run.fine_tuning import FineTuning
from minbert.task.calibration import calibration_of
from minbert.task.evaluation import task_outputs
from minbert.training import distributed


def load_for_use(run: FineTuning, kept: str) -> MultitaskNetwork:
    """Load a model that a run has kept (best, say) for predictions, on the run's device."""
    model, _ = load_multitask(run.folder / kept)
    model.to(run.model.device)
    set_kernels(model, run.args.kernels)  # in bf16 others round differently
    model.for_inference(run.model.encoder.compute_dtype)
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
            check_content(directory / name)  # a damaged file would get a hash of what it is now
            link_or_copy(directory / name, new / name)
        (new / CONFIGS).write_text(json.dumps(heads, indent=1) + "\n")


def link_or_copy(file: Path, new: Path) -> None:
    """Give a file that nobody changes a second name, or copy it where the disk has no links."""
    try:
        os.link(file, new)
    except OSError:
        shutil.copyfile(file, new)


def calibrate_task_bests(run: FineTuning, of_best: dict[str, float]) -> None:
    """Give the folder of each task's best step that task's temperature.

    of_best: the temperatures of best/, used for a task whose best step is the step in best/.
    """
    state = run.state
    for task in (task for task in run.tasks.values() if task.name in of_best):
        kept = task_best_folder(task.name)
        own, temperature = state.task_best[task.name], of_best[task.name]
        if (own.step, own.is_mean) != (state.best.step, state.best.is_mean):
            model, split = load_for_use(run, kept), run.dev_splits[task.name]
            outputs = task_outputs(model, task, split, f"{task.title}: dev").numpy()
            temperature = calibration_of(task, outputs, split.labels).temperature
        if distributed.rank() == 0:
            keep_temperatures(run.folder / kept, {task.name: temperature})
