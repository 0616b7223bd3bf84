"""Runs of every kind, killed at any moment and continued, end as the uninterrupted ones."""

import fnmatch
import os
import random
import signal
import threading
import time
from pathlib import Path

from tests.conftest import arguments
from tests.forked import Command, Outcome, run
from tests.torture.judge import detail, differences, verdict
from tests.torture.tally import Effort, Tally, Trial

COUNT = 210  # runs at full scale: some signals come too late, 200 or so kill
STARTS = 12  # after so many a run is stuck
NEVER = (
    "different", "left over", "logged twice", "lost", "stuck", "hang", "traceback", "other code",
)  # fmt: skip
EVERY_STEP = ["--save-minutes", "0", "--eval-every", "3"]
SIAMESE = ["--tasks", "quora,sts", "--pair-encoding", "siamese", "--pooling", "mean"]
KINDS: dict[str, list[str]] = {
    "parallel": ["train", *EVERY_STEP],
    "sequential": ["train", *EVERY_STEP, "--mode", "sequential", "--sub-epochs", "sst=2,sts=2"],
    "frozen": ["train", *EVERY_STEP, "--fine-tune-mode", "last-linear-layer"],
    "siamese": ["train", *EVERY_STEP, *SIAMESE, "--pair-loss", "quora=mnr-full"],
    "seeds": ["train", *EVERY_STEP, "--seeds", "2", "--epochs", "1"],
    "single": ["train", *EVERY_STEP, "--mode", "single", "--epochs", "1"],
    "own": ["train", *EVERY_STEP, "--task-file", "{world}/own.toml", "--epochs", "1"],
    "bf16": ["train", *EVERY_STEP, "--precision", "bf16"],
    "bests": ["train", *EVERY_STEP, "--save-task-best", "--best-by", "sst=2,sts=1"],
    "recipe": [
        "train",
        *EVERY_STEP,
        "--mode",
        "annealed",
        "--average",
        "0.7",
        "--heads-first",
        "1",
        "--teacher",
        "{world}/whole-parallel/runs/r",
        "--r-drop",
        "sst=1",
    ],
    "joint": ["train", *EVERY_STEP, "--mode", "joint", "--combine", "pcgrad", "--steps", "10"],
    "mlm": [
        "pretrain",
        "--keep",
        "best",
        "--save-minutes",
        "0",
        "--held-out",
        "8",
        "--epochs",
        "3",
    ],
    "corpus": ["pretrain", "--save-minutes", "0", "--corpus", "{world}/corpus.txt"],
}
MOMENTS = (
    ".last.new", ".last.new", ".best.new", ".best-*.new", ".last.old", ".best.old", ".best-*.old",
    "predictions", "report.html*.new", "args.json*.new", "log.jsonl*.new", "README.md*.new",
    "findings.json*.new", "*.npz*.new",
    "tasks.toml*.new", "scores.json*.new", "*.npy*.new",
)  # fmt: skip


class Baselines:
    """The uninterrupted run of each kind, made when it is first needed."""

    def __init__(self, world: Path) -> None:
        self.world, self.made = world, dict[str, tuple[Path, float]]()
        self.lock = threading.Lock()

    def of(self, kind: str) -> tuple[Path, float]:
        """Return the folder of a kind's uninterrupted run, and how long it took."""
        with self.lock:
            if kind not in self.made:
                folder, started = self.world / f"whole-{kind}", time.monotonic()
                folder.mkdir()
                script, argv = command(kind, self.world)
                outcome = run(script, argv, folder)
                assert outcome.code == 0, f"{kind}: {outcome.err}"
                self.made[kind] = (folder / "runs/r", time.monotonic() - started)
            return self.made[kind]


def command(kind: str, world: Path) -> tuple[str, list[str]]:
    """Return the script of a kind of run and its arguments."""
    script, *more = (word.format(world=world) for word in KINDS[kind])
    more = ["--lr", "1e-3", *more, "--output-dir", "runs", "--name", "r"]
    argv = arguments(world, *more)
    if "--task-file" in more or "--corpus" in more:  # which say themselves what is trained on
        del argv[argv.index("--tasks") : argv.index("--tasks") + 2]
    return script, argv


def is_there(root: Path, pattern: str) -> bool:
    """Return whether a file or folder called so is anywhere in a folder that changes meanwhile."""
    found = (name for _, folders, files in os.walk(root) for name in (*folders, *files))
    return any(fnmatch.fnmatch(name, pattern) for name in found)


def wait_for_moment(process: Command, folder: Path, seconds: float, rng: random.Random) -> str:
    """Wait until it is time to kill a run that takes so many seconds; return what for."""
    if rng.random() < 0.5:
        time.sleep(rng.uniform(0, seconds))
        return "any time"
    pattern, nth = rng.choice(MOMENTS), rng.choice([1, 1, 2, 3, 5, 8, 13])
    seen, before, end = 0, False, time.monotonic() + seconds
    while process.is_running() and time.monotonic() < end:
        now = is_there(folder, pattern)
        seen += now and not before
        if seen == nth:
            time.sleep(rng.choice([0, 0, 0.0005, 0.002]))
            break
        before = now
        time.sleep(0.0003)
    return f"{pattern} for the {nth}. time"


def judge_kill(trial: Trial, outcome: Outcome, story: list[str]) -> bool:
    """Return whether a run that was sent a signal, or went on after one, may be started again."""
    if outcome.code in (-signal.SIGKILL, -signal.SIGTERM):
        return True
    if outcome.code == 130 and all(x.startswith("stopped") for x in outcome.err.splitlines()):
        return True
    kind = "lost" if outcome.code == 2 else verdict(outcome)
    trial.fault(kind, detail(outcome), "; ".join(story))
    return False


def kill_and_resume(trial: Trial, baselines: Baselines) -> None:
    """Start a run, kill it one to three times, let it go on to its end, compare the folders."""
    kind, rng = trial.rng.choice(list(KINDS)), trial.rng
    whole, seconds = baselines.of(kind)
    script, argv = command(kind, trial.tally.effort.world)
    kills, story = rng.choice([1, 1, 2, 3]), [kind]
    for _ in range(STARTS):
        has_arguments = (trial.folder / "runs/r/args.json").is_file()
        resume = ["--resume", "r", "--output-dir", "runs"]
        process = Command(script, resume if has_arguments else argv, trial.folder)
        if len(story) <= kills:
            moment = wait_for_moment(process, trial.folder / "runs", seconds, rng)
            number = rng.choice([*[signal.SIGKILL] * 6, signal.SIGTERM, signal.SIGINT])
            process.signal(number)
            story.append(f"{number.name} at {moment}")
        outcome = process.finish()
        if outcome.code == 0:
            break
        trial.count("kills")
        if not judge_kill(trial, outcome, story):
            return
    else:
        return trial.fault("stuck", kind, "; ".join(story))
    compare(trial, whole, story)


def compare(trial: Trial, whole: Path, story: list[str]) -> None:
    """Count a run that has come to its end as identical, or as what is wrong with it."""
    wrong = differences(whole, trial.folder / "runs/r")
    if not wrong:
        return trial.count("identical")
    kinds = ("logged twice", "left over")
    kind = next((k for k in kinds if all(w.startswith(k) for w in wrong)), "different")
    trial.fault(kind, f"{story[0]}: {'; '.join(wrong)}", "; ".join(story))


def test_killed_runs_end_as_the_uninterrupted_ones(effort: Effort) -> None:
    lines = (effort.world / "data/ids-sst-train.csv").read_text().splitlines()[1:]
    corpus = "\n".join(line.split("\t")[2] for line in lines) + "\n"
    (effort.world / "corpus.txt").write_text(corpus)
    tally, baselines = Tally("kills", effort, NEVER), Baselines(effort.world)
    baselines.of("parallel")  # the teacher of "recipe"
    tally.run(COUNT, lambda trial: kill_and_resume(trial, baselines))
