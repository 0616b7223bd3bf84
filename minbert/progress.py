"""Signs of life: a bar on a terminal, a line a minute elsewhere; durations for people.

Both are on stdout, as all that scripts print but errors and notes: whoever silences it silences
them, and no line of a file or a pipe lands inside a bar.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TextIO, TypeVar

from tqdm import tqdm

from minbert.printable import nowhere

T = TypeVar("T")

BAR_AFTER_S, LINE_EVERY_S = 2.0, 60.0
# in seconds; a unit is used from one and a half of it on, seconds always
UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))


def one(_: object) -> int:
    """Return 1: every item counts once."""
    return 1


def progress(items: Iterable[T], what: str, size: Callable[[T], int] = one) -> Iterator[T]:
    """Yield the items and count them for people, on a terminal once they take over two seconds.

    what: their name; "": nothing is shown. size: how many an item counts for.
    """
    if not what:
        yield from items
        return
    total = sum(map(size, items)) if isinstance(items, Sequence) else None
    bar, done, started = None, 0, time.monotonic()
    said = started
    try:
        for item in items:
            yield item
            done += size(item)
            now = time.monotonic()
            if bar is not None:
                bar.update(size(item))
            elif on_terminal() and now - started >= BAR_AFTER_S:
                bar = tqdm(
                    desc=what, total=total, initial=done, unit="", unit_scale=total is None,
                    leave=False, file=sys.stdout, dynamic_ncols=True,
                )  # fmt: skip
            elif not on_terminal() and now - said >= LINE_EVERY_S:
                print(f"{what}: {done:,}" + ("" if total is None else f" of {total:,}"), flush=True)
                said = now
    finally:
        if bar is not None:
            bar.close()


def on_terminal() -> bool:
    """Return whether somebody sees what is printed as it comes."""
    return sys.stdout.isatty()


def bar_columns() -> int:
    """Return how many columns of the terminal a bar may fill: all but the last, as tqdm does."""
    try:
        return (os.get_terminal_size(sys.stdout.fileno()).columns or 80) - 1
    except OSError:  # it does not say
        return 79


def say(text: str, file: TextIO | None = None) -> None:
    """Print a line, above the bars that are shown; file: sys.stdout by default."""
    file = file or sys.stdout
    tqdm.write(text, file=file)
    file.flush()


def complain(text: str) -> None:
    """Print a line on stderr; if nobody reads that any more, the exit code alone tells."""
    try:
        say(text, sys.stderr)
    except OSError:
        sys.stderr = nowhere()


def duration(seconds: float) -> str:
    """Return a duration for people: 0.4 seconds, 45 seconds, 12.8 hours."""
    size, unit = next((s, u) for s, u in UNITS if seconds >= 1.5 * s or s == 1)
    value = seconds / size
    return f"{value:.0f} {unit}" if unit == "seconds" and value >= 10 else f"{value:.1f} {unit}"
