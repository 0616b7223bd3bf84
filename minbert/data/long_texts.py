"""Which part of a text is read if it is longer than a sequence may be (`long` in a task file).

"head", its beginning, is what other programs read. "head+tail" has the best results of Sun et al.
(2019, section 5.3.1): 128 tokens from the beginning and 382 from the end, of 510. "windows" reads
all of it that `shorten` keeps, in overlapping sequences.
"""

from collections.abc import Sequence

HEAD_ONLY, TAIL, HEAD_TAIL, WINDOWS = "head", "tail", "head+tail", "windows"
LONG = (HEAD_ONLY, TAIL, HEAD_TAIL, WINDOWS)
HEAD_SHARE = 128 / 510  # of what "head+tail" reads


def parts_of(ids: Sequence[int], most: int, long: str) -> list[Sequence[int]]:
    """Return the parts of a text's ids that are read, each of `most` ids at most.

    It is one part or, of "windows", several: each begins half a part after the one before it, and
    the last one ends where the text does.
    """
    if len(ids) <= most:
        return [ids]
    if long == WINDOWS:
        last = len(ids) - most
        begins = [*range(0, last, max(1, most // 2)), last]
        return [ids[begin : begin + most] for begin in begins]
    head = {HEAD_ONLY: most, TAIL: 0, HEAD_TAIL: round(most * HEAD_SHARE)}[long]
    return [[*ids[:head], *ids[len(ids) - (most - head) :]]]


def shorten(text: str, most: int, long: str) -> str:
    """Return a text cut to `most` characters, from the end or the ends that `long` reads.

    A text of many millions of characters would take gigabytes of memory to tokenize. Of "windows"
    its beginning is kept.
    """
    head = {TAIL: 0, HEAD_TAIL: most // 2}.get(long, most)
    return text if len(text) <= most else f"{text[:head]} {text[len(text) - (most - head) :]}"
