"""What is damaged or was changed in a run's folder is seen, and said."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import evaluate
import train_multitask
from minbert import MultitaskModel, UserError
from minbert.cli import flag_of
from minbert.files import read_json_lines as read_log
from minbert.manifest import write_manifest
from minbert.model.multitask import load_multitask
from minbert.report.files import read_runs, write_report
from minbert.run_files import ARGS
from minbert.tensors import load_pickled, load_tensors, save_tensors
from tests.conftest import run


def test_a_flipped_bit_in_a_checkpoint_is_seen(world: Path) -> None:
    run(world, "--name", "run")
    for name in ("model.safetensors", "heads.safetensors", "optimizer.safetensors", "state.json",
                 "heads.json", "config.json", "tokenizer.json"):  # fmt: skip
        file = world / "runs/run/last" / name
        whole = file.read_bytes()
        file.write_bytes(whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:])
        with pytest.raises(UserError, match=f"{name}: damaged") as error:
            train_multitask.main(["--resume", str(world / "runs/run")])
        assert "\n" not in str(error.value)
        file.write_bytes(whole)
    assert train_multitask.main(["--resume", str(world / "runs/run")]) == 0


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors", "manifest.json"])
def test_a_run_does_not_go_on_beside_a_damaged_best(
    world: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody reads best/ before the end, and a best step may not come again."""
    run(world, "--name", "run", "--epochs", "1", "--save-task-best")
    for folder in ("best", "best-sst"):
        directory = world / "runs/run" / folder
        whole = (directory / name).read_bytes()
        for damaged in (whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:], whole[:-1], b""):
            (directory / name).write_bytes(damaged)
            mend = rf"{folder}.*; or delete {directory}: the best step from 10 on takes its place"
            with pytest.raises(UserError, match=mend) as error:
                train_multitask.main(["--resume", str(world / "runs/run")])
            assert "\n" not in str(error.value)
        shutil.rmtree(directory)
        assert train_multitask.main(["--resume", str(world / "runs/run")]) == 0
        assert f"{directory}: gone; the best step from 10 on" in capsys.readouterr().out
        assert (directory / name).is_file()


def test_a_folder_that_is_no_task_s_best_is_left_alone(world: Path) -> None:
    run(world, "--name", "run", "--epochs", "1")
    mine = world / "runs/run/best-onnx/model.onnx"
    mine.parent.mkdir()
    mine.write_text("mine")
    assert train_multitask.main(["--resume", str(world / "runs/run")]) == 0
    assert mine.read_text() == "mine"


def test_a_damaged_checkpoint_is_named(world: Path) -> None:
    run(world, "--name", "run")
    file = world / "runs/run/last/optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"optimizer\.safetensors: missing or cut short"):
        train_multitask.main(["--resume", str(world / "runs/run")])


def test_arguments_that_are_no_arguments(world: Path, a_run: Callable[..., Path]) -> None:
    path = a_run(world, "--epochs", "1", "--skip-predictions").rename(world / "runs/run") / ARGS
    whole = path.read_text()
    path.write_text("[]")
    with pytest.raises(UserError, match=r"args.json: not an object of arguments; .* is damaged"):
        train_multitask.main(["--resume", str(path.parent)])
    path.write_text(whole.replace('"epochs": 1', '"epochs": 2'))
    steps = "is a run of 10 steps, by its files as they are now it would be 20: put its args.json"
    with pytest.raises(UserError, match=steps):
        train_multitask.main(["--resume", str(path.parent)])


def test_a_best_without_its_config(world: Path, a_run: Callable[..., Path]) -> None:
    folder = a_run(world, "--epochs", "1", "--skip-predictions")
    (folder / "best/config.json").unlink()
    with pytest.raises(UserError, match=r"best: damaged: no config.json in it; name the run's"):
        MultitaskModel.load(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("schedule", "x"), ("mode", "x"), ("hidden_dropout_prob", 2**63), ("accumulate", 0),
        ("lr", -5), ("seed", -1), ("epochs", -3), ("max_length", 1), ("precision", "x"),
        ("limit", {"sst": -1}), ("kernels", "x"), ("batch_size", "x"), ("pooling", "x"),
    ],
)  # fmt: skip
def test_a_saved_argument_is_checked_as_its_flag_is(
    world: Path, name: str, value: object, a_run: Callable[..., Path]
) -> None:
    a_run(world, "--epochs", "1", "--skip-predictions").rename(world / "runs/run")
    path = world / "runs/run/args.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    message = f"args.json: {name} is .*, which {flag_of(name)} does not take; the file is damaged"
    with pytest.raises(UserError, match=message):
        train_multitask.main(["--resume", str(world / "runs/run")])


def test_a_task_that_a_run_has_no_head_of_is_named(world: Path) -> None:
    run(world, "--name", "run", "--epochs", "1", "--tasks", "sst", "--skip-predictions")
    path = world / "runs/run/args.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tasks": ["sst", "sts"]}))
    with pytest.raises(UserError, match=r"run/last: no head of sts, a task of the run; the file"):
        train_multitask.main(["--resume", str(world / "runs/run")])


@pytest.mark.parametrize("name", ["args.json", "tasks.toml"])
def test_what_was_changed_in_a_run_is_used_and_said(
    world: Path, name: str, capsys: pytest.CaptureFixture[str], a_run: Callable[..., Path]
) -> None:
    """By a person or by a damaged disk: max_length decides what is read, a title what is shown."""
    a_run(world, "--epochs", "1", "--skip-predictions").rename(world / "runs/run")
    folder = world / "runs/run"
    uses = {
        "predict": lambda: MultitaskModel.load(folder),
        "evaluate": lambda: evaluate.main(["--checkpoint", str(folder)]),
        "resume": lambda: train_multitask.main(["--resume", str(folder)]),
        "report": lambda: read_runs(folder),
    }
    for use in uses.values():
        use()
        assert "not what the run wrote" not in capsys.readouterr().err
    written = {file: (folder / file).read_text() for file in ("args.json", "tasks.toml")}
    changed = written[name].replace('"max_length": 32', '"max_length":16').replace("SST", "Films")
    for use in uses.values():
        for file, text in {**written, name: changed}.items():
            (folder / file).write_text(text)
        use()
        err = capsys.readouterr().err
        assert err.count("not what the run wrote") == 1 and f"{folder / name}: not what" in err
    model = MultitaskModel.load(folder)
    used = (model.max_length, model.tasks["sst"].title)
    assert used == ((16, "SST") if name == "args.json" else (32, "Films"))


def test_heads_that_are_not_finite_or_huge_are_refused(
    world: Path, a_run: Callable[..., Path]
) -> None:
    a_run(world, "--epochs", "1", "--skip-predictions").rename(world / "runs/run")
    best = world / "runs/run/best"
    (best / "manifest.json").unlink()  # as if nobody knew what was saved
    heads = load_tensors(best / "heads.safetensors")
    configs = (best / "heads.json").read_text()
    (best / "heads.json").write_text(configs.replace('"outputs": 5', '"outputs": 2147483648'))
    with pytest.raises(UserError, match="not a head of this program"):
        load_multitask(best)
    for name in ("s.t", "values"):  # which no torch module may have
        (best / "heads.json").write_text(configs.replace('"sst"', f'"{name}"'))
        with pytest.raises(UserError, match=r"heads.safetensors and heads.json do not fit"):
            load_multitask(best)
    (best / "heads.json").write_text(configs)
    heads["sst.bias"][0] = torch.nan
    save_tensors(heads, best / "heads.safetensors")
    with pytest.raises(UserError, match=r"heads.safetensors: sst.bias is not finite"):
        load_multitask(best)


@pytest.mark.parametrize(
    ("task", "key", "value"),
    [
        ("sts", "shift", 2**64), ("sts", "shift", 1e300), ("sts", "unit", -1),
        ("sts", "unit", 1e40), ("sst", "unit", 2**63), ("sst", "shift", 3),
        ("sst", "per_word", True), ("sst", "temperature", 0), ("sst", "layers", [0]),
    ],
)  # fmt: skip
def test_a_head_of_another_kind_is_refused(
    world: Path, task: str, key: str, value: float, a_run: Callable[..., Path]
) -> None:
    """Where nobody knows what was saved; 2^64 is a number, if no task's."""
    a_run(world, "--epochs", "1", "--skip-predictions").rename(world / "runs/run")
    for folder in ("best", "last"):
        path = world / "runs/run" / folder / "heads.json"
        heads = json.loads(path.read_text())
        path.write_text(json.dumps(heads | {task: heads[task] | {key: value}}))
        (path.parent / "manifest.json").unlink()
        write_manifest(path.parent)
    for use in (
        lambda: MultitaskModel.load(world / "runs/run", "cpu").predict("sst", ["red cat"]),
        lambda: train_multitask.main(["--resume", str(world / "runs/run")]),
    ):
        if value == 2**64:
            use()
        else:
            with pytest.raises(UserError, match=r"heads.json: .*the file is damaged"):
                use()


def test_a_log_with_damaged_lines_keeps_the_others(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(world, "--name", "run")
    path = world / "runs/run/log.jsonl"
    whole = path.read_bytes()
    path.write_bytes(b"\0" * 50 + b"\n" + whole + b"[" * 100_000 + b"\n" + b"\0" * 9)
    with pytest.raises(UserError, match=r"log.jsonl:1: damaged, take that line out"):
        read_log(path)
    train_multitask.main(["--resume", str(world / "runs/run")])
    assert "damaged lines left out: 2" in capsys.readouterr().out
    assert len(read_log(path)) == whole.count(b"\n") + 1  # "resume"


def test_a_log_that_ends_in_a_damaged_line_stops_no_other_run(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(world, "--name", "two", "--seeds", "2", "--epochs", "1", "--skip-predictions")
    with (world / "runs/two/seed-11711/log.jsonl").open("ab") as log:
        log.write(b"\0" * 9 + b"\n")
    assert train_multitask.main(["--resume", str(world / "runs/two")]) == 0
    assert "seed-11711/log.jsonl: damaged lines left out: 1" in capsys.readouterr().out


def test_a_log_that_is_gone_is_said(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(world, "--name", "run", "--epochs", "1")
    (world / "runs/run/log.jsonl").unlink()
    train_multitask.main(["--resume", str(world / "runs/run")])
    assert "log.jsonl: gone; it begins anew at step 10" in capsys.readouterr().out


@pytest.mark.parametrize("zipped", [True, False])
def test_only_what_torch_saved_is_tried_as_such(tmp_path: Path, zipped: bool) -> None:
    """Turned around, such a file is read as a pickle whose lengths are any number."""
    path = tmp_path / "weights.bin"
    torch.save({"a": torch.arange(3)}, path, _use_new_zipfile_serialization=zipped)
    assert torch.equal(load_pickled(path)["a"], torch.arange(3))
    path.write_bytes(path.read_bytes()[60:] + path.read_bytes()[:60])
    with pytest.raises(UserError, match=r"weights\.bin: not a file of torch\.save"):
        load_pickled(path)


def test_half_a_character_in_a_file_of_a_run_is_damage(world: Path) -> None:
    """As an escape it is valid JSON, and no text that could be written or name a file."""
    run(world, "--name", "run")
    path = world / "runs/run/args.json"
    whole = path.read_text()
    path.write_text(whole.replace('"model": "', '"model": "\\ud800'))
    with pytest.raises(UserError, match=r"args\.json: cannot be read"):
        train_multitask.main(["--resume", str(world / "runs/run")])
    path.write_text(whole.replace('"model": "', '"model": "\\ud83d\\ude00'))  # a whole one
    assert train_multitask.main(["--resume", str(world / "runs/run")]) == 0


@pytest.mark.parametrize("key", ["title", "worst"])
def test_findings_without_a_part_are_named(world: Path, key: str) -> None:
    run(world, "--name", "run", "--epochs", "1")
    path = world / "runs/run/findings.json"
    found = json.loads(path.read_text())
    del found["sts"][key]
    path.write_text(json.dumps(found))
    with pytest.raises(UserError, match=rf"sts: .*'{key}' is missing; the file is damaged"):
        read_runs(world / "runs/run")


def test_a_report_of_what_is_not_there_has_a_dash(world: Path) -> None:
    """A row without a confidence; a score that cannot be drawn is refused.

    An end without a best step has no table of it.
    """
    run(world, "--name", "run", "--epochs", "1")
    folder = world / "runs/run"
    page = folder / "report.html"
    before = page.read_text().count("<td>-</td>")
    found = json.loads((folder / "findings.json").read_text())
    found["sst"]["worst"][1].pop("confidence")
    (folder / "findings.json").write_text(json.dumps(found))
    lines = read_log(folder / "log.jsonl")
    lines[-1]["best"] = None
    (folder / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    write_report(folder)
    assert page.read_text().count("<td>-</td>") == before + 1
    found["sts"]["worst"][0]["gold"] = "inf"
    (folder / "findings.json").write_text(json.dumps(found))
    with pytest.raises(UserError, match=r"findings.json: 'inf' is not a score"):
        write_report(folder)


def test_a_missing_argument_is_no_default(world: Path) -> None:
    run(world, "--name", "run", "--epochs", "1", "--skip-predictions")
    path = world / "runs/run/args.json"
    saved = json.loads(path.read_text())
    del saved["seed"]
    path.write_text(json.dumps(saved))
    with pytest.raises(UserError, match=r"args\.json: seed is missing; the file is damaged"):
        train_multitask.main(["--resume", str(world / "runs/run")])
