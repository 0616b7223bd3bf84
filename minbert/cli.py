"""A frozen dataclass of arguments <-> the command line; each field has its help line."""

import argparse
import difflib
import re
import signal
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import field, fields
from functools import partial, wraps
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from minbert.errors import UserError
from minbert.interrupt import command_of
from minbert.memory import lack_of_memory, tune_allocator
from minbert.parsers import arg_text
from minbert.printable import code_after_output, escape_unencodable, nowhere, one_line
from minbert.progress import complain

T = TypeVar("T")
Number = int | float
LETTERS = {int: "N", float: "X"}  # that stand for a value in --help
EMPTY = "empty: leave it out (or is a shell variable not set?)"
TAKEN_BACK = object()  # the value of --no-NAME, where NAME is no switch
CONFIG_HELP = "TOML file with any of these arguments; flags win over it, --no-NAME takes NAME back"


def arg(default: Any, help: str, *, group: str = "", **options: Any) -> Any:
    """Return a dataclass field with a default, a help line and its place in --help.

    group: the title it stands under. options: `parse` makes a value of the text, `low` and `high`
    limit it (both are allowed values), `may_be_empty` allows an empty text, as one to predict,
    `same_as` is the field that this one sets in other words; others, as `choices`, go to argparse.
    """
    return field(default=default, metadata={"help": help, "group": group, **options})


def args_of(group: str) -> partial[Any]:
    """Return `arg` for the fields of one group of --help, by its title."""
    return partial(arg, group=group)


def flag_of(name: str) -> str:
    """Return the flag of a field: data_dir -> --data-dir."""
    return "--" + name.replace("_", "-")


class _Parser(argparse.ArgumentParser):
    """argparse's parser, but a mistake is a UserError and does not end the program."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message.removeprefix("argument "))


class Given(dict[str, Any]):
    """The fields that a command line sets; files: the --config file of each that is not typed."""

    def __init__(self, values: dict[str, Any], files: dict[str, str]) -> None:
        super().__init__(values)
        self.files = files

    @contextmanager
    def naming_files(self) -> Iterator[None]:
        """Let a UserError say which of the flags that it names stand in a file, not in argv."""
        try:
            yield
        except UserError as error:
            message = str(error)
            # before the advice, and before a flag that is only said to be there
            wrong = re.split("; |: leave it out| does nothing beside ", message)[0]
            for flag in dict.fromkeys(re.findall(r"--[a-z-]+", wrong)):
                name = flag.removeprefix("--").removeprefix("no-").replace("-", "_")
                if file := self.files.get(name):
                    back = flag_of(name if self[name] is False else f"no_{name}")
                    message += f"; {flag} stands in {file}: {back} takes it back"
            raise UserError(message) from error


def parse_given(
    cls: type, argv: list[str], description: str | None, positionals: str = ""
) -> Given:
    """Return the fields that argv or its --config file sets, parsed and checked one by one.

    Dashes and underscores are both accepted. description: a script's docstring, of which --help
    shows the first line; None under `python -OO`, which takes docstrings away. positionals: how
    --help names what is written without a flag. Raises UserError for a value that does not fit and
    for an unknown flag, with the nearest known one.
    """
    parser = _parser_of(cls, description, positionals)
    found, unknown = parser.parse_known_args([_dashes(word) for word in argv])
    typed, values, files = vars(found), {}, {}
    for path in typed.pop("config", []):  # the last of several wins
        of_file = _config_values(Path(path), parser)
        values, files = _merged(cls, values, of_file), files | dict.fromkeys(of_file, path)
    if unknown:
        raise UserError(_unknown(unknown[0].split("=")[0], parser))
    for name, value in typed.items():
        if value is TAKEN_BACK and name not in files:
            raise UserError(f"{flag_of(f'no_{name}')}: no --config file has {name} to take back")
    values = _merged(cls, values, typed)
    files = {k: path for k, path in files.items() if k in values and k not in typed}
    return Given({k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}, files)


def _merged(cls: type, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Merge two dicts; `after` wins, also where it sets what is `same_as` a field of `before`."""
    chosen = {k for k, value in after.items() if value and value is not TAKEN_BACK}
    same = [(f.name, f.metadata["same_as"]) for f in fields(cls) if "same_as" in f.metadata]
    lost = {one for a, b in same for one, other in ((a, b), (b, a)) if other in chosen}
    values = {k: value for k, value in before.items() if k not in lost} | after
    return {k: value for k, value in values.items() if value is not TAKEN_BACK}


def _parser_of(cls: type, description: str | None, positionals: str) -> argparse.ArgumentParser:
    """Return a parser with a flag for each field of a dataclass, and --config."""
    module = command_of(sys.orig_argv)  # whose file's name says little, as __main__.py
    parser = _Parser(
        description=(description or "").partition("\n")[0],
        usage=f"%(prog)s {positionals}[ARGUMENTS]", allow_abbrev=False,
        prog=f"python -m {module}" if module else None, argument_default=argparse.SUPPRESS,
    )  # fmt: skip
    titles = dict.fromkeys(f.metadata["group"] for f in fields(cls))
    groups = {t: parser.add_argument_group(t) if t else parser for t in titles}
    # a script's own arguments first, then those that it has from a base class
    for f in sorted(fields(cls), key=lambda f: f.name not in cls.__annotations__):
        options = dict(f.metadata)
        place = groups[options.pop("group")]
        options.pop("same_as", None)
        parse = options.pop("parse", None) or type(f.default)
        low, high = options.pop("low", None), options.pop("high", None)
        unset = f.default in (None, "", ())
        default = "" if unset or parse is bool else f" (default: {arg_text(f.default)})"
        help_line = (options.pop("help") + default).replace("%", "%%")
        if parse in LETTERS and "choices" not in options:
            options.setdefault("metavar", LETTERS[parse])
        flag, off = flag_of(f.name), flag_of(f"no_{f.name}")
        if parse is bool:
            on_help, off_help = help_line, argparse.SUPPRESS
            if f.default is True:
                on_help, off_help = off_help, on_help
            # --help shows the one of the two that is not the default
            place.add_argument(flag, action="store_true", help=on_help)
            place.add_argument(off, action="store_false", dest=f.name, help=off_help)
        else:
            checked = parse if low is None else _in_range(parse, low, high)
            checked = checked if options.pop("may_be_empty", False) else _not_empty(checked)
            place.add_argument(flag, type=checked, help=help_line, **options)
            back = {"action": "store_const", "const": TAKEN_BACK, "help": argparse.SUPPRESS}
            place.add_argument(off, dest=f.name, **back)
    parser.add_argument("--config", metavar="FILE", action="append", type=_not_empty(str),
                        help=CONFIG_HELP)  # fmt: skip
    return parser


def _unknown(flag: str, parser: argparse.ArgumentParser) -> str:
    """Return the message for an unknown flag."""
    known = sorted(o for action in parser._actions for o in action.option_strings)
    near = difflib.get_close_matches(flag, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else "; see --help"
    return f"unknown argument {flag!r}{hint}"


def _config_values(path: Path, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Return the fields that a TOML file sets, parsed as the words of a command line."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"--config {path}: cannot be read ({error})") from error
    if "config" in values:
        raise UserError(f"--config {path}: config in a file; write --config twice")
    words = []
    for key, value in values.items():
        flag = flag_of(key)
        action = parser._option_string_actions.get(flag)
        if isinstance(value, dict):
            value = ",".join(f"{k}={v}" for k, v in value.items())
        elif isinstance(value, list) and not (action and action.nargs):
            value = ",".join(map(str, value))
        if action and action.nargs == 0 and not isinstance(value, bool):
            raise UserError(f"--config {path}: {key} = {value!r}: write true or false")
        if value is False:
            words.append(flag_of(f"no_{key}"))
        else:
            more = value if isinstance(value, list) else [] if value is True else [value]
            words += [flag, *map(str, more)]
    if any("\0" in word for word in words):  # which a command line cannot have
        raise UserError(f"--config {path}: a NUL character in a value")
    try:
        found, unknown = parser.parse_known_args(words)
    except UserError as error:
        raise UserError(f"--config {path}: {error}") from error
    if unknown:
        raise UserError(f"--config {path}: {_unknown(unknown[0], parser)}")
    return vars(found)


def parse_arguments(cls: type[T], argv: list[str], description: str | None) -> T:
    """Return the arguments that argv sets, and the defaults of all others."""
    return cls(**parse_given(cls, argv, description))


def parse_with_positionals(
    cls: type[T], argv: list[str], description: str | None, positionals: str
) -> tuple[list[str], T]:
    """Return the words that stand without a flag, and the arguments that all others set.

    positionals: these words' names in --help, as "RUN NEW_DIRECTORY". Every flag takes a value,
    except --no-NAME.
    """
    found, options, words = [], [], iter(argv)
    for word in words:
        if not word.strip():
            raise UserError(f"a word of {positionals} is {EMPTY}")
        if not word.startswith("-"):
            found.append(word)
        else:
            is_whole = "=" in word or _dashes(word).startswith("--no-")
            options += [word] if is_whole else [word, *islice(words, 1)]
    return found, cls(**parse_given(cls, options, description, f"{positionals} "))


def _in_range(parse: Callable[[str], Number], low: float, high: float) -> Callable[[str], Number]:
    """Return a parser that takes numbers from `low` to `high` only."""

    def checked(text: str) -> Number:
        try:
            value = parse(text)
        except ValueError as error:
            kind = "number" if parse is float else "whole number"
            raise argparse.ArgumentTypeError(f"{text!r} is not a {kind}") from error
        if isinstance(value, dict):  # by task, each checked by its own parser
            return value
        if not low <= value <= high:  # NaN fails every comparison, so this refuses it too
            raise argparse.ArgumentTypeError(f"{text}: write a number from {low} to {high}")
        return value

    return checked


def _not_empty(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return a parser that refuses an empty text: a slip, such as a shell variable not set."""

    @wraps(parse)  # argparse's messages have its name
    def checked(text: str) -> T:
        if not text.strip():
            raise argparse.ArgumentTypeError(EMPTY)
        return parse(text)

    return checked


def _dashes(word: str) -> str:
    """Return a word of the command line with dashes in its flag: --data_dir=d -> --data-dir=d."""
    flag, equals, value = word.partition("=")
    is_flag = flag.startswith("--") and " " not in flag  # a blank makes it a text, as in argparse
    return flag.replace("_", "-") + equals + value if is_flag else word


def run_script(main: Callable[[list[str]], int]) -> NoReturn:
    """Run a script on the command line's arguments and exit with its code.

    0: done; 1: a check failed; 2: a mistake that the user can mend, told in one line; 130: Ctrl-C;
    141: the program that the output is piped to has ended, as `head` does.
    """
    tune_allocator()
    sys.stdout, sys.stderr = sys.stdout or nowhere(), sys.stderr or nowhere()  # `>&-` leaves none
    escape_unencodable(sys.stdout)
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # scripts have another for imports
        code = main(sys.argv[1:])
    except SystemExit as error:  # as --help ends
        if error.code:
            raise
        code = 0
    except UserError as error:
        complain(f"error: {one_line(str(error)).rstrip()}")
        code = 2
    except BrokenPipeError:
        # Python flushes stdout at its end and would complain about the closed pipe.
        sys.stdout = nowhere()
        code = 141
    except OSError as error:  # a file that is missing, a full disk
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        complain(f"error: {one_line(what)}")
        code = 2
    except (RuntimeError, MemoryError) as error:
        if not (what := lack_of_memory(error)):
            raise
        complain(f"error: {what}")
        code = 2
    except KeyboardInterrupt:
        complain("stopped.")
        code = 130
    sys.exit(code_after_output(code))
