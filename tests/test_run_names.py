"""A new run takes the name of a start that failed, and of nothing else: its folder is emptied."""

import json
from pathlib import Path

import pytest

from minbert import UserError
from minbert.files import HOST
from minbert.run.rundir import new_run


def write(folder: Path, *names: str, text: str = "") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    "name",
    [
        "teachers/sst/last/state.json", "teachers/notes.txt", "tensorboard/sst/args.json",
        "tensorboard/notes.txt", "last.new/state.json", "mine.new", "events.out.1", "sst.npy",
    ],
)  # fmt: skip
def test_what_no_start_makes_is_never_removed(tmp_path: Path, name: str) -> None:
    """Finished runs in folders that are called as a run's own, files of the user's."""
    write(tmp_path / "run", ".lock", "args.json", name)
    with pytest.raises(UserError, match="run exists: --resume run goes on, another --name is new"):
        new_run(tmp_path, "run", "", Path())
    assert (tmp_path / "run" / name).is_file()
    assert new_run(tmp_path, "", "run", Path()).name == "run-2"


def test_what_a_link_leads_to_is_the_user_s(tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/sst.npy", "run/args.json")
    (tmp_path / "run/teachers").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="run exists"):
        new_run(tmp_path, "run", "", Path())


def test_what_a_start_makes_is_removed(tmp_path: Path) -> None:
    """Whatever of its arguments, its teachers' outputs and its first save was written."""
    names = ("teachers/sst.npy", f"teachers/sst.npy.{HOST}.1.new", "teachers/sst.npy.sha256",
             "tensorboard/events.out.tfevents.1", ".last.new/heads.json", "log.jsonl",
             "args.json.other-machine.1.new", ".lock")  # fmt: skip
    write(tmp_path / "run", *names)
    run = new_run(tmp_path, "run", "", Path())
    assert [path.name for path in run.iterdir()] == [".lock"]


def test_a_log_with_steps_is_never_begun_anew(tmp_path: Path) -> None:
    """Of a run whose checkpoints were removed, which is no start that was stopped."""
    step = {"event": "step", "step": 1, "loss": 0.5, "lr": 0.1, "tokens": 9}
    write(tmp_path / "run", "args.json", "log.jsonl", text=json.dumps(step) + "\n")
    with pytest.raises(UserError, match="run exists"):
        new_run(tmp_path, "run", "", Path())
    assert (tmp_path / "run/log.jsonl").is_file()
