"""What a run came to, in a small file that outlives it: a table grows over many sittings.

The records of a table's runs are in a folder of their own, experiments/runs/TABLE/.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from experiments.jobs import RunKey
from experiments.results import logged_passes, machine, main_score
from minbert.data.examples import read_examples
from minbert.files import read_json, read_json_lines, write_json
from minbert.task.task import Task
from minbert.typed import from_json
from tasks import TASKS

EVENTS = {"dev": False, "mean-dev": True}  # of a run's log; is it of the weights' mean?


@dataclass(frozen=True)
class Evaluation:
    """Every task's main dev score after some steps, of the weights or of their mean."""

    step: int
    is_mean: bool
    overall: float
    scores: dict[str, float]


@dataclass(frozen=True)
class RunRecord:
    """A finished run."""

    machine: str
    examples: int  # seen in training
    minutes: float  # of its steps
    evaluations: list[Evaluation]
    predictions: dict[str, str]  # of best/ for a task's dev rows, in order, a blank between them
    passes: dict[str, float]  # over each task's set; {} of runs of before 2026-11-26

    @property
    def updates(self) -> int:
        """How many there were: the last evaluation is after the last one."""
        return self.evaluations[-1].step

    def predicted(self, task: str) -> np.ndarray:
        """Return the predictions of best/ for a task's dev rows, (n,), in the file's order."""
        return np.array(self.predictions[task].split(), dtype=np.float64)

    def best(self, is_mean: bool | None = None) -> Evaluation:
        """Return the evaluation with the highest mean score, of one kind or of both."""
        return max(self.of_kind(is_mean), key=lambda one: one.overall)

    def last(self, is_mean: bool | None = None) -> Evaluation:
        """Return the last evaluation, of one kind or of both."""
        return self.of_kind(is_mean)[-1]

    def of_kind(self, is_mean: bool | None) -> list[Evaluation]:
        """Return the evaluations of the weights, of their mean, or (None) of both."""
        return [one for one in self.evaluations if is_mean in (None, one.is_mean)]


def record_path(folder: Path, key: RunKey) -> Path:
    """Return where a run's record is in a folder of results."""
    return folder / "runs" / key.root.name / f"{key.name}.json"


def read_run_record(folder: Path, key: RunKey) -> RunRecord | None:
    """Return a run's record, None if there is none. Raises UserError if it is damaged."""
    path = record_path(folder, key)
    return from_json(RunRecord, read_json(path), str(path)) if path.is_file() else None


def write_run_record(folder: Path, key: RunKey, data_dir: Path) -> None:
    """Write the record of a finished run."""
    write_json(record_path(folder, key), asdict(record_of(key.folder, data_dir)))


def record_of(run: Path, data_dir: Path) -> RunRecord:
    """Read a finished run's log and predictions."""
    lines = read_json_lines(run / "log.jsonl")
    steps = [line for line in lines if line["event"] == "step"]
    found = [
        Evaluation(
            line["step"], EVENTS[line["event"]], line["overall"],
            {task: main_score(line, task) for task in line["scores"]},
        )
        for line in lines if line["event"] in EVENTS and line["step"]
    ]  # fmt: skip
    return RunRecord(
        machine=machine(),
        examples=read_json(run / "args.json")["batch_size"] * len(steps),
        minutes=sum(line["seconds"] for line in steps) / 60,
        evaluations=found,
        predictions={task: predictions(run, TASKS[task], data_dir) for task in found[0].scores},
        passes=logged_passes(lines),
    )


def predictions(run: Path, task: Task, data_dir: Path) -> str:
    """Return a run's predictions for a task's dev rows, in the order of their file."""
    path = run / "predictions" / f"{task.name}-dev-logits.jsonl"
    logits = {row["id"]: row["logits"] for row in read_json_lines(path)}
    examples, _ = read_examples(task.paths("dev", data_dir), task.columns, labelled=True)
    outputs = np.array([logits[example.id] for example in examples], dtype=np.float32)
    return " ".join(f"{value:.9g}" for value in task.decode(outputs))  # fp32 comes back whole
