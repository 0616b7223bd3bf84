"""What a model says of a user's texts, as lines of the screen and of files."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from minbert.data.examples import Example
from minbert.task.task import Task

DELIMITERS = {".csv": ",", ".tsv": "\t"}
ENDINGS = (*DELIMITERS, ".jsonl")  # of files whose columns have names
DECIMALS = 6  # of probabilities


@dataclass(frozen=True)
class Answer:
    """What a model says of one text."""

    label: str
    probabilities: dict[str, float]  # of each class; empty: none were wanted, or there are none


Format = Callable[[Example, Answer], str]  # returns the line of a text


def ending_of(output: str) -> str:
    """Return the ending of a file whose columns have names; "" for another one."""
    ending = Path(output).suffix.lower()
    return ending if ending in ENDINGS else ""


def named_columns(task: Task, ending: str, classes: Sequence[str]) -> tuple[str, Format]:
    """Return the header and the line of each text in a .csv, .tsv or .jsonl, which has none.

    The columns are id, label, probability_NAME of each of `classes`, text, and the pair's second
    sentence.
    """
    columns = ["id", "label", *(f"probability_{name}" for name in classes), "text"]
    columns += ["pair"] if task.is_pair else []

    def cells(example: Example, answer: Answer) -> list[str | float | None]:
        label = float(answer.label) if task.is_correlation else answer.label
        shares = [round(p, DECIMALS) for p in answer.probabilities.values()]
        pair = [example.pair] if task.is_pair else []
        return [example.id, label, *shares, example.text, *pair]

    if ending == ".jsonl":

        def as_object(example: Example, answer: Answer) -> str:
            row = dict(zip(columns, cells(example, answer), strict=True))
            return json.dumps(row, ensure_ascii=False) + "\n"

        return "", as_object
    delimiter = DELIMITERS[ending]
    return (
        delimited(columns, delimiter),
        lambda example, answer: delimited(cells(example, answer), delimiter),
    )


def label_first(columns: Sequence[str], has_ids: bool) -> tuple[str, Format]:
    """Return the header and the line of each text where it follows its label, as on the screen.

    columns: those of a table's header. Without any the lines are a plain text's.
    """

    def line(example: Example, answer: Answer) -> str:
        texts = [example.text, *([] if example.pair is None else [example.pair])]
        if columns:
            return delimited([answer.label, *([example.id] if has_ids else []), *texts], "\t")
        return "\t".join([answer.label, *texts]) + "\n"

    return delimited(columns, "\t") if columns else "", line


def delimited(cells: Sequence[str | float | None], delimiter: str) -> str:
    """Join cells to a line, with quotes around one that has a delimiter, quote or newline in it."""
    line = io.StringIO()
    csv.writer(line, delimiter=delimiter, lineterminator="\n").writerow(cells)
    return line.getvalue()
