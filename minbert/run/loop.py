"""What the loops of both training scripts stand on: set-up, checkpoints, a clean stop.

A step's randomness and rate depend on its number alone and its data too (mixing.py, sampler.py):
that is why a run that was stopped goes on as if it had not been.
"""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import nn

from minbert.data.tokenizer import BertTokenizer
from minbert.errors import UserError
from minbert.run import checkpoint, rundir
from minbert.run.checkpoint import TrainState
from minbert.run.runlog import AFTER_NAN, Progress, RunLog, StepRecords
from minbert.training import distributed
from minbert.training.optimizer import AdamW

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, a polite kill, a closed terminal


@dataclass(frozen=True)
class Training:
    """What a run of either script works with. Parameters, optimizer, state and log change."""

    folder: Path
    tokenizer: BertTokenizer
    model: nn.Module
    optimizer: AdamW
    state: TrainState
    log: RunLog
    progress: Progress
    records: StepRecords

    @property
    def steps(self) -> int:
        """How many steps the whole run has."""
        return self.state.steps

    def write(self, folder: Path) -> None:
        """Write the model and what else is needed to use it."""
        raise NotImplementedError


def find_checkpoint(folder: Path) -> Path | None:
    """Return the run's last/ if there is one to go on from; a cut swap is finished before."""
    with distributed.first_before_others():
        checkpoint.recover(folder / "last")
        return folder / "last" if checkpoint.is_whole(folder / "last") else None


def begin(
    folder: Path, args: Any, tokenizer: BertTokenizer, model: nn.Module, steps: int,
    optimizer: AdamW, last: Path | None, **about: Any,
) -> Training:  # fmt: skip
    """Open the log of a run that starts, or that goes on from `last`, whose state is put back.

    about: what the log's first line says beside the steps.
    """
    state = TrainState(steps)
    if last:
        state = checkpoint.load_training_state(last, model, optimizer)
        rundir.check_steps(folder, state.steps, steps)
    log = RunLog(folder / "log.jsonl", state.step if last else -1, args.tensorboard)
    log.write("resume" if last else "start", step=state.step, steps=steps, **about)
    progress = Progress(steps, state.step, args.quiet)
    device = next(model.parameters()).device
    records = StepRecords(log, progress, device)
    return Training(folder, tokenizer, model, optimizer, state, log, progress, records)


class Keeper:
    """Keeps a run's work while its loop runs: Ctrl-C ends in a saved last/, between two steps.

    Within it SIGNALS raise KeyboardInterrupt, after the `step` block if in one: a half-applied
    update is never saved. Only once: torchrun sends Ctrl-C a second time, which must not cut the
    saving short.
    """

    def __init__(self, run: Training, save_minutes: float) -> None:
        self.run, self.save_minutes = run, save_minutes
        self.in_step = self.pending = False
        self.saved_at, self.due = time.monotonic(), False
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> "Keeper":
        rundir.check_shared(self.run.folder, self.run.state)
        if threading.current_thread() is threading.main_thread():
            for name in SIGNALS:
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                ignored = name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN  # nohup
                if number is not None and not ignored:
                    self.previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if isinstance(error, KeyboardInterrupt):
                self._save_and_say_how_to_go_on()
            if kind is None or isinstance(error, KeyboardInterrupt):
                self.run.progress.close()
        finally:
            for number, handler in self.previous.items():
                signal.signal(number, handler)

    def _save_and_say_how_to_go_on(self) -> None:
        save(self.run, "last")
        if distributed.rank() == 0:  # on stderr: --quiet is not to swallow it
            whole = rundir.whole_of(self.run.folder)
            text = f"stopped at step {step_of(self.run)}; go on with --resume {whole}"
            print(text, file=sys.stderr)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.in_step:
            self.pending = True
        else:
            self._stop()

    def _stop(self) -> None:
        self.in_step = True  # from now on
        raise KeyboardInterrupt

    @contextmanager
    def step(self) -> Iterator[None]:
        """Let what is inside be done wholly or, when it raises, on its own account.

        Of several processes all stop after it when one is told to.
        """
        self.in_step = True
        try:
            yield
            late = time.monotonic() - self.saved_at >= 60 * self.save_minutes
            self.due = distributed.any_rank(late)
            stop = distributed.any_rank(self.pending)
        finally:
            self.in_step = False
        if stop:
            self._stop()

    def save(self) -> None:
        """Write last/, to go on from."""
        save(self.run, "last")
        self.saved_at, self.due = time.monotonic(), False


def step_of(run: Training) -> str:
    """Return how far a run is, for a sentence."""
    return f"{run.state.step} of {run.steps}"


def check_finite(run: Training) -> None:
    """Raise UserError for weights that are not finite: they are neither evaluated nor saved.

    They are looked at here only, not every step: a GPU would be waited for.
    """
    run.records.flush()
    norm = torch.nn.utils.get_total_norm([p.detach() for p in run.model.parameters()])
    if not torch.isfinite(norm):
        raise UserError(f"weights are not finite after step {step_of(run)}, {AFTER_NAN}")


def save(run: Training, name: str) -> None:
    """Write best/ to use or last/ to go on from, whole or not at all. The first process writes."""
    check_finite(run)
    if distributed.rank() > 0:
        return
    with checkpoint.atomic_directory(run.folder / name) as folder:
        run.write(folder)
        if name == "last":
            checkpoint.save_training_state(folder, run.model, run.optimizer, run.state)
