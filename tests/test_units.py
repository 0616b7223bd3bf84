"""Scores of any range: learned as if they were 0 to 5, predicted and exported in their own unit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import train_multitask
from minbert import MultitaskModel, UserError
from minbert.export import main as export
from minbert.manifest import write_manifest
from minbert.model.heads import HeadConfig
from minbert.model.multitask import load_multitask
from minbert.onnx import INPUTS, PaddedModel
from minbert.task.heads import head_config
from minbert.task.kinds import regression
from minbert.task.soft_losses import hard_targets, r_drop_loss, soft_loss
from tests.conftest import WORDS, cut, logged, weights

TASKS = """
[stars]
kind = "regression"
train = "train.tsv"
dev = "dev.tsv"
text = "a"
label = "score"
range = [{low}, {high}]

[fit]
kind = "pair-similarity"
train = "train.tsv"
dev = "dev.tsv"
text = ["a", "b"]
label = "score"
range = [{low}, {high}]
"""


def stars(low: float, high: float):
    table = {"kind": "regression", "train": "", "dev": "", "text": "x", "label": "y"}
    return regression("stars", {**table, "range": [low, high]})


def write_task(world: Path, low: float, high: float, rows: int = 40) -> None:
    """Write texts whose score is the share of `red` in them, between low and high."""
    rng = np.random.default_rng(0)
    for name, count in (("train", rows), ("dev", rows // 2)):
        lines = ["a\tb\tscore"]
        for _ in range(count):
            words = [*rng.choice(WORDS, 3), *rng.choice(["red", "blue"], 5)]
            score = low + (high - low) * words[3:].count("red") / 5
            lines.append(f"{' '.join(words)}\t{' '.join(rng.choice(WORDS, 4))}\t{score}")
        (world / "data" / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    (world / "own.toml").write_text(TASKS.format(low=low, high=high))


def arguments(world: Path, name: str, *extra: str) -> list[str]:
    places = ["--data-dir", str(world / "data"), "--output-dir", str(world / "runs")]
    places += ["--model", str(world / "model"), "--task-file", str(world / "own.toml")]
    same = ["--batch-size", "8", "--lr", "1e-3", "--device", "cpu", "--max-length", "32"]
    return [*places, *same, "--epochs", "1", "--skip-predictions", "--name", name, *extra]


def outputs(world: Path, name: str, task: str = "stars") -> np.ndarray:
    texts = ["red red dog", "blue blue cat", "red old"]
    model = MultitaskModel.load(world / "runs" / name, "cpu")
    pairs = [(text, "old dog") for text in texts]
    return model.outputs(task, pairs if task == "fit" else texts)[:, 0]


@pytest.mark.parametrize(
    "extra",
    [
        ["--precision", "fp32", "--r-drop", "stars=1,fit=1", "--heads-first", "1"],
        ["--precision", "fp32", "--pair-encoding", "siamese"],
        ["--precision", "fp32", "--pair-encoding", "siamese", "--pair-loss", "contrastive"],
        ["--precision", "bf16", "--fine-tune-mode", "last-linear-layer"],
    ],
)
def test_another_range_is_the_same_run(world: Path, extra: list[str]) -> None:
    """To the bit: its unit is 16 times that of 0 to 5, which rounds nothing."""
    for name, high in (("five", 5), ("eighty", 80)):
        write_task(world, 0, high)
        train_multitask.main(arguments(world, name, *extra))
    five, eighty = (weights(world / f"runs/{name}/last") for name in ("five", "eighty"))
    assert all(torch.equal(five[name], eighty[name]) for name in five)
    losses = [[x["loss"] for x in logged(world / "runs" / n, "step")] for n in ("five", "eighty")]
    assert losses[0] == losses[1]
    for task in ("stars", "fit"):
        np.testing.assert_array_equal(
            outputs(world, "eighty", task), 16 * outputs(world, "five", task)
        )


def test_a_teacher_teaches_in_the_labels_unit(world: Path) -> None:
    found = []
    for name, high in (("five", 5), ("eighty", 80)):
        write_task(world, 0, high)
        train_multitask.main(arguments(world, f"teacher-{name}", "--tasks", "stars"))
        teacher = str(world / f"runs/teacher-{name}")
        train_multitask.main(arguments(world, name, "--tasks", "stars", "--teacher", teacher))
        found.append(weights(world / f"runs/{name}/last"))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    other = str(world / "runs/teacher-five")
    with pytest.raises(UserError, match="its stars has other labels"):
        train_multitask.main(arguments(world, "no", "--tasks", "stars", "--teacher", other))
    toml = world / "own.toml"
    pairs = toml.read_text().replace('"regression"', '"pair-similarity"')
    toml.write_text(pairs.replace('text = "a"', 'text = ["a", "b"]'))
    with pytest.raises(UserError, match="its stars has other texts"):
        train_multitask.main(arguments(world, "no", "--tasks", "stars", "--teacher", teacher))


@pytest.mark.parametrize("pairs", ["cross", "siamese", "siamese --pair-loss contrastive", "both"])
def test_ranges_that_begin_elsewhere_are_learned_alike(world: Path, pairs: str) -> None:
    for name, low, high in (("five", 0, 5), ("around", -1, 1)):
        write_task(world, low, high)
        words = ["--precision", "fp32", "--pair-encoding", *pairs.split()]
        train_multitask.main(arguments(world, name, *words))
    for task in ("stars", "fit"):
        expected = outputs(world, "five", task) / 2.5 - 1
        np.testing.assert_allclose(outputs(world, "around", task), expected, atol=1e-5)
    before = logged(world / "runs/around", "dev")[0]["scores"]["stars"]
    assert before["loss"] == pytest.approx(
        logged(world / "runs/five", "dev")[0]["scores"]["stars"]["loss"], rel=1e-5
    )


def test_cosines_of_0_and_1_are_the_ends_of_the_range() -> None:
    task = stars(-1, 3)
    config = head_config(task, "cosine-mse", "mean", 0)
    assert (config.scale, config.unit, config.shift) == (4.0, 0.8, -1.0)
    assert head_config(stars(0, 5), None, "cls", 0) == HeadConfig(problem_type="regression")


def test_soft_losses_are_in_the_unit_too() -> None:
    task, labels = stars(0, 100), torch.tensor([0.0, 20, 100])
    one = torch.tensor([[20.0], [40.0], [100.0]])
    # (20^2 + 20^2 + 0) / 3 over 20^2
    assert task.loss(one, labels) == pytest.approx(2 / 3)
    assert soft_loss(task, one, hard_targets(task, labels)) == pytest.approx(2 / 3)
    assert r_drop_loss(task, one, labels[:, None]) == pytest.approx(2 / 3)


def test_exports_are_in_the_labels_unit(world: Path, tmp_path: Path) -> None:
    write_task(world, -10, 90)
    train_multitask.main(arguments(world, "run", "--tasks", "stars", "--precision", "fp32"))
    run, texts = world / "runs/run", ["red red dog", "blue blue cat", "red old"]
    ours = outputs(world, "run")[:, None]
    folder = tmp_path / "transformers"
    export([str(run), str(folder), "--task", "stars"])
    inputs = transformers.AutoTokenizer.from_pretrained(folder)(
        texts, padding=True, return_tensors="pt"
    )
    there = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        np.testing.assert_allclose(there(**inputs).logits.numpy(), ours, atol=1e-5)
    padded = PaddedModel(load_multitask(run)[0], "stars").eval()  # what becomes ONNX
    with torch.no_grad():
        (found,) = padded(*(inputs[name] for name in INPUTS))
    np.testing.assert_allclose(found.numpy(), ours, atol=1e-5)


def test_an_old_run_goes_on_in_the_unit_it_began_with(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest runs learned in the labels' own unit; their heads.json has none."""
    write_task(world, 0, 80)
    options = ["--tasks", "stars", "--save-minutes", "0", "--lr", "0"]
    monkeypatch.setattr("tests.conftest.arguments", lambda world, *x: arguments(world, "run", *x))
    cut(world, 3, *options)
    last = world / "runs/run/last"
    heads = json.loads((last / "heads.json").read_text())
    assert heads["stars"].pop("unit") == 16 and heads["stars"].pop("shift") == 0
    (last / "heads.json").write_text(json.dumps(heads))
    (last / "manifest.json").unlink()
    write_manifest(last)
    train_multitask.main(["--resume", str(world / "runs/run")])
    losses = [line["loss"] for line in logged(world / "runs/run", "step")]
    assert max(losses[:3]) < 50 < 500 < min(losses[3:])


def test_damaged_units_are_refused() -> None:
    for odd in ({"unit": 0.0}, {"unit": float("nan")}, {"shift": float("inf")}):
        with pytest.raises(UserError, match="the file is damaged"):
            HeadConfig.from_json(odd, "heads.json")


@pytest.mark.slow
def test_a_range_of_100_is_learned_as_well_as_one_of_5(world: Path) -> None:
    """With real weights, beside a task of classes, whose score must not suffer either."""
    found = {}
    for name, high in (("five", 5), ("hundred", 100)):
        write_task(world, 0, high, rows=64)
        more = ["--model", "all-MiniLM-L6-v2", "--tasks", "stars,sst", "--lr", "1e-4"]
        train_multitask.main(arguments(world, name, *more, "--precision", "fp32", "--epochs", "3"))
        found[name] = logged(world / "runs" / name, "dev")[-1]["scores"]
    five, hundred = found["five"], found["hundred"]
    assert hundred["stars"]["pearson"] == pytest.approx(five["stars"]["pearson"], abs=0.005)
    assert hundred["stars"]["pearson"] > 0.9
    assert hundred["sst"]["loss"] == pytest.approx(five["sst"]["loss"], rel=0.02)
