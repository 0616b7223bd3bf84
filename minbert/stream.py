"""A file or a pipe of texts -> its predictions, as they come: evaluate.py --input."""

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from minbert.data.examples import Columns, columns_of, read_examples
from minbert.errors import UserError
from minbert.inference import MultitaskModel, Text

BLOCK = 1 << 16  # bytes of lines predicted together: what a pipe holds
ROWS = 1024  # the same of a table
NAMED = (".jsonl", ".json", ".parquet")  # their rows always name their columns
Answers = Iterator[list[str]]  # lines of the output, as many as were predicted together


def predict_input(model: MultitaskModel, task: str, name: str, output: str) -> int:
    """Answer every text of a file (-: standard input) in a file (-: the screen); how many."""
    columns = model.task_named(task).columns
    if output in ("", "-"):
        output = ""
    elif name != "-" and Path(output).exists() and Path(output).samefile(name):
        raise UserError(f"--output {output}: that is the --input; name another file")
    count = 0
    with ExitStack() as stack:
        if name != "-" and is_table(Path(name), columns):
            head, blocks = table_answers(model, task, Path(name), columns)
        else:
            file = sys.stdin.buffer if name == "-" else stack.enter_context(open(name, "rb"))
            head, blocks = "", line_answers(model, task, file)
        sink = stack.enter_context(open(output, "w", encoding="utf-8")) if output else sys.stdout
        sink.write(head)
        for block in blocks:
            sink.writelines(block)
            sink.flush()  # somebody may be waiting for it
            count += len(block)
    return count


def is_table(path: Path, columns: Columns) -> bool:
    """Whether the file names the columns that the task's texts are in."""
    if path.suffix in NAMED:
        return True
    return path.suffix in (".tsv", ".csv") and {*columns.texts} <= {*columns_of(path)}


def table_answers(
    model: MultitaskModel, task: str, path: Path, columns: Columns
) -> tuple[str, Answers]:
    """The names of the columns, and rows of prediction, id if the file has ids, and texts."""
    id_name = columns.id or "id"
    ids = id_name in columns_of(path)
    columns = replace(columns, id=id_name if ids else "")
    examples, _ = read_examples(path, columns, labelled=False)

    def answers() -> Answers:
        for start in range(0, len(examples), ROWS):
            part = examples[start : start + ROWS]
            texts = [e.text if e.pair is None else (e.text, e.pair) for e in part]
            predictions = model.predict(task, texts)
            yield [
                table_line([p, *([e.id] if ids else []), e.text, *([e.pair] if e.pair else [])])
                for p, e in zip(predictions, part, strict=True)
            ]

    names = [id_name] if ids else []
    header = model.tasks[task].prediction_header
    return table_line([header, *names, *columns.texts]), answers()


def table_line(cells: Sequence[str]) -> str:
    """With tabs between, quoted where a cell has a tab, a quote or the end of a line in it."""
    line = io.StringIO()
    csv.writer(line, delimiter="\t", lineterminator="\n").writerow(cells)
    return line.getvalue()


def line_answers(model: MultitaskModel, task: str, file: BinaryIO) -> Answers:
    """`prediction <tab> line` for every line: a sentence, or two with a tab between."""
    sentences = 1 + model.tasks[task].is_pair
    number = 0
    for block in whole_lines(file):
        kept, texts = [], []
        for raw in block:
            number += 1
            line = decoded(raw, number)
            if line.strip():
                kept.append(line)
                texts.append(text_of(line, number, sentences))
        predictions = model.predict(task, texts)
        yield [f"{p}\t{line}\n" for p, line in zip(predictions, kept, strict=True)]


def whole_lines(file: BinaryIO) -> Iterator[list[bytes]]:
    """As many as are there by now: one after the other from a keyboard, many from a file."""
    rest = b""
    while read := file.read1(BLOCK):
        *lines, rest = (rest + read).split(b"\n")
        yield lines
    yield [rest]


def decoded(raw: bytes, number: int) -> str:
    """Of UTF-8, the mark at the beginning left out. Raises UserError for other bytes."""
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r")
    except UnicodeDecodeError as error:
        raise UserError(f"line {number}: not UTF-8 ({error.reason}); convert the input") from error


def text_of(line: str, number: int, sentences: int) -> Text:
    """A line as the task takes it. Raises UserError if it has not that many sentences."""
    parts = line.split("\t")
    if len(parts) != sentences or not all(part.strip() for part in parts):
        what = "a sentence" if sentences == 1 else "two sentences with a tab between"
        raise UserError(f"line {number}: expected {what}, found {line[:60]!r}")
    return parts[0] if sentences == 1 else (parts[0], parts[1])
