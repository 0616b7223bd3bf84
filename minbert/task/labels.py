"""Labels as files have them, and parsers from their text to the numbers of an Example's label."""

import re
from collections.abc import Callable, Sequence

import numpy as np

from minbert.printable import composed

SEPARATOR = ";"  # between the labels of a multi-label row
EMPTY_SET = "-"  # stands for no label at all
Label = str | int | float  # a label as a task file has it


def as_number(text: str) -> float | None:
    """Return the number that a text is; None if it is none, as 1_0, which Python takes for 10."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def class_parser(classes: int) -> Callable[[str], float]:
    """Return a parser of class numbers, 0 .. classes-1, which may be written as 1.0."""

    def parse(text: str) -> float:
        value = as_number(text)
        if value not in range(classes):
            hint = "" if value is not None else "; or list the names of the classes in `labels`"
            raise ValueError(f"expected a whole number from 0 to {classes - 1}{hint}")
        return value

    return parse


def multi_hot(sets: np.ndarray, classes: int) -> np.ndarray:
    """Return 1 for each label of a set, else 0, as `losses.multi_hot`: (n,) sums -> (n, C)."""
    return sets.astype(np.int64)[:, None] >> np.arange(classes) & 1


def label_names(labels: Sequence[Label]) -> tuple[str, ...]:
    """Return labels as predictions have them: as words, 1 for 1.0."""
    return tuple(x if isinstance(x, str) else str(x).removesuffix(".0") for x in labels)


def place_finder(labels: Sequence[Label]) -> Callable[[str], int | None]:
    """Return a function that takes a text to its place among labels, or None if it is none.

    Numbers are compared by value, names in Unicode's form NFC unless two labels are equal in it.
    """

    def place_of_number(text: str) -> int | None:
        number = as_number(text)  # None is no label
        return labels.index(number) if number in labels else None

    if not isinstance(labels[0], str):
        return place_of_number
    form = composed if len({*map(composed, labels)}) == len(labels) else str
    places = {form(label): place for place, label in enumerate(labels)}
    return lambda text: places.get(form(text))


def has_number(labels: Sequence[Label], text: str) -> bool:
    """Return whether all labels are numbers and a text is one of them, however it is written."""
    try:
        return as_number(text) in [float(label) for label in labels]
    except ValueError:
        return False


def label_parser(labels: Sequence[Label]) -> Callable[[str], float]:
    """Return a parser of labels: their names or numbers become their places, from 0."""
    place_of = place_finder(labels)

    def parse(text: str) -> float:
        place = place_of(text)
        if place is None:
            known = ", ".join(label_names(labels))
            as_numbers = "; labels without quotes are compared as numbers"
            hint = as_numbers if has_number(labels, text) else ""
            if isinstance(labels[0], str) and text in map(str, range(len(labels))):
                mend = f"write labels = {len(labels)}, and the names as display_names"
                hint = f"; if its classes are numbered, {mend}"
            raise ValueError(f"expected one of {known}{hint}")
        return float(place)

    return parse


def label_set_parser(labels: Sequence[Label]) -> Callable[[str], float]:
    """Return a parser of sets of labels: `a;c` becomes 2^0 + 2^2, `-` is the empty set."""
    place_of = place_finder(labels)

    def parse(text: str) -> float:
        places = set()
        for part in [] if text == EMPTY_SET else text.split(SEPARATOR):
            place = place_of(part.strip())
            if place is None:
                names = ", ".join(label_names(labels))
                between = f"; `{SEPARATOR}` stands between labels"
                hint = between if re.search("[,|/]", part) else ""
                raise ValueError(f"{part.strip()!r} is not one of {names}; `-` is none{hint}")
            if place in places:  # as in [1, 0, 0]: one 0 or 1 a class
                raise ValueError(f"{part.strip()!r} is there twice; write the labels of the row")
            places.add(place)
        parts = [part.strip().removesuffix(".0") for part in text.split(SEPARATOR)]
        if len(parts) == len(labels) > 1 and {*parts} <= {"0", "1"}:
            hint = (
                "to have both of 0 and 1 in a row, call them no and yes, say, in file and `labels`"
            )
            raise ValueError(f"one 0 or 1 a class? write the labels of the row; {hint}")
        return float(sum(2**place for place in places))

    return parse


def score_parser(low: float, high: float) -> Callable[[str], float]:
    """Return a parser of numbers in [low, high]."""

    def parse(text: str) -> float:
        if "," in text:
            raise ValueError("a decimal comma? write a point")
        value = as_number(text)
        if value is None or not low <= value <= high:
            raise ValueError(f"expected a number from {low:g} to {high:g}, the task's `range`")
        return value

    return parse
