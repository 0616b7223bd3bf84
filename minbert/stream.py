"""A user's texts -> the model's answers, in the order they come: evaluate.py --input, --text."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from minbert.data.conll import CONLL
from minbert.data.examples import Example
from minbert.errors import UserError
from minbert.files import replaced_file, write_text
from minbert.inference import MultitaskModel, Text
from minbert.printable import without_controls
from minbert.progress import progress
from minbert.task.answers import Answer, label_first, named_columns, output_ending
from minbert.task.inputs import open_input

NOT_WRITTEN = (".xlsx", ".xls", ".ods", ".parquet", ".json", ".ndjson", ".gz", ".zip", *CONLL)


def predict_text(
    model: MultitaskModel, names: list[str], text: Text, output: str, raw: bool
) -> dict[str, Answer]:
    """Return what these tasks say of one text, by task; write it to the file `output`, if any.

    Raises UserError for a file of another kind, and for one with several tasks.
    """
    ending = output_ending(output)
    if output and not ending:
        raise UserError(f"--output {output}: name a .csv, .tsv or .jsonl for a text's answer")
    if output and len(names) > 1:
        raise UserError(f"--output {output}: add --task, one of {', '.join(names)}")
    found = {name: model.answers(name, [text], raw)[0] for name in names}
    if output:
        ((name, answer),) = found.items()
        head, line = named_columns(model.tasks[name], ending, list(answer.probabilities))
        example = Example("1", *([text] if isinstance(text, str) else text))
        write_text(Path(output), head + line(example, answer))
    return found


def predict_input(
    model: MultitaskModel, task_name: str, source: str, output: str,
    probabilities: bool, raw: bool,
) -> int:  # fmt: skip
    """Write what a task says of every text of the file `source`; return how many they are.

    source: -, standard input. output: - or "", standard output; a .csv, .tsv or .jsonl has the
    probabilities of all classes. probabilities: have them in other outputs, too, with a header.
    Raises UserError if both are the same file.
    """
    task = model.task_named(task_name)
    if output in ("", "-"):
        output = ""
    elif source != "-" and Path(output).exists() and Path(output).samefile(source):
        raise UserError(f"--output {output}: that is the --input; name another file")
    if Path(output).suffix.lower() in NOT_WRITTEN:
        raise UserError(f"--output {output}: name a .csv, .tsv or .jsonl, or a .txt")
    ending = output_ending(output) or (".tsv" if probabilities else "")
    count = 0
    with ExitStack() as stack:
        checked = f"{source}: rows checked" if output else ""
        columns, groups = stack.enter_context(open_input(source, task, checked))
        if ending:
            classes = () if model.why_no_probabilities(task_name) else task.display_classes
            head, line = named_columns(task, ending, classes)
        else:
            ids = [columns.id] if columns and columns.id else []
            names = [task.prediction_header, *ids, *columns.texts] if columns else []
            head, line = label_first(names, bool(ids))
        sink = stack.enter_context(open_output(Path(output))) if output else sys.stdout
        safe = str if output else without_controls  # a file gets the texts as they came
        sink.write(safe(head))
        for group in progress(groups, f"{source}: rows" if output else "", size=len):
            texts = list(map(text_of, group))
            answers = model.answers(task_name, texts, raw)
            sink.writelines(safe(line(e, a)) for e, a in zip(group, answers, strict=True))
            sink.flush()  # a program that reads the output gets each group at once
            count += len(group)
    return count


@contextmanager
def open_output(path: Path) -> Iterator[TextIO]:
    """Open a file that has all of the output at the end, or, as a pipe, what has come so far."""
    with replaced_file(path) as file:
        sink = TextIOWrapper(file, encoding="utf-8", newline="")
        yield sink
        sink.flush()
        sink.detach()  # which leaves the file open


def text_of(example: Example) -> Text:
    """Return a row's sentence, pair, or list of words."""
    if example.words is not None:
        return list(example.words)
    return example.text if example.pair is None else (example.text, example.pair)
