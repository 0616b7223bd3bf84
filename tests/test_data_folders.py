"""What doctor says of folders with data, and reports of runs whose folders are called alike."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from minbert.doctor import data_lines
from minbert.report.__main__ import main as report


@pytest.mark.parametrize(
    ("names", "listed", "offered"),
    [
        (["a.conll", "b.tsv.gz", "c.jsonl", "notes.md"], "a.conll, b.tsv.gz, c.jsonl", False),
        (["mine.csv"], "mine.csv", False),
        (["mine.csv", "sts-dev.csv"], "mine.csv, sts-dev.csv", True),
        (["README.txt"], "README.txt", True),
        ([], "no files", True),
    ],
)
def test_the_course_s_files_are_offered_to_those_who_have_no_others(
    tmp_path: Path, names: list[str], listed: str, offered: bool
) -> None:
    for name in names:
        (tmp_path / name).touch()
    first, *more = data_lines(tmp_path)
    assert first == f"data     {tmp_path}: {listed}"
    assert any("tasks.download" in line for line in more) == offered


def test_runs_that_are_called_alike_are_told_apart(
    world: Path, a_run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run(world)
    places = [tmp_path / name / "exp/run" for name in ("one", "two")]
    for place in places:
        shutil.copytree(run, place)
    output = ["--output", str(tmp_path / "page.html")]
    assert report([*map(str, places), *output]) == 0
    assert capsys.readouterr().out.endswith(": one/exp/run, two/exp/run\n")
    assert report([str(places[0]), str(places[0]), *output]) == 0
    assert capsys.readouterr().out.endswith(": run, run\n")
