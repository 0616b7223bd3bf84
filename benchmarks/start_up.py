"""The time from starting a command to its first step, and the time of imports."""

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from minbert.errors import UserError
from minbert.files import read_json_lines

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 300


def seconds_in_turn(programs: tuple[str, ...], turns: int) -> list[float]:
    """Return each program's seconds, the median over new interpreters, which take turns."""
    seconds: list[list[float]] = [[] for _ in programs]
    for _ in range(turns):
        for program, times in zip(programs, seconds, strict=True):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
            times.append(time.perf_counter() - started)
    return [statistics.median(times) for times in seconds]


def first_step_seconds(arguments: list[str], output_dir: Path) -> float:
    """Measure train_multitask.py from its start to the log line of its first step; then kill it.

    On a GPU the lines of 16 steps come at once. output_dir: its cache has the ids. The evaluation
    before training is part of the time. Raises UserError if there is no step.
    """
    name = f"start-up-{time.time_ns()}"
    log = output_dir / name / "log.jsonl"
    places = ["--output-dir", str(output_dir), "--name", name]
    command = [sys.executable, "train_multitask.py", *arguments, *places]
    started = time.perf_counter()
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        while time.perf_counter() - started < TIMEOUT_S and child.poll() is None:
            if log.is_file() and any(line["event"] == "step" for line in read_json_lines(log)):
                return time.perf_counter() - started
            time.sleep(0.02)
    finally:
        child.kill()
        child.wait()
        shutil.rmtree(log.parent, ignore_errors=True)
    raise UserError(f"benchmark start_up: no first step, exit code {child.returncode}")
