"""From typing the command to the first step, and what an import costs."""

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from minbert.errors import UserError
from minbert.files import read_json_lines as read_log

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 300


def seconds_in_turn(programs: tuple[str, ...], turns: int) -> list[float]:
    """Each program's median in fresh interpreters, which take turns."""
    seconds: list[list[float]] = [[] for _ in programs]
    for _ in range(turns):
        for program, times in zip(programs, seconds, strict=True):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
            times.append(time.perf_counter() - started)
    return [statistics.median(times) for times in seconds]


def first_step_seconds(arguments: list[str], output_dir: Path) -> float:
    """train_multitask.py from its start to the log line of its first step; then it is stopped.

    output_dir has the ids in its cache. The evaluation before training is part of it.
    """
    name = f"start-up-{time.time_ns()}"
    log = output_dir / name / "log.jsonl"
    places = ["--output-dir", str(output_dir), "--name", name]
    command = [sys.executable, "train_multitask.py", *arguments, *places]
    started = time.perf_counter()
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        while time.perf_counter() - started < TIMEOUT_S and child.poll() is None:
            if log.is_file() and any(line["event"] == "step" for line in read_log(log)):
                return time.perf_counter() - started
            time.sleep(0.02)
    finally:
        child.kill()
        child.wait()
        shutil.rmtree(log.parent, ignore_errors=True)
    raise UserError(f"benchmark start_up: no first step, exit code {child.returncode}")
