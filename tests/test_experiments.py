"""The paper's tables on a tiny model: planned, run, reused, gone on with, written down."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import paper, recipes
from experiments.recipes import BUDGETS, Cell, tables
from experiments.results import RunKey, score

TINY_BUDGET = replace(
    BUDGETS["cpu"], pretrain=1, after_pretrain=1, single={"sst": 1, "quora": 1, "sts": 1}, frozen=1
)


@pytest.fixture
def arguments(world: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setitem(recipes.BUDGETS, "cpu", TINY_BUDGET)
    places = ["--data-dir", str(world / "data"), "--output-dir", str(world / "runs")]
    results = ["--results", str(world / "results"), "--budget", "cpu"]
    return ["--model", str(world / "model"), *places, *results]


def test_full_budget_is_the_paper_s() -> None:
    by_name = {job.name: job for table in tables("full", 3072).values() for job in table.jobs}
    assert "--epochs 50" in " ".join(by_name["mlm-sst"].arguments)
    assert "--epochs 5 --lr 1e-5" in " ".join(by_name["parallel"].arguments)
    assert "--epochs 3" in " ".join(by_name["sequential-mlm"].arguments)
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


def test_all_tables_run_are_reused_and_written(arguments: list[str], world: Path, capsys) -> None:
    paper.main([*arguments, "--table", "all"])
    results = json.loads((world / "results/results.json").read_text())
    assert all(len(r["scores"]) == 1 for r in results)
    text = (world / "results/RESULTS.md").read_text()
    assert "SST 40 and 12, Quora 40 and 12, STS 20 and 6" in text
    assert "open |" not in text and "(0.505)" in text and "| shuffle * |" in text
    capsys.readouterr()
    paper.main([*arguments, "--table", "all"])
    again = capsys.readouterr().out
    assert "===" not in again and "parallel: 1 of 1 done" in again
    assert json.loads((world / "results/results.json").read_text()) == results
    predictions = world / "runs" / "paper-cpu-model" / "parallel-11711" / "predictions"
    assert (predictions / "para-test-output.csv").is_file()


def test_a_stopped_run_goes_on(arguments: list[str], world: Path, monkeypatch, capsys) -> None:
    original = paper.SCRIPTS["train_multitask"]

    def stopped(argv: list[str]) -> int:
        original(argv)
        raise KeyboardInterrupt

    monkeypatch.setitem(paper.SCRIPTS, "train_multitask", stopped)
    with pytest.raises(KeyboardInterrupt):
        paper.main([*arguments, "--table", "4"])
    key = RunKey(world / "runs" / "paper-cpu-model", "parallel", 11711)
    log = key.folder / "log.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))  # before its end
    assert score(key, Cell("parallel", "sst")) is None
    monkeypatch.setitem(paper.SCRIPTS, "train_multitask", original)
    paper.main([*arguments, "--table", "4"])
    assert "parallel: 0 of 1 done, 1 to go on" in capsys.readouterr().out
    assert score(key, Cell("parallel", "sst")) is not None


def test_the_plan_runs_nothing(arguments: list[str], world: Path, capsys) -> None:
    paper.main([*arguments, "--plan"])
    plan = capsys.readouterr().out
    assert not (world / "runs").exists()
    for job in (job for table in tables("cpu", 128).values() for job in table.jobs):
        steps = re.search(rf"^  {job.name}: 0 of 1 done, (\d+) steps, \d+\.\d min$", plan, re.M)
        assert steps and int(steps[1]) > 0, job.name
