"""Rows that cannot be used: counted by reason, with the first ones, and left out up to a share."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from minbert.errors import UserError

NO_LABEL, NO_TEXT, OTHER_LABEL = "without a label", "with an empty text", "with another label"
OTHER_TAG_COUNT = "with more or fewer tags than words"
SHOWN = 3  # rows, and labels, that are named for each reason
MOST_ADVISED = 0.2  # the largest `bad_rows` to advise: beyond, the task's labels or range are wrong
MAX_BAD_SHARE = 0.05  # of a split's rows that may be left out, unless the task file has `bad_rows`


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used."""

    reason: str  # one of the four above
    problem: str  # in words, and what to do
    line: int  # of its file, from 1
    file: int  # which of the split's files, from 0
    id: str = ""  # predictions with this id are not scored
    label: str = ""  # if it is none of the task's


@dataclass
class LeftOut:
    """The rows of a split that cannot be used."""

    paths: Sequence[Path]  # the split's files
    counts: Counter[str] = field(default_factory=Counter)  # by reason
    first: dict[str, list[BadRow]] = field(default_factory=dict)  # by reason, a few of them

    def add(self, row: BadRow) -> None:
        """Count one more row."""
        self.counts[row.reason] += 1
        if self.counts[row.reason] <= SHOWN:
            self.first.setdefault(row.reason, []).append(row)

    def place_of(self, row: BadRow) -> str:
        """Return a row's file and line."""
        return f"{self.paths[row.file]}:{row.line}"

    def describe(self) -> str:
        """Return how many there are for each reason, and on which lines the first ones begin."""
        parts = []
        for reason, rows in self.first.items():
            several = len(self.paths) > 1
            places = [self.place_of(row) if several else str(row.line) for row in rows]
            more = " ..." if self.counts[reason] > len(rows) else ""
            labels = ", ".join(dict.fromkeys(repr(row.label) for row in rows if row.label))
            where = f"{'lines' if len(rows) > 1 else 'line'} {', '.join(places)}{more}"
            shown = f"{labels}, {where}" if labels else where
            parts.append(f"{self.counts[reason]:,} {reason} ({shown})")
        return ", ".join(parts)

    def summary(self) -> str:
        """Return that they are left out, as `describe` tells it; "" if there are none."""
        return f"left out: {self.describe()}" if self.counts else ""

    def check(self, used: int, most: float) -> None:
        """Raise UserError if the share of bad rows is above `most`; used: the number of others."""
        count = self.counts.total()
        if count <= most * (used + count):
            return
        earliest = min((rows[0] for rows in self.first.values()), key=lambda r: (r.file, r.line))
        share = min(1.0, math.ceil(100 * count / (used + count)) / 100)
        is_advised = most and share <= MOST_ADVISED
        hint = f"; bad_rows = {share:g} in the task file leaves them out" if is_advised else ""
        raise UserError(
            f"{self.place_of(earliest)}: {earliest.problem}; {count:,} of {used + count:,} rows "
            f"cannot be used: {self.describe()}{hint}"
        )
