"""A disk that fills up: one line, nothing half-written, and the run goes on with more room."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from minbert import BertConfig, BertModel
from tests.conftest import arguments
from tests.forked import run
from tests.torture.judge import DONE, NEVER, REFUSED, detail, differences, files_of, verdict
from tests.torture.tally import Effort, Tally, Trial

COUNT = 200
RUNS = {
    "train": ["train", "--epochs", "1", "--eval-every", "4", "--save-minutes", "0"],
    "pretrain": ["pretrain", "--epochs", "1", "--held-out", "8", "--save-minutes", "0"],
}
READERS = {  # what reads a run elsewhere and writes onto the disk
    "evaluate": ["evaluate", "--checkpoint", "{run}", "--data-dir", "{data}", "--output", "out"],
    "input": ["evaluate", "--checkpoint", "{run}", "--task", "sst", "--input", "{lines}",
              "--output", "out.txt"],
    "transformers": ["export", "{run}", "out", "--task", "sst"],
    "sentence-transformers": ["export", "{run}", "out", "--to", "sentence-transformers"],
    "report": ["report", "{run}", "--output", "out.html"],
    "emit safetensors": ["evaluate", "--model", "{large}", "--emit", "out.safetensors"],
    "emit npz": ["evaluate", "--model", "{large}", "--emit", "out.npz"],
    "emit pt": ["evaluate", "--model", "{large}", "--emit", "out.pt"],
}  # fmt: skip
ROOM = "size=64m"
LARGE = BertConfig(
    vocab_size=18000, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=16, max_position_embeddings=16,
)  # fmt: skip


def mount(folder: Path, options: str) -> None:
    """Mount or remount a disk in memory."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """Make a folder a disk of this size."""
    mount(folder, f"size={kilobytes}k")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def command(name: str, world: Path) -> tuple[str, list[str]]:
    """Return script and arguments of a command of RUNS or READERS."""
    if name in RUNS:
        script, *more = RUNS[name]
        more = [*more, "--lr", "1e-3", "--output-dir", "runs", "--name", "r"]
        return script, arguments(world, *more)
    places = {"run": world / "whole-train/runs/r", "data": world / "data"}
    places |= {"large": world / "large", "lines": world / "lines.txt"}
    script, *argv = (word.format(**places) for word in READERS[name])
    return script, argv


def prepare(world: Path) -> dict[str, int]:
    """Run every command with room; return how many kilobytes each one left."""
    (world / "lines.txt").write_text("red cat runs\n" * 5000)
    torch.manual_seed(0)
    BertModel(LARGE).save_pretrained(world / "large")
    sizes = {}
    for name in (*RUNS, *READERS):
        folder = world / f"whole-{name}"
        folder.mkdir()
        outcome = run(*command(name, world), folder)
        assert outcome.code == 0, f"{name}: {outcome.err}"
        sizes[name] = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) // 1024 + 4
    return sizes


def left_over(folder: Path) -> list[str]:
    """Return temporary files and folders, which an error should have removed."""
    paths = (path for path in folder.rglob("*") if path.name not in (".lock", ".ids"))
    return [str(p.relative_to(folder)) for p in paths if p.name[0] == "." or p.suffix == ".new"]


def fill_up(trial: Trial, world: Path, sizes: dict[str, int]) -> None:
    """Give a command a disk that may be too small for it; what a fault leaves there is kept."""
    name = trial.rng.choice([*list(RUNS) * 3, *READERS])
    kilobytes = trial.rng.randrange(4, max(8, round(sizes[name] * 1.5)), 4)
    with small_disk(trial.folder, kilobytes):
        judge(trial, name, world, f"{name} on {kilobytes} kB")
        if trial.how:
            shutil.copytree(trial.folder, trial.folder.parent / "kept")


def judge(trial: Trial, name: str, world: Path, story: str) -> None:
    """Run a command on a trial's disk, and on a larger one if it stopped there; count the end."""
    outcome = run(*command(name, world), trial.folder)
    found = verdict(outcome)
    if found in NEVER:
        return trial.fault(found, f"{name}: {detail(outcome)}", story)
    if left := left_over(trial.folder):
        return trial.fault("left over", f"{name}: {left}", story)
    if found == DONE:
        return judge_end(trial, name, world, story)
    trial.count(found)
    if name not in RUNS:
        return judge_half_written(trial, name, story)
    mount(trial.folder, f"remount,{ROOM}")
    judge_going_on(trial, name, world, story)


def judge_half_written(trial: Trial, name: str, story: str) -> None:
    """Count what a command left that did not come to its end."""
    files = files_of(trial.folder)
    whole = files_of(trial.tally.effort.world / f"whole-{name}")
    cut = [n for n, p in files.items() if p.read_bytes() != whole[n].read_bytes()]
    if cut and name != "input":
        trial.fault("half written", f"{name}: {cut}", story)


def judge_going_on(trial: Trial, name: str, world: Path, story: str) -> None:
    """Use a run's last good state, and continue it with more room."""
    started = (trial.folder / "runs/r/args.json").is_file()
    script, argv = command(name, world)
    if name == "train" and (trial.folder / "runs/r/last").is_dir():
        text = ["--checkpoint", "runs/r", "--text", "red cat"]
        if (outcome := run("evaluate", text, trial.folder)).code != 0:
            return trial.fault("lost", f"{name}: {detail(outcome)}", story)
    again = ["--resume", "r", "--output-dir", "runs"] if started else argv
    outcome = run(script, again, trial.folder)
    if (found := verdict(outcome)) != DONE:
        kind = "lost" if found == REFUSED else found
        return trial.fault(kind, f"{name}: {detail(outcome)}", f"{story}, then {again[:2]}")
    judge_end(trial, name, world, story)


def judge_end(trial: Trial, name: str, world: Path, story: str) -> None:
    """Count a command that came to its end: it has left what it leaves on a large disk."""
    whole, other = world / f"whole-{name}", trial.folder
    if name in RUNS:
        whole, other = whole / "runs/r", other / "runs/r"
    if wrong := differences(whole, other):
        return trial.fault("different", f"{name}: {'; '.join(wrong)}", story)
    trial.count("identical")


def test_a_full_disk_costs_nothing(effort: Effort, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        with small_disk(folder, 64):
            pass
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"mounting a small disk needs root ({error})")
    sizes = prepare(effort.world)
    never = (*NEVER, "different", "lost", "left over", "half written")
    tally = Tally("disk", effort, never)
    tally.run(COUNT, lambda trial: fill_up(trial, effort.world, sizes))
