"""Runs of the oldest form load, predict, export, report, teach and go on."""

import hashlib
import json
import shutil
import tomllib
from pathlib import Path

import pytest
import torch

import evaluate
import pretrain_mlm
import train_multitask
from minbert import BertTokenizer, MultitaskModel, UserError
from minbert.export import main as export
from minbert.manifest import write_manifest
from minbert.model.heads import HeadConfig
from minbert.model.multitask import MultitaskNetwork, save_multitask
from minbert.model.parameter_groups import parameter_groups
from minbert.report.__main__ import main as report
from minbert.run.checkpoint import TrainState, save_training_state
from minbert.task.course import COURSE_TASKS
from minbert.task.taskfile import read_tasks
from minbert.training.optimizer import AdamW
from tests.conftest import arguments, logged, run
from tests.test_teachers import outputs_of

OLD = Path(__file__).parent / "old_run"  # what the program of 2026-11 wrote of a run, in text


@pytest.fixture
def old(world: Path, tiny: torch.nn.Module) -> Path:
    """A run's folder as it was left by the program of 2026-11; its weights are made here."""
    heads = json.loads((OLD / "heads.json").read_text())
    configs = {name: HeadConfig.from_json(head, name) for name, head in heads.items()}
    model = MultitaskNetwork(tiny, configs)
    folder = world / "runs/old"
    for name in ("best", "last"):
        save_multitask(model, folder / name)
        BertTokenizer.from_directory(world / "model").save(folder / name, 64)
        shutil.copy(OLD / "heads.json", folder / name)
    optimizer = AdamW(parameter_groups(model, 0.0))
    save_training_state(folder / "last", model, optimizer, TrainState(steps=15))
    saved = json.loads((OLD / "state.json").read_text())
    saved["optimizer_steps"] = {}
    (folder / "last/state.json").write_text(json.dumps(saved))
    for name in ("best", "last"):
        sizes = {f.name: f.stat().st_size for f in (folder / name).iterdir()}
        (folder / name / "manifest.json").write_text(json.dumps(sizes))
    for name in ("args.json", "log.jsonl", "findings.json"):
        shutil.copy(OLD / name, folder)
    return folder


def test_a_run_of_before_loads_predicts_exports_and_reports(old: Path, world: Path) -> None:
    model = MultitaskModel.load(old, device="cpu")
    assert list(model.tasks) == ["sst", "quora", "sts"] and len(model.predict("sst", ["cat"])) == 1
    evaluate.main(["--checkpoint", str(old), "--data-dir", str(world / "data")])
    assert (old / "predictions/para-dev-output.csv").read_text().startswith("id \t Predicted_Is_P")
    export([str(old), str(world / "out"), "--task", "sst"])
    names = json.loads((world / "out/config.json").read_text())["id2label"]
    assert names["4"] == "positive"
    report([str(old), "--output", str(world / "page.html")])
    page = (world / "page.html").read_text()
    assert "gold / predicted" in page and "reliability diagram" in page and "confidence" in page


@pytest.mark.parametrize("more", [[], ["--skip-predictions"]])
def test_a_run_of_before_goes_on(
    old: Path, world: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    """With PyTorch's kernels, which it had; from now on it has its own tasks."""
    monkeypatch.chdir(world)  # its --output-dir is `runs`
    train_multitask.main(["--resume", str(old), "--data-dir", str(world / "data"), *more])
    assert json.loads((old / "args.json").read_text())["kernels"] == "torch"
    assert list(tomllib.loads((old / "tasks.toml").read_text())) == ["sst", "quora", "sts"]
    best = json.loads((old / "last/state.json").read_text())["best"]
    assert best == json.loads((OLD / "state.json").read_text())["best"]


def test_a_run_of_before_that_was_stopped_is_trained_to_its_end(
    old: Path, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old / "last/state.json"
    state = json.loads(path.read_text())
    new = {"step": 10, "assessed": 0, "best": None, "task_best": {}, "stages": state["stages"][:1]}
    path.write_text(json.dumps(state | new))
    (old / "last/manifest.json").unlink()
    write_manifest(old / "last")
    shutil.rmtree(old / "best")
    monkeypatch.chdir(world)
    train_multitask.main(["--resume", str(old), "--data-dir", str(world / "data")])
    steps = [line["step"] for line in logged(old, "step")]
    assert steps == list(range(1, 16)) and json.loads(path.read_text())["step"] == 15
    assert (old / "best").is_dir()


def test_a_run_of_before_teaches(old: Path, world: Path) -> None:
    more = ["--teacher", f"sst={old}", "--steps", "2", "--skip-predictions"]
    assert run(world, "--name", "taught", *more) == 0
    assert outputs_of(world / "runs/taught", "sst").is_file()


def test_the_best_step_of_pre_training_of_before_is_read() -> None:
    saved = json.loads((OLD / "mlm_state.json").read_text())
    saved.pop("optimizer_steps")
    state = TrainState.from_json(saved, "state.json")
    assert state.best and state.best.scores["loss"] == saved["best"]["loss"]
    assert state.best.chosen_by == -saved["best"]["loss"] and state.step == saved["step"]
    for loss in (None, "low"):
        damaged = saved | {"best": saved["best"] | {"loss": loss}}
        with pytest.raises(UserError, match=r"state.json: best: loss is .*, not of the type float"):
            TrainState.from_json(damaged, "state.json")


def test_the_record_of_the_course_s_tasks_is_what_old_runs_had() -> None:
    record = read_tasks(COURSE_TASKS, "", None)
    assert list(record) == ["sst", "quora", "sts", "cfimdb"]
    assert [task.outputs for task in record.values()] == [5, 1, 1, 2]
    assert record["quora"].prediction_file == "para-{split}-output.csv"
    assert all(task.columns.course and task.columns.id == "id" for task in record.values())
    pinned = "81b21dbab0572d22c6e5d6f004f3bebd1a69f8398bd63484f0906cb313375af6"
    assert hashlib.sha256(COURSE_TASKS.encode()).hexdigest() == pinned  # it must never change


def test_pre_training_of_before_goes_on(world: Path) -> None:
    """It numbered its files, and kept its best step without being told to."""
    pretrain_mlm.main(arguments(world, "--name", "run", "--held-out", "2"))
    folder = world / "runs/run"
    args = json.loads((folder / "args.json").read_text())
    del args["keep"]
    (folder / "args.json").write_text(json.dumps(args))
    state = json.loads((folder / "last/state.json").read_text())
    state["data"] = dict(zip("01", state["data"].values(), strict=True))
    (folder / "last/state.json").write_text(json.dumps(state))
    (folder / "last/manifest.json").unlink()
    write_manifest(folder / "last")
    (folder / "README.md").unlink()
    assert pretrain_mlm.main(["--resume", str(folder)]) == 0
    assert json.loads((folder / "args.json").read_text())["keep"] == "best"
    assert "ids-sst-train.csv" in (folder / "README.md").read_text()
