"""What a task that labels words gets right and wrong: entities, or tags without entities."""

import numpy as np

from minbert.task.tagging import has_entities, spans, types_of
from minbert.task.task import Task

NONE = "(none)"  # the type of what is no entity on one of the two sides


def confusion_of_words(
    task: Task, predictions: np.ndarray, labels: np.ndarray
) -> tuple[list[str], np.ndarray]:
    """Return the names of types, and counts of them, (types, types): rows are gold.

    A predicted entity goes with the gold one that has the same words; if there is none, with the
    type `(none)`. Of tags that spell no entities, words are counted by tag.
    """
    names = types_of(task) + ([NONE] if has_entities(task.display_classes) else [])
    counts = np.zeros((len(names), len(names)), dtype=int)
    for tags in zip(predictions, labels, strict=True):
        predicted, gold = (by_place(task, side) for side in tags)
        for place in predicted | gold:
            row, column = (names.index(side.get(place, NONE)) for side in (gold, predicted))
            counts[row, column] += 1
    return names, counts


def by_place(task: Task, tags: np.ndarray) -> dict[tuple[int, int], str]:
    """Return the types of a sentence's entities by their words."""
    return {(first, after): type_ for first, after, type_ in spans(task, tags)}


def mistakes(task: Task, predicted: np.ndarray, gold: np.ndarray) -> int:
    """Count the entities of a sentence that are missed or made up; without entities, the words."""
    if has_entities(task.display_classes):
        return len({*spans(task, predicted)} ^ {*spans(task, gold)})
    return int((predicted != gold).sum())


def described(task: Task, words: tuple[str, ...], tags: np.ndarray) -> str:
    """Return a sentence's entities for people: their words and types."""
    found = [f"{' '.join(words[start:end])} [{type_}]" for start, end, type_ in spans(task, tags)]
    return ", ".join(found) or NONE
