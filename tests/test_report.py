"""report.html: what is in it, for one run and several, and how a real browser shows it."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import pretrain_mlm
from minbert import UserError
from minbert.files import read_json_lines as read_log
from minbert.report.__main__ import main
from minbert.report.charts import (
    WIDTH,
    Axis,
    Series,
    axes,
    line_classes,
    mark,
    mean_points,
    nice_step,
    short,
    thinned,
)
from minbert.report.files import read_runs
from minbert.report.page import stages
from minbert.report.runs import LoggedRun
from minbert.report.tables import scatter_table
from tasks import TASKS
from tests.conftest import arguments, make_world, run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
               None)  # fmt: skip


class Page(HTMLParser):
    """Its text, its open tags, and what it would load."""

    VOID = ("meta", "link")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text, self.open, self.loads = "", [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [v for k, v in attrs if k in ("src", "href") and v != "data:,"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def trained_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two runs, "one" in parallel and "other" in sequential mode."""
    world = make_world(tmp_path_factory.mktemp("trained"))
    tasks = ("--tasks", "sst,quora,sts")
    run(world, "--name", "one", *tasks)
    run(world, "--name", "other", *tasks, "--mode", "sequential", "--lr", "1e-4")
    return world / "runs"


@pytest.fixture
def two_runs(trained_runs: Path, tmp_path: Path) -> list[Path]:
    """Copies of both, for a test to change."""
    shutil.copytree(trained_runs, tmp_path / "runs")
    return [tmp_path / "runs/one", tmp_path / "runs/other"]


def test_a_run_leaves_a_page_that_holds_everything(two_runs: list[Path]) -> None:
    page = Page(two_runs[1] / "report.html")
    assert not page.open and not page.loads and "<script" not in page.source
    for heading in ("Loss", "Dev scores", "real tokens a second: the numbers", "epoch 2 sts"):
        assert heading in page.text
    assert "learning rate: the numbers" in page.text
    tables = re.findall('<div class="wide".*?>', page.source)
    assert tables and all('tabindex="0"' in table for table in tables)  # scrolled by the keyboard
    headings = re.findall("<h2>(.+?)</h2>", page.source)
    assert (headings[0], headings[-1]) == ("Dev scores", "Arguments")
    assert "Confusion matrix of other" in page.text  # SST and Quora
    assert page.source.count('class="dot run0"') == 6  # STS: every dev row
    assert "largest differences" in page.text and "most confident mistakes" in page.text
    assert "reliability diagram" in page.text
    found = json.loads((two_runs[1] / "findings.json").read_text())
    assert found["sts"]["worst"][0]["texts"][0] in page.text
    counts = np.array(found["sst"]["confusion"])
    assert counts.shape == (5, 5) and counts.sum() == 12
    log = [json.loads(x) for x in (two_runs[1] / "log.jsonl").read_text().splitlines()]
    best = next(x["best"] for x in log if x["event"] == "end")
    assert counts.trace() / 12 == pytest.approx(best["scores"]["sst"])


def test_two_runs_are_laid_over_each_other(two_runs: list[Path], tmp_path: Path) -> None:
    assert main([*map(str, two_runs), "--output", str(tmp_path / "both.html")]) == 0
    page = Page(tmp_path / "both.html")
    assert not page.open and "one, other" in page.text and "Arguments that differ" in page.source
    assert 'class="line run0 dash0"' in page.source and 'class="line run1 dash1"' in page.source


def test_the_fifth_run_looks_like_no_other() -> None:
    assert len({line_classes(number) for number in range(16)}) == 16
    assert len({mark(number, (0, 0), "") for number in range(16)}) == 16


def test_every_chart_has_its_numbers(two_runs: list[Path]) -> None:
    page = Page(two_runs[1] / "report.html")
    charts = page.source.count("<figure>")
    assert charts >= 8 and page.source.count(": the numbers</summary>") == charts
    log = read_log(two_runs[1] / "log.jsonl")
    dev = [line for line in log if line["event"] == "dev"][-1]
    value = dev["scores"]["sts"]["pearson"]
    assert f'<th scope="row">{dev["step"]}</th><td>{short(value)}</td>' in page.source


def test_the_worst_pairs_are_marked_in_the_plot(two_runs: list[Path]) -> None:
    source = Page(two_runs[1] / "report.html").source
    found = json.loads((two_runs[1] / "findings.json").read_text())
    for row in found["sts"]["worst"]:
        place = f"{short(float(row['predicted']))} at {short(float(row['gold']))}"
        assert f"<title>other: {place}: {' / '.join(row['texts'])}</title>" in source
    assert source.count('r="2"><title>other: ') == 6  # and every dot says where it is


def test_classes_are_called_by_their_names(two_runs: list[Path]) -> None:
    found = json.loads((two_runs[1] / "findings.json").read_text())
    assert found["sst"]["names"] == list(TASKS["sst"].display_names)
    named = {row["gold"] for row in found["quora"]["worst"]}
    assert named and named <= {"different", "duplicate"}


def test_a_damaged_log_is_named(two_runs: list[Path]) -> None:
    log = two_runs[0] / "log.jsonl"
    log.write_bytes(b'{"event": "start"}\n{"ev\xff\n' + log.read_bytes())
    with pytest.raises(UserError, match=r"log.jsonl:2: damaged"):
        main([str(two_runs[0])])


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("log.jsonl", {"seconds": ["a"]}, "seconds is"),
        ("log.jsonl", {"loss": float("inf")}, "the number inf is out of range"),
        ("log.jsonl", {"scores": {"sts": {}}}, "a task without a score"),
        ("log.jsonl", {"event": 5}, "not a line"), ("log.jsonl", {"task": []}, "task is"),
        ("findings.json", {"calibrated": {"temperature": 1.0}}, "calibrated lacks a key"),
        ("findings.json", {"points": [[1.0, float("nan")]]}, "the number nan is out of range"),
        ("findings.json", {"interval": [1.0]}, "sts: interval is"),
        ("findings.json", {"names": ["a"], "confusion": []}, "sts: names and confusion differ"),
        ("findings.json", {"points": [[]]}, "sts: points is"),
        ("findings.json", {"labels": [{}]}, "sts: labels lack a key"),
        ("findings.json", {"labels": [{"label": "a"}, {"b": 1}]}, "sts: labels lack a key"),
        ("findings.json", {"worst": [{"id": "a"}]}, "sts: worst: .*missing"),
    ],
)  # fmt: skip
def test_values_that_no_run_writes_are_named(
    two_runs: list[Path], file: str, change: dict, message: str
) -> None:
    path = two_runs[0] / file
    lines = path.read_text().splitlines()
    if "scores" in change:
        lines.append(json.dumps({"event": "dev", "step": 1, "stage": "x", "overall": 0.5} | change))
    if file == "log.jsonl":
        number = next(n for n, line in enumerate(lines) if '"event": "step"' in line)
        lines[number] = json.dumps(json.loads(lines[number]) | change)
    else:
        found = json.loads(path.read_text())
        found["sts"] |= change
        lines = [json.dumps(found)]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=message):
        read_runs(two_runs[0])


def test_pre_training_and_several_runs_in_a_folder(world: Path, tmp_path: Path) -> None:
    pretrain_mlm.main([*arguments(world), "--name", "mlm", "--held-out", "2"])
    assert "held-out tokens: perplexity" in Page(world / "runs/mlm/report.html").text
    run(world, "--name", "alone", "--mode", "single", "--skip-predictions")
    main([str(world / "runs/alone"), f"--output={tmp_path / 'x.html'}"])
    assert "alone/sst, alone/sts" in Page(tmp_path / "x.html").text
    (world / "runs/a/b").mkdir(parents=True)
    (world / "runs/alone").rename(world / "runs/a/b/alone")
    (world / "runs/linked").symlink_to(world / "runs/a/b/alone")
    names = [found.name for found in read_runs(world / "runs")]
    deep = [f"runs/{place}/{task}" for place in ("a/b/alone", "linked") for task in ("sst", "sts")]
    assert names == [*deep, "runs/mlm"]


def test_a_stage_without_a_task_s_score_has_a_dash() -> None:
    log = [
        {"event": "dev", "step": step, "stage": stage, "scores": scores}
        for step, stage, scores in (
            (0, "before training", {"sst": {"accuracy": 0.2}, "sts": {"pearson": 0.8}}),
            (5, "epoch 1", {"sst": {"accuracy": 0.4}}),
        )
    ]
    rows = stages(LoggedRun("one", {}, log, {}))
    assert "<td>0.400</td><td>-</td>" in rows and "0.000" not in rows


def test_names_are_not_markup(world: Path) -> None:
    run(world, "--name", "<b>&", "--skip-predictions")
    page = Page(world / "runs" / "<b>&" / "report.html")
    assert not page.open and "<b>&" in page.text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], r"write python -m minbert\.report RUN"),
        (["nowhere"], "nowhere: no log.jsonl"),
        (["--colour"], "unknown argument"),
        (["run", "--output"], "--output: expected one argument"),
        (["run", "--output="], "--output: empty: leave it out"),
    ],
)
def test_mistakes_are_one_line(argv: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        main(argv)
    assert "\n" not in str(error.value)


def test_axes_and_numbers() -> None:
    assert [nice_step(x) for x in (0.03, 0.2, 0.21, 7.0)] == [0.05, 0.2, 0.5, 10.0]
    assert Axis(0, 10, 0, 100).ticks() == [0, 2, 4, 6, 8, 10] and Axis(0, 10, 100, 0)(2.5) == 75
    numbers = (0.0, 12000.0, 5e-05, 1.1e-4, 0.25)
    assert [short(x) for x in numbers] == ["0", "12k", "5e-5", "1.1e-4", "0.25"]
    points = [(n, n % 7) for n in range(1000)]
    assert len(thinned(points)) <= 121 and set(thinned(points)) <= set(points)
    assert thinned(points)[-1] == points[-1] and thinned(points[:5]) == points[:5]
    assert mean_points([(0, 1), (1, 3), (2, 5)], most=2) == [(0.5, 2), (2, 5)]


@pytest.mark.parametrize("values", [[9.5e-5, 1.05e-4], [0.69314, 0.69315], [1e-5], [-0.125, 1.0]])
def test_labels_differ_and_fit_beside_the_axes(values: list[float]) -> None:
    x, y = axes([0, 16000], values)
    labels = [label for _, label in y.labelled_ticks()]
    assert len(set(labels)) == len(labels) > 2
    assert 6.5 * max(map(len, labels)) < x.start - 5
    place, label = x(x.ticks()[-1]), x.labelled_ticks()[-1][1]
    assert place + 3.5 * len(label) < WIDTH


@pytest.mark.parametrize(
    ("high", "golds", "shown"), [(5, 6, "1.5"), (1, 11, "0.3"), (1e-4, 11, "3e-05")]
)
def test_scores_of_any_range_are_told_apart(high: float, golds: int, shown: str) -> None:
    points = [(high * i / 10, high * i / 10) for i in range(11)]
    table = scatter_table("title", [Series("run", 0, points)])
    assert table.count("<tr>") == 1 + golds
    halves = scatter_table("title", [Series("run", 0, [(0, 0), (0.15, 0), (0.35, 0), (1, 0)])])
    assert "<td>0.2</td>" in halves and "<td>0.4</td>" in halves
    assert "-0<" not in scatter_table("title", [Series("run", 0, [(-x, x) for x, _ in points])])
    assert replace(TASKS["sts"], high=high).describe(high * 0.3) == shown


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize(("scheme", "paper"), [("light", "255, 255, 255"), ("dark", "13, 17, 23")])
def test_a_browser_shows_it_without_errors(
    two_runs: list[Path], tmp_path: Path, width: int, scheme: str, paper: str
) -> None:
    """A screenshot, no message on the console, and nothing wider than the window."""
    main([*map(str, two_runs), "--output", str(tmp_path / "both.html")])
    frame = f"""<body style="margin:0"><iframe src="both.html" width="{width}" height="800"
      style="border:0" onload="var page = this.contentDocument.documentElement;
      document.title = 'too wide by ' + (page.scrollWidth - page.clientWidth) + ' on ' +
      getComputedStyle(this.contentDocument.body).backgroundColor"></iframe></body>"""
    (tmp_path / "frame.html").write_text(frame)
    shot = Path(os.environ.get("MINBERT_ARTEFACTS", tmp_path)) / f"report-{width}-{scheme}.png"
    flags = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr", f"--window-size={width},3000", "--virtual-time-budget=3000",
        f"--blink-settings=preferredColorScheme={int(scheme == 'light')}",
    ]  # fmt: skip
    page = (tmp_path / "both.html").as_uri()
    done = subprocess.run([*flags, f"--screenshot={shot}", page], capture_output=True, text=True)
    assert shot.stat().st_size > 20_000 and "CONSOLE" not in done.stderr
    dump = [*flags, "--dump-dom", (tmp_path / "frame.html").as_uri()]
    seen = subprocess.run(dump, capture_output=True, text=True).stdout
    assert f"<title>too wide by 0 on rgb({paper})</title>" in seen
