"""report.html: what is in it, for one run and several, and how a real browser shows it."""

import json
import os
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import pretrain_mlm
from minbert import UserError
from minbert.report.__main__ import main
from minbert.report.charts import Axis, averaged, nice_step, short
from tasks.findings import calibration, confusion, probabilities
from tests.conftest import arguments, run

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


@pytest.fixture
def two_runs(world: Path) -> list[Path]:
    run(world, "--name", "one", "--tasks", "sst,quora,sts")
    run(
        world, "--name", "other", "--tasks", "sst,quora,sts", "--mode", "sequential", "--lr", "1e-4"
    )
    return [world / "runs/one", world / "runs/other"]


def test_a_run_leaves_a_page_that_holds_everything(two_runs: list[Path]) -> None:
    page = Page(two_runs[1] / "report.html")
    assert not page.open and not page.loads and "<script" not in page.source
    for heading in ("Loss", "Dev scores", "Learning rate and throughput", "epoch 2 sts"):
        assert heading in page.text
    assert "Confusion matrix of other" in page.text  # SST and Quora
    assert page.source.count('class="dot run0"') == 6  # STS: every dev row
    assert "largest differences" in page.text and "most confident mistakes" in page.text
    assert "said against seen" in page.text
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
    assert 'class="line run0"' in page.source and 'class="line run1"' in page.source


def test_pre_training_and_several_runs_in_a_folder(world: Path, tmp_path: Path) -> None:
    pretrain_mlm.main([*arguments(world), "--name", "mlm", "--held-out", "2"])
    assert "held-out tokens: perplexity" in Page(world / "runs/mlm/report.html").text
    run(world, "--name", "alone", "--mode", "single", "--skip-predictions")
    main([str(world / "runs/alone"), f"--output={tmp_path / 'x.html'}"])
    assert "alone/sst, alone/sts" in Page(tmp_path / "x.html").text


def test_names_are_not_markup(world: Path, tmp_path: Path) -> None:
    run(world, "--name", "<b>&", "--skip-predictions")
    page = Page(world / "runs" / "<b>&" / "report.html")
    assert not page.open and "<b>&" in page.text


@pytest.mark.parametrize(
    ("argv", "message"),
    [([], "usage: "), (["nowhere"], "nowhere: no log.jsonl"), (["--colour"], "unknown argument")],
)
def test_mistakes_are_one_line(argv: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(argv)


def test_axes_and_numbers() -> None:
    assert [nice_step(x) for x in (0.03, 0.2, 0.21, 7.0)] == [0.05, 0.2, 0.5, 10.0]
    assert Axis(0, 10, 0, 100).ticks() == [0, 2, 4, 6, 8, 10] and Axis(0, 10, 100, 0)(2.5) == 75
    assert [short(x) for x in (0.0, 12000.0, 5e-05, 0.25)] == ["0", "12k", "5e-05", "0.25"]
    assert averaged([(0, 1), (1, 3), (2, 5)], most=2) == [(0.5, 2), (2, 5)]


def test_probabilities_confusion_calibration() -> None:
    logits = np.array([[0.0, 2.0], [3.0, 0.0]])
    soft = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities(logits), soft.max(1))
    np.testing.assert_allclose(probabilities(np.array([[-2.0]])), 1 / (1 + np.exp(-2)))
    counts = confusion(np.array([1.0, 0, 1]), np.array([1.0, 1, 0]), 2)
    assert counts.tolist() == [[0, 1], [1, 1]]
    rows = calibration(np.array([0.05, 0.06, 1.0]), np.array([0.0, 1, 1]))
    assert rows == [(0.055, 0.5, 2), (1.0, 1.0, 1)]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_without_errors(
    two_runs: list[Path], tmp_path: Path, width: int
) -> None:
    """A screenshot, no message on the console, and nothing wider than the window."""
    main([*map(str, two_runs), "--output", str(tmp_path / "both.html")])
    frame = f"""<body style="margin:0"><iframe src="both.html" width="{width}" height="800"
      style="border:0" onload="var page = this.contentDocument.documentElement;
      document.title = 'too wide by ' + (page.scrollWidth - page.clientWidth)"></iframe></body>"""
    (tmp_path / "frame.html").write_text(frame)
    shot = Path(os.environ.get("MINBERT_ARTEFACTS", tmp_path)) / f"report-{width}.png"
    flags = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr", f"--window-size={width},3000", "--virtual-time-budget=3000",
    ]  # fmt: skip
    page = (tmp_path / "both.html").as_uri()
    done = subprocess.run([*flags, f"--screenshot={shot}", page], capture_output=True, text=True)
    assert shot.stat().st_size > 20_000 and "CONSOLE" not in done.stderr
    dump = [*flags, "--dump-dom", (tmp_path / "frame.html").as_uri()]
    seen = subprocess.run(dump, capture_output=True, text=True).stdout
    assert "<title>too wide by 0</title>" in seen
