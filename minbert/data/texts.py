"""Texts as a program hands them in, checked."""

from collections.abc import Iterable, Mapping
from typing import Any

from minbert.errors import UserError
from minbert.printable import valid_unicode


def as_list(texts: Iterable[Any]) -> list[Any]:
    """Return an iterable of texts as a list. Raises UserError for any other value.

    One text, a table and a dict are refused: they would give characters or column names.
    """
    if isinstance(texts, str):
        raise UserError("give a list of texts, not one text")
    is_table = isinstance(texts, Mapping) or hasattr(texts, "columns")
    # an array of no dimension has the method of an Iterable
    if is_table or not isinstance(texts, Iterable) or getattr(texts, "ndim", 1) == 0:
        raise UserError(
            f"give a list of texts, as a column of a table, not a {type(texts).__name__}"
        )
    return list(texts)


def checked_text(text: Any, number: int) -> str:
    """Return a text in valid Unicode. Raises UserError for what is none; number: which, from 1."""
    if not isinstance(text, str):
        raise UserError(f"text {number}: a {type(text).__name__}, not a text: {text!r:.60}")
    return valid_unicode(text)
