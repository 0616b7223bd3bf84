"""A run's log.jsonl and progress bar, and the records of steps that go to both."""

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from minbert.errors import UserError
from minbert.files import read_json_lines, write_text
from minbert.report.files import readable_log_lines
from minbert.training import distributed

READ_EVERY = {"cuda": 16}  # losses are read every so many steps, on other devices at each
AFTER_NAN = (
    "nothing was saved since the last checkpoint: start again with a lower --lr, with --clip 1 or "
    "with --precision fp32"
)


class RunLog:
    """log.jsonl: an object a line, flushed at once. A resumed run keeps the lines up to its `step`.

    Of several processes the first one writes.
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
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        if self.board and "step" in values:
            for name, value in scalars(event, values).items():
                self.board.add_scalar(name, value, values["step"])
            self.board.flush()


def open_board(folder: Path, step: int) -> Any:
    """Return TensorBoard's SummaryWriter, which drops what was written after `step`.

    Raises UserError if its package is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("--tensorboard needs its package: pip install tensorboard") from error
    return SummaryWriter(str(folder), purge_step=max(step, 0))


def scalars(event: str, values: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a log line by name: `step/sst/loss`, `dev/sts/pearson`, ..."""
    found = {}
    head = f"{event}/{values['task']}" if "task" in values else event
    for name, value in values.items():
        if isinstance(value, dict):
            found |= scalars(f"{head}/{name}".replace("/scores", ""), value)
        elif isinstance(value, int | float) and name != "step":
            found[f"{head}/{name}"] = value
    return found


def is_finished(folder: Path) -> bool:
    """Return whether the last line of a run's log says that the run came to its end."""
    path = folder / "log.jsonl"
    return path.is_file() and any(line["event"] == "end" for line in read_json_lines(path)[-1:])


@contextmanager
def silence(quiet: bool) -> Iterator[None]:
    """Print nothing within the block if `quiet`, except for errors."""
    if not quiet:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


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
    if missing := step - len(steps):
        print(f"{path}: the lines of {missing} steps are missing; the others are kept")
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))


class Progress:
    """The progress bar with losses, learning rate, speed and time left; only on a terminal."""

    def __init__(self, total: int, start: int, quiet: bool = False) -> None:
        quiet = quiet or distributed.rank() > 0 or not sys.stderr.isatty()
        self.bar = tqdm(total=total, initial=start, disable=quiet, unit="step", dynamic_ncols=True)
        self.losses: dict[str, float] = {}
        self.examples = self.tokens = 0
        self.seconds = 0.0  # of training steps only, without evaluations

    def step(self, record: "StepRecord", loss: float | None, seconds: float) -> None:
        """Count a step and show its numbers; loss: of all processes."""
        task = record.task
        if loss is not None:
            self.losses[task] = 0.95 * self.losses.get(task, loss) + 0.05 * loss
        self.examples += record.examples
        self.tokens += record.tokens
        self.seconds += seconds
        if not self.bar.disable:
            losses = " ".join(f"{name} {value:.3f}" for name, value in self.losses.items())
            self.bar.set_description_str(
                f"epoch {record.epoch} {losses} lr {record.lr:.1e}", refresh=False
            )
            examples_per_s, tokens_per_s = self.rates().values()
            rates = f"{examples_per_s:.0f} ex/s {tokens_per_s:.0f} tok/s"
            self.bar.set_postfix_str(rates, refresh=False)
        self.bar.update(record.step - self.bar.n)  # a joint step has several records

    def rates(self) -> dict[str, float]:
        """Return the examples and tokens a second, means over this session's training steps."""
        seconds = max(self.seconds, 1e-9)
        return {
            "examples_per_s": self.examples / seconds,
            "tokens_per_s": self.tokens / seconds,
        }

    def print_rates(self) -> None:
        """Print the rates as a line, unless there was no step."""
        if self.examples:
            line = "{examples_per_s:.0f} examples/s, {tokens_per_s:.0f} real tokens/s"
            print(line.format(**self.rates()))

    def print(self, text: str) -> None:
        """Print a line above the bar."""
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()

    def close(self) -> None:
        """Remove the bar."""
        self.bar.close()


@dataclass(frozen=True)
class StepRecord:
    """The numbers of one step."""

    step: int  # from 1
    task: str
    loss: Tensor | None  # (), this process's part of the sum, still on the device; None: no loss
    lr: float
    epoch: int  # from 1
    examples: int
    tokens: int
    seconds: float  # until its work was queued on the device
    # of a joint step's first task, (): between two tasks' gradients, by their names
    cosines: dict[str, Tensor] = field(default_factory=dict)


class StepRecords:
    """Steps on their way to the log and the progress bar, each with the loss of all processes.

    Reading a loss waits for the GPU, which otherwise works while the program prepares the next
    steps. On a GPU losses are therefore read every READ_EVERY steps. `flush` must be called before
    anything is saved or evaluated.
    """

    def __init__(self, log: RunLog, progress: Progress, device: torch.device) -> None:
        self.log, self.progress = log, progress
        self.read_every = READ_EVERY.get(device.type, 1)
        self.waiting: list[StepRecord] = []

    def add(self, record: StepRecord) -> None:
        """Add a step; if it is time, read the losses. Raises UserError as `flush` does."""
        self.waiting.append(record)
        if len(self.waiting) >= self.read_every:
            self.flush()

    def flush(self) -> None:
        """Read, check and log all losses added. Raises UserError for one that is not finite."""
        if not self.waiting:
            return
        records, self.waiting = self.waiting, []
        started = time.monotonic()
        own = [r.loss for r in records if r.loss is not None]
        losses = iter(distributed.all_reduce_sums(torch.stack(own)) if own else [])
        waited = (time.monotonic() - started) / len(records)
        for record in records:
            loss = None if record.loss is None else next(losses)
            if loss is not None and not math.isfinite(loss):
                raise UserError(
                    f"loss of {record.task} is {loss} at step {record.step}, {AFTER_NAN}"
                )
            self.write(record, loss, record.seconds + waited)

    def write(self, r: StepRecord, loss: float | None, seconds: float) -> None:
        """Write one step's numbers to the progress bar and the log."""
        self.progress.step(r, loss, seconds)
        cosines = {names: round(float(cosine), 4) for names, cosine in r.cosines.items()}
        more = {"cosines": cosines} if cosines else {}
        self.log.write(
            "step", step=r.step, task=r.task, loss=loss, lr=r.lr, tokens=r.tokens,
            seconds=round(seconds, 5), **more,
        )  # fmt: skip
