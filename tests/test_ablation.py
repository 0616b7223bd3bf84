"""A table of ablations on a tiny model: rows of runs over seeds, beside other rows."""

import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments import ablation, gather, jobs, long_texts, one_model, run_ablation, run_table
from experiments.ablation import read_ablation
from experiments.estimate import resolved
from experiments.jobs import Job
from experiments.markdown import ONE_MODEL
from experiments.run_records import Evaluation, RunRecord, logged_passes
from minbert import UserError, metrics
from minbert.files import read_json_lines
from minbert.run.dry_run import Forecast
from minbert.training.device import choose_device, choose_precision
from tests.conftest import make_world

ROWS_OF_TABLE_5 = (
    "single tasks (three models)", "short: annealed", "short: annealed + averaging",
    "short: annealed + teachers", "short: joint", "one model: recipes/one-model.toml",
)  # fmt: skip


@contextmanager
def small_table(world: Path) -> Iterator[list[str]]:
    """Make table 5 one of few rows and steps; give the words that name its places."""
    short = ("--mode", "annealed", *one_model.SMOOTH, "--steps", "3")
    places = {"model": "model", "data-dir": "data", "output-dir": "runs", "results": "results"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(Path(__file__).parents[1])  # where recipes/ is
        patch.setattr(one_model, "ANNEALED", short)
        patch.setattr(one_model, "SHORT_JOINT", ("--mode", "joint", "--steps", "2"))
        rows = [row for row in one_model.table_5() if row.label in ROWS_OF_TABLE_5]
        patch.setattr(one_model, "table_5", lambda: rows)
        patch.setattr(run_table, "estimate", lambda *_: Forecast(1, 0.0, 0.0))
        patch.setattr(metrics, "RESAMPLES", 20)
        words = [word for flag, name in places.items() for word in (f"--{flag}", str(world / name))]
        yield [*words, "--seeds", "2"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world where the small table has been run; no test changes it."""
    world = make_world(tmp_path_factory.mktemp("table"))
    with small_table(world) as words:
        one_model.main(words)
    return world


def lines_of(world: Path) -> dict[str, ablation.RowFigures]:
    """Return the lines of the small table, by label."""
    return {line.label: line for line in read_ablation(world / "results" / ONE_MODEL).lines}


def logs_of(world: Path, job: str) -> list[list[dict[str, Any]]]:
    """Return the logs of a job's two runs."""
    root = world / "runs/one-model-model"
    return [read_json_lines(root / f"{job}-{seed}" / "log.jsonl") for seed in (11711, 11712)]


@pytest.mark.thorough
def test_one_model_beside_three(finished: Path) -> None:
    single, annealed, mean, taught, _, recipe = lines_of(finished).values()
    assert not single.gains
    beside = {(g.beside, g.at_last) for g in mean.gains}
    assert beside >= {(single.label, False), ("short: annealed", False)}
    for line in (annealed, mean, taught, recipe):  # the predictions of both kinds are kept
        for gain in (gain for gain in line.gains if gain.beside == single.label):
            kept = "last" if gain.at_last else "best"
            for task, (centre, low, high) in gain.by_task.items():
                scores = [np.mean(getattr(one.scores[task], kept)) for one in (line, single)]
                assert len(getattr(line.scores[task], kept)) == 2
                assert low <= centre <= high
                # the outputs are nearly constant, and a correlation of such magnifies rounding
                assert centre == pytest.approx(scores[0] - scores[1], abs=1e-4)
        assert any(gain.beside == single.label for gain in line.gains)
    assert (single.scores["sst"].best_of, annealed.scores["sst"].best_of) == (10, 1)


@pytest.mark.thorough
def test_a_row_has_the_updates_passes_and_last_scores_of_its_logs(finished: Path) -> None:
    single, annealed, mean, _, _, recipe = lines_of(finished).values()
    logs = logs_of(finished, "annealed")
    means = [[x for x in log if x["event"] == "mean-dev"][-1]["scores"] for log in logs]
    for task in annealed.scores:
        assert mean.scores[task].last == [next(iter(m[task].values())) for m in means]
        passes = [log[0]["passes"][task] for log in logs]  # tasks are drawn by seed
        assert annealed.passes[task] == pytest.approx(np.mean(passes))
    assert annealed.updates == {"annealed": 3} and set(single.updates.values()) == {5, 3}
    assert single.passes == {"sst": 5.0, "quora": 3.0, "sts": 5.0}
    assert annealed.examples < recipe.examples
    is_bf16 = choose_precision("auto", choose_device("auto")) == torch.bfloat16
    machines = read_ablation(finished / "results" / ONE_MODEL).machines
    assert all(f"{'bf16' if is_bf16 else 'fp32'} products" in name for name in machines)


@pytest.mark.thorough
def test_a_joint_row_has_the_cosines_of_its_logs(finished: Path) -> None:
    lines = lines_of(finished)
    joint, pairs = lines["short: joint"], {"sst quora", "sst sts", "quora sts"}
    logs = logs_of(finished, next(iter(joint.updates)))
    steps = [line["cosines"] for log in logs for line in log if "cosines" in line]
    assert steps and joint.cosines.keys() == joint.opposed.keys() == pairs
    for pair in pairs:
        assert joint.cosines[pair] == pytest.approx(np.mean([x[pair] for x in steps]))
        assert joint.opposed[pair] == pytest.approx(np.mean([x[pair] < 0 for x in steps]))
    assert not lines["short: annealed"].cosines
    text = (finished / "results/RESULTS.md").read_text()
    assert "short: joint: cosines between" in text
    assert f"(sst sts, below 0 in {joint.opposed['sst sts']:.0%} of the steps)" in text


@pytest.mark.thorough
def test_the_page_has_the_table_and_the_recipe_s_predictions_are_written(finished: Path) -> None:
    text = (finished / "results/RESULTS.md").read_text()
    assert text.startswith("## Table 5") and "| less single tasks (three models) |" in text
    assert "--teacher sst=checkpoints/alone-sst-1e-4" in text
    written = {path.parent.name for path in (finished / "runs").glob("*/*/predictions")}
    assert written == {"one-model-11711", "one-model-11712"}


@pytest.mark.thorough
def test_records_outlive_runs_and_a_missing_run_needs_its_teachers_again(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = tmp_path
    shutil.copytree(finished / "results", world / "results")  # and no runs
    for name in ("model", "data"):  # which the records are of
        (world / name).symlink_to(finished / name)
    records = world / "results/runs/one-model-model"
    with small_table(world) as words:
        one_model.main(words)
        assert lines_of(world) == lines_of(finished)
        assert not (world / "runs/one-model-model").exists()
        kept = world / "results/predictions/one-model-11712"
        assert sorted(path.name for path in kept.iterdir()) == [
            "para-test-output.csv", "sst-test-output.csv", "sts-test-output.csv"
        ]  # fmt: skip
        (records / "teachers-11712.json").unlink()
        before = {path.name: path.read_bytes() for path in records.iterdir()}
        capsys.readouterr()
        other = world / "runs/one-model-model/one-model-11712/predictions"  # of other data, say
        other.mkdir(parents=True)
        (other / "sst-test-output.csv").write_text("nothing that belongs to the record\n")
        one_model.main([*words, "--only", "teachers"])
        assert "nothing" not in (kept / "sst-test-output.csv").read_text()
    again = "alone-sst-1e-4: 2 of 2 done, 1 to run again, whose folders others need, 1 steps"
    assert again in capsys.readouterr().out
    after = {path.name: path.read_bytes() for path in records.iterdir()}
    assert before.items() <= after.items() and after.keys() - before == {"teachers-11712.json"}


def test_a_rate_that_was_tried_on_one_seed_is_compared_on_that_seed() -> None:
    def record(score: float) -> RunRecord:
        return RunRecord("here", 1, 1.0, [Evaluation(1, False, score, {"sst": score})], {})

    slow, fast, untried = Job("slow", ()), Job("fast", ()), Job("untried", ())
    row = ablation.AblationRow("alone", {"sst": (untried, slow, fast)})
    records = gather.RowRecords(Path(), jobs.JobArgs(seeds=2))
    records.known = {
        "untried": {},
        "slow": {11711: record(0.50)},
        "fast": {11711: record(0.51), 11712: record(0.40)},
    }
    assert records.best_job(row, "sst") == fast
    records.known["slow"][11712] = record(0.45)
    assert records.best_job(row, "sst") == slow
    records.known["slow"] = {11713: record(0.5)}  # no seed in common: each one's own
    assert records.best_job(row, "sst") == slow
    records.known["slow"] = {11713: record(0.4)}
    assert records.best_job(row, "sst") == fast
    records.known = {name: {} for name in ("untried", "slow", "fast")}
    assert records.best_job(row, "sst") == untried


def test_predictions_are_compared_with_the_labels_that_they_are_of() -> None:
    """Older records do not say which data they are of, but how many rows it had."""
    known = {name: Evaluation(1, False, 0.5, {"sst": 0.5}, {"sst": said})
             for name, said in (("a", "1 2 3"), ("b", "0 0 0"))}  # fmt: skip
    rows = [ablation.AblationRow(name, {"sst": (Job(name, ()),)}) for name in "ab"]
    records = gather.RowRecords(Path(), jobs.JobArgs())
    records.known = {name: {11711: RunRecord("here", 1, 1.0, [known[name]], {})} for name in "ab"}
    records.known_labels["sst"] = np.zeros(3)
    assert records.gain(*rows, "sst", at_last=True)[0] == -1
    records.known_labels["sst"] = np.array([1.0, 2.0, 0.0])
    assert records.gain(*rows, "sst", at_last=True)[0] == pytest.approx(1 / 3)
    assert records.gain(rows[0], rows[0], "sst", at_last=True) == [0, 0, 0]  # both drawn alike
    records.known_labels["sst"] = np.zeros(2)
    with pytest.raises(UserError, match="2 dev rows of sst, and this table's runs had 3"):
        records.gain(*rows, "sst", at_last=True)


def test_a_row_that_is_half_run_has_the_sum_of_its_runs() -> None:
    def record(task: str, examples: int) -> RunRecord:
        return RunRecord("here", examples, 1.0, [Evaluation(1, False, 0.5, {task: 0.5})], {})

    alone = {task: (Job(task, ()),) for task in ("sst", "quora", "sts")}
    row = ablation.AblationRow("alone", alone)
    records = gather.RowRecords(Path(), jobs.JobArgs(seeds=3))
    records.known = {
        "sst": {seed: record("sst", 100) for seed in (11711, 11712, 11713)},
        "quora": {11711: record("quora", 1000)},
        "sts": {},
    }
    line = gather.gather_line(row, [row], records)
    assert (line.examples, line.minutes) == (1100, 2.0)
    assert ablation.format_figures(line)[:2] == ["3 / 1 / 0", "1 / 1 / 0"]


def test_teachers_are_settings() -> None:
    (taught,) = (
        job for job in run_ablation.jobs_of_rows(one_model.table_5()) if job.name == "teachers"
    )
    words = [word for word in taught.arguments if word != "--teacher" and "=" not in word]
    made, _ = resolved("train_multitask", [*words, "--data-dir", "data", "--seed", "11712"])
    runs = {"sst": "alone-sst-1e-4", "quora": "alone-quora-1e-4", "sts": "alone-sts-1e-4"}
    places = {task: f"some/where/{name}-11712" for task, name in runs.items()}
    args = jobs.JobArgs(data_dir="data")
    for teachers, fits in ((places, True), (places | {"sst": "x/alone-sst-2e-4-11712"}, False)):
        settings = jobs.settings_in(asdict(made) | {"teacher": teachers})
        if fits:
            jobs.check_settings(taught, settings, Path("record"), args)
        else:
            with pytest.raises(UserError, match=r"record: made with teacher .*sst-2e-4"):
                jobs.check_settings(taught, settings, Path("record"), args)


def test_a_run_ends_with_the_mean() -> None:
    scores = [(10, False, 0.5), (10, True, 0.4), (20, False, 0.6), (20, True, 0.7)]
    every = [Evaluation(step, mean, score, {"sst": score}) for step, mean, score in scores]
    record = RunRecord("here", 1, 1.0, every, {})
    assert (record.last().chosen_by, record.last(False).chosen_by) == (0.7, 0.6)
    assert (record.best().chosen_by, record.best(False).chosen_by) == (0.7, 0.6)


def test_runs_are_chosen_by_name() -> None:
    known = run_ablation.jobs_of_rows(one_model.table_5())
    assert [job.name for job in jobs.chosen_jobs(known, ("pcgrad", "annealed"))] == [
        "annealed", "pcgrad"
    ]  # fmt: skip
    taught = [job.name for job in jobs.chosen_jobs(known, ("teachers",))]
    assert taught == ["alone-sst-1e-4", "alone-quora-1e-4", "alone-sts-1e-4", "teachers"]
    assert jobs.chosen_jobs(known, ()) == known
    with pytest.raises(UserError, match="--only nothing: write names of alone-sst-1e-4,"):
        jobs.chosen_jobs(known, ("nothing",))


def test_jobs_that_are_due(tmp_path: Path) -> None:
    teacher, taught, other = (
        Job("teacher", ()),
        Job("taught", ("--teacher", "sst={teacher}")),
        Job("o", ()),
    )
    jobs_ = [teacher, taught, other]
    done = {"teacher", "o"}  # by their records; no folder is there
    due = run_table.jobs_due(jobs_, tmp_path, 1, lambda key: key.job in done)
    assert due == [teacher, taught], "the teacher's folder is gone, and somebody needs it"
    assert run_table.jobs_due(jobs_, tmp_path, 1, lambda key: True) == []


def test_a_run_starts_from_the_runs_of_its_own_seed(tmp_path: Path) -> None:
    job = Job("after", ("--teacher", "sst={alone}"), start="mlm")
    words = run_table.script_arguments(job, jobs.RunKey(tmp_path, "after", 11712), jobs.JobArgs())
    assert words[1:4] == [f"sst={tmp_path / 'alone-11712'}", "--model", str(tmp_path / "mlm-11712")]


def test_a_run_that_went_on_for_more_has_all_its_passes() -> None:
    assert logged_passes([{"passes": {"sst": 1.0}}, {}, {"passes": {"sst": 3.0}}, {}]) == {"sst": 3}


def test_each_way_to_read_long_texts_is_trained_by_its_own_task_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables: list[list[ablation.AblationRow]] = []
    monkeypatch.setattr(long_texts, "run_ablation", lambda *a, **more: tables.append(a[3]))
    long_texts.main(["--model", "somewhere/small", "--output-dir", str(tmp_path)])
    for row in tables[0]:
        (job,) = row.jobs["cfimdb"]
        file = Path(job.arguments[job.arguments.index("--task-file") + 1])
        assert tomllib.loads(file.read_text())["cfimdb"]["long"] == row.label
        assert file.parent == tmp_path / "long-texts-small"
    assert {row.label for row in tables[0]} == {"head", "tail", "head+tail", "windows"}
