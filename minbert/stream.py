"""A file or a pipe of texts -> its predictions, as they come: evaluate.py --input."""

import csv
import io
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from minbert.cli import without_controls
from minbert.data.examples import Columns, read_examples
from minbert.data.tables import JSON, check_columns, column_names, kind_of, table_of
from minbert.errors import UserError
from minbert.inference import MultitaskModel, Text

BLOCK = 1 << 16  # bytes read at once, whose lines are predicted together: a pipe's capacity
ROWS = 1024  # rows of a table that are predicted together
TABLES = (".tsv", ".csv", ".parquet", *JSON)  # endings of files whose columns have names
Answers = Iterator[list[str]]  # the output's lines, in groups that were predicted together


def predict_input(model: MultitaskModel, task: str, name: str, output: str) -> int:
    """Write a prediction for every text of the file `name`; return how many they are.

    name: -, standard input. output: - or "", standard output. Raises UserError if both are the
    same file.
    """
    columns = model.task_named(task).columns
    if output in ("", "-"):
        output = ""
    elif name != "-" and Path(output).exists() and Path(output).samefile(name):
        raise UserError(f"--output {output}: that is the --input; name another file")
    count = 0
    with ExitStack() as stack:
        if name != "-" and kind_of(Path(name)) in TABLES:
            head, blocks = table_answers(model, task, Path(name), columns)
        else:
            file = sys.stdin.buffer if name == "-" else stack.enter_context(open(name, "rb"))
            first = file.readline()
            if ending := table_ending(first, columns):
                copy = Path(stack.enter_context(tempfile.TemporaryDirectory())) / f"input{ending}"
                with copy.open("wb") as target:
                    target.write(first)
                    shutil.copyfileobj(file, target)
                head, blocks = table_answers(model, task, copy, columns)
            else:
                head, blocks = "", line_answers(model, task, first, file)
        sink = stack.enter_context(open(output, "w", encoding="utf-8")) if output else sys.stdout
        safe = str if output else without_controls  # a file gets the texts as they came
        sink.write(safe(head))
        for block in blocks:
            sink.writelines(map(safe, block))
            sink.flush()  # a program that reads the output gets each group at once
            count += len(block)
    return count


def table_ending(first: bytes, columns: Columns) -> str:
    """Return the ending of the kind of table whose first line this is; "" for a plain text.

    It is a table's if it names all columns that the task's texts are in.
    """
    line = first.decode("utf-8-sig", errors="replace").strip()
    for ending in (".jsonl",) if line.startswith("{") else (".tsv", ".csv"):
        try:
            names, _ = table_of(Path(f"line{ending}"), iter([line]), columns.layout)
        except (UserError, StopIteration):  # no line of a table at all
            continue
        if {*columns.texts} <= {*names}:
            return ending
    return ""


def table_answers(
    model: MultitaskModel, task: str, path: Path, columns: Columns
) -> tuple[str, Answers]:
    """Return the header, and rows of prediction, id (if the file has ids) and texts.

    Raises UserError, with the columns that are there, for a table without the task's.
    """
    names = column_names(path, columns.layout)
    check_columns(path, list(columns.texts), names)
    id_name = columns.id or "id"
    ids = id_name in names
    # every row gets a prediction: one that cannot is not left out
    columns = replace(columns, id=id_name if ids else "", bad_rows=0.0)
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

    header = [model.tasks[task].prediction_header, *([id_name] if ids else []), *columns.texts]
    return table_line(header), answers()


def table_line(cells: Sequence[str]) -> str:
    """Join cells by tabs, with quotes around one that has a tab, a quote or a newline in it."""
    line = io.StringIO()
    csv.writer(line, delimiter="\t", lineterminator="\n").writerow(cells)
    return line.getvalue()


def line_answers(model: MultitaskModel, task: str, first: bytes, file: BinaryIO) -> Answers:
    """Yield `prediction <tab> line` for every line: a sentence, or two with a tab between.

    first: the line that has been read already.
    """
    sentences = 1 + model.tasks[task].is_pair
    number = 0
    for block in whole_lines(first, file):
        kept, texts = [], []
        for raw in block:
            number += 1
            line = decode(raw, number)
            if line.strip():
                kept.append(line)
                texts.append(parse_text(line, number, sentences))
        predictions = model.predict(task, texts)
        yield [f"{p}\t{line}\n" for p, line in zip(predictions, kept, strict=True)]


def whole_lines(first: bytes, file: BinaryIO) -> Iterator[list[bytes]]:
    """Yield groups of lines, each all that can be read without waiting: one line of a keyboard."""
    yield [first.rstrip(b"\n")]
    rest: list[bytes] = []  # of an unfinished line, which may come in many parts
    while read := file.read1(BLOCK):
        *lines, end = read.split(b"\n")
        if lines:
            lines[0] = b"".join([*rest, lines[0]])
            rest = []
            yield lines
        rest.append(end)
    yield [b"".join(rest)]


def decode(raw: bytes, number: int) -> str:
    """Return a UTF-8 line as text, without a byte order mark. Raises UserError for other bytes."""
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r")
    except UnicodeDecodeError as error:
        raise UserError(f"line {number}: not UTF-8 ({error.reason}); convert the input") from error


def parse_text(line: str, number: int, sentences: int) -> Text:
    """Return a line's sentence or pair. Raises UserError for another number of sentences."""
    parts = line.split("\t")
    if len(parts) != sentences or not all(part.strip() for part in parts):
        what = "a sentence" if sentences == 1 else "two sentences with a tab between"
        raise UserError(f"line {number}: expected {what}, found {line[:60]!r}")
    return parts[0] if sentences == 1 else (parts[0], parts[1])
