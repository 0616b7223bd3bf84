"""Values read from JSON, checked against a dataclass's types; what does not fit is a UserError."""

from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from minbert.errors import DAMAGED, UserError

T = TypeVar("T")


def from_json(cls: type[T], saved: Any, where: str) -> T:
    """Make a dataclass of an object's values, checked against the types of its fields.

    where: the file, for messages. Raises UserError for an unknown key, a value of another type, or
    a missing one that has no default.
    """
    return parse(cls, saved, where)


def parse(kind: Any, value: Any, where: str) -> Any:
    """Return a value of JSON as the type that is wanted: a list as a tuple, an object as its class.

    An int may stand for a float and is left as it is. where: the place of the value, for messages.
    Raises UserError for any other type.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind) and isinstance(value, dict):
        return _parse_fields(kind, value, where)
    if origin in (Union, UnionType):
        return _parse_one_of(inner, value, where)
    if origin is dict and isinstance(value, dict):
        return {str(k): parse(inner[1], v, f"{where}: {k}") for k, v in value.items()}
    if origin in (list, tuple) and isinstance(value, list | tuple):
        several = origin is list or inner[-1] is Ellipsis
        kinds = [inner[0]] * len(value) if several else list(inner)
        if len(kinds) == len(value):
            parts = (parse(k, v, where) for k, v in zip(kinds, value, strict=True))
            return origin(parts)
    if kind is float and type(value) is int:
        return value  # as it was written: 1 and 1.0 are the same number
    if kind is Any or (isinstance(kind, type) and type(value) is kind):
        return value
    name = getattr(kind, "__name__", str(kind))
    raise UserError(f"{where} is {str(value)[:60]!r}, not of the type {name}; {DAMAGED}")


def _parse_fields(kind: Any, value: dict[str, Any], where: str) -> Any:
    """Return a dataclass of an object's values."""
    hints, known = get_type_hints(kind), {f.name: f for f in fields(kind)}
    if unknown := [name for name in value if name not in known]:
        raise UserError(f"{where}: {unknown[0]!r} is not a key of it; {DAMAGED}")
    for name, f in known.items():
        if name not in value and f.default is MISSING and f.default_factory is MISSING:
            raise UserError(f"{where}: {name!r} is missing; {DAMAGED}")
    return kind(**{k: parse(hints[k], v, f"{where}: {k}") for k, v in value.items()})


def _parse_one_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """Return a value of the first of several types that it has."""
    if value is None and NoneType in kinds:
        return None
    problems = []
    for kind in kinds:
        try:
            return parse(kind, value, where)
        except UserError as error:
            problems.append(error)
    raise problems[0]
