"""What is shown and logged of every step, read from the device when that costs nothing."""

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from minbert.errors import UserError
from minbert.run.runlog import Progress, RunLog
from minbert.training import distributed

READ_EVERY = {"cuda": 16}  # steps, by the kind of device; others: 1
AFTER_NAN = (
    "nothing was saved since the last checkpoint: start again with a lower --lr, with --clip 1 or "
    "with --precision fp32"
)


@dataclass(frozen=True)
class StepRecord:
    """One step, counted from 1; its loss is one process's share, still on the device."""

    step: int
    task: str
    loss: Tensor | None  # (); None if there was nothing to learn from
    lr: float
    epoch: int  # from 1
    examples: int
    tokens: int
    seconds: float  # that it took to hand it to the device


class StepRecords:
    """Steps go to the log and the progress bar in order, with the loss of all processes.

    A GPU works on while the next steps are being prepared, unless somebody asks it for a number:
    there, losses are read every READ_EVERY steps. `flush` before anything is saved or evaluated.
    """

    def __init__(self, log: RunLog, progress: Progress, device: torch.device) -> None:
        self.log, self.progress = log, progress
        self.read_every = READ_EVERY.get(device.type, 1)
        self.waiting: list[StepRecord] = []

    def add(self, record: StepRecord) -> None:
        """Raises UserError when a loss that is read now is not finite."""
        self.waiting.append(record)
        if len(self.waiting) >= self.read_every:
            self.flush()

    def flush(self) -> None:
        """Read, check, show and log what is waiting. Raises UserError for a loss that is NaN."""
        if not self.waiting:
            return
        records, self.waiting = self.waiting, []
        started = time.monotonic()
        there = [r.loss for r in records if r.loss is not None]
        losses = iter(distributed.totals(torch.stack(there)) if there else [])
        waited = (time.monotonic() - started) / len(records)
        for record in records:
            loss = None if record.loss is None else next(losses)
            if loss is not None and not math.isfinite(loss):
                raise UserError(
                    f"loss of {record.task} is {loss} at step {record.step}, {AFTER_NAN}"
                )
            self.show(record, loss, record.seconds + waited)

    def show(self, r: StepRecord, loss: float | None, seconds: float) -> None:
        """One step's numbers to the progress bar and the log."""
        self.progress.step(r.epoch, r.task, loss, r.lr, r.examples, r.tokens, seconds)
        self.log.write(
            "step", step=r.step, task=r.task, loss=loss, lr=r.lr, tokens=r.tokens,
            seconds=round(seconds, 5),
        )  # fmt: skip
