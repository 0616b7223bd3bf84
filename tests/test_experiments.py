"""The paper's tables on a tiny model: planned, run, reused, gone on with, written, drawn."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments import ablation, gather, jobs, one_model, paper, recipes, run_ablation
from experiments.ablation import read_ablation
from experiments.estimate import estimate
from experiments.jobs import Job, RunKey
from experiments.markdown import ONE_MODEL, write_results_page
from experiments.recipes import BUDGETS, Cell, tables
from experiments.results import read_record, read_score, with_other_tables
from experiments.run_records import Evaluation, RunRecord
from minbert import UserError
from minbert.files import read_json_lines

HOME = Path(__file__).resolve().parents[1] / "experiments"

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
# of the full budget: the runs that --epochs and --lr are given to
FULL = {
    "single-sst-5": 5, "single-sts-5": 5, "mlm-sst": 50, "mlm-sts": 50, "single-sst-5-mlm": 5,
    "single-quora-10": 10, "single-sts-10": 10, "baseline": 10, "single-sst-10": 10,
    "single-quora-5": 5, "mlm-all": 2, "sequential": 5, "parallel": 5, "sequential-mlm": 3,
    "parallel-mlm": 3, "shuffle": 5, "adaptive": 5, "single-sts-10-cosine-mse": 10,
    "single-quora-10-contrastive": 10, "single-quora-10-mnr": 10,
}  # fmt: skip

TINY_BUDGET = replace(
    BUDGETS["cpu"], pretrain=1, after_pretrain=1, single={"sst": 1, "quora": 1, "sts": 1}, frozen=1
)


ROWS_OF_TABLE_5 = (
    "single tasks (three models)", "short: annealed", "short: annealed + averaging",
    "short: annealed + teachers", "one model: recipes/one-model.toml",
)  # fmt: skip


@pytest.fixture
def arguments(world: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setitem(recipes.BUDGETS, "cpu", TINY_BUDGET)
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


@pytest.mark.thorough
def test_all_tables_run_are_reused_and_written(arguments: list[str], world: Path, capsys) -> None:
    paper.main([*arguments, "--table", "all"])
    record = read_record(world / "results")
    assert all(len(r.scores) == 1 for r in record.results)
    assert record.rows == {"SST": [40, 12], "Quora": [40, 12], "STS": [20, 6]}
    last = {r.column: r.mean for r in record.results if r.row == "sequential"}
    assert last in [stage.scores for stage in record.stages]
    parallel, shuffle = record.trained["parallel"], record.trained["shuffle"]
    assert (parallel.updates, parallel.passes) == (6, {"SST": 1.0, "Quora": 1.0, "STS": 2.0})
    assert (shuffle.updates, shuffle.passes) == (5, {"SST": 1.0, "Quora": 1.0, "STS": 1.0})
    assert "mlm-sst" not in record.trained
    text = (world / "results/RESULTS.md").read_text()
    assert "SST 40 and 12, Quora 40 and 12, STS 20 and 6" in text
    assert re.search(r"\| parallel \| .* \| 6 \| 1.0 / 1.0 / 2.0 \| `parallel` \|", text)
    assert "| 6 against 2 / 2 / 1 |" in text  # parallel less single task
    assert "open |" not in text and "(0.505)" in text and "| shuffle * |" in text
    capsys.readouterr()
    paper.main([*arguments, "--table", "all"])
    again = capsys.readouterr().out
    assert "===" not in again and "parallel: 1 of 1 done" in again
    assert read_record(world / "results") == record
    predictions = world / "runs" / "paper-cpu-model" / "parallel-11711" / "predictions"
    assert (predictions / "para-test-output.csv").is_file()


@pytest.mark.thorough
def test_one_model_beside_three(
    arguments: list[str], world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])  # where recipes/ is
    short = ("--mode", "annealed", *one_model.SMOOTH, "--steps", "3")
    monkeypatch.setattr(one_model, "ANNEALED", short)
    rows = [row for row in one_model.table_5() if row.label in ROWS_OF_TABLE_5]
    monkeypatch.setattr(one_model, "table_5", lambda: rows)
    shared = [word for word in arguments if word not in ("--budget", "cpu")]
    monkeypatch.setattr(run_ablation, "print_plan", lambda *_: None)
    monkeypatch.setattr(gather, "RESAMPLES", 20)
    one_model.main([*shared, "--seeds", "2"])
    table = read_ablation(world / "results" / ONE_MODEL)
    single, annealed, mean, taught, recipe = table.lines
    assert not single.gains
    beside = {(g.beside, g.at_last) for g in mean.gains}
    assert beside >= {(one_model.table_5()[0].label, False), ("short: annealed", False)}
    for line in (annealed, mean, taught, recipe):  # the predictions of both kinds are kept
        for gain in (gain for gain in line.gains if gain.beside == single.label):
            kept = "last" if gain.at_last else "best"
            for task, (centre, low, high) in gain.by_task.items():
                scores = [np.mean(getattr(one.scores[task], kept)) for one in (line, single)]
                assert len(getattr(line.scores[task], kept)) == 2
                assert low <= centre <= high
                assert centre == pytest.approx(scores[0] - scores[1], abs=1e-6)
        assert any(gain.beside == single.label for gain in line.gains)
    assert (single.scores["sst"].best_of, annealed.scores["sst"].best_of) == (30, 1)
    for task in annealed.scores:
        root = world / "runs/one-model-model"
        logs = [read_json_lines(root / f"annealed-{s}" / "log.jsonl") for s in (11711, 11712)]
        means = [[x for x in log if x["event"] == "mean-dev"][-1]["scores"] for log in logs]
        assert mean.scores[task].last == [next(iter(m[task].values())) for m in means]
    assert annealed.updates == {"annealed": 3} and set(single.updates.values()) == {20, 6, 10}
    assert single.passes == {"sst": 10.0, "quora": 3.0, "sts": 10.0}
    assert annealed.examples < recipe.examples and "alone-sst" in single.scores["sst"].job
    text = (world / "results/RESULTS.md").read_text()
    assert text.startswith("## Table 5") and "| less single tasks (three models) |" in text
    assert "--teacher sst=checkpoints/alone-sst-1e-4" in text
    shutil.rmtree(world / "runs/one-model-model")  # the records outlive the runs
    one_model.main([*shared, "--seeds", "2"])
    assert read_ablation(world / "results" / ONE_MODEL) == table
    assert not (world / "runs/one-model-model").exists()
    kept = world / "results/predictions/one-model-11712"
    assert sorted(path.name for path in kept.iterdir()) == [
        "para-test-output.csv", "sst-test-output.csv", "sts-test-output.csv"
    ]  # fmt: skip


def test_jobs_that_are_due(tmp_path: Path) -> None:
    teacher, taught, other = (
        Job("teacher", ()),
        Job("taught", ("--teacher", "sst={teacher}")),
        Job("o", ()),
    )
    jobs_ = [teacher, taught, other]
    done = {"teacher", "o"}  # by their records; no folder is there
    due = jobs.jobs_due(jobs_, tmp_path, 1, lambda key: key.job in done)
    assert due == [teacher, taught], "the teacher's folder is gone, and somebody needs it"
    assert jobs.jobs_due(jobs_, tmp_path, 1, lambda key: True) == []


def test_a_rate_that_was_tried_on_one_seed_is_compared_on_that_seed() -> None:
    def record(score: float) -> RunRecord:
        return RunRecord("here", 1, 1.0, [Evaluation(1, False, score, {"sst": score})], {})

    slow, fast, untried = Job("slow", ()), Job("fast", ()), Job("untried", ())
    row = ablation.Row("alone", {"sst": (untried, slow, fast)})
    records = gather.Records(Path(), jobs.JobArgs(seeds=2))
    records.known = {
        "untried": {},
        "slow": {11711: record(0.50)},
        "fast": {11711: record(0.51), 11712: record(0.40)},
    }
    assert records.best_job(row, "sst") == fast
    records.known["slow"][11712] = record(0.45)
    assert records.best_job(row, "sst") == slow
    records.known = {name: {} for name in ("untried", "slow", "fast")}
    assert records.best_job(row, "sst") == untried


def test_a_row_that_is_half_run_has_the_sum_of_its_runs() -> None:
    def record(task: str, examples: int) -> RunRecord:
        return RunRecord("here", examples, 1.0, [Evaluation(1, False, 0.5, {task: 0.5})], {})

    alone = {task: (Job(task, ()),) for task in ("sst", "quora", "sts")}
    row = ablation.Row("alone", alone)
    records = gather.Records(Path(), jobs.JobArgs(seeds=3))
    records.known = {
        "sst": {seed: record("sst", 100) for seed in (11711, 11712, 11713)},
        "quora": {11711: record("quora", 1000)},
        "sts": {},
    }
    line = gather.gather_line(row, [row], records)
    assert (line.examples, line.minutes) == (1100, 2.0)
    assert ablation.format_figures(line)[:2] == ["3 / 1 / 0", "1 / 1 / 0"]


def test_a_run_ends_with_the_mean() -> None:
    scores = [(10, False, 0.5), (10, True, 0.4), (20, False, 0.6), (20, True, 0.7)]
    every = [Evaluation(step, mean, score, {"sst": score}) for step, mean, score in scores]
    record = RunRecord("here", 1, 1.0, every, {})
    assert (record.last().overall, record.last(False).overall) == (0.7, 0.6)
    assert (record.best().overall, record.best(False).overall) == (0.7, 0.6)


def test_runs_of_other_settings_are_refused(arguments: list[str], world: Path) -> None:
    """A recipe was changed between two sittings: its runs are not of one row."""
    paper.main([*arguments, "--table", "4"])
    folder = world / "runs/paper-cpu-model/parallel-11711"
    recipes.BUDGETS["cpu"] = replace(TINY_BUDGET, lr="2e-5")  # put back by the fixture
    with pytest.raises(UserError, match=rf"{folder}: made with lr 5e-05, and parallel has 2e-05"):
        paper.main([*arguments, "--table", "4", "--plan"])
    job, args = Job("one", ("--lr", "1e-3")), jobs.JobArgs(data_dir=str(world / "data"))
    settings = jobs.settings_in({"lr": 1e-3, "data_dir": "elsewhere", "seed": 5})
    assert settings == {"lr": 1e-3}
    jobs.check_settings(job, settings, folder, args)
    with pytest.raises(UserError, match=r"made with lr 0\.001, and one has 0\.002 now: remove"):
        jobs.check_settings(replace(job, arguments=("--lr", "2e-3")), settings, folder, args)


def test_runs_are_chosen_by_name() -> None:
    known = run_ablation.jobs_of(one_model.table_5())
    assert [job.name for job in one_model.chosen_jobs(known, ("pcgrad", "annealed"))] == [
        "annealed", "pcgrad"
    ]  # fmt: skip
    taught = [job.name for job in one_model.chosen_jobs(known, ("teachers",))]
    assert taught == ["alone-sst-1e-4", "alone-quora-1e-4", "alone-sts-1e-4", "teachers"]
    assert one_model.chosen_jobs(known, ()) == known
    with pytest.raises(UserError, match="--only nothing: write names of alone-sst-5e-5,"):
        one_model.chosen_jobs(known, ("nothing",))


def test_a_stopped_run_goes_on(arguments: list[str], world: Path, monkeypatch, capsys) -> None:
    original = jobs.SCRIPTS["train_multitask"]

    def stopped(argv: list[str]) -> int:
        original(argv)
        raise KeyboardInterrupt

    monkeypatch.setitem(jobs.SCRIPTS, "train_multitask", stopped)
    with pytest.raises(KeyboardInterrupt):
        paper.main([*arguments, "--table", "4"])
    key = RunKey(world / "runs" / "paper-cpu-model", "parallel", 11711)
    log = key.folder / "log.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))  # before its end
    assert read_score(key, Cell("parallel", "sst")) is None
    monkeypatch.setitem(jobs.SCRIPTS, "train_multitask", original)
    paper.main([*arguments, "--table", "4"])
    assert "parallel: 0 of 1 done, 1 to go on" in capsys.readouterr().out
    assert read_score(key, Cell("parallel", "sst")) is not None


def test_the_plan_runs_nothing(arguments: list[str], world: Path, capsys) -> None:
    paper.main([*arguments, "--plan"])
    plan = capsys.readouterr().out
    assert not (world / "runs").exists()
    for job in (job for table in tables("cpu", 128).values() for job in table.jobs):
        steps = re.search(
            rf"^  {job.name}: 0 of 1 done, (\d+) steps, \d+(\.\d)? seconds$", plan, re.M
        )
        assert steps and int(steps[1]) > 0, job.name


def test_the_page_is_what_the_recorded_results_say(tmp_path: Path) -> None:
    for path in HOME.glob("*.json"):
        shutil.copy(path, tmp_path)
    write_results_page(tmp_path)
    assert (tmp_path / "RESULTS.md").read_text() == (HOME / "RESULTS.md").read_text()


def test_a_table_leaves_the_others_alone(tmp_path: Path, capsys) -> None:
    """Written by --table 3, with Tables 1 and 2 there from before."""
    shutil.copy(HOME / "results.json", tmp_path)
    whole = read_record(tmp_path)
    title = "Table 3: routines"
    one = replace(
        whole, columns={title: whole.columns[title]},
        results=[replace(r, scores=(0.5,)) for r in whole.results if r.table == title],
    )  # fmt: skip
    both = with_other_tables(one, tmp_path)
    assert both.columns == whole.columns
    assert {r.scores for r in both.results if r.table == title} == {(0.5,)}
    assert [r for r in both.results if r.table != title] == [
        r for r in whole.results if r.table != title
    ]
    assert capsys.readouterr().out == ""
    assert with_other_tables(replace(one, budget="other"), tmp_path).columns == one.columns
    assert "had other budget; its other tables are left out" in capsys.readouterr().out


def test_a_plan_reads_the_task_file(world: Path) -> None:
    """What is read of long texts makes other steps: every window is trained on."""
    steps = {}
    for long in ("head", "windows"):
        (world / "own.toml").write_text(
            '[own]\nkind = "classification"\ntrain = "ids-sst-train.csv"\n'
            'dev = "ids-sst-dev.csv"\ntext = "sentence"\nlabel = "sentiment"\nlabels = 5\n'
            f'long = "{long}"\n'
        )
        places = ["--model", str(world / "model"), "--data-dir", str(world / "data")]
        places += ["--output-dir", str(world / "ids"), "--max-length", "6", "--batch-size", "8"]
        found = estimate("train_multitask", [*places, "--task-file", str(world / "own.toml")])
        steps[long] = found.steps
    assert steps["head"] == 25 < steps["windows"]


def test_a_damaged_record_is_one_line(tmp_path: Path) -> None:
    text = (HOME / "results.json").read_text(encoding="utf-8")
    (tmp_path / "results.json").write_text(text.replace('"seeds": ', '"seeds": "', 1).replace(
        ',\n "machine"', '",\n "machine"', 1))  # fmt: skip
    with pytest.raises(UserError, match=r"results\.json: seeds is '\d+', not of the type int"):
        read_record(tmp_path)
