"""What evaluate.py writes takes the place of nothing that is read again."""

import shutil
from pathlib import Path

import pytest

import evaluate
from minbert import UserError
from minbert.run_files import check_not_replaced
from tests.conftest import run


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_another_folder_s_data_is_not_taken_for_the_run_s(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a run's --data-dir is relative and there is a folder of that name, too."""
    monkeypatch.chdir(world)
    run(world, "--data-dir", "data", "--name", "run", "--epochs", "1")
    trained, other = world / "runs/run", world / "other"
    shutil.copytree(world / "data", other / "data")
    job = ["--checkpoint", str(trained)]
    monkeypatch.chdir(other)
    assert evaluate.main(job) == 0  # the same files
    dev = other / "data/sts-dev.csv"
    dev.write_text(dev.read_text().replace("cat", "dog"))
    before = content(trained)
    for name in ("", "/best"):
        with pytest.raises(UserError, match=r"sts-dev.csv: not the file that .*run was evaluated"):
            evaluate.main(["--checkpoint", str(trained) + name])
    assert content(trained) == before
    assert evaluate.main([*job, "--data-dir", "data", "--output", "out"]) == 0
    for damaged in ("{", "[]", '{"data": 1}'):  # nothing tells what it was
        (trained / "last/state.json").write_text(damaged)
        assert evaluate.main(job) == 0


def test_an_output_is_no_input(world: Path) -> None:
    run(world, "--name", "run", "--epochs", "1")
    trained, model = world / "runs/run", world / "model"
    before = content(world)
    job = ["--checkpoint", str(trained), "--text", "red cat", "--task", "sst"]
    for argv, message in (
        ([*job, "--output", f"{trained}/log.jsonl"], r"log.jsonl: the run's own file; choose"),
        (["--model", str(model), "--emit", f"{model}/model.safetensors"],
         r"model.safetensors: among a model's weights; choose"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            evaluate.main(argv)
        assert content(world) == before
    check_not_replaced(model / "reference.safetensors", "--emit")  # takes nothing's place


@pytest.mark.parametrize("name", ["sst-dev-output.csv", "sst-dev-logits.jsonl"])
def test_predictions_take_no_data_file_s_place(world: Path, name: str) -> None:
    """As a task of one's own may have a file of a run's predictions as its data."""
    run(world, "--name", "run", "--epochs", "1", "--tasks", "sst")
    folder, data = world / "runs/run", world / "data"
    (data / "ids-sst-dev.csv").rename(data / name)
    tasks = folder / "tasks.toml"
    tasks.write_text(tasks.read_text().replace("ids-sst-dev.csv", name))
    before = content(data)
    job = ["--checkpoint", str(folder), "--data-dir", str(data), "--output"]
    with pytest.raises(UserError, match=f"{name}: a data file; --output DIR names another folder"):
        evaluate.main([*job, str(data)])
    assert content(data) == before
