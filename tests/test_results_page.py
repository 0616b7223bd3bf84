"""RESULTS.md: what the recorded results say, table beside table."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import paper, run_table
from experiments.ablation import in_short, read_ablation
from experiments.figures import score_label
from experiments.jobs import Job, JobArgs
from experiments.markdown import ONE_MODEL, format_difference, results_page, write_results_page
from experiments.one_model import RECIPE
from experiments.paper_tables import BUDGETS, tables
from experiments.results import (
    PaperRecord,
    Result,
    format_mean,
    gather_tables,
    read_record,
    with_other_tables,
)
from experiments.run_records import Records
from minbert import UserError
from minbert.run.dry_run import Forecast

HOME = Path(__file__).resolve().parents[1] / "experiments"
TITLE = "Table 3: routines"


@pytest.fixture
def routines() -> PaperRecord:
    """Table 3 alone, of two seeds, the single tasks of three; less data after pre-training."""
    whole = read_record(HOME)
    results = [
        replace(
            r, is_small=r.row.startswith("pre-training"), last={},
            scores={"1": 0.4, "2": 0.5} if r.row != "single task" else dict.fromkeys("123", 0.1),
        )
        for r in whole.results
        if r.table == TITLE
    ]  # fmt: skip
    small = {"SST": [8544, 1101], "Quora": [16000, 4000], "STS": [6040, 863]}
    rows = small | {"Quora": [141505, 20212]}
    table = replace(whole.tables[TITLE], budget="all-rows", rows=rows, small_rows=small)
    return replace(whole, tables={TITLE: table}, results=results)


def test_less_data_is_marked_and_compared_with_its_like(routines: PaperRecord) -> None:
    page = results_page(routines)
    assert "on: SST 8,544 and 1,101, Quora 141,505 and 20,212, STS 6,040 and 863.\n" in page
    assert "\nWhere † stands: Quora 16,000 and 4,000.\n" in page
    score = "0.450 ± 0.071"
    assert f"| pre-training + parallel | {score} † (0.505) | {score} † (0.873) |" in page
    assert f"| parallel | {score} (0.505) | {score} (0.877) | {score} (0.863) | 2 |" in page
    assert "| single task | 0.100 ± 0.000 (0.533) |" in page and "(0.874) | 3 |" in page
    assert "turns? shuffle less parallel | +0.000 ± 0.000 |" in page
    assert "parallel less single task | +0.350 ± 0.071 (-0.028) |" in page
    assert "help parallel training?" not in page
    alike = replace(routines, results=[replace(r, is_small=False) for r in routines.results])
    assert "help parallel training?" in results_page(alike)
    fewer = replace(routines.results[0], row="parallel, fewer rows", paper=None, is_small=True)
    page = results_page(replace(routines, results=[*routines.results, fewer]))
    assert "pre-training + parallel less parallel, fewer rows | +0.000 ± 0.000 | - |" in page
    elsewhere = replace(routines, model=f"sentence-transformers/{routines.model}")
    assert "The model was trained on duplicate questions of Quora" in results_page(elsewhere)


def test_what_the_last_step_has_stands_below(routines: PaperRecord) -> None:
    last = [
        replace(r, last={"1": 0.3, "2": 0.3} if r.row.endswith("parallel") else r.scores)
        for r in routines.results
    ]
    page = results_page(replace(routines, results=last))
    score = "0.300 ± 0.000"
    assert f"| parallel, last step | {score} | {score} | {score} |" in page
    assert f"| pre-training + parallel, last step | {score} † | {score} † | {score} † |" in page
    of_tables, of_differences = page.split("## What it says")
    assert of_tables.count("last step |") == 2
    best, end = of_differences.split("shuffle less parallel | ")[1].splitlines()[:2]
    assert best.startswith("+0.000 ± 0.000 |")
    assert end.startswith("| the same, last step | +0.150 ± 0.071 | +0.150 ± 0.071 |")
    same = [replace(r, last=r.scores) for r in routines.results]
    assert "last step |" not in results_page(replace(routines, results=same))


def test_differences_are_of_the_seeds_that_both_have() -> None:
    one = Result("t", "a", "SST", {"1": 0.4, "2": 0.5}, None, False, "a")
    other = Result("t", "b", "SST", {"2": 0.3, "3": 0.9, "1": 0.1}, None, False, "b")
    assert format_difference(one, other) == "+0.250 ± 0.071"
    assert format_difference(replace(one, scores={"1": 0.4}), other) == "+0.300"


def test_the_page_is_what_the_recorded_results_say(tmp_path: Path) -> None:
    for path in HOME.glob("*.json"):
        shutil.copy(path, tmp_path)
    write_results_page(tmp_path)
    assert (tmp_path / "RESULTS.md").read_text() == (HOME / "RESULTS.md").read_text()


README = (HOME.parent / "README.md").read_text(encoding="utf-8")


def cells_of(page: str, label: str) -> list[str]:
    """Return the cells of a page's only row that begins with a label."""
    (line,) = re.findall(rf"^\| {re.escape(label)} \|(.*)\|$", page, re.M)
    return [cell.strip() for cell in line.split("|")]


def test_the_readme_s_scores_are_the_recorded_ones() -> None:
    record = read_record(HOME)
    trained = record.tables[TITLE].trained
    for label in ("single task (three models)", "sequential", "parallel"):
        row = label.partition(" (")[0]
        own = [r for r in record.results if r.table == TITLE and r.row == row]
        assert all(r.scores for r in own), row
        passes = (f"{trained[r.job].passes[r.column]:.0f}" for r in own)
        assert cells_of(README, label) == [
            *(f"{score_label(r.mean)} ({score_label(r.paper)})" for r in own),
            in_short([f"{trained[r.job].updates:,}" for r in own]),
            " / ".join(passes),
        ]
        last = " | ".join(score_label(r.at_last.mean) for r in own)
        ends_elsewhere = any(r.ends_elsewhere for r in own)
        assert (f"| {row}, last step | {last} |" in README) == ends_elsewhere, row


def test_the_readme_s_one_model_is_the_recorded_one() -> None:
    lines = {line.label: line for line in read_ablation(HOME / ONE_MODEL).lines}
    for label, row in (("one model", RECIPE), ("three models", "single tasks (three models)")):
        line = lines[row]
        scores = [line.scores[task].best for task in ("sst", "quora", "sts")]
        assert {len(of_task) for of_task in scores} == {3}  # the table's head says three seeds
        assert cells_of(README, label) == [
            *(format_mean(of_task).replace("0.", ".") for of_task in scores),
            in_short([f"{updates:,}" for updates in line.updates.values()]),
            " / ".join(f"{passes:.1f}" for passes in line.passes.values()),
        ]


def test_a_damaged_record_is_told_of_before_hours_of_work(world: Path) -> None:
    (world / "results").mkdir()
    (world / "results/results.json").write_text('{"model": "m"}')
    places = ["--data-dir", str(world / "data"), "--output-dir", str(world / "runs")]
    with pytest.raises(UserError, match=r"results\.json: 'tables' is missing; "):
        paper.main(["--model", str(world / "model"), *places, "--results", str(world / "results")])
    assert not (world / "runs").exists()


def test_a_table_leaves_the_others_alone(routines: PaperRecord, tmp_path: Path, capsys) -> None:
    """Written by --table 3 with another budget, with Tables 1 and 2 there from before."""
    shutil.copy(HOME / "results.json", tmp_path)
    whole = read_record(tmp_path)
    both = with_other_tables(routines, tmp_path)
    assert both.tables == {**whole.tables, **routines.tables}
    others = [r for r in whole.results if r.table != TITLE]
    assert sorted(both.results, key=repr) == sorted(routines.results + others, key=repr)
    page = results_page(both)
    of_tables, of_differences = page.split("## What it says")
    assert of_tables.count("| seeds | updates |") == 3
    assert of_differences.count("| seeds | updates |") == 1
    assert capsys.readouterr().out == ""
    assert with_other_tables(replace(routines, model="other"), tmp_path).tables == routines.tables
    assert f"was of {whole.model}; its other tables are left out" in capsys.readouterr().out


def test_the_stages_are_those_of_table_3(routines: PaperRecord, tmp_path: Path) -> None:
    """They stay when other tables are written, and go when it is written without them."""
    shutil.copy(HOME / "results.json", tmp_path)
    whole = read_record(tmp_path)
    others = {title: table for title, table in whole.tables.items() if title != TITLE}
    assert with_other_tables(replace(whole, tables=others, stages=[]), tmp_path).stages
    assert with_other_tables(replace(routines, stages=[]), tmp_path).stages == []


def test_a_plan_has_the_time_of_the_seeds_that_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Measured without teachers, whose runs may not be there yet."""
    asked: list[list[str]] = []

    def estimate(script: str, words: list[str]) -> Forecast:
        asked.append(words)
        return Forecast(7, 100.0, 1.0)

    monkeypatch.setattr(run_table, "estimate", estimate)
    args = JobArgs(model="m", seeds=3, data_dir=str(tmp_path))
    taught = Job("taught", ("--teacher", "sst={alone}", "--lr", "1e-3"))
    jobs = [Job("alone", ()), taught]
    run_table.print_plan(jobs, tmp_path, args, lambda key: key.seed == 11711)
    out = capsys.readouterr().out
    assert "  taught: 1 of 3 done, 14 steps, 3.3 hours\n" in out
    assert "about 6.7 hours of training steps in all" in out
    assert asked[1][:2] == ["--lr", "1e-3"]


@pytest.mark.parametrize("number", ["1", "2", "3"])
def test_a_table_is_what_its_records_and_today_s_recipes_make(number: str, tmp_path: Path) -> None:
    kept = read_record(HOME)
    (title,) = (title for title in kept.tables if title.startswith(f"Table {number}:"))
    table = kept.tables[title]
    args = paper.Args(
        table=number, budget=table.budget, model=kept.model, seeds=3, data_dir=str(tmp_path),
        results=str(HOME),
    )  # fmt: skip
    records = Records(Path(f"paper-{table.budget}-{kept.model}"), args)
    chosen = [tables(table.budget, 4 * 384)[number]]
    made = gather_tables(chosen, records, args, table.rows, table.small_rows)
    assert made.tables[title] == table
    assert made.results == [r for r in kept.results if r.table == title]
    assert number != "3" or made.stages == kept.stages


def test_a_table_names_the_rows_of_its_budget(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ("--limit", "quora=8", "--limit-dev", "quora=4")
    budget = replace(BUDGETS["cpu"], data=data, small=("--limit", "quora=6"))
    monkeypatch.setitem(BUDGETS, "cpu", budget)
    monkeypatch.setattr(paper, "draw_figures", lambda *_: None)
    monkeypatch.setattr(paper, "run_table", lambda jobs, root, args, write, **_: write())
    places = ["--data-dir", str(world / "data"), "--output-dir", str(world / "runs")]
    places += ["--model", str(world / "model"), "--results", str(world / "results")]
    paper.main([*places, "--table", "3", "--budget", "cpu"])
    table = read_record(world / "results").tables[TITLE]
    assert table.rows == {"SST": [40, 12], "Quora": [8, 4], "STS": [20, 6]}
    assert table.small_rows == {"SST": [40, 12], "Quora": [6, 12], "STS": [20, 6]}
