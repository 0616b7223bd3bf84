"""Tasks that label words (token-classification), and the entities that their tags spell out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from minbert.data.items import object_array
from minbert.losses import cross_entropy
from minbert.metrics import CountedMetric
from minbert.task.kinds import columns, common, main_first
from minbert.task.labels import class_parser, label_names, label_parser
from minbert.task.task import Table, Task

OUTSIDE = "O"  # the tag of a word that is in no entity
PREFIXES = ("B", "I", "E", "S")  # begin, inside, end, single: of IOB1, IOB2 and IOBES
NO_TYPE = "_"  # of an entity whose tags are prefixes alone; seqeval's word
NOT_OF_WORDS = ("course", "quoting", "delimiter")  # keys of rows of other tasks
Span = tuple[int, int, str]  # an entity: its first word, the word after its last one, its type


def tagging(name: str, table: Table) -> Task:
    """Make a task that gives every word of a sentence one tag.

    Tags as B-PER and I-PER spell out entities, which are what is scored; of tags without prefixes
    the words are. Raises ValueError for tags that do not go together.
    """
    if odd := [key for key in NOT_OF_WORDS if key in table]:
        raise ValueError(f"{odd[0]!r} is not a key of files of words; take it out")
    labels = table["labels"]
    counted = isinstance(labels, int)
    names = () if counted else label_names(labels)
    tags = names or tuple(table.get("display_names", ())) or tuple(map(str, range(labels)))
    check_tags(tags)
    metrics = {"accuracy": CountedMetric(right_words, ratio)}
    if has_entities(tags):
        metrics = {**entity_metrics(tags), **metrics}
    parse = class_parser(len(tags)) if counted else label_parser(labels)
    of_rows = columns(table, parse, labels)
    dialect = replace(of_rows.dialect, word_columns=(of_rows.texts[0], of_rows.label))
    return Task(
        columns=replace(of_rows, dialect=dialect),
        outputs=len(tags), loss=cross_entropy, decode=best_tags(tags),
        metrics=main_first(table.get("metric", next(iter(metrics))), metrics),
        class_names=names, per_word=True, **common(name, table),
    )  # fmt: skip


def check_tags(tags: Sequence[str]) -> None:
    """Raise ValueError for a tag with blanks or, beside tags of entities, one of another form."""
    are_entities = has_entities(tags)
    for tag in tags:
        if not tag or any(letter.isspace() for letter in tag):
            raise ValueError(f"labels: {tag!r}: a tag is a word, without blanks")
        prefix, dash, type_ = tag.partition("-")
        spells = tag == OUTSIDE or (prefix in PREFIXES and bool(dash) == bool(type_))
        if are_entities and not spells:
            raise ValueError(f"labels: {tag!r}: beside B-TYPE write I-TYPE, E-TYPE, S-TYPE or O")


def has_entities(tags: Sequence[str]) -> bool:
    """Return whether tags spell out entities: as B-PER or I-PER, or as B, I and O alone."""
    return any(tag.startswith(("B-", "I-")) for tag in tags) or {"B", "I", OUTSIDE} <= {*tags}


def best_tags(tags: Sequence[str]) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that takes outputs by row, (n,) of (words, C), to tags, (n,) of (words,).

    A word without an output, which the model has not read, gets O or, if there is none, the first
    tag.
    """
    unread = tags.index(OUTSIDE) if OUTSIDE in tags else 0

    def decode(outputs: np.ndarray) -> np.ndarray:
        return object_array([np.where(np.isnan(x[:, 0]), unread, x.argmax(-1)) for x in outputs])

    return decode


def entities(tags: Sequence[str]) -> list[Span]:
    """Return the entities of a sentence's tags, as seqeval's default mode (conlleval's) has them.

    One may begin with I-, and ends where the type changes.
    """
    found = []
    start, previous, type_ = 0, OUTSIDE, NO_TYPE
    for place, tag in enumerate([*tags, OUTSIDE]):
        prefix, _, new = tag.partition("-")
        new = new or NO_TYPE
        changes = new != type_
        if previous != OUTSIDE and (previous in "ES" or prefix in "BSO" or changes):
            found.append((start, place, type_))
        if prefix != OUTSIDE and (prefix in "BS" or previous in "OES" or changes):
            start = place
        previous, type_ = prefix, new
    return found


def spans(task: Task, prediction: np.ndarray) -> list[Span]:
    """Return the entities of a row's tags; if they spell none, every word with its tag."""
    tags = [task.display_classes[int(tag)] for tag in prediction]
    if has_entities(task.display_classes):
        return entities(tags)
    return [(place, place + 1, tag) for place, tag in enumerate(tags)]


def types_of(task: Task) -> list[str]:
    """Return the types that a task's spans have, in the order of its tags."""
    each = (spans(task, np.array([tag])) for tag in range(task.outputs))
    return list(dict.fromkeys(type_ for found in each for _, _, type_ in found))


def type_counts(task: Task, predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return each type's spans that are right, predicted and gold, (3, types)."""
    types = types_of(task)
    counts = np.zeros((3, len(types)), dtype=np.int64)
    for predicted, gold in zip(predictions, labels, strict=True):
        a, b = {*spans(task, predicted)}, {*spans(task, gold)}
        for row, found in enumerate((a & b, a, b)):
            for _, _, type_ in found:
                counts[row, types.index(type_)] += 1
    return counts


def entity_metrics(tags: Sequence[str]) -> dict[str, CountedMetric]:
    """Return the F1, precision and recall of entities; one is found if span and type are right."""

    def count(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the entities that are right, predicted and gold, (n, 3)."""
        rows = []
        for predicted, gold in zip(predictions, labels, strict=True):
            a, b = ({*entities([tags[int(i)] for i in row])} for row in (predicted, gold))
            rows.append((len(a & b), len(a), len(b)))
        return np.array(rows).reshape(-1, 3)

    return {
        "f1": CountedMetric(count, lambda n: ratio((2 * n[0], n[1] + n[2]))),
        "precision": CountedMetric(count, lambda n: ratio((n[0], n[1]))),
        "recall": CountedMetric(count, lambda n: ratio((n[0], n[2]))),
    }


def right_words(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return each row's words whose tag is right, and all of them, (n, 2)."""
    rows = zip(predictions, labels, strict=True)
    return np.array([(int((a == b).sum()), len(b)) for a, b in rows]).reshape(-1, 2)


def ratio(counts: Sequence[Any]) -> float:
    """Return the first count over the second; 0 if that is 0, as seqeval."""
    return float(counts[0] / counts[1]) if counts[1] else 0.0
