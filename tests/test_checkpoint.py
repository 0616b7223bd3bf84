"""A directory is whole or not there, wherever the writing was cut."""

from pathlib import Path

import pytest

from minbert import UserError
from minbert.run.checkpoint import MANIFEST, atomic_directory, check_manifest, is_whole, recover


def write(path: Path, text: str) -> None:
    with atomic_directory(path) as folder:
        (folder / "file").write_text(text)


def content(path: Path) -> str:
    recover(path)
    assert is_whole(path)
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


@pytest.mark.parametrize("beside", ["new", "old"])
def test_cut_between_the_two_renames(tmp_path: Path, beside: str) -> None:
    write(tmp_path / "last", "saved")
    (tmp_path / "last").rename(tmp_path / f"last.{beside}")
    assert content(tmp_path / "last") == "saved"


def test_to_look_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "last", "saved")
    (tmp_path / "last").rename(tmp_path / "last.old")
    assert not is_whole(tmp_path / "last")
    assert [p.name for p in tmp_path.iterdir()] == ["last.old"]


def test_new_wins_over_old_if_it_is_whole(tmp_path: Path) -> None:
    write(tmp_path / "last", "older")
    (tmp_path / "last").rename(tmp_path / "last.old")
    (tmp_path / "last.new").mkdir()
    (tmp_path / "last.new" / "file").write_text("half")
    assert content(tmp_path / "last") == "older"
    write(tmp_path / "last", "newer")
    assert content(tmp_path / "last") == "newer"


def test_an_old_one_left_behind_is_no_obstacle(tmp_path: Path) -> None:
    write(tmp_path / "last.old", "oldest")
    for text in ("one", "two"):
        write(tmp_path / "last", text)
    assert content(tmp_path / "last") == "two" and not (tmp_path / "last.old").exists()


def test_damage_is_named(tmp_path: Path) -> None:
    assert not is_whole(tmp_path / "last")
    write(tmp_path / "last", "some text")
    (tmp_path / "last" / "file").write_text("some")
    with pytest.raises(UserError, match=r"file: missing or cut short \(expected 9 bytes\)"):
        check_manifest(tmp_path / "last")
    (tmp_path / "last" / MANIFEST).unlink()
    with pytest.raises(UserError, match="not a finished checkpoint"):
        is_whole(tmp_path / "last")
