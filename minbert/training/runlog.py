"""log.jsonl and the progress bar."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm


class RunLog:
    """One JSON object a line, flushed at once; after a resume it goes on in the same file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("a", encoding="utf-8")

    def write(self, event: str, **values: Any) -> None:
        self.file.write(
            json.dumps({"time": round(time.time(), 2), "event": event, **values}) + "\n"
        )
        self.file.flush()


class Progress:
    """One bar on a terminal, nothing elsewhere: losses, learning rate, examples/s and real tokens/s."""

    def __init__(self, total: int, start: int) -> None:
        self.bar = tqdm(
            total=total,
            initial=start,
            disable=not sys.stderr.isatty(),
            unit="step",
            dynamic_ncols=True,
        )
        self.losses: dict[str, float] = {}
        self.examples = self.tokens = 0
        self.seconds = 0.0  # of training steps only: evaluation does not count as slowness

    def step(
        self,
        epoch: int,
        task: str,
        loss: float,
        lr: float,
        examples: int,
        tokens: int,
        seconds: float,
    ) -> None:
        """After every step."""
        old = self.losses.get(task, loss)
        self.losses[task] = 0.95 * old + 0.05 * loss
        self.examples += examples
        self.tokens += tokens
        self.seconds += seconds
        if not self.bar.disable:
            losses = " ".join(f"{name} {value:.3f}" for name, value in self.losses.items())
            self.bar.set_description_str(f"epoch {epoch + 1} {losses} lr {lr:.1e}", refresh=False)
            rates = f"{self.rate(self.examples):.0f} ex/s {self.rate(self.tokens):.0f} tok/s"
            self.bar.set_postfix_str(rates, refresh=False)
        self.bar.update()

    def rate(self, count: int) -> float:
        return count / self.seconds if self.seconds else 0.0

    def print(self, text: str) -> None:
        """A line above the bar."""
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()

    def close(self) -> None:
        self.bar.close()
