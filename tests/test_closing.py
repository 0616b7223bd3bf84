"""The README.md of a run: what it says is what the run's other files say."""

import hashlib
import json
import re
import shlex
from pathlib import Path

import train_multitask
from minbert.training.arguments import parse_given
from tasks.closing import command
from tasks.options import Args, resolve_arguments
from tests.conftest import arguments, run


def test_the_card_of_a_run(world: Path) -> None:
    run(world, "--name", "one", "--limit", "sst=20")
    folder = world / "runs" / "one"
    text = (folder / "README.md").read_text()
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    best = log[-1]["best"]
    assert f"holds step {best['step']}," in text
    for title, name in (("SST", "sst"), ("STS", "sts")):
        value, low, high = re.search(
            rf"\| {title} \| \w+ \| (\S+) \| (\S+) to (\S+) \|", text
        ).groups()
        assert float(low) <= float(value) <= float(high)
        assert abs(float(value) - best["scores"][name]) < 6e-4
    train = world / "data" / "ids-sst-train.csv"
    digest = hashlib.sha256(train.read_bytes()).hexdigest()
    assert f"| ids-sst-train.csv | 20 | `{digest}` |" in text
    assert "torch 2." in text


def test_the_command_makes_the_same_arguments(world: Path) -> None:
    options = ["--mode", "sequential", "--sub-epochs", "sst=2", "--pair-encoding", "siamese"]
    options += ["--warmup", "0.1", "--skip-predictions", "--limit", "sst=9,sts=8"]
    given = parse_given(Args, arguments(world, *options), "")
    args = resolve_arguments(given)
    words = shlex.split(command(args, "train_multitask.py"))
    assert words[:2] == ["python", "train_multitask.py"]
    again = resolve_arguments(parse_given(Args, words[2:], ""))
    different = {k for k, v in vars(args).items() if getattr(again, k) != v}
    assert different == {"output_dir"}


def test_without_predictions_there_are_no_intervals(world: Path) -> None:
    train_multitask.main(arguments(world, "--name", "two", "--skip-predictions"))
    folder = world / "runs" / "two"
    assert not (folder / "predictions").exists()
    assert re.search(r"\| SST \| accuracy \| \S+ \| - \|", (folder / "README.md").read_text())
