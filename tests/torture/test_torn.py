"""Every file of a run torn, zeroed or flipped: the same result as from the whole, or one line."""

import hashlib
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import arguments
from tests.forked import Command, run
from tests.processes import wait_for_step
from tests.torture.judge import DONE, NEVER, detail, differences, files_of, verdict
from tests.torture.mutations import torn
from tests.torture.tally import Effort, Tally, Trial

COUNT = 1600
COMMANDS: dict[str, list[str]] = {
    "resume": ["train", "--resume", "r", "--output-dir", "runs"],
    "evaluate": ["evaluate", "--checkpoint", "runs/r", "--data-dir", "{data}", "--output", "out"],
    "text": ["evaluate", "--checkpoint", "runs/r", "--text", "red cat runs", "--json"],
    "export": ["export", "runs/r", "out", "--to", "transformers", "--task", "sst"],
    "model": ["train", "--skip-predictions", "--epochs", "1", "--model", "runs/r", "--name", "m"],
}
WRITTEN = {"evaluate": "out", "export": "out", "model": "runs/m"}  # what else may be half there
# Text that a user may change: what it says is used, and if it decides a result the change is said.
EDITABLE = ("args.json", "tasks.toml", "log.jsonl")


@dataclass
class Torn:
    """A run that was stopped half-way, and what each command makes of it undamaged."""

    whole: Path  # the uninterrupted run
    half: Path
    data: Path
    expected: dict[tuple[str, bool], object] = field(default_factory=dict)

    def learn(self, scratch: Path) -> None:
        """Fill in `expected`, with and without best/ in the run."""
        for name in COMMANDS:
            for has_best in (True, False)[: 1 + (name != "resume")]:
                folder = scratch / f"{name}-{has_best}" / "t"
                folder.mkdir(parents=True)
                self.copy_to(folder, has_best)
                outcome = run(*self.command(name, folder), folder)
                assert outcome.code == 0, f"{name}: {outcome.err}"
                self.expected[name, has_best] = self.result(name, folder, outcome.out)
        assert self.expected["resume", True] == []

    def copy_to(self, folder: Path, has_best: bool) -> None:
        """Put the run into a folder."""
        shutil.copytree(self.half / "runs", folder / "runs")
        if not has_best:
            shutil.rmtree(folder / "runs/r/best")

    def command(self, name: str, folder: Path) -> tuple[str, list[str]]:
        """Return script and arguments of a command."""
        script, *argv = (word.format(data=self.data) for word in COMMANDS[name])
        if name == "model":
            argv = arguments(self.data.parent, "--output-dir", "runs", *argv)
        return script, argv

    def result(self, name: str, folder: Path, out: str) -> object:
        """Return what a command left or printed, to be compared."""
        if name == "resume":
            return differences(self.whole, folder / "runs/r")
        if name == "text":
            return out
        if name == "model":
            return hashed(folder / "runs/m/last")["model.safetensors"]
        return hashed(folder / WRITTEN[name])


def hashed(folder: Path) -> dict[str, str]:
    """Return the hashes of a folder's files."""
    return {n: hashlib.sha256(p.read_bytes()).hexdigest() for n, p in files_of(folder).items()}


def stopped_run(world: Path) -> Torn:
    """Train a run to its end and another one that is stopped half-way."""
    argv = arguments(world, "--output-dir", "runs", "--name", "r", "--eval-every", "4")
    argv += ["--lr", "1e-3", "--save-minutes", "0"]
    whole, half = world / "whole", world / "half"
    whole.mkdir()
    half.mkdir()
    assert run("train", argv, whole).code == 0
    process = Command("train", argv, half)
    wait_for_step(half / "runs/r", 11)
    process.signal(signal.SIGTERM)
    assert process.finish().code == 130
    made = Torn(whole / "runs/r", half, world / "data")
    made.learn(world / "learnt")
    return made


def tear(trial: Trial, run_: Torn) -> None:
    """Damage one file of the run and give the run to one command."""
    rng, half = trial.rng, run_.half / "runs"
    inside = sorted(p.relative_to(half) for p in half.rglob("*") if p.is_file())
    file = rng.choice([path for path in inside if path.name not in (".lock", "README.md")])
    name = "resume" if ".ids" in file.parts else rng.choice(list(COMMANDS))
    has_best = name == "resume" or "last" not in file.parts  # without best/ all others take last/
    what, content = torn((half / file).read_bytes(), rng)
    run_.copy_to(trial.folder, has_best)
    path = trial.folder / "runs" / file
    path.unlink() if content is None else path.write_bytes(content)
    story = f"{name}: {file} {what}"

    outcome = run(*run_.command(name, trial.folder), trial.folder)
    found = verdict(outcome)
    if found in NEVER:
        return trial.fault(found, detail(outcome), story)
    if found != DONE:
        left = trial.folder / WRITTEN.get(name, "out")
        if left.is_dir() and any(left.iterdir()) and name != "model":
            return trial.fault("half written", f"{name}: {[*files_of(left)]}", story)
        return trial.count(found)
    result = run_.result(name, trial.folder, outcome.out)
    if file.name in EDITABLE and isinstance(result, list):  # it may have stayed as it is
        result = [line for line in result if file.name not in line]
    if result == run_.expected[name, has_best]:
        return trial.count("same result")
    if file.name in EDITABLE and f"{file.name}: not what the run wrote" in outcome.err:
        return trial.count("said, and used")
    trial.fault("other result", story, f"{story}: {str(result)[:200]}")


def misplace(trial: Trial, run_: Torn) -> None:
    """Leave what a kill between the two renames of a saved directory leaves."""
    name = trial.rng.choice(list(COMMANDS))
    run_.copy_to(trial.folder, has_best=True)
    saved = trial.folder / "runs/r" / ("last" if name == "resume" else "best")
    moved = saved.rename(saved.with_name(f".{saved.name}.{trial.rng.choice(['new', 'old'])}"))
    outcome = run(*run_.command(name, trial.folder), trial.folder)
    story = f"{name}: {saved.name} is {moved.name}"
    if (
        verdict(outcome) != DONE
        or run_.result(name, trial.folder, outcome.out) != (run_.expected[name, True])
    ):
        return trial.fault("other result", story, f"{story}: {detail(outcome)}")
    if name == "resume" and "steps 0 to" in outcome.out:
        return trial.fault("started anew", story, story)
    trial.count("same result")


def test_damaged_runs_give_the_same_result_or_one_line(effort: Effort) -> None:
    stopped = stopped_run(effort.world)
    tally = Tally("torn", effort, (*NEVER, "other result", "half written", "started anew"))
    tally.run(COUNT, lambda trial: (misplace if trial.number % 8 == 7 else tear)(trial, stopped))
