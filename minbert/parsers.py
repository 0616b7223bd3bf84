"""Texts of arguments <-> their values: lists, and a value for each task."""

import argparse
import math
from typing import Any


def comma_list(text: str) -> tuple[str, ...]:
    """Split a list at its commas: sst,quora -> ("sst", "quora")."""
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    if not parts:
        raise argparse.ArgumentTypeError(f"{text!r} has nothing between its commas")
    return parts


def number_list(text: str) -> tuple[int, ...]:
    """Split numbers from 1 at their commas: 11,12 -> (11, 12)."""
    words = comma_list(text)
    if not all(word.isdecimal() and int(word) for word in words):
        raise argparse.ArgumentTypeError(f"{text!r}: write numbers from 1 with commas between")
    numbers = tuple(map(int, words))
    if len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text!r} has a number twice")
    return numbers


def word_by_task(text: str) -> dict[str, str]:
    """Parse words by task, as quora=siamese,sts=cross; one for all tasks gets the key ""."""
    result = {}
    for part in comma_list(text):
        task, equals, word = part.partition("=")
        if not equals or (task and not task.isidentifier()):  # as in a path that has a =
            task, word = "", part
        elif not (task and word):
            raise argparse.ArgumentTypeError(f"{part!r} is not of the form task=word")
        if task in result:
            raise argparse.ArgumentTypeError(f"{text!r} says {task or 'what is for all'} twice")
        result[task] = word
    return result


def number_by_task(text: str) -> dict[str, int]:
    """Parse numbers by task: quora=16000,sst=100 -> {"quora": 16000, "sst": 100}."""
    return _whole_numbers(text, "whole numbers from 1 by task, as sst=100", needs_task=True)


def limit_by_task(text: str) -> dict[str, int]:
    """Parse numbers by task; one for all tasks gets the key ""."""
    return _whole_numbers(text, "a whole number from 1, or by task, as sst=100", needs_task=False)


def _whole_numbers(text: str, form: str, needs_task: bool) -> dict[str, int]:
    """Parse whole numbers from 1 by task; form: what to write instead of what is none."""
    result = {}
    for task, number in word_by_task(text).items():
        if not number.isdecimal() or int(number) < 1 or (needs_task and not task):
            raise argparse.ArgumentTypeError(f"{text!r}: write {form}")
        result[task] = int(number)
    return result


def number_or_by_task(text: str) -> int | dict[str, int]:
    """Parse a number, or numbers by task."""
    return number_by_task(text) if "=" in text else int(text)


def amount_by_task(text: str) -> dict[str, float]:
    """Parse numbers from 0, with or without a point, by task: sst=2,sts=0.5."""
    result = {}
    for task, word in word_by_task(text).items():
        try:
            result[task] = float(word)
        except ValueError:
            result[task] = math.nan
        if not task or not 0 <= result[task] < math.inf:
            raise argparse.ArgumentTypeError(f"{text!r}: write numbers from 0 by task, as sst=0.5")
    return result


def arg_text(value: Any) -> str:
    """Return an argument's value as it is written on a command line."""
    if isinstance(value, dict):
        value = tuple(f"{name}={word}" if name else word for name, word in value.items())
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
