"""What both training scripts do around their steps: evaluations, checkpoints, a clean stop.

A step's randomness and rate depend on its number alone and its data too (mixing.py, sampler.py):
that is why a run that was stopped goes on as if it had not been.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from minbert.errors import UserError
from minbert.run import checkpoint, rundir
from minbert.run.interrupt import Interrupt
from minbert.run.runlog import Progress
from minbert.run.steprecords import AFTER_NAN, StepRecords
from minbert.training import distributed
from minbert.training.optimizer import AdamW


class Training(Protocol):
    """A run, as far as this module needs to know it."""

    args: Any  # with save_minutes
    folder: Path
    model: nn.Module
    optimizer: AdamW
    state: dict[str, Any]  # "step": how many are done; "assessed": after how many last
    progress: Progress
    records: StepRecords
    steps: int

    def is_over(self) -> bool:
        """Whether no step is to follow."""

    def stage_after(self, step: int) -> str | None:
        """What has just ended after so many steps and calls for an evaluation, as a name."""

    def write(self, folder: Path) -> None:
        """The model and what else is needed to use it."""


def train_to_end(
    run: Training, train_step: Callable[[Any, int], None], assess: Callable[[Any, str], None]
) -> None:
    """Steps, from where the run is until it is over; evaluations and checkpoints between them.

    Ctrl-C saves last/ before it is raised again.
    """
    rundir.check_shared(run.folder, run.state)
    saved, due = time.monotonic(), False
    with Interrupt() as interrupt:
        try:
            while True:
                step = run.state["step"]  # so many are done
                stage = run.stage_after(step)
                if stage and run.state["assessed"] < step:
                    check_finite(run)
                    assess(run, stage)
                    due = True
                if due:
                    save(run, "last")
                    saved = time.monotonic()
                if run.is_over():
                    break
                with interrupt.shielded():
                    train_step(run, step)
                    due = distributed.anyone(time.monotonic() - saved >= 60 * run.args.save_minutes)
        except KeyboardInterrupt:
            save(run, "last")
            run.progress.close()
            if distributed.rank() == 0:  # on stderr: --quiet is not to swallow it
                whole = rundir.whole_of(run.folder)
                print(
                    f"stopped at step {step_of(run)}; go on with --resume {whole}", file=sys.stderr
                )
            raise
    run.progress.close()


def step_of(run: Training) -> str:
    return f"{run.state['step']} of {run.steps}"


def check_finite(run: Training) -> None:
    """What is not finite is neither evaluated nor saved. Raises UserError.

    Weights are looked at here only, not every step: a GPU would be waited for.
    """
    run.records.flush()
    norm = torch.nn.utils.get_total_norm([p.detach() for p in run.model.parameters()])
    if not torch.isfinite(norm):
        raise UserError(f"weights are not finite after step {step_of(run)}, {AFTER_NAN}")


def save(run: Training, name: str) -> None:
    """best/ to use, last/ to go on from; whole or not at all. The first process writes."""
    check_finite(run)
    if distributed.rank() > 0:
        return
    with checkpoint.atomic_directory(run.folder / name) as folder:
        run.write(folder)
        if name == "last":
            checkpoint.save_training_state(folder, run.model, run.optimizer, run.state)
