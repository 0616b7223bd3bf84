"""Temperatures: fitted right, measured on rows held out, kept with the heads, safe in a kill."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import evaluate
import train_multitask
from minbert import MultitaskModel, UserError
from minbert.export import main as export
from minbert.manifest import has_all_files
from minbert.run import finish
from minbert.task.calibration import calibration_error, calibration_of, fit_temperature
from minbert.task.probabilities import class_probabilities
from minbert.task.task import Task
from tasks import TASKS
from tests.conftest import cut, logged, make_world, run
from tests.test_probabilities import KINDS

TRUE = 2.5  # the temperature of the outputs that are made here


def overconfident(task: Task, n: int = 6000) -> tuple[np.ndarray, np.ndarray]:
    """Return outputs (n, task.outputs), and labels that are drawn by them at TRUE."""
    rng = np.random.default_rng(1)
    outputs = rng.normal(0, 4, (n, task.outputs))
    p = class_probabilities(task, outputs, TRUE)
    if task.multi_label:
        return outputs, (rng.random(p.shape) < p) @ 2.0 ** np.arange(task.outputs)
    return outputs, (rng.random((n, 1)) > p.cumsum(1)).sum(1).astype(np.float32)


@pytest.mark.parametrize(
    "task", [TASKS["sst"], TASKS["quora"], KINDS["topics"]], ids=lambda t: t.name
)
def test_the_true_temperature_is_found_and_mends_rows_held_out(task: Task) -> None:
    outputs, labels = overconfident(task)
    found = calibration_of(task, outputs, labels)
    assert found.temperature == pytest.approx(TRUE, rel=0.06)
    assert found.before > 0.08 and found.after < 0.03
    assert (
        set(np.round(found.row_temperatures, 4)) != {1.0} and len(set(found.row_temperatures)) == 2
    )


def test_the_temperature_makes_the_right_classes_likeliest() -> None:
    outputs, labels = overconfident(TASKS["sst"], 500)
    gold = labels.astype(int)

    def likelihood(temperature: float) -> float:
        p = class_probabilities(TASKS["sst"], outputs, temperature)
        return float(np.log(p[np.arange(len(gold)), gold]).sum())

    best = fit_temperature(outputs, gold)
    assert likelihood(best) > max(likelihood(best * 1.001), likelihood(best / 1.001))


def test_a_half_s_own_labels_do_not_count() -> None:
    task, (outputs, labels) = TASKS["quora"], overconfident(TASKS["quora"], 200)
    before = calibration_of(task, outputs, labels).row_temperatures
    half = before == before[0]
    changed = np.where(half, 1 - labels, labels)
    after = calibration_of(task, outputs, changed).row_temperatures
    assert (after[half] == before[half]).all() and (after[~half] != before[~half]).all()


def test_the_error_with_a_temperature_is_of_rows_that_it_was_not_fitted_on() -> None:
    outputs, labels = overconfident(TASKS["sst"], 200)
    found, gold = calibration_of(TASKS["sst"], outputs, labels), labels.astype(int)
    halves = [(t, found.row_temperatures == t) for t in sorted(set(found.row_temperatures))]
    errors = [calibration_error(outputs[half] / t, gold[half]) for t, half in halves]
    assert len(errors) == 2 and found.after == pytest.approx(np.mean(errors), rel=1e-9)


def test_rows_that_say_nothing_leave_it_alone() -> None:
    outputs = np.eye(5) * 3
    assert fit_temperature(outputs, np.arange(5)) == 1.0  # without a mistake
    assert fit_temperature(outputs, np.array([1, 2, 3, 4, 0])) == pytest.approx(10, rel=1e-3)
    for rows in (1, 9):  # nine have no half that another's temperature could be measured on
        wrong = np.arange(rows) * 0 + 1
        found = calibration_of(TASKS["sst"], np.resize(outputs, (rows, 5)), wrong)
        assert found.temperature == 1.0 and found.before == found.after
        sets = overconfident(KINDS["topics"], rows)  # each of whose rows has several choices
        found = calibration_of(KINDS["topics"], *sets)
        assert found.temperature == 1.0 and found.before == found.after


def test_the_expected_calibration_error_is_guo_s() -> None:
    rng = np.random.default_rng(0)
    logits, gold = rng.normal(0, 2, (300, 4)), rng.integers(0, 4, 300)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    confidence, right = p.max(1), p.argmax(1) == gold
    expected = 0.0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration_error(logits, gold) == pytest.approx(expected)
    sure = np.array([[50.0, 0], [0, 50.0]])
    assert calibration_error(sure, np.array([0, 1])) == pytest.approx(0)
    assert calibration_error(sure, np.array([0, 0])) == pytest.approx(0.5)


@pytest.fixture(scope="module")
def world_with_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = make_world(tmp_path_factory.mktemp("calibration"))
    run(world, "--name", "whole", "--tasks", "sst,quora,sts", "--epochs", "1")
    return world


def heads(folder: Path) -> dict[str, dict]:
    return json.loads((folder / "heads.json").read_text())


def test_a_run_keeps_it_and_says_what_it_brings(world_with_run: Path, capsys) -> None:
    folder = world_with_run / "runs/whole"
    best = heads(folder / "best")
    (end,) = logged(folder, "end")
    found = json.loads((folder / "findings.json").read_text())
    assert {*end["calibrated"]} == {"sst", "quora"}
    assert best["sts"]["temperature"] == 1.0 and "calibrated" not in found["sts"]
    for name, calibrated in end["calibrated"].items():
        assert best[name]["temperature"] == calibrated["temperature"] != 1.0
        assert heads(folder / "last")[name]["temperature"] == 1.0
        assert found[name]["calibrated"] == calibrated
        assert sum(point[2] for point in found[name]["reliability_calibrated"]) == 12
        figures = (f"{calibrated[key]:.4f}" for key in ("ece_before", "ece_after"))
        row = f"| {TASKS[name].title} | {' | '.join(figures)} | {calibrated['temperature']:g} |"
        assert row in (folder / "README.md").read_text()
    page = (folder / "report.html").read_text()
    assert "the same with the temperature" in page and "expected calibration error" in page

    output = world_with_run / "out"
    data = ["--data-dir", str(world_with_run / "data"), "--output", str(output), "--json"]
    capsys.readouterr()
    evaluate.main(["--checkpoint", str(folder), *data, "--precision", "fp32"])
    out = capsys.readouterr().out
    sst = end["calibrated"]["sst"]
    assert f"calibration     expected calibration error {sst['ece_before']:.4f}, " in out
    report = json.loads(out.splitlines()[-1])
    assert report["calibrated"] == end["calibrated"]
    line = logged(folder, "dev")[-1]
    for found, key in ((line, None), (report, "value")):
        values = (found["scores"][n][TASKS[n].main_metric] for n in ("sst", "quora", "sts"))
        sst, quora, sts = (value[key] if key else value for value in values)
        assert found["overall"] == pytest.approx((sst + quora + sts) / 3)
        assert found["overall_2024"] == pytest.approx((sst + quora + (sts + 1) / 2) / 3)


def test_only_probabilities_use_the_temperature(world_with_run: Path, tmp_path: Path) -> None:
    folder = world_with_run / "runs/whole"
    model = MultitaskModel.load(folder, device="cpu")
    texts, temperature = ["red cat runs", "dog"], heads(folder / "best")["sst"]["temperature"]
    outputs = model.outputs("sst", texts)
    for raw, t in ((False, temperature), (True, 1.0)):
        rows = model.predict("sst", texts, probabilities=True, raw=raw)
        expected = class_probabilities(TASKS["sst"], outputs, t)
        np.testing.assert_allclose([[*row.values()] for row in rows], expected)
    logits = (folder / "predictions/sst-dev-logits.jsonl").read_text().splitlines()
    written = np.array([json.loads(line)["logits"] for line in logits])
    lines = (world_with_run / "data/ids-sst-dev.csv").read_text().splitlines()[1:]
    own = model.outputs("sst", [line.split("\t")[2] for line in lines])
    np.testing.assert_allclose(written, own, atol=1e-5)
    last = MultitaskModel.load(folder / "last", device="cpu", precision="fp32")
    assert last.network.heads["sst"].config.temperature == 1.0
    export([str(folder), str(tmp_path / "sst"), "--task", "sst"])
    config = json.loads((tmp_path / "sst/config.json").read_text())
    assert config["calibration_temperature"] == temperature and "temperature" not in config
    export([str(folder), str(tmp_path / "sts"), "--task", "sts"])
    assert "calibration_temperature" not in (tmp_path / "sts/config.json").read_text()


@pytest.mark.parametrize("moment", ["before", "between"])
def test_killed_before_it_is_kept_a_run_ends_in_the_same_bytes(
    world_with_run: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Before heads.json is written anew, and between the two renames that put it in place."""
    keep, rename, name = finish.keep_temperatures, os.replace, f"cut-{moment}"

    def killed(best: Path, temperatures: dict[str, float]) -> None:
        if moment == "before":
            raise SystemExit

        def dying(source: Path, target: Path) -> None:
            if source.name == ".best.new":
                raise SystemExit
            rename(source, target)

        with monkeypatch.context() as inner:
            inner.setattr(os, "replace", dying)
            keep(best, temperatures)

    with monkeypatch.context() as patch:
        patch.setattr(finish, "keep_temperatures", killed)
        with pytest.raises(SystemExit):
            run(world_with_run, "--name", name, "--tasks", "sst,quora,sts", "--epochs", "1")
    folder, whole = world_with_run / "runs" / name, world_with_run / "runs/whole"
    train_multitask.main(["--resume", str(folder)])
    assert has_all_files(folder / "best") and not folder.joinpath(".best.new").exists()
    for file in (whole / "best").iterdir():
        assert (folder / "best" / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize("step", ["keep_temperatures", "calibrate_task_bests"])
def test_killed_before_temperatures_are_kept_a_run_does_not_say_that_they_are(
    world: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def killed(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(finish, step, killed)
    with pytest.raises(SystemExit):
        run(world, "--name", "run", "--epochs", "1", "--save-task-best")
    monkeypatch.undo()
    folder = world / "runs/run"
    for more in (["--skip-predictions"], ["--no-skip-predictions"]):
        train_multitask.main(["--resume", str(folder), *more])
        (end,) = logged(folder, "end")
        assert {*end["calibrated"]} == ({"sst"} if "--no" in more[0] else set())
    said = end["calibrated"]["sst"]["temperature"]
    assert said == heads(folder / "best")["sst"]["temperature"]
    assert said == heads(folder / "best-sst")["sst"]["temperature"]  # it is of the same step


def test_a_run_ends_with_predictions_beside_its_weights(tmp_path: Path) -> None:
    """They are what `evaluate.py --checkpoint RUN/best` wrote before while the run is stopped."""
    world = make_world(tmp_path)
    cut(world, 15, "--name", "run", "--lr", "0")  # step 10 stays the best
    best = world / "runs/run/best"
    evaluate.main(["--checkpoint", str(best), "--output", str(world / "old")])
    shutil.move(world / "old", best / "predictions")
    assert (best / "predictions").is_dir()
    train_multitask.main(["--resume", str(world / "runs/run")])
    assert has_all_files(best) and heads(best)["sst"]["temperature"] != 1


def test_runs_of_before_load_and_damaged_ones_are_named(
    world_with_run: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(world_with_run / "runs/whole", old)
    saved = heads(old / "best")
    (old / "best/manifest.json").unlink()
    for head in saved.values():
        head.pop("temperature")
    (old / "best/heads.json").write_text(json.dumps(saved))
    model = MultitaskModel.load(old, device="cpu")
    assert model.network.heads["sst"].config.temperature == 1.0
    for value in (0, -1, float("inf"), float("nan")):
        saved["sst"]["temperature"] = value
        (old / "best/heads.json").write_text(json.dumps(saved))
        with pytest.raises(UserError, match="damaged"):
            MultitaskModel.load(old, device="cpu")


def test_halves_have_all_classes_of_a_file_that_has_them_in_turns() -> None:
    outputs, labels = overconfident(TASKS["quora"], 200)
    turns = zip(np.flatnonzero(labels == 0), np.flatnonzero(labels == 1), strict=False)
    rows = np.array(list(turns)).reshape(-1)
    row_temperatures = calibration_of(TASKS["quora"], outputs[rows], labels[rows]).row_temperatures
    assert {*labels[rows][row_temperatures == row_temperatures[0]]} == {0, 1}
