"""A data file that is edited while it is read is not taken for what it was before."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import pretrain_mlm
import train_multitask
from minbert import BertTokenizer, UserError
from minbert.data import corpus, id_cache
from minbert.data.examples import Example
from minbert.files import read_json
from minbert.manifest import sha256_of
from minbert.run import fine_tuning, teachers
from minbert.task.dev_rows import check_dev_rows, drawn_earlier, id_and_digest
from tasks import TASKS
from tests.conftest import arguments, cut, run, weights
from tests.test_stopping import interrupt_at
from tests.test_teachers import outputs_of, teach


def edit_after(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, file: Path
) -> Callable[[], None]:
    """Let a function of a module be followed by an edit of a file; return what undoes both."""
    original, before = getattr(module, name), file.read_text()

    def edited(*args: Any, **options: Any) -> Any:
        result = original(*args, **options)
        result = list(result) if name == "corpus_texts" else result  # it reads as it is asked
        file.write_text(before.replace("cat", "dog"))
        return iter(result) if name == "corpus_texts" else result

    def undo() -> None:
        monkeypatch.undo()
        file.write_text(before)

    monkeypatch.setattr(module, name, edited)
    return undo


@pytest.mark.parametrize(
    ("module", "name"), [(fine_tuning, "load_train_and_dev"), (id_cache, "encode_files")]
)
def test_a_run_does_not_begin_with_it(
    world: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    undo = edit_after(monkeypatch, module, name, world / "data/ids-sst-train.csv")
    with pytest.raises(UserError, match=r"ids-sst-train\.csv: changed while it was read; give"):
        run(world, "--name", "run", "--epochs", "1", "--skip-predictions")
    if module is id_cache:
        assert not list((world / "runs/.ids").glob("*.npz"))
    undo()
    assert run(world, "--name", "run", "--epochs", "1", "--skip-predictions") == 0


def test_what_is_edited_later_is_recorded_as_it_was_read(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = world / "data/ids-sst-train.csv"
    digest = sha256_of(file)
    edit_after(monkeypatch, fine_tuning, "train_heads", file)
    run(world, "--name", "run", "--epochs", "1", "--skip-predictions", "--heads-first", "1")
    assert sha256_of(file) != digest
    state = json.loads((world / "runs/run/last/state.json").read_text())
    assert state["data"]["sst train"] == digest


def test_a_run_does_not_go_on_with_a_teacher_that_was_trained_anew(world: Path) -> None:
    """Its outputs are made again, and are others than the run began with."""
    options = ["--tasks", "sst", "--steps", "2", "--skip-predictions", "--name"]
    teacher, folder = world / "runs/teacher", world / "runs/run"
    run(world, *options, "teacher")
    run(world, *options, "run", "--teacher", str(teacher))
    shutil.rmtree(folder / "teachers")
    assert train_multitask.main(["--resume", str(folder)]) == 0
    for gone in (folder / "teachers", teacher):
        shutil.rmtree(gone)
    run(world, *options, "teacher", "--seed", "1")
    with pytest.raises(UserError, match=r"teachers/sst\S*\.npy: not what .*runs/run began with"):
        train_multitask.main(["--resume", str(folder)])


def test_a_corpus_is_read_again(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = world / "corpus.txt"
    file.write_text("red cat runs\n" * 30)
    undo = edit_after(monkeypatch, corpus, "corpus_texts", file)
    argv = arguments(world, "--name", "run", "--corpus", str(file), "--held-out", "0")
    del argv[argv.index("--tasks") : argv.index("--tasks") + 2]
    with pytest.raises(UserError, match=r"corpus.txt: changed while it was read; give the command"):
        pretrain_mlm.main(argv)
    assert not list((world / "runs/.ids").glob("corpus-*.json"))
    undo()
    assert pretrain_mlm.main(argv) == 0


def test_a_corpus_is_complete_when_its_file_is_seen_to_be_the_same(
    tmp_path: Path, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(hashes: dict[Path, str]) -> None:
        raise RuntimeError("stopped")

    file = tmp_path / "corpus.txt"
    file.write_text("red cat runs\n" * 30)
    monkeypatch.setattr(corpus, "check_unchanged", stop)
    tokenizer = BertTokenizer.from_directory(world / "model")
    with pytest.raises(RuntimeError, match="stopped"):
        corpus.load_corpus({file: sha256_of(file)}, tokenizer, 16, tmp_path)
    (journal,) = tmp_path.glob("corpus-*.json")
    assert not read_json(journal)["complete"]


def test_a_teacher_is_asked_again(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--name", "run", "--epochs", "1", "--skip-predictions", *teach(world)]
    undo = edit_after(monkeypatch, teachers, "teacher_outputs", world / "data/ids-sst-train.csv")
    with pytest.raises(UserError, match="--teacher sst: the run or the training rows changed"):
        run(world, *options)
    assert not list((world / "runs/.teachers").glob("*.npy"))
    undo()
    assert run(world, *options) == 0


def reverse_rows(file: Path) -> None:
    header, *rows = file.read_text().splitlines()
    file.write_text("\n".join([header, *rows[::-1]]) + "\n")


@pytest.mark.parametrize(
    ("more", "step", "taught"),
    [([], 0, "cut"), (["--mode", "single"], 3, "cut/sts"), (["--seeds", "2"], 0, "cut/seed-11712")],
)
def test_a_run_that_has_not_begun_has_its_teachers_read_the_rows_of_now(
    world: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], step: int, taught: str
) -> None:
    """It is stopped before its first checkpoint, or in the run before it."""
    options = [*teach(world), "--epochs", "1", "--skip-predictions", *more]

    def killed(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises((SystemExit, KeyboardInterrupt)):
        if step:
            interrupt_at(patch, step)
        else:
            patch.setattr(train_multitask, "evaluate", killed)
        run(world, "--name", "cut", *options)
    reverse_rows(world / "data/sts-train.csv")
    (world / "runs/teachers").rename(world / "away")
    with pytest.raises(UserError, match=r"teachers/sts-\w+.npy: not of the .*, and the .* is gone"):
        train_multitask.main(["--resume", str(world / "runs/cut")])
    (world / "away").rename(world / "runs/teachers")
    train_multitask.main(["--resume", str(world / "runs/cut")])
    run(world, "--name", "new", *options)
    a, b = (weights(world / "runs" / n / "last") for n in (taught, taught.replace("cut", "new")))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_that_has_begun_lets_no_teacher_read_other_rows(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--epochs", "1", "--skip-predictions", *teach(world)]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(patch, 3)
        run(world, "--name", "run", *options)
    folder = world / "runs/run"
    before = outputs_of(folder, "sts").read_bytes()
    reverse_rows(world / "data/sts-train.csv")
    with pytest.raises(UserError, match=r"sts-train.csv: not what .*runs/run began with"):
        train_multitask.main(["--resume", str(folder)])
    assert outputs_of(folder, "sts").read_bytes() == before
    reverse_rows(world / "data/sts-train.csv")
    for gone in ("teachers", ".teachers"):
        shutil.rmtree(world / "runs" / gone)
    for task in ("sst", "sts"):  # as older runs have them
        outputs_of(folder, task).rename(folder / f"teachers/{task}.npy")
        (file,) = (folder / "teachers").glob(f"{task}-*.sha256")
        file.rename(folder / f"teachers/{task}.npy.sha256")
    assert train_multitask.main(["--resume", str(folder)]) == 0


def test_a_corrected_title_leaves_a_teacher_s_outputs_those_of_the_rows(world: Path) -> None:
    cut(world, 3, "--name", "run", "--epochs", "1", "--skip-predictions", *teach(world))
    for gone in ("teachers", ".teachers"):
        shutil.rmtree(world / "runs" / gone)
    tasks = world / "runs/run/tasks.toml"
    text = tasks.read_text()
    tasks.write_text(text.replace('title = "SST"', 'title = "Sentiment"'))
    assert tasks.read_text() != text
    assert train_multitask.main(["--resume", str(world / "runs/run")]) == 0


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("data/ids-sst-train.csv", "not what .* began with"),
        ("model/config.json", "--model .*: n"),
    ],
)
def test_a_command_s_later_runs_have_the_data_and_the_model_of_its_first(
    world: Path, monkeypatch: pytest.MonkeyPatch, file: str, why: str
) -> None:
    """Hours may lie between them, and edits."""
    text = (world / file).read_text()
    edit_after(monkeypatch, train_multitask, "finish", world / file)
    (world / file).write_text(text + "\n")
    options = ["--tasks", "sst", "--epochs", "1", "--seeds", "2", "--skip-predictions"]
    with pytest.raises(UserError, match=why):
        run(world, "--name", "run", *options)
    assert (world / "runs/run/seed-11711/last").is_dir()
    assert not (world / "runs/run/seed-11712/last").exists()


def test_other_ends_of_lines_inside_a_text_make_no_other_text() -> None:
    """As git or an editor writes a whole file anew."""
    unix, windows = Example("1", "red\ncat", "a\nb"), Example("1", "red\r\ncat", "a\r\nb")
    mixed = Example("1", "red\r\ncat", "a\nb")
    for kept in (unix, windows, mixed):
        digests = frozenset([id_and_digest(kept)])
        task = replace(TASKS["sts"], dev_ids=frozenset("1"), dev_entries=digests)
        for now in [mixed] if kept is mixed else [unix, windows]:
            check_dev_rows(task, [now], "f.csv")
            assert drawn_earlier(task, [now, Example("2", "dog")], digests).tolist() == [
                True,
                False,
            ]
        with pytest.raises(UserError, match=r"gone or have another .*: give --data-dir the"):
            check_dev_rows(task, [replace(unix, text="red cat")], "f.csv")
