"""What a model says of a user's texts, as lines of the screen and of files."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from minbert.data.delimited import delimited_line
from minbert.data.examples import Example
from minbert.task.task import Task

DELIMITERS = {".csv": ",", ".tsv": "\t"}
ENDINGS = (*DELIMITERS, ".jsonl")  # of files whose columns have names
DECIMALS = 6  # of probabilities


@dataclass(frozen=True)
class Entity:
    """A part of a text, text[start:end], that has a type; of words without entities, a tag."""

    start: int  # in characters
    end: int
    type: str
    text: str


@dataclass(frozen=True)
class Answer:
    """What a model says of one text."""

    label: str
    probabilities: dict[str, float]  # of each class; empty: the task has none
    entities: list[Entity] | None = None  # in the text, of a task that labels its words

    @property
    def display_text(self) -> str:
        """The label, or the entities, for people."""
        if self.entities is None:
            return self.label
        parts = (f"{e.text} [{e.type} {e.start}:{e.end}]" for e in self.entities)
        return ", ".join(parts) or "no entities"

    def value(self, task: Task) -> str | float | list[dict[str, str | int]]:
        """Return what its task's answers are in JSON: a label, a score, or the entities."""
        if self.entities is not None:
            return self.objects
        return float(self.label) if task.is_regression else self.label

    @property
    def objects(self) -> list[dict[str, str | int]]:
        """The entities as JSON has them."""
        return list(map(asdict, self.entities or ()))


Format = Callable[[Example, Answer], str]  # returns the line of a text


def output_ending(output: str) -> str:
    """Return the ending of a file whose columns have names; "" for another one."""
    ending = Path(output).suffix.lower()
    return ending if ending in ENDINGS else ""


def named_columns(task: Task, ending: str, classes: Sequence[str]) -> tuple[str, Format]:
    """Return the header of a .csv or .tsv ("" of a .jsonl), and what makes a text's line.

    The columns are id, label, probability_NAME of each of `classes`, text, and the pair's second
    sentence; of a task that labels words, label is tags or, of texts, a list of entities.
    """
    columns = ["id", "label", *(f"probability_{name}" for name in classes), "text"]
    columns += ["pair"] if task.is_pair else []

    def cells(example: Example, answer: Answer) -> list[str | float | None]:
        shares = [round(p, DECIMALS) for p in answer.probabilities.values()]
        pair = [example.pair] if task.is_pair else []
        return [example.id, as_cell(answer), *shares, example.text, *pair]

    if ending == ".jsonl":

        def as_object(example: Example, answer: Answer) -> str:
            row = dict(zip(columns, cells(example, answer), strict=True))
            row["label"] = answer.value(task)
            return json.dumps(row, ensure_ascii=False) + "\n"

        return "", as_object
    delimiter = DELIMITERS[ending]
    return (
        delimited_line(columns, delimiter),
        lambda example, answer: delimited_line(cells(example, answer), delimiter),
    )


def label_first(columns: Sequence[str], has_ids: bool) -> tuple[str, Format]:
    """Return the header, and what makes a text's line: its label, then the text, as on the screen.

    columns: those of a table's header. Without any the lines are a plain text's.
    """

    def line(example: Example, answer: Answer) -> str:
        texts = [example.text, *([] if example.pair is None else [example.pair])]
        if columns:
            ids = [example.id] if has_ids else []
            return delimited_line([as_cell(answer), *ids, *texts], "\t")
        return "\t".join([as_cell(answer), *texts]) + "\n"

    return delimited_line(columns, "\t") if columns else "", line


def as_cell(answer: Answer) -> str:
    """Return the label, or the entities as a list in JSON."""
    if answer.entities is None:
        return answer.label
    return json.dumps(answer.objects, ensure_ascii=False)
