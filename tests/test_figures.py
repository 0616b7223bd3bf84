"""The figures of RESULTS.md: which there are, what they are drawn from, where their labels lie."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest

from experiments import figures
from experiments.figures import THEMES, figure_names, interval, spread_out
from experiments.results import Result, read_record
from minbert import UserError
from tests.test_results_page import HOME


def test_every_figure_is_there_for_light_and_dark_pages() -> None:
    names = {n for t in (*read_record(HOME).tables, "forgetting") for n in figure_names(t).values()}
    assert {path.name for path in (HOME / "figures").iterdir()} == names
    assert len(names) == 4 * len(THEMES)


def test_the_page_s_figures_are_drawn_from_the_record_alone(tmp_path: Path) -> None:
    """The labels are the same, which SVG has in comments, and every point is where it was."""
    (tmp_path / "results.json").write_bytes((HOME / "results.json").read_bytes())
    figures.main(["--results", str(tmp_path)])
    committed = {path.name: path.read_text() for path in (HOME / "figures").iterdir()}
    drawn = {path.name: path.read_text() for path in (tmp_path / "figures").iterdir()}
    assert set(drawn) == set(committed)
    for name, text in drawn.items():
        assert re.findall("<!-- .+ -->", text) == re.findall("<!-- .+ -->", committed[name])
        new, old = (re.findall(r"-?\d+\.\d+", some) for some in (text, committed[name]))
        np.testing.assert_allclose([*map(float, new)], [*map(float, old)], atol=0.01)


def test_without_matplotlib_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    (tmp_path / "results.json").write_bytes((HOME / "results.json").read_bytes())
    with pytest.raises(UserError, match=r'pip install -e "\.\[figures\]"$'):
        figures.main(["--results", str(tmp_path)])


def test_intervals_are_of_the_rows_or_of_the_seeds() -> None:
    """By hand: 1.96 sqrt(.25 / 100), Fisher's of r = 0 with 103 rows, and two seeds' spread."""
    result = Result("t", "r", "SST", {"1": 0.5}, None, False, "j")
    assert interval(result, 100) == pytest.approx((0.402, 0.598))
    half = 0.19353  # tanh(0.196)
    correlation = replace(result, column="STS", scores={"1": 0.0})
    assert interval(correlation, 103) == pytest.approx((-half, half), abs=1e-4)
    seeds = replace(result, scores={"1": 0.4, "2": 0.6})
    assert interval(seeds, 100) == pytest.approx((0.5 - 0.02**0.5, 0.5 + 0.02**0.5))


def test_labels_do_not_lie_on_each_other() -> None:
    far = {"a": 0.86, "b": 0.79, "c": 0.29}
    assert spread_out(far, gap=0.05) == far
    moved = spread_out({"a": 0.854, "b": 0.834, "c": 0.475}, gap=0.05)
    assert moved == pytest.approx({"a": 0.869, "b": 0.819, "c": 0.475})


def test_a_damaged_record_is_one_line(tmp_path: Path) -> None:
    text = (HOME / "results.json").read_text(encoding="utf-8")
    (tmp_path / "results.json").write_text(re.sub(r'"updates": (\d+)', r'"updates": "\1"', text))
    what = r"results\.json: tables: Table 1.*: updates is '\d+', not of the type int"
    with pytest.raises(UserError, match=what):
        read_record(tmp_path)


def test_intervals_are_of_the_dev_rows_of_their_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, pyplot = set(), MagicMock()
    pyplot.Figure().subplots.return_value = [[MagicMock() for _ in range(3)]]
    monkeypatch.setitem(sys.modules, "matplotlib", MagicMock())
    monkeypatch.setitem(sys.modules, "matplotlib.figure", pyplot)

    def draw(_axes: object, result: Result, _place: object, dev_rows: int, _theme: object) -> list:
        seen.add((result.column, result.is_small, dev_rows))
        return []

    monkeypatch.setattr(figures, "draw_result", draw)
    record = read_record(HOME)
    own = [r for r in record.results if r.table == "Table 3: routines" and r.scores]
    figures.dot_plot(record, own, THEMES[0])
    rows = {("SST", 1101), ("Quora", 20212), ("STS", 863)}
    small = {("SST", 1101), ("Quora", 4000), ("STS", 863)}
    assert seen == {(c, False, n) for c, n in rows} | {(c, True, n) for c, n in small}
