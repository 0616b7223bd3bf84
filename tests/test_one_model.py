"""Table 5's rows beside the recipe that they are compared with."""

import shutil
import tomllib
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

import pytest

from experiments import gather, long_texts, one_model, run_ablation
from experiments.ablation import read_ablation
from experiments.estimate import resolved
from experiments.gather import gather_ablation
from experiments.markdown import LONG_TEXTS, ONE_MODEL
from minbert import UserError
from minbert.task import taskfile
from tests.conftest import make_world
from tests.test_ablation import small_table

FOLDER = Path(one_model.__file__).parent
RECIPE = FOLDER.parent / "recipes/one-model.toml"


def test_every_seed_of_what_is_handed_in_has_its_test_predictions() -> None:
    found = 0
    for record in (FOLDER / "runs/one-model-all-MiniLM-L6-v2").glob("*.json"):
        if record.stem.rpartition("-")[0] in one_model.HANDED_IN:
            files = (FOLDER / "predictions" / record.stem).glob("*-test-output.csv")
            assert len([*files]) == 3, record.stem
            found += 1
    assert found


def test_parallel_is_evaluated_as_the_recipe_is_and_one_row_of_it_ends_with_it() -> None:
    lines = {line.label: line for line in read_ablation(FOLDER / ONE_MODEL).lines}
    updates = lines["one model: recipes/one-model.toml"].updates["one-model"]
    recipe = tomllib.loads(RECIPE.read_text())
    known = run_ablation.jobs_of_rows(one_model.table_5())
    by_name = {job.name: job for job in known}
    every = ("--eval-every", str(recipe["eval_every"]))
    whole, ended = by_name["parallel"].arguments, by_name["parallel-7731"].arguments
    assert ended == (*one_model.IN_TURN, "--steps", str(updates))
    assert whole == (*one_model.IN_TURN, "--epochs", str(recipe["epochs"]))
    assert one_model.IN_TURN[-2:] == every


def test_tasks_alone_with_the_recipes_r_drop_are_read_and_trained_as_in_the_recipe() -> None:
    whole, _ = resolved("train_multitask", ["--config", str(RECIPE)])
    rows = {row.label: row for row in one_model.table_5()}
    for task, jobs_of_task in rows["single tasks with the recipe's R-Drop"].jobs.items():
        alone, _ = resolved("train_multitask", list(jobs_of_task[0].arguments))
        assert alone.pooling_of(task) == whole.pooling_of(task)
        same = ("lr", "batch_size", "schedule", "warmup")
        assert [getattr(alone, name) for name in same] == [getattr(whole, name) for name in same]
        for name in ("r_drop", "pair_encoding"):
            assert getattr(alone, name).get(task) == getattr(whole, name).get(task)


def test_results_that_cannot_be_kept_are_told_of_before_any_run(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    place = world / "results"
    place.mkdir()
    (place / "long-texts.json").write_text("{")
    with small_table(world) as words:
        with pytest.raises(UserError, match=r"long-texts.json: cannot be read"):
            one_model.main(words)
        shutil.rmtree(place)
        place.write_text("a file")
        with pytest.raises(UserError, match="results: cannot be written; --results DIR names an"):
            one_model.main(words)
    assert not (world / "runs").exists()


@pytest.mark.parametrize(
    ("module", "file"), [(one_model, ONE_MODEL), (long_texts, LONG_TEXTS)], ids=["5", "6"]
)
def test_a_table_is_what_its_records_and_today_s_rows_make(
    module: ModuleType, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the intervals of its differences, which need the dev rows."""
    given: list[Any] = []
    monkeypatch.setattr(module, "run_ablation", lambda *a, **_: given.extend(a))
    monkeypatch.setattr(gather.RowRecords, "gains", lambda *_: [])
    monkeypatch.setattr(taskfile, "_check_columns", lambda *_: None)  # there is no data
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(RECIPE.parent)
    module.main(["--model", "all-MiniLM-L6-v2", "--seeds", "3", "--results", str(FOLDER)])
    title, command, _, rows, root, args, *_ = given
    kept = read_ablation(FOLDER / file)
    made = gather_ablation(title, command, rows, root, args, module.NOTE)
    assert made == replace(kept, lines=[replace(line, gains=[]) for line in kept.lines])
    by_label = {line.label: line for line in kept.lines}
    for line, row in zip(kept.lines, rows, strict=True):
        assert {gain.beside for gain in line.gains} == {rows[0].label, row.beside} - {row.label, ""}
        for gain in line.gains:
            for task, found in gain.by_task.items():
                both = [x.scores[task].by_seed(gain.at_last) for x in (line, by_label[gain.beside])]
                # the seeds of every row begin with the first one
                middle = fmean(a - b for a, b in zip(*both, strict=False))
                assert found is not None  # there are predictions of all runs
                assert found[0] == pytest.approx(middle, abs=1e-4)  # float32's
