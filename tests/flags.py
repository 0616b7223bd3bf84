"""Runs of the scripts for the checks of their flags; see tests/flag_checks.py.

A check runs the script with the flag and looks at what the run did. `make thorough` does the same
with the flag dropped from what the script is given, and then every check must fail.
"""

import io
import json
import os
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import evaluate
import pretrain_mlm
import train_multitask
from minbert import cli
from minbert.tensors import load_tensors
from tests.conftest import logged, weights

# what the runs of the checks have in common; a check's own flags come after it, and win
BASE = {
    "train_multitask": "--model model --tasks sst,sts --epochs 2 --batch-size 8 --lr 1e-3"
    " --device cpu",
    "pretrain_mlm": "--model model --epochs 2 --batch-size 8 --held-out 4 --lr 1e-3 --device cpu",
    "evaluate": "",
}


@dataclass
class Outcome:
    """What a script did: its output, what it wrote, and how often it called what was watched."""

    place: Path  # where it was started
    code: int | None = None
    out: str = ""
    error: str = ""
    calls: Counter[str] = field(default_factory=Counter)
    seen: dict[str, list[Any]] = field(default_factory=dict)  # arguments of the calls, by name

    @property
    def folder(self) -> Path:
        """The one run there is, in checkpoints/ or elsewhere."""
        (found,) = {path.parent for path in self.place.glob("*/*/log.jsonl")}
        return found

    def events(self, name: str) -> list[dict[str, Any]]:
        return logged(self.folder, name)

    @property
    def steps(self) -> list[dict[str, Any]]:
        return self.events("step")

    @property
    def rates(self) -> list[float]:
        return [line["lr"] for line in self.steps]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        if (self.folder / "last/heads.safetensors").is_file():
            return weights(self.folder / "last")
        return load_tensors(self.folder / "last/model.safetensors")

    def differs(self, other: "Outcome") -> bool:
        """Return whether the weights at the end are others."""
        mine, theirs = self.weights, other.weights
        return mine.keys() != theirs.keys() or any(not mine[n].equal(theirs[n]) for n in mine)


Check = Callable[[Outcome, Outcome], object]  # of the run with the flag, and the one without
Row = tuple[str, Check]  # the flag's words, and what must be true of the run


@contextmanager
def ignored(name: str):
    """Let scripts be given everything but this argument."""
    parse = cli.parse_given

    def parse_given(cls: type, argv: list[str], description: str | None) -> dict[str, Any]:
        if name == "config" and "--config" in argv:  # its values come under their own names
            at = argv.index("--config")
            argv = argv[:at] + argv[at + 2 :]
        given = parse(cls, argv, description)
        given.pop(name, None)
        return given

    with pytest.MonkeyPatch.context() as patch:
        for module in (cli, train_multitask, pretrain_mlm, evaluate):
            patch.setattr(module, "parse_given", parse_given)
        yield


@contextmanager
def watched(outcome: Outcome, module: Any, name: str):
    """Count the calls of a function, and keep their arguments."""
    function = getattr(module, name)

    def counted(*args: Any, **options: Any) -> Any:
        outcome.calls[name] += 1
        outcome.seen.setdefault(name, []).append((args, options))
        return function(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, counted)
        yield


def start(
    script: ModuleType, place: Path, words: str, watch: list[tuple[Any, str]], without: str = ""
) -> Outcome:
    """Run a script in a folder of its own; without: the argument that it ignores."""
    outcome, out = Outcome(place), io.StringIO()
    before, threads = Path.cwd(), torch.get_num_threads()
    os.chdir(place)
    try:
        with ExitStack() as stack:
            for module, name in watch:
                stack.enter_context(watched(outcome, module, name))
            if without:
                stack.enter_context(ignored(without))
            stack.enter_context(redirect_stdout(out))
            stack.enter_context(redirect_stderr(io.StringIO()))
            outcome.code = script.main([*BASE[script.__name__].split(), *words.split()])
    except Exception as error:  # a check says what error it wants
        outcome.error = str(error) or traceback.format_exc()
    finally:
        os.chdir(before)
        torch.set_num_threads(threads)
    outcome.out = out.getvalue()
    return outcome


def last_json(outcome: Outcome) -> dict[str, Any]:
    return json.loads(outcome.out.splitlines()[-1])


def near(values: list[float], expected: list[float]) -> bool:
    return len(values) == len(expected) and all(
        abs(a - b) < 1e-9 for a, b in zip(values, expected, strict=True)
    )


def refused(message: str) -> Check:
    return lambda run, base: message in run.error


def heads(run: Outcome) -> dict:
    return json.loads((run.folder / "last/heads.json").read_text())


def rows(run: Outcome) -> int:
    return run.events("start")[0]["rows"]


def confusion_rows(run: Outcome) -> int:
    return sum(map(sum, json.loads((run.folder / "findings.json").read_text())["sst"]["confusion"]))


def uses_one_thread(run: Outcome, base: Outcome | None) -> bool:
    """Return whether --threads 1 was set, once; cards leave it out, it is about the machine."""
    asked = [args for args, _ in run.seen["set_num_threads"]] == [(1,)]
    cards = [path.read_text() for path in run.place.glob("checkpoints/*/README.md")]
    return asked and not any("--threads" in card for card in cards)


def draws_otherwise(run: Outcome, base: Outcome) -> bool:
    """Return whether the order of rows is another, and so are the weights that start at random."""
    orders = [[line["tokens"] for line in one.steps] for one in (run, base)]
    first = [(one.events("dev") or one.events("held-out"))[0] for one in (run, base)]
    scores = [[line.get("scores"), line.get("loss")] for line in first]
    return orders[0] != orders[1] and scores[0] != scores[1] and run.differs(base)


def encoder_is_untouched(run: Outcome) -> bool:
    before = load_tensors(run.place / "model/model.safetensors")
    return all(before[n].equal(t) for n, t in run.weights.items() if n in before)


def defaults(cls: type) -> dict[str, Any]:
    return {f.name: f.default for f in fields(cls) if f.default is not MISSING}
