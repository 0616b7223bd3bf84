"""What a run came to, in a small file that outlives it: tables grow over many sittings.

The records of a table's runs are in a folder of their own, experiments/runs/TABLE/.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.jobs import (
    Job,
    JobArgs,
    Origin,
    RunKey,
    check_origin,
    check_settings,
    current_origin,
    origin_of,
    seeds_of,
    settings_in,
)
from minbert.files import read_json
from minbert.inference import MultitaskModel
from minbert.log_lines import read_log
from minbert.run.checkpoint import MOMENTS
from minbert.run_files import ARGS, LOG, read_arguments
from minbert.task.evaluation import AT_HALF, task_outputs
from minbert.task.loading import DataSource, load_task
from minbert.tensors import load_tensors
from minbert.training.averaging import MEAN
from minbert.training.device import choose_precision
from minbert.typed import from_json

EVENTS = {"dev": False, "mean-dev": True}  # of a run's log; is it of the weights' mean?


@dataclass(frozen=True)
class Evaluation:
    """Every task's main dev score after some steps, of the weights or of their mean.

    chosen_by: the mean, or as --best-by says. at_half: of siamese pairs of two classes the accuracy
    at a cosine of 0.5. stage: what ended with this step.

    predictions: for a task's dev rows, in the file's order, a blank between them. The best
    evaluation has them and the last one of each kind; of runs from before 2026-11-26 the best
    alone, of the paper's tables none.
    """

    step: int
    is_mean: bool
    chosen_by: float
    scores: dict[str, float]
    predictions: dict[str, str] = field(default_factory=dict)
    at_half: dict[str, float] = field(default_factory=dict)
    stage: str = ""

    def predicted(self, task: str) -> np.ndarray:
        """Return the predictions for a task's dev rows, (n,)."""
        return np.array(self.predictions[task].split(), dtype=np.float64)


@dataclass(frozen=True)
class RunRecord:
    """A finished run. settings: {} of runs from before 2026-11-26."""

    machine: str  # or several, with "; " between them
    examples: int  # seen in training; of runs from before 2026-11-29 as if all batches were full
    minutes: float  # of its steps, and of what was computed before the first one
    evaluations: list[Evaluation]
    passes: dict[str, float]  # over each task's set
    settings: dict[str, Any] = field(default_factory=dict)  # see jobs.settings_in
    start: dict[str, Any] = field(default_factory=dict)  # those of the run that it started from
    # between two tasks' gradients, of a run in joint mode: the mean over its steps, by "a b"
    cosines: dict[str, float] = field(default_factory=dict)
    opposed: dict[str, float] = field(default_factory=dict)  # the share of steps with one below 0
    origin: Origin = field(default_factory=Origin)
    torch: str = ""  # its version; of runs from before 2026-11-29 it is not known

    @property
    def updates(self) -> int:
        """The number of updates: the last evaluation comes after the last update."""
        return self.evaluations[-1].step

    def best(self, is_mean: bool | None = None) -> Evaluation:
        """Return the evaluation with the highest mean score, of one kind or of both."""
        return max(self.of_kind(is_mean), key=lambda one: one.chosen_by)

    def last(self, is_mean: bool | None = None) -> Evaluation:
        """Return the last evaluation; where both kinds have one at its step, the mean's."""
        return max(self.of_kind(is_mean), key=lambda one: (one.step, one.is_mean))

    def of_kind(self, is_mean: bool | None) -> list[Evaluation]:
        """Return all but step 0's evaluations: of the weights, of their mean or (None) of both."""
        trained = (one for one in self.evaluations if one.step)
        return [one for one in trained if is_mean in (None, one.is_mean)]


def record_path(folder: Path, key: RunKey) -> Path:
    """Return where a run's record is in a folder of results."""
    return folder / "runs" / key.root.name / f"{key.name}.json"


class Records:
    """The records of a table's runs, by job and seed."""

    def __init__(self, root: Path, args: JobArgs) -> None:
        self.root, self.args = root, args
        self.now = current_origin(args)
        self.known: dict[str, dict[int, RunRecord]] = {}

    def of(self, job: Job) -> dict[int, RunRecord]:
        """Return the records of a job by seed, of the seeds whose run has come to its end.

        Raises UserError for one that is damaged, was made with other settings, or of another model
        or data.
        """
        if job.name not in self.known:
            folder, found = Path(self.args.results), {}
            for seed in seeds_of(self.args):
                path = record_path(folder, RunKey(self.root, job.name, seed))
                if path.is_file():
                    record = from_json(RunRecord, read_json(path), str(path))
                    check_settings(job, record.settings, path, self.args)
                    check_origin(job, record.origin, self.now, path)
                    found[seed] = record
            self.known[job.name] = found
        return self.known[job.name]


def record_of(run: Path) -> RunRecord:
    """Read what a finished run came to from its log."""
    lines, arguments = read_log(run / LOG), read_arguments(run)
    start = Path(arguments["model"])
    steps = [line for line in lines if line["event"] == "step"]
    before = sum(line.get("prepared_s", 0) for line in lines)
    cosines = cosines_by_pair(steps)
    return RunRecord(
        machine="; ".join(sorted(logged_machines(lines))),
        examples=sum(line["examples"] for line in steps),
        minutes=(before + sum(line["seconds"] for line in steps)) / 60,
        evaluations=[evaluation_of(line) for line in lines if line["event"] in EVENTS],
        passes=logged_passes(lines),
        settings=settings_in(arguments),
        start=settings_in(read_arguments(start)) if (start / ARGS).is_file() else {},
        cosines={pair: statistics.fmean(values) for pair, values in cosines.items()},
        opposed={pair: statistics.fmean(x < 0 for x in values) for pair, values in cosines.items()},
        origin=origin_of(run, arguments),
        torch=next((line["torch"] for line in lines if "torch" in line), ""),
    )


def evaluation_of(line: dict[str, Any]) -> Evaluation:
    """Return what a line of the log says of the dev scores; a task's first metric is its main."""
    scores = line["scores"]
    return Evaluation(
        step=line["step"],
        is_mean=EVENTS[line["event"]],
        chosen_by=line["chosen_by"],
        scores={task: next(iter(metrics.values())) for task, metrics in scores.items()},
        at_half={task: metrics[AT_HALF] for task, metrics in scores.items() if AT_HALF in metrics},
        stage=line["stage"],
    )


def with_predictions(record: RunRecord, run: Path, data_dir: Path) -> RunRecord:
    """Return a run's record with its dev predictions, by its best and its last weights."""
    best = record.best()
    # best/ has the weights that were best, be they a mean
    predicted = {(best.step, best.is_mean): dev_predictions(run / "best", False, data_dir)}
    for is_mean in {one.is_mean for one in record.evaluations}:
        last = record.last(is_mean)
        if (last.step, is_mean) not in predicted:
            predicted[last.step, is_mean] = dev_predictions(run / "last", is_mean, data_dir)
    evaluations = [
        replace(one, predictions=predicted.get((one.step, one.is_mean), {}))
        for one in record.evaluations
    ]
    return replace(record, evaluations=evaluations)


def logged_machines(lines: list[dict[str, Any]]) -> set[str]:
    """Return what a run was computed on, from its log; nothing of a run from before 2026-11-28."""
    return {line["machine"] for line in lines if "machine" in line}


def machines_of(runs: Iterable[RunRecord]) -> list[str]:
    """Return what some runs were computed on, each machine once."""
    return sorted({machine for run in runs for machine in run.machine.split("; ")} - {""})


def computed_on(runs: Sequence[RunRecord]) -> str:
    """Return what some runs were computed on, and with which torch; "" if it is not known."""
    versions = sorted({f"torch {run.torch}" for run in runs if run.torch})
    return ", ".join(filter(None, ["; ".join(machines_of(runs)), " and ".join(versions)]))


def logged_passes(lines: list[dict[str, Any]]) -> dict[str, float]:
    """Return the passes over each task's set: as its last start or resume has logged them."""
    return next((line["passes"] for line in reversed(lines) if "passes" in line), {})


def cosines_by_pair(steps: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Return the cosines between two tasks' gradients at each of a log's steps."""
    found: dict[str, list[float]] = {}
    for line in steps:
        for pair, cosine in line.get("cosines", {}).items():
            found.setdefault(pair, []).append(cosine)
    return found


def dev_predictions(directory: Path, is_mean: bool, data_dir: Path) -> dict[str, str]:
    """Compute the dev predictions of a run's best/ or last/, by task.

    is_mean: of the mean of the weights, which last/ has beside them.
    """
    arguments = read_arguments(directory.parent)
    model = MultitaskModel.load(directory, arguments["device"])
    if is_mean:
        moments = load_tensors(directory / MOMENTS).items()
        means = {name.partition("/")[2]: w for name, w in moments if name.startswith(f"{MEAN}/")}
        model.network.load_state_dict(means, strict=False)
    precision = choose_precision(arguments["precision"], model.network.device)
    model.network.for_inference(precision)
    source = DataSource(data_dir, None, model.max_length, model.network.siamese_tasks)
    found = {}
    for name, task in model.tasks.items():
        split = load_task(task, "dev", model.tokenizer, source)
        what = f"{task.title}: {directory.name}"
        outputs = task_outputs(model.network, task, split, what)
        found[name] = as_text(task.decode(outputs.numpy()))
    return found


def as_text(predictions: np.ndarray) -> str:
    """Write predictions with a blank between them; numbers of fp32 come back whole."""
    return " ".join(f"{value:.9g}" for value in predictions)
