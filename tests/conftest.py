"""Shared fixtures: a tiny random encoder, a tiny world to train in, the real data."""

import gc
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

# Of several test processes each has one core: with more threads than cores all wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
# A user's proxy is not asked for the servers that tests play.
os.environ |= {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import train_multitask
from minbert import BertConfig, BertModel, metrics
from minbert.files import read_json, read_json_lines

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

TINY = BertConfig(
    vocab_size=200,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=64,
)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let intervals cost little: a tenth of a tiny run's time went to those of its dev scores."""
    monkeypatch.setattr(metrics, "RESAMPLES", 20)


@pytest.fixture
def tiny() -> BertModel:
    torch.manual_seed(0)
    return BertModel(TINY).eval()


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip("the real data sets are not beside this checkout (../shared/data)")
    return SHARED_DATA


WORDS = [
    "red",
    "blue",
    "old",
    "new",
    "cat",
    "dog",
    "runs",
    "sleeps",
    "slowly",
    "fast",
    "here",
    "there",
]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return make_world(tmp_path)


@pytest.fixture
def still(world: Path) -> Path:
    """A world without dropout: nothing random is left but the order, which is the same for all."""
    path = world / "model" / "config.json"
    config = read_json(path) | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    path.write_text(json.dumps(config))
    return world


@pytest.fixture
def shallow(world: Path) -> Path:
    """A world whose encoder has one layer: an export to ONNX takes longer with each."""
    BertModel(replace(TINY, num_hidden_layers=1)).save_pretrained(world / "model")
    return world


def make_world(folder: Path) -> Path:
    """Write a tiny model and three tiny data sets in the real file format; return the folder."""
    model = folder / "model"
    torch.manual_seed(0)
    BertModel(TINY).save_pretrained(model)
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (model / "vocab.txt").write_text("\n".join(specials + WORDS) + "\n")
    rng = np.random.default_rng(0)

    def sentence() -> str:
        return " ".join(rng.choice(WORDS, rng.integers(3, 9)))

    data = folder / "data"
    data.mkdir()
    for name, rows in (("train", 40), ("dev", 12), ("test-student", 6)):
        last = name == "test-student"
        sst = [f"{i}\ts{name}{i}\t{sentence()}\t{i % 5}" for i in range(rows)]
        sts = [
            f"{i}\tt{name}{i}\t{sentence()}\t{sentence()}\t{i % 50 / 10}" for i in range(rows // 2)
        ]
        quora = [f"{i}\tq{name}{i}\t{sentence()}\t{sentence()}\t{i % 2}.0" for i in range(rows)]
        cut = (lambda line: line.rsplit("\t", 1)[0]) if last else (lambda line: line)
        (data / f"ids-sst-{name}.csv").write_text(
            "\n".join([cut("\tid\tsentence\tsentiment"), *map(cut, sst)]) + "\n"
        )
        (data / f"quora-{name}.csv").write_text(
            "\n".join([cut("\tid\tsentence1\tsentence2\tis_duplicate"), *map(cut, quora)]) + "\n"
        )
        (data / f"sts-{name}.csv").write_text(
            "\n".join([cut("\tid\tsentence1\tsentence2\tsimilarity"), *map(cut, sts)]) + "\n"
        )
    return folder


def arguments(world: Path, *extra: str) -> list[str]:
    """Return the arguments of a run of two tasks, two epochs: 20 steps, the same on every machine.

    Without its precision CPUs that are fast at bf16 would compute other numbers.
    """
    base = [
        "--precision",
        "fp32",
        "--model",
        str(world / "model"),
        "--data-dir",
        str(world / "data"),
    ]
    folders = ["--output-dir", str(world / "runs"), "--max-length", "32", "--device", "cpu"]
    return [*base, *folders, "--batch-size", "8", "--tasks", "sst,sts", "--epochs", "2", *extra]


def run(world: Path, *extra: str) -> int:
    return train_multitask.main(arguments(world, *extra))


@pytest.fixture(scope="session")
def a_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Give worlds copies of a run with these options, for a test to change; it is trained once."""
    made: dict[tuple[str, ...], Path] = {}

    def copy_to(world: Path, *options: str) -> Path:
        if options not in made:
            first = make_world(tmp_path_factory.mktemp("first"))
            run(first, "--name", "run", *options)
            made[options] = first / "runs/run"
        return shutil.copytree(made[options], world / "runs" / "".join(("run", *options)))

    return copy_to


@pytest.fixture
def trained(world: Path, a_run: Callable[..., Path]) -> Path:
    """A copy of a run of the world's two tasks."""
    return a_run(world)


@contextmanager
def killed_after(steps: int, script: ModuleType = train_multitask) -> Iterator[None]:
    """Let the run of a script in the block die after so many steps."""
    rate = script.learning_rate

    def killed(step: int, *rest: Any) -> float:
        if step == steps:
            raise RuntimeError("killed")
        return rate(step, *rest)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(script, "learning_rate", killed)
        yield


def cut(world: Path, steps: int, *extra: str) -> None:
    """A run that dies after so many steps; its last/ is of that moment."""
    with killed_after(steps):
        run(world, *extra, "--save-minutes", "0")


def logged(folder: Path, event: str) -> list[dict[str, Any]]:
    """Return the lines of a run's log that are of this event."""
    return [line for line in read_json_lines(folder / "log.jsonl") if line["event"] == event]


@pytest.fixture
def no_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every dropout keep everything: parts of a batch would draw it differently."""
    monkeypatch.setattr("minbert.model.layers.Dropout.forward", lambda self, x: x)
    monkeypatch.setattr("minbert.model.derived.can_run", lambda layer: False)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors") | load_file(folder / "heads.safetensors")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files without a test of the asked kind: their imports take seconds a process."""
    asked = config.getoption("markexpr")
    is_test = collection_path.name.startswith("test_") and "torture" not in collection_path.parts
    if not is_test or asked not in ("thorough", "slow"):
        return None
    return f"pytest.mark.{asked}" not in collection_path.read_text(encoding="utf-8") or None


def pytest_collectstart() -> None:
    """Turn the garbage collector off while tests import libraries, which are never freed."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Turn the garbage collector on again, but not for the objects that exist now."""
    gc.freeze()
    gc.enable()


# Libraries that take seconds to import: the tests that need them are neighbours, which worksteal
# gives to one process as far as it can.
SLOW_IMPORTS = re.compile(
    r"^ *(?:import|from) (?:transformers|sentence_transformers|sklearn)"
    r'|importorskip\("(?:transformers|peft|accelerate|lightning_fabric)',
    re.MULTILINE,
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes a minute a test: last, one process would work on it alone.

    Then come the files whose libraries are slow to import, and those that need the fork server.
    """
    texts = {path: path.read_text(encoding="utf-8") for path in {item.path for item in items}}

    def order(item: pytest.Item) -> tuple[bool, bool, bool]:
        text = texts[item.path]
        return "torture" not in item.path.parts, not SLOW_IMPORTS.search(text), "forked" not in text

    items.sort(key=order)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was skipped for want of data, and the figures of each part of tests/torture."""
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    if missing := sum("not beside this checkout" in reason for reason in skipped):
        terminalreporter.write_line(f"{missing} tests skipped: their data is not in the project")
    reports = [report for some in terminalreporter.stats.values() for report in some]
    for report in reports:
        for name, line in getattr(report, "user_properties", ()):
            if name == "figures" and report.when == "teardown":
                terminalreporter.write_line(line)


from tests.own_tasks import own  # noqa: F401 - a fixture; it needs WORDS from above
