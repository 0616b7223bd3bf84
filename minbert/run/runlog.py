"""A run's log.jsonl, and TensorBoard's files beside it."""

import json
import os
import time
from pathlib import Path
from typing import Any

from minbert.errors import UserError
from minbert.files import parse_json_line, write_text
from minbert.log_lines import check_log_line, readable_log_lines
from minbert.manifest import named_in_errors
from minbert.run_files import LOG, folders_of_run
from minbert.training import distributed


class RunLog:
    """log.jsonl: an object a line, flushed at once. A resumed run keeps the lines up to its `step`.

    Only process 0 writes.
    """

    def __init__(self, path: Path, step: int, assessed: int, tensorboard: bool = False) -> None:
        if distributed.rank() > 0:
            path, tensorboard = Path(os.devnull), False
        path.parent.mkdir(parents=True, exist_ok=True)
        self.board = open_board(path.parent / "tensorboard", step) if tensorboard else None
        if path.is_file():
            _drop_after(path, step, assessed)
        self.file = path.open("a", encoding="utf-8")

    def write(self, event: str, **values: Any) -> None:
        """Add a line: its time, its event and the values."""
        line = {"time": round(time.time(), 2), "event": event, **values}
        # before the log: a stop between the two repeats values there, and loses none
        if self.board and "step" in values:
            with named_in_errors(Path(self.board.log_dir)):
                for name, value in scalars(event, values).items():
                    self.board.add_scalar(name, value, values["step"])
                self.board.flush()
        with named_in_errors(Path(self.file.name)):
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()


def check_tensorboard() -> None:
    """Raise UserError if TensorBoard's package is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise UserError("--tensorboard needs its package: pip install tensorboard") from error


def open_board(folder: Path, step: int) -> Any:
    """Return TensorBoard's SummaryWriter, which drops what was written after `step`."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1)


def scalars(event: str, values: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a log line by name: `step/sst/loss`, `dev/sts/pearson`, ..."""
    head, found = f"{event}/{values['task']}" if "task" in values else event, {}
    for name, value in values.items():
        found |= numbers_in(value, head if name == "scores" else f"{head}/{name}")
    return found


def numbers_in(value: Any, name: str) -> dict[str, float]:
    """Return the numbers of a value of JSON but for steps, by the value's name and their keys."""
    if isinstance(value, dict):
        parts = (numbers_in(part, f"{name}/{key}") for key, part in value.items())
        return {key: number for part in parts for key, number in part.items()}
    return {name: value} if isinstance(value, int | float) and not name.endswith("/step") else {}


def is_finished(folder: Path) -> bool:
    """Return whether the last line of a run's log says that the run came to its end."""
    path = folder / LOG
    if not path.is_file() or not (lines := path.read_bytes().split(b"\n")[:-1]):
        return False
    try:
        last = parse_json_line(lines[-1], str(path))
        check_log_line(last, str(path))
    except UserError:  # the run goes on, and leaves that line out
        return False
    return last["event"] == "end"


def has_trained(folder: Path) -> bool:
    """Return whether a run's log has a step."""
    path = folder / LOG
    lines = readable_log_lines(path)[0] if path.is_file() else []
    return any(line["event"] == "step" for line in lines)


def say_if_unfinished(model: str) -> None:
    """Print how far a run is that a new one starts or learns from, unless it has ended."""
    folders = folders_of_run(Path(model))
    log = folders[0] / LOG if folders else None
    lines = readable_log_lines(log)[0] if log and log.is_file() else []
    if lines and lines[-1]["event"] != "end":
        step = max(line.get("step", 0) for line in lines)
        begun = (line.get("steps") for line in lines if line["event"] in ("start", "resume"))
        steps = next((count for count in begun if count), "?")
        print(f"{folders[0]} is not finished: step {step} of {steps}")


def _drop_after(path: Path, step: int, assessed: int) -> None:
    """Remove what training from the checkpoint of a step will write again.

    assessed: the step of the last evaluation that the checkpoint has.
    """
    last = {**dict.fromkeys(("dev", "mean-dev", "held-out"), assessed), "end": -1}
    lines, damaged = readable_log_lines(path)
    if damaged:
        print(f"{path}: damaged lines left out: {damaged}")
    kept = [line for line in lines if line.get("step", 0) <= last.get(line["event"], step)]
    steps = {line["step"] for line in kept if line["event"] == "step"}
    if (missing := step - len(steps)) > 0:  # step is -1 after a start without a checkpoint
        print(f"{path}: the lines of {missing} steps are missing; the others are kept")
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
