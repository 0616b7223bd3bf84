"""What is read of a saved model, wherever a power cut left it, and what is said of the rest."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import evaluate
import pretrain_mlm
from minbert import MultitaskModel, UserError
from minbert.manifest import has_all_content, read_manifest
from minbert.model.multitask import load_multitask
from minbert.run.temperatures import keep_temperatures
from minbert.tensors import load_tensors, save_tensors
from minbert.weights.resolve import resolve
from tests.conftest import arguments, run

ONE_EPOCH = ["--epochs", "1", "--skip-predictions"]
NO_BEST = "no best/; last/ is used"


@pytest.mark.parametrize("name", ["best", "last", "best-sst"])
@pytest.mark.parametrize("is_torn", [True, False])
def test_a_checkpoint_by_its_name_is_found_where_a_power_cut_left_it(
    world: Path, name: str, is_torn: bool, a_run: Callable[..., Path]
) -> None:
    """Also between the two renames by which a trainer replaces it."""
    folder = a_run(world, *ONE_EPOCH, "--save-task-best") / name
    whole = folder.with_name(f".{name}.old")
    shutil.copytree(folder, whole)
    if is_torn:
        os.truncate(folder / "heads.safetensors", 10)
    else:
        shutil.rmtree(folder)
    assert resolve(folder) == whole
    assert load_multitask(folder)[1] == whole
    for number, more in enumerate((["--model", str(folder)], ["--teacher", f"sst={folder}"])):
        run(world, *ONE_EPOCH, "--steps", "1", "--name", f"next-{number}", *more)
    assert evaluate.main(["--checkpoint", str(folder), "--text", "red cat", "--task", "sst"]) == 0


def test_what_is_not_taken_from_a_run_is_said(world: Path, capsys) -> None:
    """Its heads and second tower, when another run starts from it."""
    towers = ["--tasks", "sts", "--pair-encoding", "siamese", "--towers", "separate"]
    run(world, "--name", "one", *ONE_EPOCH, *towers)
    left_out = [f"best: its {what} left out\n" for what in ("heads are", "second tower is")]
    capsys.readouterr()
    run(world, "--name", "two", *ONE_EPOCH, "--model", str(world / "runs/one"))
    said = capsys.readouterr().out
    assert all(line in said for line in left_out)
    pre_training = arguments(world, "--name", "mlm", "--epochs", "1")
    pretrain_mlm.main([*pre_training, "--model", str(world / "runs/one")])
    said = capsys.readouterr().out
    assert all(line in said for line in left_out)


def test_that_a_best_step_is_gone_is_said(world: Path, capsys) -> None:
    run(world, "--name", "one", *ONE_EPOCH)
    shutil.rmtree(world / "runs/one/best")
    reference = str(world / "reference.safetensors")
    for use in (
        lambda: MultitaskModel.load(world / "runs/one", "cpu"),
        lambda: evaluate.main(["--emit", reference, "--model", str(world / "runs/one")]),
        lambda: run(
            world, "--name", "two", *ONE_EPOCH, "--model", str(world / "runs/one"), "--seeds", "2"
        ),
        lambda: run(world, "--name", "d", "--dry-run", "--model", str(world / "runs/one")),
        lambda: run(world, "--name", "three", *ONE_EPOCH, "--teacher", f"sst={world / 'runs/one'}"),
    ):
        use()
        assert capsys.readouterr().err.count(f"one: {NO_BEST}") == 1
    MultitaskModel.load(world / "runs/one/last", "cpu")  # which is what was asked for
    assert NO_BEST not in capsys.readouterr().err


@pytest.mark.parametrize("keep", ["best", "last"])
def test_of_pre_training_it_is_said_if_a_best_was_kept(world: Path, capsys, keep: str) -> None:
    pretrain_mlm.main(arguments(world, "--name", "mlm", "--epochs", "1", "--keep", keep))
    shutil.rmtree(world / "runs/mlm/best", ignore_errors=True)
    capsys.readouterr()
    run(world, "--name", "tuned", *ONE_EPOCH, "--model", str(world / "runs/mlm"))
    assert (NO_BEST in capsys.readouterr().err) == (keep == "best")


def test_a_second_tower_that_is_not_finite_is_refused(world: Path) -> None:
    towers = ["--tasks", "sts", "--pair-encoding", "siamese", "--towers", "separate"]
    run(world, "--name", "two", *ONE_EPOCH, *towers)
    best = world / "runs/two/best"
    (best / "manifest.json").unlink()  # as if nobody knew what was saved
    tower = load_tensors(best / "second.safetensors")
    tower["pooler.dense.bias"][0] = torch.nan
    save_tensors(tower, best / "second.safetensors")
    with pytest.raises(UserError, match=r"second.safetensors: pooler_dense.bias is not finite"):
        load_multitask(best)


def test_a_damaged_file_gets_no_new_hash(world: Path) -> None:
    """When a run's end puts temperatures into its best/."""
    run(world, "--name", "one", *ONE_EPOCH)
    best = world / "runs/one/best"
    keep_temperatures(best, {"sst": 1.5})
    assert has_all_content(best)
    size, _ = read_manifest(best)["tokenizer.json"]
    (best / "tokenizer.json").write_bytes(b"x" * size)
    with pytest.raises(UserError, match=r"tokenizer.json: damaged: its content is not what was"):
        keep_temperatures(best, {"sst": 2.5})
    assert not has_all_content(best)
