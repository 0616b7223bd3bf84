"""The benchmarks' targets, who is left out, what is said where a library is missing, and gpu.sh."""

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as benchmarks
from benchmarks import encoding, to_score
from benchmarks import ours as of_ours
from benchmarks.contest import Outcome, Work
from benchmarks.contestants import Places, ours
from benchmarks.sets import GPU_SETS, asked_of, share_line
from minbert import UserError
from minbert.cli import parse_given

ROOT = Path(__file__).resolve().parents[1]


def test_single_sentences_are_held_to_their_targets() -> None:
    def outcome(p50: float, p99: float) -> Outcome:
        each = (p50 / 1e3,) * 60 + (p99 / 1e3,) * 40
        return Outcome("a", (1.0,), (Work(each=each),), 1.0)

    outcomes = {"minbert bf16": outcome(12, 20), "minbert fp32": outcome(5, 8)}
    said = "minbert fp32: p99 against p50: asked 2x at most, seen 1.60x"
    assert encoding.latency_line(outcomes, busy=False) == said
    said = "minbert bf16: p50: asked 10 ms, seen 12.0 ms - NOT met"
    assert encoding.latency_line(outcomes, busy=True) == said


@pytest.mark.parametrize(
    ("ours_s", "other_s", "seen"),
    [
        (10.0, 18.0, "1.80x"), (10.0, 12.0, "1.20x - NOT met"),
        (None, 9.0, "not reached - NOT met"),
        (9.0, None, "reached by minbert alone"),
    ],
)  # fmt: skip
def test_the_time_to_a_score_is_held_to_its_target(
    ours_s: float | None, other_s: float | None, seen: str
) -> None:
    said = f"to 0.69 against (b): asked 1.8x, seen {seen}"
    assert to_score.asked_line(ours_s, other_s) == said


def test_what_computes_on_a_cpu_alone_is_left_out_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for device, programs in (("cpu", 9), ("cuda", 4)):
        monkeypatch.setattr(encoding, "DEVICE", torch.device(device))
        names = {one.name for one in encoding.contestants_of({}, busy=False)}
        assert len(names) == programs
        outcomes = dict.fromkeys(names)
        left = [target.other for target in encoding.possible(encoding.MANY, outcomes)]
        assert ("OpenVINO int8" in left) == (device == "cpu")
        assert {"sentence-transformers bf16", "sentence-transformers fp32"} <= {*left}


def test_without_the_libraries_it_is_said_what_to_install(tmp_path: Path) -> None:
    """In a process of its own: no module of the benchmarks may import them as it is imported."""
    program = (
        "import sys; sys.modules |= {'transformers': None, 'sentence_transformers': None}\n"
        "from benchmarks.__main__ import main; from minbert.cli import run_script\n"
        f"sys.argv[1:] = ['--data-dir', {str(tmp_path)!r}, '--results', {str(tmp_path)!r}]\n"
        "run_script(main)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert 'install the libraries: pip install -e ".[bench]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_program_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmarks, "DEVICE", torch.device("cpu"))
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "openvino" else find_spec(name)
    )
    argv = ["--data-dir", str(tmp_path), "--results", str(tmp_path)]
    with pytest.raises(UserError, match=r"openvino is not installed: pip install -e"):
        benchmarks.main(argv)


def test_a_profile_has_every_kind_of_operation(world: Path) -> None:
    places = Places(str(world / "model"), "", str(world / "data"), str(world / "runs"), 1)
    work = of_ours.profiled(ours("minbert", places).settings)()
    assert all(work.parts[kind] > 0 for kind in of_ours.OPERATIONS), work.parts


def test_the_share_of_the_limit_is_held_to_its_target() -> None:
    outcomes = {"minbert": Outcome("minbert", (2.0,), (Work(flops=6.0),), 1.0, "bf16")}
    said = "share of the bf16 matrix rate: asked 35%, seen 30% - NOT met"
    assert share_line(outcomes, {"bf16": 10.0}, 0.35) == said
    assert share_line(outcomes, {"bf16": 10.0}, 0.25).endswith("asked 25%, seen 30%")
    slow = {"minbert": replace(outcomes["minbert"], precision="fp32")}  # a CPU without bf16 units
    said = "share of the fp32 matrix rate: asked 35%, seen 60%"
    assert share_line(slow, {"bf16": 0.1, "fp32": 5.0}, 0.35) == said


def test_what_is_asked_of_a_step_is_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_units, asked in ((True, [(2.2, 0.25), (2.5, 0.33)]), (False, [(2.5, 0.35)] * 2)):
        monkeypatch.setattr("benchmarks.sets.has_amx", lambda units=has_units: units)
        assert [asked_of(32), asked_of(64)] == asked


# It notes its words and what it was told of the network, and writes figures where it is told to.
STUB = """#!/usr/bin/env bash
set -eu
printf '%s\\n' "$HF_HUB_OFFLINE" "$PWD" "$@" > "$NOTES"
while [ "$1" != --results ]; do shift; done
echo figures > "$2/BENCHMARKS.md"
exit "$CODE"
"""


@pytest.mark.skipif(shutil.which("timeout") is None, reason="no timeout of coreutils here")
@pytest.mark.parametrize("code", [0, 124])
def test_gpu_sh_asks_for_sets_that_there_are(tmp_path: Path, code: int) -> None:
    """And keeps what was measured until the time was up, which is code 124."""
    for name in ("data", "model", "temporary"):
        (tmp_path / name).mkdir()
    stub, notes = tmp_path / "python", tmp_path / "notes"
    stub.write_text(STUB)
    stub.chmod(0o755)
    names = {"PYTHON": stub, "NOTES": notes, "CODE": code, "TMPDIR": tmp_path / "temporary"}
    environment = os.environ | {name: str(value) for name, value in names.items()}
    command = ["bash", str(ROOT / "benchmarks/gpu.sh"), "data", "model", "gpu.md"]
    assert subprocess.run(command, cwd=tmp_path, env=environment).returncode == code
    offline, folder, *words = notes.read_text().splitlines()
    assert (offline, folder, words[:2]) == ("1", str(ROOT), ["-m", "benchmarks"])
    given = parse_given(benchmarks.Args, words[2:], "")
    assert GPU_SETS.keys() <= {*given["only"]} <= benchmarks.ALL.keys()
    assert given["data_dir"] == str(tmp_path / "data")
    assert given["model"] == str(tmp_path / "model")
    assert (tmp_path / "gpu.md").read_text() == "figures\n"
    assert not [*(tmp_path / "temporary").iterdir()]
