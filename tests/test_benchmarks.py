"""The benchmarks: who works when, what is counted, what is written. Speed itself is not tested."""

import importlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import __main__ as benchmarks
from benchmarks import encoding, large, quality, report, scaling, to_score
from benchmarks import ours as of_ours
from benchmarks.contest import Contestant, Outcome, Work, run_contest
from benchmarks.contestants import Places, ours, theirs
from benchmarks.encoding import latencies
from benchmarks.report import Target, compare_rates, ratio_line
from minbert import UserError
from minbert.files import read_json_lines as read_log
from minbert.run_files import read_arguments
from tests.conftest import TINY


def diary(settings: dict[str, Any]) -> Any:
    """A contestant that writes down when it works."""

    def turn() -> Work:
        with Path(settings["diary"]).open("a") as file:
            file.write(settings["name"])
        return Work(examples=10, tokens=100, seconds=settings["seconds"], each=(0.5, 0.25))

    return turn


def broken(settings: dict[str, Any]) -> Any:
    raise ValueError("no such thing")


def contestants(path: Path) -> list[Contestant]:
    settings = [{"diary": str(path), "name": n, "seconds": s} for n, s in (("A", 2.0), ("B", 4.0))]
    return [Contestant(s["name"], "tests.test_benchmarks:diary", s) for s in settings]


@pytest.mark.slow
def test_contestants_work_in_turn_and_the_first_turn_does_not_count(tmp_path: Path) -> None:
    """And a contestant's memory is not its parent's."""
    ours = bytearray(b"x" * 600_000_000)  # of this process, touched
    outcomes = run_contest(contestants(tmp_path / "diary"), 3)
    assert (tmp_path / "diary").read_text() == "ABABABAB"
    assert outcomes["A"].seconds == (2.0,) * 3 and outcomes["A"].rate("tokens") == 50
    assert outcomes["B"].rate("examples") == 2.5 and outcomes["B"].calls[0] == 0.25
    assert 10 < outcomes["A"].peak_mib < 10_000
    if Path("/proc/self/status").is_file():  # only Linux tells a process's own peak
        assert len(ours) > 1e6 * outcomes["A"].peak_mib


@pytest.mark.slow
def test_a_contestant_that_fails_is_named() -> None:
    with pytest.raises(UserError, match="benchmark C failed"):
        run_contest([Contestant("C", "tests.test_benchmarks:broken", {})], 1)


def test_a_ratio_is_that_of_the_rates() -> None:
    def outcome(name: str, seconds: float) -> Outcome:
        return Outcome(name, (seconds, 9.0, 0.1), (Work(10, 100),) * 3, 50.0)

    both = {"ours": outcome("ours", 1.0), "theirs": outcome("theirs", 2.0)}
    assert "seen 2.00x" in ratio_line(Target("ours", "theirs", 1.5), both, "tokens")
    assert ratio_line(Target("ours", "theirs", 3), both, "tokens").endswith("NOT met")
    assert compare_rates("t", both, "tokens", []).rows[0][4] == "2.00x"


@pytest.mark.slow
def test_our_optimizer_beside_torch_s(world: Path) -> None:
    """One whole benchmark on the tiny model; a second one keeps the first one's figures."""
    places = ["--model", str(world / "model"), "--data-dir", str(world / "data")]
    places += ["--results", str(world / "bench"), "--turns", "1"]
    benchmarks.main([*places, "--only", "optimizer_step"])
    text = (world / "bench/BENCHMARKS.md").read_text()
    assert re.search(r"\| minbert \| [\d.,]+ \|", text) and "torch fused" in text
    assert str(world) not in text  # no path of this machine
    known = json.loads((world / "bench/benchmarks.json").read_text())
    assert list(known) == ["optimizer_step"] and len(known["optimizer_step"]["rows"]) == 5


@pytest.mark.thorough
def test_memory_with_and_without_what_saves_it(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large, "LARGE", TINY)
    monkeypatch.delitem(large.SAVING, "--accumulate 4")
    monkeypatch.delitem(large.SAVING, "--checkpoint-activations")
    places = Places(str(world / "model"), "", str(world / "data"), str(world / "runs"), 1)
    section = large.memory_large(places)
    assert [row[0] for row in section.rows] == ["as it is", "both"]
    assert all(0.05 < float(gib) < 4 for _, gib in section.rows)
    assert "asked 8 GiB at most" in section.lines[0] and "NOT" not in section.lines[0]


def test_a_contestant_s_limit_is_of_the_precision_that_it_computes_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places = Places("model", "", "data", "runs", 1)
    monkeypatch.setattr("benchmarks.contestants.DEVICE", torch.device("cpu"))
    for has_units, auto in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda a=has_units: a)
        monkeypatch.setattr("minbert.training.device.has_amx", lambda: False)
        assert ours("minbert", places).precision == auto
        assert ours("minbert fp32", places, "--precision", "fp32").precision == "fp32"


def test_the_clock_stops_when_a_score_is_reached() -> None:
    works = tuple(Work(seconds=2.0, score=score) for score in (0.3, 0.6, 0.5))
    outcome = Outcome("ours", (2.0, 2.0, 2.0), works, 50.0)
    assert to_score.first_time(outcome, 0.3) == 2.0
    assert to_score.first_time(outcome, 0.5) == 4.0
    assert to_score.first_time(outcome, 0.7) is None


def test_both_are_evaluated_between_their_steps(world: Path) -> None:
    pytest.importorskip("transformers")
    places = Places(str(world / "model"), "", str(world / "data"), str(world / "runs"), 1)
    for make, contestant in (
        (to_score.minbert, ours("minbert", places)),
        (to_score.loop, theirs("(b)", "plain_loop", places, fast=True)),
    ):
        turn = make(contestant.settings)
        before, after = turn(), turn()
        assert before.seconds < after.seconds and -1 < after.score < 1
        assert before.score != after.score


def test_quality_trains_both_paths_and_reuses_them(world: Path) -> None:
    argv = ["--model", str(world / "model"), "--data-dir", str(world / "data"), "--seeds", "2"]
    argv += ["--limit", "quora=8", "--limit-dev", "quora=8", "--results", str(world / "bench")]
    argv += ["--output-dir", str(world / "runs")]
    for _ in range(2):
        quality.main(argv)
        logs = sorted((world / "runs" / "quality").glob("*/log.jsonl"))
        assert [log.parent.name for log in logs] == [
            f"{path}-model-1-5e-5-quora_8-quora_8-{seed}"
            for path in ("default", "fp32")
            for seed in (11711, 11712)
        ]
        assert all(sum(x["event"] == "start" for x in read_log(log)) == 1 for log in logs)
    made = [read_arguments(log.parent) for log in logs]
    paths = [("minbert", "auto")] * 2 + [("written-out", "fp32")] * 2
    assert [(args["kernels"], args["precision"]) for args in made] == paths
    assert [args["seed"] for args in made] == [11711, 11712] * 2
    rows = {"quora": 8}
    assert all((a["lr"], a["limit"], a["limit_dev"]) == (5e-5, rows, rows) for a in made)
    (world / "other/model").parent.mkdir()
    shutil.copytree(world / "model", world / "other/model")
    with pytest.raises(UserError, match=r"made of --model \S+/model, not of \S+/other/model"):
        quality.main([*argv, "--model", str(world / "other/model")])
    text = (world / "bench/BENCHMARKS.md").read_text()
    assert "python -m benchmarks.quality --model model --data-dir DIR" in text
    assert "|  | sst | quora | sts | updates | passes |" in text
    fp32 = r"\| fp32, written out \| [\d.]+ ± [\d.]+ \| .* \| 6 \| 1.0 / 2.0 / 2.0 \|"
    assert re.search(fp32, text)
    assert re.search(r"\n- trained, now or before, on .*, torch \d", text)
    path = logs[0].parent / "args.json"
    path.write_text(path.read_text().replace('"weight_decay": 0.0', '"weight_decay": 0.5'))
    with pytest.raises(UserError, match=r"made with weight_decay 0.5, and .* has 0.0 now"):
        quality.main(argv)


@pytest.mark.skipif(shutil.which("git") is None, reason="no git here")
def test_a_section_names_the_commit_that_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> str:
        settings = ("user.name=a", "user.email=a@b.c", "commit.gpgsign=false")
        options = [word for setting in settings for word in ("-c", setting)]
        command = ["git", "-C", str(tmp_path), *options, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    inner = tmp_path / "benchmarks"
    inner.mkdir()
    monkeypatch.setattr(report, "HERE", inner)
    assert report.commit() == "", "not a checkout"
    (tmp_path / "code.py").write_text("1\n")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    measured = git("rev-parse", "--short", "HEAD")
    (inner / "BENCHMARKS.md").write_text("figures\n")
    assert report.commit() == measured, "figures are not code"
    (tmp_path / "code.py").write_text("2\n")
    assert report.commit() == f"{measured}+"
    section = report.Section("Title", ("",), (("row",),))
    for has_amx, units in ((True, "with AMX"), (False, "without AMX")):
        monkeypatch.setattr(report, "has_amx", lambda has_amx=has_amx: has_amx)
        report.write_report(tmp_path, "name", section, "command")
        page = (tmp_path / "BENCHMARKS.md").read_text()
        assert f"; commit {measured}+; `command`" in page and f" {units}" in page


def test_an_unknown_benchmark_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"--only speed: write some of train_step"):
        benchmarks.main(["--only", "speed"])


@pytest.mark.parametrize("main", [benchmarks.main, quality.main])
def test_a_report_that_cannot_be_written_is_told_of_first(
    tmp_path: Path, main: Callable[[list[str]], int]
) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(UserError, match="results: cannot be written; --results DIR names an"):
        main(["--results", str(tmp_path / "results"), "--data-dir", str(tmp_path)])


def test_data_that_do_not_do_are_told_of_first(world: Path, tmp_path: Path) -> None:
    words = ["--only", "step_parts", "--results", str(tmp_path), "--data-dir"]
    with pytest.raises(UserError, match=r"ids-sst-train.csv: no such file"):
        benchmarks.main([*words, str(tmp_path)])
    places = Places(str(world / "model"), "", str(world / "data"), str(world / "runs"), 1)
    with pytest.raises(UserError, match="dev rows of Quora, 1,000 are needed"):
        encoding.encode(places)


def test_a_shortened_file_is_a_copy_and_the_data_stay(world: Path, tmp_path: Path) -> None:
    data, short = world / "data", tmp_path / "short"
    short.mkdir()
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    assert scaling.shorten(data, short, "quora-train.csv", 8) == 8
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before
    assert {path.name for path in short.iterdir()} == before.keys()
    lines = (short / "quora-train.csv").read_text().splitlines()
    assert len(lines) == 9  # and the header
    (short / "quora-train.csv").unlink()
    all_rows = len((data / "quora-train.csv").read_text().splitlines()) - 1
    (tmp_path / "other").mkdir()
    assert scaling.shorten(data, tmp_path / "other", "quora-train.csv", 8000) == all_rows


def test_work_is_that_of_the_layers_matrices(world: Path) -> None:
    """For an element and a token 2 operations forward and 4 backward, for a library's loop too."""
    pytest.importorskip("transformers")
    places = Places(str(world / "model"), "", str(world / "data"), str(world / "runs"), 1)
    matrices = 2 * (4 * 32 * 32 + 2 * 32 * 64)
    for one in (ours("minbert", places), theirs("(b)", "plain_loop", places, fast=True)):
        module, name = one.factory.split(":")
        work = getattr(importlib.import_module(module), name)(one.settings)()
        assert work.examples > 0 and work.flops == 6 * matrices * work.tokens
    texts = {"texts": ["red cat", "old dog runs"], "precision": "fp32", "pairs": False}
    work = of_ours.encoding({"model": places.model, **texts})()
    assert work.tokens == 9 and work.flops == 2 * matrices * 9


def test_products_have_the_operations_that_pytorch_counts(world: Path) -> None:
    with FakeTensorMode(), FlopCounterMode(display=False) as counter:  # nothing is computed
        limit = of_ours.matrix_limit({"precision": "fp32"})()
    assert limit.flops == counter.get_total_flops()
    turn = of_ours.products_alone(
        {"model": str(world / "model"), "tokens": 8, "steps": 2, "precision": "fp32"}
    )
    with FlopCounterMode(display=False) as counter:
        work = turn()
    assert work.flops == counter.get_total_flops() and work.tokens == 16


def test_latencies_are_percentiles_in_milliseconds() -> None:
    each = tuple(n / 1000 for n in range(100, -1, -1))
    (line,) = latencies({"a": Outcome("a", (1.0,), (Work(each=each),), 1.0)})
    assert line == "a: p50 50.0 ms, p99 99.0 ms"
