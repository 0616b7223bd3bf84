"""Ctrl-C between steps, not inside one: a half-applied update is never saved."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from minbert.training import distributed

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, a polite kill, a closed terminal


class Interrupt:
    """Within it SIGNALS raise KeyboardInterrupt, after a `shielded` block if in one.

    Only once: torchrun sends Ctrl-C a second time, which must not cut the saving short.
    """

    def __init__(self) -> None:
        self.in_shield = self.pending = False
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
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
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.in_shield:
            self.pending = True
        else:
            self._stop()

    def _stop(self) -> None:
        self.in_shield = True  # from now on
        raise KeyboardInterrupt

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """What is inside is done wholly or, when it raises, on its own account.

        Of several processes all stop after it when one is told to.
        """
        self.in_shield = True
        try:
            yield
            stop = distributed.anyone(self.pending)
        finally:
            self.in_shield = False
        if stop:
            self._stop()
