"""Runs as processes of their own, one or two, and what is compared of their folders."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from minbert.files import read_json_lines as read_log
from tests.conftest import weights

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 60  # far more than a healthy run of this size takes; a hang is what is looked for


def wait_for_step(folder: Path, step: int) -> None:
    """Until the run has logged this step."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if (folder / "log.jsonl").is_file():
            steps = [line.get("step", 0) for line in read_log(folder / "log.jsonl")]
            if max(steps, default=0) >= step:
                return
        time.sleep(0.01)
    raise AssertionError(f"{folder} did not come to step {step}")


def two(script: str, argv: list[str]) -> subprocess.Popen[str]:
    """The script in two processes that torchrun starts."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(ROOT / script), *argv]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        start_new_session=True,
    )  # fmt: skip


@contextmanager
def killed_at_the_end(process: subprocess.Popen[str]) -> Iterator[None]:
    """Leave neither torchrun nor its processes behind, also if a test fails or is stopped."""
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def finish(process: subprocess.Popen[str]) -> str:
    with killed_at_the_end(process):
        out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    return out


def assert_same_run(world: Path, one: str, other: str) -> None:
    for name in ("last", "best"):
        a, b = weights(world / "runs" / one / name), weights(world / "runs" / other / name)
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    for line_a, line_b in zip(*(steps_of(world / "runs" / n) for n in (one, other)), strict=True):
        assert line_a == line_b


def steps_of(folder: Path) -> list[dict[str, object]]:
    lines = read_log(folder / "log.jsonl")
    return [{**x, "time": 0, "seconds": 0} for x in lines if x["event"] in ("step", "dev")]
