"""What findings.json has of a task: findings.py finds it, the page and the card show it."""

from dataclasses import asdict, dataclass, field
from typing import Any

from minbert.errors import DAMAGED, UserError
from minbert.task.classes import ClassScore
from minbert.typed import from_json

# Keys in the oldest runs, and what they are called since.
RENAMED = {"right": "gold", "sure": "confidence", "calibration": "reliability"}
CALIBRATION = {"temperature", "ece_before", "ece_after"}
Points = list[tuple[float, float, int]]  # of a reliability diagram, see `findings.reliability`


@dataclass(frozen=True)
class WorstRow:
    """A row that the model gets most wrong."""

    id: str
    texts: list[str]
    gold: str
    predicted: str
    confidence: float | None = None  # in a class
    mistakes: int | None = None  # of a sentence whose words are labelled


@dataclass(frozen=True)
class TaskFindings:
    """What a model gets right and wrong on a task's dev set; None: not of this kind of task."""

    title: str
    worst: list[WorstRow]
    metrics: dict[str, float] = field(default_factory=dict)  # those that are defined
    interval: tuple[float, float] | None = None  # of the main metric
    classes: list[ClassScore] = field(default_factory=list)
    names: list[str] | None = None  # of the rows and columns of `confusion`
    confusion: list[list[int]] | None = None  # rows are gold, columns predicted
    labels: list[dict[str, str | int]] | None = None  # counts of each, of sets of labels
    points: list[tuple[float, float]] | None = None  # gold and predicted scores
    reliability: Points | None = None
    reliability_calibrated: Points | None = None  # by the temperature of the other half of dev
    calibrated: dict[str, float] | None = None  # a Calibration's numbers by name

    def to_json(self) -> dict[str, Any]:
        """Return it as findings.json has it: without what is not of this kind of task."""
        found = without_none(asdict(self))
        return found | {"worst": [without_none(row) for row in found["worst"]]}

    @classmethod
    def from_json(cls, saved: Any, where: str) -> "TaskFindings":
        """Return what findings.json has. Raises UserError for what no run writes.

        where: the file and the task, for messages. A key of another version is left out.
        """
        if isinstance(saved, dict):
            saved = {k: v for k, v in renamed(saved).items() if k in cls.__dataclass_fields__}
        found = from_json(cls, saved, where)
        if not {*(found.calibrated or CALIBRATION)} >= CALIBRATION:
            raise UserError(f"{where}: calibrated lacks a key; {DAMAGED}")
        if found.confusion is not None:
            sizes = {len(found.names or []), *map(len, found.confusion)}
            if sizes != {len(found.confusion)}:
                raise UserError(f"{where}: names and confusion differ; {DAMAGED}")
        if any(not row or row.keys() != found.labels[0].keys() for row in found.labels or ()):
            raise UserError(f"{where}: labels lack a key; {DAMAGED}")
        return found


def without_none(values: dict[str, Any]) -> dict[str, Any]:
    """Return a dictionary without its Nones."""
    return {key: value for key, value in values.items() if value is not None}


def renamed(saved: Any) -> Any:
    """Return findings with the present names of their keys."""
    if isinstance(saved, dict):
        return {RENAMED.get(key, key): renamed(value) for key, value in saved.items()}
    return [renamed(value) for value in saved] if isinstance(saved, list) else saved
