"""Steps on their way to a run's log and to the screen: a bar, or a line a minute."""

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from tqdm import tqdm

from minbert.errors import UserError
from minbert.progress import LINE_EVERY_S, bar_columns, duration, on_terminal, say
from minbert.run.runlog import RunLog
from minbert.training import distributed
from minbert.training.threads import BusyWatch

DRAW_EVERY_S = 0.2
BAR_WIDTH = len("100%|          | ")
READ_EVERY = {"cuda": 16}  # losses are read every so many steps, on other devices at each
AFTER_NAN = (
    "nothing was saved since the last checkpoint: start again with a lower --lr, with --clip 1 or "
    "with --precision fp32"
)


@dataclass(frozen=True)
class StepRecord:
    """The numbers of one step or, in joint mode, of one task's part of it."""

    step: int  # from 1
    task: str
    loss: Tensor | None  # (), this process's part of the sum, still on the device; None: no loss
    lr: float
    epoch: int  # the global one, from 1
    examples: int
    tokens: int
    seconds: float  # its share of the time until the step's work was queued on the device
    # between each two tasks' gradients, (), by their names; a joint step's first record has them
    cosines: dict[str, Tensor] = field(default_factory=dict)


class Progress:
    """The steps as a person sees them: on a terminal a bar, elsewhere a line a minute."""

    def __init__(self, total: int, start: int, quiet: bool, device: torch.device) -> None:
        self.total, self.start, self.quiet = total, start, quiet
        self.done = start
        self.bar: tqdm | None = None  # from the first step on: what is printed before has no bar
        self.losses: dict[str, float] = {}  # by task, a mean of which the last step is 5 %
        self.scores = ""  # of the last evaluation
        self.examples = self.tokens = 0
        self.seconds = 0.0  # of training steps only, without evaluations
        self.begun_at = math.inf  # when the first step began
        self.shown_at = time.monotonic()  # when the bar was drawn or the line was printed
        # watches for CPU threads that wait for a core; a GPU's products run in no such thread
        self.busy = BusyWatch() if device.type == "cpu" else None

    def step(self, record: StepRecord, loss: float | None, seconds: float) -> None:
        """Count a step and, if it is time, show its numbers; loss: of all processes."""
        now = time.monotonic()
        if loss is not None:
            self.losses[record.task] = 0.95 * self.losses.get(record.task, loss) + 0.05 * loss
        self.done = record.step
        self.examples += record.examples
        self.tokens += record.tokens
        self.seconds += seconds
        # a GPU's first steps are counted together, after they are done
        self.begun_at = min(self.begun_at, now - self.seconds)
        if self.quiet:
            return
        if self.busy and (line := self.busy.check()):
            say(line)
        if on_terminal():
            if self.bar is None or now - self.shown_at >= DRAW_EVERY_S:
                self._draw(record)
                self.shown_at = now
        elif now - self.shown_at >= LINE_EVERY_S:
            say(self.describe())
            self.shown_at = now

    def _draw(self, record: StepRecord) -> None:
        """Draw the bar, with as many numbers as the terminal is wide enough for."""
        losses = [f"{task} {loss:.3f}" for task, loss in self.losses.items()]
        losses[:1] = [f"loss {loss}" for loss in losses[:1]]
        examples_per_s, tokens_per_s = self.rates().values()
        parts = [
            f"{self.done:,} of {self.total:,}", f"{self.time_left()} left", *losses,
            f"epoch {record.epoch}", f"lr {record.lr:.1e}", f"{examples_per_s:.0f} examples/s",
            f"{tokens_per_s:.0f} tokens/s",
        ]  # fmt: skip
        text = leading(parts, bar_columns() - BAR_WIDTH)
        if self.bar is None:
            self.bar = tqdm(
                desc=text, total=self.total, initial=self.done, leave=False, file=sys.stdout,
                dynamic_ncols=True, bar_format="{percentage:3.0f}%|{bar:10}| {desc}",
            )  # fmt: skip
        else:
            self.bar.n = self.done
            self.bar.set_description_str(text, refresh=True)

    def describe(self) -> str:
        """Return how far the steps are, as a line."""
        losses = ", ".join(f"{task} {loss:.3f}" for task, loss in self.losses.items())
        scores = f"; last scores: {self.scores}" if self.scores else ""
        done = f"step {self.done:,} of {self.total:,}"
        return f"{done}; loss: {losses}{scores}; {self.time_left()} left"

    def time_left(self) -> str:
        """Return how long the other steps will take, as those up to now, evaluations and all."""
        seconds_per_step = (time.monotonic() - self.begun_at) / (self.done - self.start)
        return duration((self.total - self.done) * seconds_per_step)

    def rates(self) -> dict[str, float]:
        """Return the examples and tokens a second, means over this session's training steps.

        Without a step there are none.
        """
        if not self.examples:
            return {}
        seconds = max(self.seconds, 1e-9)
        return {
            "examples_per_s": self.examples / seconds,
            "tokens_per_s": self.tokens / seconds,
        }

    def print_rates(self) -> None:
        """Print the rates as a line, unless there was no step."""
        if rates := self.rates():
            line = "{examples_per_s:.0f} examples/s, {tokens_per_s:.0f} real tokens/s"
            print(line.format(**rates))

    def print_scores(self, label: str, scores: str) -> None:
        """Print what an evaluation found, and keep it for the lines to come."""
        self.scores = scores
        say(f"{label}: {scores}")

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()


def leading(parts: Sequence[str], width: int) -> str:
    """Join the first parts, as many as fit in so many columns; none is cut."""
    line = ""
    for part in parts:
        longer = f"{line}, {part}" if line else part
        if len(longer) > width:
            break
        line = longer
    return line


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

    def add(self, records: Sequence[StepRecord]) -> None:
        """Add a step's records, of joint training one a task; if it is time, read the losses.

        Raises UserError as `flush` does.
        """
        self.waiting += records
        if len({record.step for record in self.waiting}) >= self.read_every:
            self.flush()

    def give_up_losses(self) -> None:
        """Let the steps that wait have no loss: another process's part of it will not come."""
        self.waiting = [replace(record, loss=None) for record in self.waiting]

    def flush(self) -> None:
        """Read, check and log all losses added. Raises UserError for one that is not finite."""
        if not self.waiting:
            return
        records = list(self.waiting)
        started = time.monotonic()
        own = [r.loss for r in records if r.loss is not None]
        losses = iter(distributed.all_reduce_sums(torch.stack(own)) if own else [])
        waited = (time.monotonic() - started) / len(records)
        logged = []
        for record in records:
            loss = None if record.loss is None else next(losses)
            if loss is not None and not math.isfinite(loss):
                raise UserError(
                    f"loss of {record.task} is {loss} at step {record.step}, {AFTER_NAN}"
                )
            self.write(record, loss, record.seconds + waited)
            del self.waiting[0]  # now: until then a lost process or Ctrl-C leaves it waiting
            logged.append((record, loss, record.seconds + waited))
        for record, loss, seconds in logged:  # last: it fails if nobody reads it any more
            self.progress.step(record, loss, seconds)

    def write(self, r: StepRecord, loss: float | None, seconds: float) -> None:
        """Write one step's numbers to the log."""
        cosines = {names: round(float(cosine), 4) for names, cosine in r.cosines.items()}
        more = {"cosines": cosines} if cosines else {}
        self.log.write(
            "step", step=r.step, task=r.task, loss=loss, lr=r.lr, examples=r.examples,
            tokens=r.tokens, seconds=round(seconds, 5), **more,
        )  # fmt: skip
