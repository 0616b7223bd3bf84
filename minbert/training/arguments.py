"""A frozen dataclass of arguments <-> the command line. Each field has its help line in its metadata."""

import argparse
import difflib
import sys
from collections.abc import Callable
from dataclasses import MISSING, field, fields
from typing import Any, NoReturn, TypeVar

from minbert.errors import UserError

T = TypeVar("T")


def arg(default: Any, help: str, **options: Any) -> Any:
    """A field with a default, a help line, and argparse options (choices, parse)."""
    return field(default=default, metadata={"help": help, **options})


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def parse_arguments(cls: type[T], argv: list[str], description: str) -> T:
    """argv -> cls(...). Dashes and underscores are both accepted; a typo is answered with the nearest flag."""
    parser = _Parser(description=description, allow_abbrev=False)
    for f in fields(cls):  # type: ignore[arg-type]
        assert f.default is not MISSING, f.name
        names = ["--" + f.name.replace("_", "-")]
        options = dict(f.metadata)
        parse = options.pop("parse", None)
        shown = "none" if f.default is None else f.default
        help_line = f"{options.pop('help')} (default: {shown})".replace("%", "%%")
        if f.type is bool or f.default is False:
            parser.add_argument(*names, dest=f.name, action="store_true", help=help_line)
            continue
        kind = parse or type(f.default)
        parser.add_argument(
            *names, dest=f.name, type=kind, default=f.default, help=help_line, **options
        )
    known = {option for action in parser._actions for option in action.option_strings}
    argv = [_dashes(word) for word in argv]
    values, unknown = parser.parse_known_args(argv)
    if unknown:
        flag = unknown[0].split("=")[0]
        near = difflib.get_close_matches(flag, sorted(known), n=1)
        raise UserError(
            f"unknown argument {flag!r}"
            + (f"; did you mean {near[0]}?" if near else "; see --help")
        )
    return cls(**vars(values))


def _dashes(word: str) -> str:
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value


def comma_list(text: str) -> tuple[str, ...]:
    """sst,quora -> ("sst", "quora")"""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def number_by_task(text: str) -> dict[str, int]:
    """quora=16000,sst=100 -> {"quora": 16000, "sst": 100}"""
    result = {}
    for part in comma_list(text):
        task, equals, number = part.partition("=")
        if not equals or not number.isdigit() or int(number) < 1:
            raise argparse.ArgumentTypeError(f"{part!r} is not of the form task=number")
        result[task] = int(number)
    return result


def run_script(main: Callable[[list[str]], int]) -> NoReturn:
    """Exit codes: 0 done, 1 a check failed, 2 a mistake the user can mend (one line), 130 Ctrl-C."""
    try:
        code = main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("stopped.", file=sys.stderr)
        code = 130
    sys.exit(code)
