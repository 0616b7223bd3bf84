"""Changed inputs of every kind: one line, or a result; nothing else."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from minbert.manifest import MANIFEST, write_manifest
from tests.torture.inputs import INPUTS, Input, make_stage
from tests.torture.judge import DONE, NEVER, detail, files_of, verdict
from tests.torture.mutations import EXECUTED
from tests.torture.tally import Effort, Tally, Trial

COUNT = 10_000
FAULTS = (*NEVER, "other result", "not finite", "code executed")
NOT_NUMBERS = (b"NaN", b"Infinity", b"NOT FINITE")


def matching(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a pattern, in a fixed order."""
    return sorted(path for path in folder.glob(pattern) if path.is_file())


def furnish(folder: Path, stage: Path, file: str) -> None:
    """Put a copy of the stage into a folder; of what no command writes, a link is enough."""
    for entry in stage.iterdir():
        place = folder / entry.name
        if entry.name not in ("runs", file.split("/")[0]):
            place.symlink_to(entry)
        else:
            (shutil.copytree if entry.is_dir() else shutil.copy)(entry, place)


def results(stage: Path, effort: Effort) -> dict[str, bytes]:
    """Return what comes of the undamaged inputs that have a hash, by the input's file.

    All commands must succeed on what is undamaged.
    """

    def result(number: int) -> tuple[str, bytes]:
        one, folder = INPUTS[number], effort.world / "undamaged" / str(number) / "t"
        folder.mkdir(parents=True)
        furnish(folder, stage, one.file)
        outcome = one.start(folder).finish()
        assert outcome.code == 0, f"{one.file}: {outcome.err}"
        return one.file, (folder / one.same).read_bytes() if one.same else b""

    with ThreadPoolExecutor(effort.workers) as pool:
        return dict(pool.map(result, range(len(INPUTS))))


def change(trial: Trial, stage: Path, expected: dict[str, bytes]) -> None:
    """Change one file and give it to the command that reads it."""
    one, rng = INPUTS[trial.number % len(INPUTS)], trial.rng
    furnish(trial.folder, stage, one.file)
    file = rng.choice(matching(trial.folder, one.file))
    what, content = one.mutate(file.read_bytes(), rng)
    file.write_bytes(content)
    if one.sealed:
        (file.parent / MANIFEST).unlink()
        write_manifest(file.parent)

    outcome = one.start(trial.folder).finish()
    story = f"{file.name}: {what}"
    if (trial.folder / EXECUTED).exists():
        return trial.fault("code executed", one.file, story)
    if (found := verdict(outcome, one.codes)) in NEVER:
        return trial.fault(found, f"{one.file}: {detail(outcome)}", story)
    if found != DONE:
        return trial.count(found)
    if any(words in outcome.out.encode() + outputs(trial.folder, one) for words in NOT_NUMBERS):
        return trial.fault("not finite", one.file, story)
    if one.same and (trial.folder / one.same).read_bytes() != expected[one.file]:
        return trial.fault("other result", one.file, story)
    trial.count("accepted")


def outputs(folder: Path, one: Input) -> bytes:
    """Return what `evaluate` wrote of a model's outputs."""
    is_scored = "--data-dir" in one.command and "--output" in one.command
    return b"".join(p.read_bytes() for p in files_of(folder / "out").values()) if is_scored else b""


def test_changed_inputs_give_one_line_or_a_result(effort: Effort) -> None:
    stage = effort.world / "stage"
    make_stage(effort.world, stage)
    expected = results(stage, effort)
    tally = Tally("mutated", effort, FAULTS)
    tally.run(COUNT, lambda trial: change(trial, stage, expected))
