"""The paper's tables on a tiny model: planned, run, reused, gone on with, written, drawn."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import train_multitask
from experiments import jobs, paper, paper_tables
from experiments.jobs import Job, RunKey
from experiments.paper_tables import BUDGETS, Cell, tables
from experiments.results import read_record, score
from experiments.run_records import RunRecord, evaluation_of, record_path
from minbert import UserError
from minbert.files import read_json_lines
from minbert.run_files import read_arguments

# the paper's figures: table, row, then its columns
PAPER = {
    ("1", "without pre-training"): (0.524, 0.863),
    ("1", "with pre-training"): (0.515, 0.870),
    ("2", "vanilla BERT"): (0.889, 0.869),
    ("2", "siamese cosine-mse"): (0.762,),
    ("2", "siamese contrastive"): (0.748, 0.760),
    ("2", "siamese mnr"): (0.474,),
    ("3", "baseline"): (0.408, 0.736, 0.540),
    ("3", "single task"): (0.533, 0.889, 0.874),
    ("3", "sequential"): (0.387, 0.863, 0.879),
    ("3", "parallel"): (0.505, 0.877, 0.863),
    ("3", "pre-training + sequential"): (0.394, 0.821, 0.876),
    ("3", "pre-training + parallel"): (0.505, 0.873, 0.870),
}
FULL = {  # the runs that --epochs and --lr are given to
    "single-sst-5": 5, "single-sts-5": 5, "mlm-sst": 50, "mlm-sts": 50, "single-sst-5-mlm": 5,
    "single-quora-10": 10, "single-sts-10": 10, "baseline": 10, "single-sst-10": 10,
    "single-quora-5": 5, "mlm-all": 2, "sequential": 5, "parallel": 5, "sequential-mlm": 3,
    "parallel-mlm": 3, "shuffle": 5, "adaptive": 5, "single-sts-10-cosine-mse": 10,
    "single-quora-10-contrastive": 10, "single-quora-10-mnr": 10,
}  # fmt: skip

TINY_BUDGET = replace(
    BUDGETS["cpu"], pretrain=1, after_pretrain=1, single={"sst": 1, "quora": 1, "sts": 1}, frozen=1
)


@pytest.fixture
def arguments(world: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setitem(paper_tables.BUDGETS, "cpu", TINY_BUDGET)
    places = ["--data-dir", str(world / "data"), "--output-dir", str(world / "runs")]
    results = ["--results", str(world / "results"), "--budget", "cpu"]
    return ["--model", str(world / "model"), *places, *results]


def test_the_full_budget_and_the_paper_s_figures() -> None:
    found = tables("full", 3072)
    for (table, label), expected in PAPER.items():
        (row,) = [row for row in found[table].rows if row.label == label]
        said = [cell.paper for cell in row.cells.values() if cell.paper is not None]
        assert tuple(said) == expected, label
    rows = sum(len(row.cells) > 0 for table in found.values() for row in table.rows if not row.ours)
    assert rows == len(PAPER)
    by_name = {job.name: job for table in found.values() for job in table.jobs}
    for name, epochs in FULL.items():
        words = list(by_name[name].arguments)
        assert words[words.index("--epochs") + 1] == str(epochs), name
        rate = words[words.index("--lr") + 1] if "--lr" in words else None
        assert rate == (None if name == "baseline" else "1e-5"), name
        assert name != "baseline" or "--mode shuffle" in " ".join(words)  # passes over each set
    for job in by_name.values():  # of pre-training the last epoch, on every text
        assert job.is_fine_tuning or "--held-out 0" in " ".join(job.arguments)
    assert by_name["sequential-mlm"].start == "mlm-all"
    assert not any("--limit" in job.arguments for job in by_name.values())


def test_every_cell_has_its_job_and_every_start_comes_first() -> None:
    for budget in BUDGETS:
        for table in tables(budget, 100).values():
            names = [job.name for job in table.jobs]
            cells = [cell for row in table.rows for cell in row.cells.values()]
            assert {cell.job for cell in cells} <= set(names)
            for place, job in enumerate(table.jobs):
                assert not job.start or job.start in names[:place]


def test_all_rows_are_of_single_tasks_and_routines() -> None:
    """What follows pre-training has fewer, as what it is compared with, and the cells say so."""
    assert [*tables("all-rows", 100)] == ["3"]
    table = tables("all-rows", 100)["3"]
    by_name = {job.name: job for job in table.jobs}
    small = {name for name, job in by_name.items() if "quora=16000" in job.arguments}
    after = {f"{mode}-{tag}" for mode in ("sequential", "parallel") for tag in ("fewer", "mlm")}
    assert small == {"mlm-all", *after}
    for mode in ("sequential", "parallel"):
        assert by_name[f"{mode}-fewer"].arguments == by_name[f"{mode}-mlm"].arguments
    cells = [cell for row in table.rows for cell in row.cells.values()]
    assert {cell.job for cell in cells if cell.is_small} == after
    for name in ("single-quora-2", "sequential", "parallel", "shuffle", "adaptive"):
        words = by_name[name].arguments
        assert words[words.index("--epochs") + 1] == "2" and "--limit" not in words
    same = [cell for table in tables("cpu", 100).values() for row in table.rows
            for cell in row.cells.values()]  # fmt: skip
    assert not any(cell.is_small for cell in same)


@pytest.mark.thorough
def test_all_tables_run_are_reused_and_written(arguments: list[str], world: Path, capsys) -> None:
    paper.main([*arguments, "--table", "all"])
    record = read_record(world / "results")
    assert all(len(r.scores) == 1 for r in record.results)
    made = record.tables["Table 3: routines"]
    assert made.rows == {"SST": [40, 12], "Quora": [40, 12], "STS": [20, 6]}
    last = {r.column: r.mean for r in record.results if r.row == "sequential"}
    assert [r.last for r in record.results if r.row == "sequential"] == [
        {"11711": score} for score in record.stages[-1].scores.values()
    ]
    assert last in [stage.scores for stage in record.stages]
    parallel, shuffle = made.trained["parallel"], made.trained["shuffle"]
    assert (parallel.updates, parallel.passes) == (6, {"SST": 1.0, "Quora": 1.0, "STS": 2.0})
    assert (shuffle.updates, shuffle.passes) == (5, {"SST": 1.0, "Quora": 1.0, "STS": 1.0})
    first = record.tables["Table 1: additional pre-training"]
    assert "mlm-sst" in first.runs and "mlm-sst" not in first.trained
    text = (world / "results/RESULTS.md").read_text()
    assert "SST 40 and 12, Quora 40 and 12, STS 20 and 6" in text
    assert re.search(r"\| parallel \| .* \| 1 \| 6 \| 1.0 / 1.0 / 2.0 \| `parallel` \|", text)
    assert "| 1 | 6 against 2 / 2 / 1 |" in text  # parallel less single task
    assert "| SST | Quora | Quora, calibrated | STS | seeds | updates | passes |" in text
    assert not re.search(r"\| open\b", text) and "(0.505)" in text and "| shuffle * |" in text
    assert "=== 1 of " in capsys.readouterr().out
    paper.main([*arguments, "--table", "all"])
    again = capsys.readouterr().out
    assert "===" not in again and "parallel: 1 of 1 done" in again
    assert read_record(world / "results") == record
    predictions = world / "runs" / "paper-cpu-model" / "parallel-11711" / "predictions"
    assert (predictions / "para-test-output.csv").is_file()
    shutil.rmtree(world / "runs/paper-cpu-model")  # the records outlive the runs
    paper.main([*arguments, "--table", "all"])
    again = capsys.readouterr().out
    assert "===" not in again and "mlm-all: 1 of 1 done" in again
    assert read_record(world / "results") == record
    assert not [*(world / "runs/paper-cpu-model").glob("*-11711")]


def test_the_accuracy_at_half_is_that_of_the_best_step() -> None:
    """It is not the highest of all steps, nor that of the untrained model.

    A mean is below 0 where no Pearson is defined.
    """
    lines = [
        {
            "event": "dev",
            "step": step,
            "stage": "",
            "chosen_by": chosen,
            "scores": {"quora": scores},
        }
        for step, chosen, scores in (
            (0, 0.9, {"accuracy": 0.9, "accuracy_at_0.5": 0.9}),
            (5, 0.8, {"accuracy": 0.8, "accuracy_at_0.5": 0.5}),
            (7, -0.1, {"accuracy": 0.85, "accuracy_at_0.5": 0.7}),
            (9, 0.7, {"accuracy": 0.7, "accuracy_at_0.5": 0.6}),
        )
    ]
    run = RunRecord("here", 1, 1.0, [evaluation_of(line) for line in lines], {})
    assert score(run.best(), Cell("siamese", "quora", is_at_half=True)) == 0.5
    assert score(run.best(), Cell("siamese", "quora")) == 0.8


def test_one_run_alone(arguments: list[str], world: Path, monkeypatch, capsys) -> None:
    drawn = []  # how many seeds a figure has: a later run may be stopped
    monkeypatch.setattr(
        paper, "draw_figures", lambda record, _: drawn.append(len(record.results[0].scores))
    )
    paper.main([*arguments, "--seeds", "2", "--only", "single-sst-1"])
    assert drawn == [1, 2, 2]
    record = read_record(world / "results")
    assert {r.job for r in record.results if r.scores} == {"single-sst-1"}
    assert {len(r.scores) for r in record.results} == {0, 2}
    start = read_json_lines(world / "runs/paper-cpu-model/single-sst-1-11712/log.jsonl")[0]
    here = f"{start['machine']}, torch {torch.__version__}"
    assert [table.machine for table in record.tables.values()] == [here, "", here]
    assert "2 runs in" in capsys.readouterr().out
    of_seeds = (world / "runs/paper-cpu-model").glob("single-sst-1-*")
    seeds = {folder.name[-5:]: read_arguments(folder)["seed"] for folder in of_seeds}
    assert seeds == {"11711": 11711, "11712": 11712}
    with pytest.raises(UserError, match="--only single-sst: write names of single-sst-1, single-"):
        paper.main([*arguments, "--only", "single-sst"])


def test_runs_of_other_settings_are_refused(arguments: list[str], world: Path) -> None:
    """A recipe was changed between two sittings: its runs are not of one row."""
    paper.main([*arguments, "--table", "4"])
    folder = world / "runs/paper-cpu-model/parallel-11711"
    record = world / "results/runs/paper-cpu-model/parallel-11711.json"
    paper_tables.BUDGETS["cpu"] = replace(TINY_BUDGET, lr="2e-5")  # put back by the fixture
    for place in (record, folder):
        with pytest.raises(UserError, match=rf"{place}: made with lr 5e-05, and parallel has 2e"):
            paper.main([*arguments, "--table", "4", "--plan"])
        record.unlink(missing_ok=True)  # and of a run that has none
    job, args = Job("one", ("--lr", "1e-3")), jobs.JobArgs(data_dir=str(world / "data"))
    settings = jobs.settings_in({"lr": 1e-3, "data_dir": "elsewhere", "seed": 5})
    assert settings == {"lr": 1e-3}
    jobs.check_settings(job, settings, folder, args)
    with pytest.raises(UserError, match=r"made with lr 0\.001, and one has 0\.002 now: remove"):
        jobs.check_settings(replace(job, arguments=("--lr", "2e-3")), settings, folder, args)
    shorter = {"max_length": 64}  # as a model of 64 positions has it
    jobs.check_settings(job, shorter, folder, args)
    with pytest.raises(UserError, match="made with max_length 64, and one has 128 now"):
        jobs.check_settings(replace(job, arguments=("--max-length", "128")), shorter, folder, args)


def test_runs_of_other_data_or_another_model_are_refused(arguments: list[str], world: Path) -> None:
    """Although the folders are called alike: their scores would stand under today's command."""
    words = [*arguments, "--table", "4"]
    paper.main(words)
    shutil.copytree(world / "model", world / "other/model")
    with pytest.raises(UserError, match=r"11711.json: made of --model \S+, not of \S+other"):
        paper.main([*words, "--plan", "--model", str(world / "other/model")])
    path = world / "data/ids-sst-dev.csv"
    path.write_text(path.read_text().replace("red", "blue"))
    for place in ("11711.json", "parallel-11711"):
        with pytest.raises(UserError, match=f"{place}: made of another file of sst dev than"):
            paper.main([*words, "--plan"])
        (world / "results/runs/paper-cpu-model/parallel-11711.json").unlink(missing_ok=True)


def test_a_stopped_run_goes_on(arguments: list[str], world: Path, monkeypatch, capsys) -> None:
    original = train_multitask.main

    def stopped(argv: list[str]) -> int:
        original(argv)
        raise KeyboardInterrupt

    monkeypatch.setattr(train_multitask, "main", stopped)
    with pytest.raises(KeyboardInterrupt):
        paper.main([*arguments, "--table", "4"])
    key = RunKey(world / "runs" / "paper-cpu-model", "parallel", 11711)
    record, log = record_path(world / "results", key), key.folder / "log.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))  # before its end
    assert not record.exists()
    monkeypatch.setattr(train_multitask, "main", original)
    paper.main([*arguments, "--table", "4"])
    assert "parallel: 0 of 1 done, 1 to go on" in capsys.readouterr().out
    assert record.is_file()


def test_a_finished_run_is_only_recorded(arguments: list[str], world: Path, capsys) -> None:
    paper.main([*arguments, "--table", "4"])
    key = RunKey(world / "runs/paper-cpu-model", "parallel")
    log, record = key.folder / "log.jsonl", record_path(world / "results", key)
    before, kept = log.read_text(), record.read_text()
    record.unlink()
    capsys.readouterr()
    paper.main([*arguments, "--table", "4"])
    plan = capsys.readouterr().out
    command = read_record(world / "results").tables[paper_tables.TABLE_3].command
    assert command.startswith("python -m experiments.paper --table 3 ")
    assert "parallel: 0 of 1 done, 1 to be recorded\n" in plan and "0.0 seconds of training" in plan
    assert log.read_text() == before and record.read_text() == kept
    place = world / "results/predictions/paper-cpu-model-parallel-11711"
    shutil.rmtree(place)
    paper.main([*arguments, "--only", "single-sst-1"])
    assert not place.exists(), "a run that nobody asked for"
    paper.main([*arguments, "--table", "4"])
    assert f"Table 4: hand in the test predictions in {place} (" in capsys.readouterr().out
    assert len([*place.glob("*-test-output.csv")]) == 3
    shutil.rmtree(place)
    shutil.rmtree(key.folder)
    paper.main([*arguments, "--table", "4"])
    said = f"Table 4: {place} is not there: either there are no test files, or remove {record} and"
    assert said in capsys.readouterr().out


def test_what_pre_training_was_is_part_of_a_record(arguments: list[str], world: Path) -> None:
    """It has no record of its own, and its folder may be gone."""
    words = [*arguments, "--table", "1", "--only", "single-sst-1-mlm"]
    paper.main(words)
    record = (world / "results/runs/paper-cpu-model/single-sst-1-mlm-11711.json").read_text()
    assert '"model": "mlm-sst"' in record and str(world) not in record
    folder = world / "runs/paper-cpu-model/mlm-sst-11711"
    assert folder.is_dir()
    shutil.rmtree(folder)
    paper.main(words)
    assert not folder.exists(), "nothing that was asked for needs it any more"
    paper_tables.BUDGETS["cpu"] = replace(TINY_BUDGET, pretrain=2)  # put back by the fixture
    with pytest.raises(UserError, match=r"sst-1-mlm-11711.json: made with epochs 1, and mlm-sst h"):
        paper.main(words)


def test_the_plan_runs_nothing(arguments: list[str], world: Path, capsys) -> None:
    paper.main([*arguments, "--plan"])
    plan = capsys.readouterr().out
    assert not (world / "runs").exists() and "the last on line" not in plan
    for job in (job for table in tables("cpu", 128).values() for job in table.jobs):
        steps = re.search(
            rf"^  {job.name}: 0 of 1 done, (\d+) steps, \d+(\.\d)? seconds$", plan, re.M
        )
        assert steps and int(steps[1]) > 0, job.name
