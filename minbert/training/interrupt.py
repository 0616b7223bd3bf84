"""Ctrl-C between steps, not inside one: a half-applied update is never saved."""

import signal
import threading
from types import FrameType, TracebackType


class Interrupt:
    """The first SIGINT or SIGTERM sets `stop`; the loop looks at it after every step. A second one kills."""

    def __init__(self) -> None:
        self.stop = False
        self.old: dict[int, object] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.old[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.stop:
            raise KeyboardInterrupt
        self.stop = True

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        for number, handler in self.old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
