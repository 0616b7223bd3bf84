"""What keeps a run's work: checkpoints while it trains, and a clean stop.

A step's random numbers, learning rate and data are functions of its number (mixing.py, sampler.py).
That is why a run that was stopped continues as if it had not been.
"""

import json
import shlex
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType, TracebackType
from typing import Any

import torch

from minbert.errors import UserError
from minbert.progress import complain
from minbert.run import checkpoint, rundir
from minbert.run.beginning import Run
from minbert.run.checkpoint import Best, TaskBest
from minbert.run.steps import AFTER_NAN
from minbert.run_files import ARGS, BEST_STEP, command_folder
from minbert.training import distributed
from minbert.training.averaging import put_back

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, a polite kill, a closed terminal


class Keeper:
    """Saves last/ when the loop is interrupted, and tells the loop when saving is `due`.

    Within its `with` block SIGNALS raise KeyboardInterrupt; within `step` they wait until the step
    is done: a half-applied update is never saved. Only the first one raises: torchrun sends Ctrl-C
    twice, and the second must not interrupt the saving.
    """

    def __init__(self, run: Run, save_minutes: float) -> None:
        self.run, self.save_minutes = run, save_minutes
        self.deferred = False  # a signal now sets `pending` and raises nothing
        self.pending = False
        self.saved_at, self.due = time.monotonic(), False
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> "Keeper":
        rundir.check_shared(self.run.folder, self.run.state)
        if threading.current_thread() is threading.main_thread():
            for name in SIGNALS:
                if not hasattr(signal, name):  # Windows has no SIGHUP
                    continue
                number = getattr(signal, name)
                # nohup has SIGHUP ignored, which stays so
                if name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:
                    self.previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.run.progress.close()  # what is printed from now on stands in no bar
        try:
            # an OSError without a file's name is of stdout (its reader, as head or tee, has ended,
            # its terminal is gone or its disk is full) or of full temporary files (sampler.py):
            # the run is saved then, too
            no_name = isinstance(error, OSError) and error.filename is None
            stdout_closed = no_name and distributed.world_size() == 1
            # processes wait for each other before an update or after it: none is half-done
            left_alone = distributed.world_size() > 1 and distributed.tells_of_lost_process(error)
            if stdout_closed or left_alone or isinstance(error, KeyboardInterrupt):
                self.deferred = True  # no signal interrupts the saving
                self._save_and_report()
        finally:
            for number, handler in self.previous.items():
                signal.signal(number, handler)

    def _save_and_report(self) -> None:
        """Write last/ and print the command that continues from it."""
        put_back(self.run.optimizer)  # if Ctrl-C came before `averaged` could
        if distributed.world_size() > 1:  # the others may be gone, or not as far
            self.run.records.give_up_losses()
        save_checkpoint(self.run, "last")
        if distributed.rank() == 0:  # on stderr, which --quiet does not silence
            whole = shlex.quote(str(command_folder(self.run.folder)))
            text = f"stopped at step {step_of(self.run)}; go on with --resume {whole}"
            complain(text)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.deferred:
            self.pending = True
        else:
            self._stop()

    def _stop(self) -> None:
        self.deferred = True  # from now on no signal raises again
        raise KeyboardInterrupt

    @contextmanager
    def step(self) -> Iterator[None]:
        """Let no signal interrupt the block, only stop the loop after it.

        If one process gets a signal, all of them stop after the same step.
        """
        self.deferred = True
        try:
            yield
            is_due = time.monotonic() - self.saved_at >= 60 * self.save_minutes
            self.due = distributed.any_rank(is_due)
            if stop := distributed.any_rank(self.pending):
                self.run.records.flush()  # here all processes are as far
        finally:
            self.deferred = False
        if stop:
            self._stop()

    def save(self) -> None:
        """Write last/, from which the run can continue."""
        save_checkpoint(self.run, "last")
        self.saved_at, self.due = time.monotonic(), False


def step_of(run: Run) -> str:
    """Return how many of a run's steps are done, as "3 of 10"."""
    return f"{run.state.step} of {run.steps}"


def check_finite(run: Run) -> None:
    """Raise UserError for weights that are not finite: they are neither evaluated nor saved.

    This is not done in every step, because it waits for a GPU.
    """
    norm = torch.nn.utils.get_total_norm([p.detach() for p in run.model.parameters()])
    if not torch.isfinite(norm):
        raise UserError(f"weights are not finite after step {step_of(run)}, {AFTER_NAN}")


def save_checkpoint(run: Run, name: str, best: Best | TaskBest | None = None) -> None:
    """Write best/ (for use) or last/ (to continue from) completely or not at all.

    best: which step it is, of a best one. Only process 0 writes. Raises UserError if the run's
    folder was moved: a last/ without args.json could not go on.
    """
    run.records.flush()
    check_finite(run)
    if distributed.rank() > 0:
        return
    if not (run.folder / ARGS).is_file():
        raise UserError(
            f"{run.folder}: its {ARGS} is gone, and nothing more is saved here: if you have moved "
            f"the run, --resume its new folder, which goes on from the last step saved"
        )
    with checkpoint.atomic_directory(run.folder / name) as new, ThreadPoolExecutor(1) as pool:
        written = None
        if name == "last":  # its largest file is written while the others are
            written = pool.submit(
                checkpoint.save_training_state, new, run.model, run.optimizer, run.state
            )
        run.write(new)
        if best:
            (new / BEST_STEP).write_text(json.dumps(asdict(best), indent=1) + "\n")
        if written:
            written.result()  # raises what it raised, as for a full disk
