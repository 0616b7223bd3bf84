"""How both training scripts begin: the parts of a run, its log, and the state of a resumed one."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from minbert.data.tokenizer import BertTokenizer
from minbert.errors import UserError
from minbert.files import remove_unfinished
from minbert.model.encoder import BertModel
from minbert.model.mlm import MaskedLanguageModel
from minbert.model.multitask import MultitaskNetwork
from minbert.run import checkpoint
from minbert.run.checkpoint import Best, TaskBest, TrainState
from minbert.run.common_args import CommonArgs
from minbert.run.resumed import check_data, check_steps
from minbert.run.runlog import RunLog, has_trained
from minbert.run.steps import Progress, StepRecords
from minbert.run_files import BEST_STEP, FINDINGS, LOG, STATE
from minbert.training import distributed
from minbert.training.device import describe_machine, precision_name
from minbert.training.optimizer import AdamW
from minbert.training.schedule import describe_long_warmup


@dataclass(frozen=True)
class Run:
    """A run as its loop sees it; parameters, optimizer, state and log change."""

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
        if self.is_over() and self.state.is_evaluated:
            return describe_finished(self.folder, self.state)
        encoder: BertModel = self.model.encoder
        where = f"{precision_name(encoder.compute_dtype)} on {encoder.device}"
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
        if last.exists():
            checkpoint.check_manifest(last)
            return last
        has_best = (folder / "best").exists()
        if has_best or has_trained(folder):
            new = f"; --model {shlex.quote(str(folder))} starts a new run from best/"
            mend = new if has_best else ""
            raise UserError(f"{last}: gone, and without it the run cannot go on{mend}")
        return None


def begin(
    folder: Path, args: CommonArgs, *, tokenizer: BertTokenizer,
    model: MultitaskNetwork | MaskedLanguageModel,
    optimizer: AdamW, steps: int, last: Path | None, files: dict[str, Path],
    hashes: dict[str, str], start: str = "", tasks: tuple[str, ...] = (),
    tasks_with_best: tuple[str, ...] = (), **about: Any,
) -> Run:  # fmt: skip
    """Open the log of a run that starts, or load the state of one that continues from `last`.

    files: what is trained and evaluated on, by a name that stays when they move. hashes: those of
    the files when they were read. start: the hash of the model that a run starts from. tasks:
    those that are scored; () in pre-training. tasks_with_best: those whose own best steps are kept,
    too. about: more values for the log's "start" or "resume".
    """
    state = TrainState(steps, data=hashes, start=start)
    if last:
        state = checkpoint.load_training_state(last, model, optimizer)
        checkpoint.check_scores(state, tasks, last / STATE)
        check_data(folder, state.data, files, hashes)
        check_steps(folder, state.steps, steps)
        state.data = hashes
        checkpoint.check_bests(folder, state, tasks_with_best)
        adopt_bests(folder, state, tasks, tasks_with_best)
        forget_lost_bests(folder, state, tasks_with_best)
    path, logged = folder / LOG, state.step if last else -1  # the log is kept up to that step
    if last and not path.is_file():
        print(f"{path}: gone; it begins anew at step {state.step}")
    log = RunLog(path, logged, state.assessed, args.tensorboard)
    event = "resume" if last else "start"
    made_by = {"machine": machine_of(model), "torch": torch.__version__}
    log.write(event, step=state.step, steps=steps, **made_by, **about)
    device = model.encoder.device
    if said := describe_long_warmup(args.warmup, steps):
        print(said)
    progress = Progress(steps, state.step, args.quiet, device)
    records = StepRecords(log, progress, device)
    return Run(folder, tokenizer, model, optimizer, state, log, progress, records)


def machine_of(model: MultitaskNetwork | MaskedLanguageModel) -> str:
    """Return what computes a model's steps: the machine, and the precision of the products."""
    encoder: BertModel = model.encoder
    return f"{describe_machine(encoder.device)}, {precision_name(encoder.compute_dtype)} products"


def adopt_bests(
    folder: Path, state: TrainState, tasks: tuple[str, ...], tasks_with_best: tuple[str, ...]
) -> None:
    """Let the state name the steps that the best folders hold, which may be newer than last/.

    After kill -9, best/ may hold a step that last/ does not know of. If its second evaluation came
    out lower (with another --accumulate, say), the state would name an older step than best/ holds.
    The folders of older runs do not name their step.
    """
    held = checkpoint.read_best_step(folder / "best", Best)
    if held and held != state.best:
        checkpoint.check_names(held.scores, tasks, str(folder / "best" / BEST_STEP))
        state.best = held
        (folder / FINDINGS).unlink(missing_ok=True)  # they are of another step
    for task in tasks_with_best:
        if own := checkpoint.read_best_step(folder / checkpoint.task_best_folder(task), TaskBest):
            state.task_best[task] = own


def forget_lost_bests(folder: Path, state: TrainState, tasks_with_best: tuple[str, ...]) -> None:
    """Let the best step be chosen anew, from the present one on, where its folder is gone."""
    lost = []
    if state.best and not (folder / "best").exists():
        lost, state.best = ["best"], None
        (folder / FINDINGS).unlink(missing_ok=True)  # they are of the model that is gone
    for task in tasks_with_best:
        name = checkpoint.task_best_folder(task)
        if task in state.task_best and not (folder / name).exists():
            lost.append(name)
            del state.task_best[task]
    for name in lost:
        print(f"{folder / name}: gone; the best step from {state.step} on takes its place")
    if lost and state.is_evaluated:  # it is evaluated again, and counts once
        state.assessed, state.since_best = state.step - 1, max(0, state.since_best - 1)
        del state.stages[-1:]
