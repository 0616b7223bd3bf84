"""What the loops of both training scripts share: setting up, checkpoints, a clean stop.

A step's random numbers, learning rate and data are functions of its number (mixing.py, sampler.py).
That is why a run that was stopped continues as if it had not been.
"""

import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch

from minbert.data.tokenizer import BertTokenizer
from minbert.errors import UserError
from minbert.files import remove_unfinished, sha256_of
from minbert.model.encoder import BertModel
from minbert.model.mlm import MaskedLanguageModel
from minbert.model.multitask import MultitaskNetwork
from minbert.run import checkpoint, rundir
from minbert.run.checkpoint import TrainState
from minbert.run.common_args import CommonArgs
from minbert.run.runlog import RunLog, has_trained
from minbert.run.steps import AFTER_NAN, Progress, StepRecords
from minbert.run_files import FINDINGS, LOG
from minbert.training import distributed
from minbert.training.averaging import put_back
from minbert.training.device import describe_machine, precision_name
from minbert.training.optimizer import AdamW

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, a polite kill, a closed terminal


@dataclass(frozen=True)
class Training:
    """What the loop of either script works with; parameters, optimizer, state and log change."""

    folder: Path
    tokenizer: BertTokenizer
    model: MultitaskNetwork | MaskedLanguageModel
    optimizer: AdamW
    state: TrainState
    log: RunLog
    progress: Progress
    records: StepRecords

    @property
    def steps(self) -> int:
        """How many steps the whole run has."""
        return self.state.steps

    def is_over(self) -> bool:
        """Return whether the last step is done."""
        return self.state.step >= self.steps

    def outlook(self) -> str:
        """Return which steps are about to be done and how, or that nothing is left to do."""
        if self.is_over() and self.state.assessed == self.state.step:
            return describe_finished(self.folder, self.state)
        encoder: BertModel = self.model.encoder
        where = f"{encoder.compute_dtype} on {encoder.device}"
        return f"{self.folder}: steps {self.state.step} to {self.steps}, {where}"

    def write(self, folder: Path) -> None:
        """Write the model and all other files that are needed to use it."""
        raise NotImplementedError


def describe_finished(folder: Path, state: TrainState) -> str:
    """Return that nothing of a run is left to do, and how to train on."""
    new = f"start a new run from it: --model {shlex.quote(str(folder))}"
    return f"{folder} is finished: step {state.step} of {state.steps}; to train on, {new}"


def recover_last(folder: Path) -> Path | None:
    """Tidy up what a kill or power cut left, and return the run's last/ if there is one.

    It is saved before the first step and never removed. Raises UserError for a run that has trained
    and has lost it: to begin anew would overwrite its best step and its log.
    """
    last = folder / "last"
    with distributed.first_before_others():
        if distributed.rank() == 0:
            remove_unfinished(folder)
            checkpoint.recover_all(folder)
        if checkpoint.has_checkpoint(last):
            return last
        if (has_best := (folder / "best").exists()) or has_trained(folder):
            new = f"; --model {shlex.quote(str(folder))} starts a new run from best/" * has_best
            raise UserError(f"{last}: gone, and without it the run cannot go on{new}")
        return None


def begin(
    folder: Path, args: CommonArgs, *, tokenizer: BertTokenizer,
    model: MultitaskNetwork | MaskedLanguageModel,
    optimizer: AdamW, steps: int, last: Path | None, files: dict[str, Path],
    task_bests: bool = False, **about: Any,
) -> Training:  # fmt: skip
    """Open the log of a run that starts, or load the state of one that continues from `last`.

    files: what is trained and evaluated on, by a name that stays when they move. task_bests: each
    task's best step has a folder. about: more values for the log's first line.
    """
    hashes = {name: sha256_of(path) for name, path in files.items()}
    state = TrainState(steps, data=hashes)
    if last:
        state = checkpoint.load_training_state(last, model, optimizer)
        rundir.check_steps(folder, state.steps, steps)
        rundir.check_data(folder, state.data, files, hashes)
        state.data = hashes
        checkpoint.check_bests(folder, state, task_bests)
        forget_lost_bests(folder, state, task_bests)
    path, begun = folder / LOG, state.step if last else -1
    if last and not path.is_file():
        print(f"{path}: gone; it begins anew at step {state.step}")
    log = RunLog(path, begun, state.assessed, args.tensorboard)
    event = "resume" if last else "start"
    log.write(event, step=state.step, steps=steps, machine=machine_of(model), **about)
    progress = Progress(steps, state.step, args.quiet)
    device = next(model.parameters()).device
    records = StepRecords(log, progress, device)
    return Training(folder, tokenizer, model, optimizer, state, log, progress, records)


def machine_of(model: MultitaskNetwork | MaskedLanguageModel) -> str:
    """Return what computes a model's steps: the machine, and the precision of the products."""
    encoder: BertModel = model.encoder
    return f"{describe_machine(encoder.device)}, {precision_name(encoder.compute_dtype)} products"


def forget_lost_bests(folder: Path, state: TrainState, of_tasks: bool) -> None:
    """Let the best step be chosen anew, from the present one on, where its folder is gone.

    of_tasks: the tasks' best steps have folders, too.
    """
    lost = []
    if state.best and not (folder / "best").exists():
        lost, state.best = ["best"], None
        (folder / FINDINGS).unlink(missing_ok=True)  # they are of the model that is gone
    if of_tasks:
        for task in list(state.task_best):
            name = checkpoint.task_best_folder(task)
            if not (folder / name).exists():
                lost.append(name)
                del state.task_best[task]
    for name in lost:
        print(f"{folder / name}: gone; the best step from {state.step} on takes its place")
    if lost and state.assessed == state.step:  # it is evaluated again, and counts once
        state.assessed, state.since_best = state.step - 1, max(0, state.since_best - 1)
        del state.stages[-1:]


class Keeper:
    """Saves last/ when the loop is interrupted (Ctrl-C, another process's end), and when it is due.

    Within its `with` block SIGNALS raise KeyboardInterrupt, but in a `step` block only after it: a
    half-applied update is never saved. They do so once: torchrun sends Ctrl-C again, which must not
    interrupt the saving.
    """

    def __init__(self, run: Training, save_minutes: float) -> None:
        self.run, self.save_minutes = run, save_minutes
        self.deferred = False  # a signal now sets `pending` and raises nothing
        self.pending = False
        self.saved_at, self.due = time.monotonic(), False
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> "Keeper":
        rundir.check_shared(self.run.folder, self.run.state)
        if threading.current_thread() is threading.main_thread():
            for name in SIGNALS:
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                # nohup has SIGHUP ignored, which stays so
                ignored = name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN
                if number is not None and not ignored:
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
            # the program that read stdout has ended, as `head` does, or tee at Ctrl-C: also a stop
            stdout_closed = isinstance(error, BrokenPipeError) and distributed.size() == 1
            # what a step needs of other processes comes before its update: none is half-applied
            left_alone = distributed.size() > 1 and distributed.tells_of_lost_process(error)
            if stdout_closed or left_alone or isinstance(error, KeyboardInterrupt):
                self.deferred = True  # no signal interrupts the saving
                self._save_and_report()
        finally:
            for number, handler in self.previous.items():
                signal.signal(number, handler)

    def _save_and_report(self) -> None:
        """Write last/ and print the command that continues from it."""
        put_back(self.run.optimizer)  # if Ctrl-C came before `averaged` could
        save(self.run, "last")
        if distributed.rank() == 0:  # on stderr, which --quiet does not silence
            whole = shlex.quote(str(rundir.command_folder(self.run.folder)))
            text = f"stopped at step {step_of(self.run)}; go on with --resume {whole}"
            print(text, file=sys.stderr)

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
            stop = distributed.any_rank(self.pending)
        finally:
            self.deferred = False
        if stop:
            self._stop()

    def save(self) -> None:
        """Write last/, from which the run can continue."""
        save(self.run, "last")
        self.saved_at, self.due = time.monotonic(), False


def step_of(run: Training) -> str:
    """Return how many of a run's steps are done, as "3 of 10"."""
    return f"{run.state.step} of {run.steps}"


def check_finite(run: Training) -> None:
    """Raise UserError for weights that are not finite: they are neither evaluated nor saved.

    This is not done in every step, because it waits for a GPU.
    """
    run.records.flush()
    norm = torch.nn.utils.get_total_norm([p.detach() for p in run.model.parameters()])
    if not torch.isfinite(norm):
        raise UserError(f"weights are not finite after step {step_of(run)}, {AFTER_NAN}")


def save(run: Training, name: str) -> None:
    """Write best/ (for use) or last/ (to continue from) completely or not at all.

    Of several processes the first one writes.
    """
    check_finite(run)
    if distributed.rank() > 0:
        return
    with checkpoint.atomic_directory(run.folder / name) as new, ThreadPoolExecutor(1) as pool:
        written = None
        if name == "last":  # its largest file is written while the others are
            written = pool.submit(
                checkpoint.save_training_state, new, run.model, run.optimizer, run.state
            )
        run.write(new)
        if written:
            written.result()  # raises what it raised, as for a full disk
