"""A directory is whole or not there, wherever the writing was cut."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from minbert import UserError
from minbert.files import HOST, read_json, replaced_file, write_text
from minbert.manifest import MANIFEST, whole_directory_of
from minbert.run.checkpoint import (
    MOMENTS,
    STATE,
    TaskBest,
    TrainState,
    atomic_directory,
    check_manifest,
    load_training_state,
    recover,
    recover_all,
    save_training_state,
)
from minbert.tensors import save_tensors


def write(path: Path, text: str) -> None:
    with atomic_directory(path) as folder:
        (folder / "file").write_text(text)


def content(path: Path) -> str:
    recover(path)
    check_manifest(path)
    return (path / "file").read_text()


def test_replaced_as_a_whole(tmp_path: Path) -> None:
    for text in ("one", "two"):
        write(tmp_path / "last", text)
        assert content(tmp_path / "last") == text
    assert [p.name for p in tmp_path.iterdir()] == ["last"]


def test_a_failure_leaves_the_old_one(tmp_path: Path) -> None:
    write(tmp_path / "last", "one")
    with pytest.raises(OSError), atomic_directory(tmp_path / "last") as folder:
        (folder / "file").write_text("half")
        raise OSError("disk full")
    assert content(tmp_path / "last") == "one"
    write(tmp_path / "last", "two")
    assert content(tmp_path / "last") == "two"


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "ids"
    with replaced_file(file) as new:
        new.write(b"one")
    with pytest.raises(OSError, match="disk full"), replaced_file(file) as new:
        new.write(b"half")
        raise OSError("disk full")
    assert file.read_bytes() == b"one"
    gone = subprocess.Popen(["true"])
    gone.wait()
    for name in (f"ids.{HOST}.{gone.pid}.new", f"ids.{HOST}.{os.getppid()}.new", "mine.new"):
        (file.parent / name).touch()
    write_text(file, "two")  # what a killed process left of it goes, too, no other file
    left = {"ids", f"ids.{HOST}.{os.getppid()}.new", "mine.new"}
    assert {path.name for path in file.parent.iterdir()} == left


@pytest.mark.parametrize("save", [write, write_text])
def test_content_is_on_the_disk_before_its_name_and_the_name_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: Callable[[Path, str], None]
) -> None:
    """Otherwise a power cut could leave a name without its content."""
    on_disk: set[int] = set()  # inodes
    fsync, replace = os.fsync, os.replace

    def watched_fsync(handle: int) -> None:
        fsync(handle)
        on_disk.add(os.fstat(handle).st_ino)

    def watched_replace(source: Path, target: Path) -> None:
        assert {path.stat().st_ino for path in (source, *source.rglob("*"))} <= on_disk
        replace(source, target)
        on_disk.clear()

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    save(tmp_path / "saved", "one")
    assert on_disk == {tmp_path.stat().st_ino}


def test_links_and_pipes_stay_what_they_are(tmp_path: Path) -> None:
    file, link, pipe = tmp_path / "file", tmp_path / "link", tmp_path / "pipe"
    file.write_text("old")
    link.symlink_to(file)
    write_text(link, "new")
    assert link.is_symlink() and file.read_text() == "new"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "piped")
    assert pipe.is_fifo() and os.read(reader, 9) == b"piped"
    os.close(reader)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "link", "pipe"}


@pytest.mark.parametrize("beside", ["new", "old"])
def test_cut_between_the_two_renames(tmp_path: Path, beside: str) -> None:
    write(tmp_path / "last", "saved")
    (tmp_path / "last").rename(tmp_path / f".last.{beside}")
    assert content(tmp_path / "last") == "saved"


def test_to_look_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "last", "saved")
    (tmp_path / "last").rename(tmp_path / ".last.old")
    assert whole_directory_of(tmp_path / "last").name == ".last.old"
    assert [p.name for p in tmp_path.iterdir()] == [".last.old"]


def test_new_wins_over_old_if_it_is_whole(tmp_path: Path) -> None:
    write(tmp_path / "last", "older")
    (tmp_path / "last").rename(tmp_path / ".last.old")
    (tmp_path / ".last.new").mkdir()
    (tmp_path / ".last.new" / "file").write_text("half")
    assert content(tmp_path / "last") == "older"
    (tmp_path / "last").rename(tmp_path / ".last.old")
    write(tmp_path / "newer", "newer")
    (tmp_path / "newer").rename(tmp_path / ".last.new")  # as a kill between two renames leaves it
    assert content(tmp_path / "last") == "newer"
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_an_old_one_left_behind_is_no_obstacle(tmp_path: Path) -> None:
    write(tmp_path / ".last.old", "oldest")
    for text in ("one", "two"):
        write(tmp_path / "last", text)
    assert content(tmp_path / "last") == "two" and not (tmp_path / ".last.old").exists()


def test_a_copy_of_the_user_s_stays(tmp_path: Path) -> None:
    """Beside a whole directory, and where a run that goes on replaces one that was moved away."""
    for name in ("best", "best-sst", "last"):
        write(tmp_path / name, "mine")
        shutil.copytree(tmp_path / name, tmp_path / f"{name}.old")
        write(tmp_path / name, "saved")
    recover_all(tmp_path)
    (tmp_path / "best").rename(tmp_path / "best.new")
    write(tmp_path / "best", "later")
    assert content(tmp_path / "best") == "later" and content(tmp_path / "best.new") == "saved"
    for name in ("best", "best-sst", "last"):
        assert content(tmp_path / f"{name}.old") == "mine"


@pytest.mark.parametrize("beside", ["new", "old"])
def test_a_run_of_before_was_cut_between_the_two_renames(tmp_path: Path, beside: str) -> None:
    for name in ("best", "best-sst", "last"):
        write(tmp_path / name, "saved")
        (tmp_path / name).rename(tmp_path / f"{name}.{beside}")
        assert whole_directory_of(tmp_path / name).name == f"{name}.{beside}"
    recover_all(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"best", "best-sst", "last"}


@pytest.mark.parametrize("cut", ["", "new", "old"])
def test_a_link_to_another_disk_stays(tmp_path: Path, cut: str) -> None:
    run, disk = tmp_path / "run", tmp_path / "disk"
    for folder in (run, disk):
        folder.mkdir()
    write(disk / "mine", "one")
    (run / "last").symlink_to(disk / "mine")
    if cut:  # between the two renames
        (disk / "mine").rename(disk / f".mine.{cut}")
        assert whole_directory_of(run / "last") == disk / f".mine.{cut}"
        assert content(run / "last") == "one"
    for text in ("two", "three"):
        write(run / "last", text)
        assert content(run / "last") == text
    assert (run / "last").is_symlink() and [path.name for path in disk.iterdir()] == ["mine"]


def test_damage_is_named(tmp_path: Path) -> None:
    write(tmp_path / "last", "some text")
    (tmp_path / "last" / "file").write_text("some")
    with pytest.raises(UserError, match=r"file: missing or cut short \(expected 9 bytes\)"):
        check_manifest(tmp_path / "last")
    (tmp_path / "last" / MANIFEST).unlink()
    with pytest.raises(UserError, match="not a finished checkpoint"):
        check_manifest(tmp_path / "last")


@pytest.mark.parametrize("beside", ["new", "old"])
def test_a_torn_directory_gives_way_to_a_whole_one(tmp_path: Path, beside: str) -> None:
    """After a power cut between renames: to go on, and only to read."""
    write(tmp_path / f".last.{beside}", "whole")
    write(tmp_path / "torn", "cut short")
    (tmp_path / "torn").rename(tmp_path / "last")
    (tmp_path / "last/file").write_text("cut")
    assert whole_directory_of(tmp_path / "last").name == f".last.{beside}"
    assert (tmp_path / "last/file").read_text() == "cut"  # to look changes nothing
    assert content(tmp_path / "last") == "whole"


def test_a_damaged_directory_gives_way_to_a_whole_one(tmp_path: Path, capsys) -> None:
    """Of the right size, as after a power cut, with the one before beside it."""
    write(tmp_path / ".last.old", "whole")
    write(tmp_path / "damaged", "other")
    (tmp_path / "damaged").rename(tmp_path / "last")
    (tmp_path / "last/file").write_bytes(bytes(5))
    assert whole_directory_of(tmp_path / "last").name == ".last.old"
    assert content(tmp_path / "last") == "whole"
    assert "last: damaged; .last.old, which a stopped save left, takes" in capsys.readouterr().out


def test_a_flipped_bit_is_seen_when_the_file_is_read(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "last") as folder:
        (folder / "numbers.json").write_text("[1, 2]")
    assert read_json(tmp_path / "last/numbers.json") == [1, 2]
    (tmp_path / "last/numbers.json").write_text("[1, 3]")
    with pytest.raises(UserError, match=r"numbers.json: damaged: its content is not what was"):
        read_json(tmp_path / "last/numbers.json")


def test_a_manifest_of_before_has_sizes_alone(tmp_path: Path) -> None:
    write(tmp_path / "last", "some text")
    (tmp_path / "last" / MANIFEST).write_text(json.dumps({"file": 9}))
    check_manifest(tmp_path / "last")
    for content_ in ("[]", "3", '{"file": {}}', '{"file": {"size": "x", "sha256": 3}}', "{"):
        (tmp_path / "last" / MANIFEST).write_text(content_)
        with pytest.raises(UserError, match=r"no readable manifest.json"):
            check_manifest(tmp_path / "last")


def test_a_failure_leaves_no_half_of_a_directory_or_file(tmp_path: Path) -> None:
    with pytest.raises(OSError), atomic_directory(tmp_path / "last"):
        raise OSError("disk full")
    with pytest.raises(OSError), replaced_file(tmp_path / "file") as file:
        file.write(b"half")
        raise OSError("disk full")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_weights_can_be_read_by_whom_other_files_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: int
) -> None:
    """The mask is not set to be read: files that other threads make then would be open to all."""
    before = os.umask(mask)
    try:
        with monkeypatch.context() as patch:
            patch.delattr(os, "umask")
            save_tensors({"a": torch.ones(2)}, tmp_path / "a.safetensors")
        (tmp_path / "b").write_text("")
    finally:
        os.umask(before)
    modes = {(tmp_path / name).stat().st_mode for name in ("a.safetensors", "b")}
    assert len(modes) == 1


def test_a_state_of_other_values_is_refused() -> None:
    saved = TrainState(steps=10, task_best={"sst": TaskBest(0.5, 4)}).to_json()
    assert TrainState.from_json(saved, "state.json").task_best == {"sst": TaskBest(0.5, 4)}
    for change, message in (({"step": 11}, "step 11 of 10"), ({"x": 1}, "'x' is not a key")):
        with pytest.raises(UserError, match=message):
            TrainState.from_json(saved | change, "state.json")
    del saved["task_best"]["sst"]["score"]
    with pytest.raises(UserError, match=r"state.json: task_best: sst: .*score"):
        TrainState.from_json(saved, "state.json")
    with pytest.raises(AttributeError):
        TrainState(steps=10).since_bset = 1


def test_every_parameter_gets_its_own_moments(tmp_path: Path) -> None:
    """Also for a head called "second", as the oldest runs called the second tower."""
    model = nn.ModuleDict(
        {"second_tower": nn.Linear(1, 1), "heads": nn.ModuleDict(
            {name: nn.Linear(1, 1) for name in ("second", "second_tower")})}
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for number, p in enumerate(model.parameters()):
        optimizer.state[p] = {"exp_avg": torch.full_like(p, number), "step": 1}
    save_training_state(tmp_path, model, optimizer, TrainState(step=1, steps=1))
    read = torch.optim.SGD(model.parameters(), lr=1.0)
    load_training_state(tmp_path, model, read)
    moments = [read.state[p]["exp_avg"].item() for p in model.parameters()]
    assert moments == list(range(len(moments)))

    save_tensors({"exp_avg/second.weight": torch.full((1, 1), 7.0)}, tmp_path / MOMENTS)
    state = read_json(tmp_path / STATE) | {"optimizer_steps": {"second.weight": 1}}
    write_text(tmp_path / STATE, json.dumps(state))
    read = torch.optim.SGD(model.parameters(), lr=1.0)
    load_training_state(tmp_path, model, read)
    assert read.state[model["second_tower"].weight]["exp_avg"].item() == 7
