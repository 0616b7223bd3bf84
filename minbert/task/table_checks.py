"""Checks of a task file's values, one key after another; a mistake is a ValueError in one line."""

import io
import math
import unicodedata
from collections.abc import Sequence
from typing import Any

from minbert.data.delimited import QUOTING
from minbert.data.long_texts import HEAD_ONLY, LONG
from minbert.model.heads import LARGEST_SIZE
from minbert.printable import composed
from minbert.task.task import SPLITS, Table

LONGEST_NAME = 100  # bytes of a task's or a prediction file's name: files are called so
A_FILE = 'write a file, "a.csv", or a list, ["a.csv"]'
BALANCED = "balanced"  # of class_weight: every class counts alike
NOT_TEXT = (
    *SPLITS, "text", "labels", "range", "weight", "display_names", "course", "columns",
    "class_weight", "bad_rows",
)  # fmt: skip
# Unicode's categories of what moves a screen or ends a line; joiners and wide blanks are text.
CONTROLS = {"Cc", "Cs", "Zl", "Zp"}
NUMBERS = (int, float)  # compared with type(x), because isinstance takes a bool for an int


def check_table(table: Table) -> None:
    """Raise ValueError for a value that its key cannot have."""
    for key, value in table.items():
        if key not in NOT_TEXT and not isinstance(value, str):
            raise ValueError(f'{key} = {value!r}: write a word in quotes, "..."')
        texts = value if isinstance(value, list) else [value]
        if (key, value) == ("delimiter", "\t"):
            continue
        characters = "".join(text for text in texts if isinstance(text, str))
        if CONTROLS & {*map(unicodedata.category, characters)}:
            raise ValueError(f"{key} = {value!r}: write it without control characters")
    texts = [table["text"]] if isinstance(table["text"], str) else table["text"]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f'text = {texts!r}: write a column, "a", or two, ["a", "b"]')
    if table["label"] in (*texts, table.get("id")):  # two texts may be one, which simcse compares
        raise ValueError(f"label = {table['label']!r}: the column of a text or id; name another")
    check_form(table)
    file = table.get("prediction_file", "{split}")
    if "{split}" not in file:
        raise ValueError(f"prediction_file = {file!r}: {{split}} is missing")
    if {*"{}/\\"} & {*file.replace("{split}", "")} or len(file.encode()) > LONGEST_NAME:
        raise ValueError(f"prediction_file = {file[:60]!r}: write the name of a file, no folder")
    weight = table.get("weight", 1)
    if type(weight) not in NUMBERS or not 0 <= weight < math.inf:
        raise ValueError(f"weight = {weight!r}: write a number from 0, without quotes")
    ends = table.get("range", [0, 5])
    if not isinstance(ends, list) or [type(end) in NUMBERS for end in ends] != [True, True]:
        raise ValueError(f"range = {ends!r}: write the lowest and the highest score, [0, 5]")
    if not -math.inf < ends[0] < ends[1] < math.inf:
        raise ValueError(f"range = {ends!r}: write the lowest score first")
    largest, width = max(map(abs, ends)), ends[1] - ends[0]
    if not (1e-30 < width < 1e30 and largest < 1e5 * width):
        raise ValueError(f"range = {ends!r}: too large or too narrow for fp32, shift or scale it")


def check_prediction_header(header: str) -> None:
    """Raise ValueError for the header of predictions that a spreadsheet would run."""
    if header.startswith(("=", "+", "-", "@")):
        raise ValueError(f"prediction_header = {header!r}: a formula to spreadsheets; use words")


def check_form(table: Table) -> None:
    """Raise ValueError for a value that a key of files, or of their form, cannot have."""
    for split in SPLITS:
        if split == "dev" and type(table.get("dev")) in NUMBERS:
            if not 0 < table["dev"] < 1:
                raise ValueError(f"dev = {table['dev']!r}: a share of train is between 0 and 1")
        elif split in table:
            check_file_names(split, table[split])
    if type(table.get("course", False)) is not bool:
        raise ValueError(f"course = {table['course']!r}: write true or false")
    if table.get("quoting", "auto") not in QUOTING:
        raise ValueError(f"quoting = {table['quoting']!r}: write one of {', '.join(QUOTING)}")
    delimiter = table.get("delimiter", ",")
    if len(delimiter) != 1 or delimiter in '"\r\n\0':
        raise ValueError(f"delimiter = {delimiter!r}: write one character, no quote")
    if table.get("long", HEAD_ONLY) not in LONG:
        raise ValueError(f"long = {table['long']!r}: write one of {', '.join(LONG)}")
    check_charset(table.get("charset", "utf-8"))
    share = table.get("bad_rows", 0)
    if type(share) not in NUMBERS or not 0 <= share <= 1:
        raise ValueError(f"bad_rows = {share!r}: write a share of the rows, from 0 to 1")
    names = table.get("columns", [""])
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise ValueError(f'columns = {names!r}: write the names of a file without a header, ["a"]')


def check_charset(name: str) -> None:
    """Raise ValueError for a name that is not that of a text encoding."""
    try:
        if io.TextIOWrapper(io.BytesIO("a\n".encode(name)), name).read() == "a\n":
            return
    except (LookupError, ValueError):
        pass
    raise ValueError(f"charset = {name!r}: write one that Python knows, as cp1252 or utf-16")


def check_distinct(key: str, values: Sequence[Any]) -> None:
    """Raise ValueError for a value of a key's list that is there twice."""
    if len(set(values)) < len(values):
        again = next(value for value in values if values.count(value) > 1)
        raise ValueError(f"{key}: {again!r} is there twice")


def check_file_names(split: str, names: Any) -> None:
    """Raise ValueError unless these are the names of a split's files: one, or a list of them."""
    listed = [names] if isinstance(names, str) else names
    if not isinstance(listed, list) or not listed or not all(isinstance(n, str) for n in listed):
        raise ValueError(f"{split} = {names!r}: {A_FILE}")
    check_distinct(split, listed)


def check_no_empty_name(table: Table) -> None:
    """Raise ValueError for an empty name of a file, which runs of before may have kept."""
    for split in SPLITS:
        names = table.get(split)
        if names == "" or (isinstance(names, list) and "" in names):
            raise ValueError(f"{split} = {names!r}: {A_FILE}")


def check_display_names(table: Table) -> None:
    """Raise ValueError unless there is a name for each class of `labels = NUMBER`."""
    names, labels = table["display_names"], table["labels"]
    are_text = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not are_text or type(labels) is not int or len(names) != labels:
        raise ValueError(f"display_names = {names!r}: write a name for each of `labels = NUMBER`")
    check_distinct("display_names", names)


def check_class_weight(given: Any, classes: Sequence[str]) -> None:
    """Raise ValueError unless this is "balanced", or a table of numbers by label."""
    if given == BALANCED:
        return
    if not isinstance(given, dict) or not given:
        raise ValueError(f'class_weight = {given!r}: write "balanced" or {{ {classes[0]} = 2 }}')
    if unknown := [name for name in given if name not in classes]:
        accent = composed(unknown[0]) in map(composed, classes)
        why = "; one has an accent as a character of its own: copy it from there" if accent else ""
        raise ValueError(f"class_weight: {unknown[0]!r} is none of the labels{why}")
    for name, weight in given.items():
        if type(weight) not in NUMBERS or not 1e-6 <= weight <= 1e6:
            raise ValueError(f"class_weight: {name} = {weight!r}: write a number, 0.000001 to 1e6")


def check_labels(labels: Any, countable: bool) -> None:
    """Raise ValueError unless labels are names or numbers, or (countable) their number."""
    counted = countable and type(labels) is int  # isinstance would take a bool, too
    if (labels if counted else len(labels) if isinstance(labels, list) else 0) > LARGEST_SIZE:
        raise ValueError(f"labels: more than {LARGEST_SIZE:,} of them")
    types = {type(label) for label in labels} if isinstance(labels, list) else {None}
    if not counted and not types <= {str} and not types <= set(NUMBERS):
        how = "write names or numbers in brackets" + (", or how many" if countable else "")
        raise ValueError(f"labels = {labels!r}: {how}")
    if (labels if counted else len(labels)) < 2:
        raise ValueError(f"labels = {labels!r}: write two or more")
    if not counted:
        if "" in labels:
            raise ValueError("labels: '' is none: an empty cell is a row without a label")
        check_distinct("labels", labels)


def check_label_ends(labels: Any) -> None:
    """Raise ValueError for a label that no cell can be: cells lose the blanks at their ends.

    Not in `check_labels`: runs have been trained with such labels, whose rows were left out.
    """
    names = [x for x in labels if isinstance(x, str)] if isinstance(labels, list) else []
    if padded := next((name for name in names if name != name.strip()), ""):
        raise ValueError(f"labels: {padded!r}: cells have no blanks at their ends, take them out")
