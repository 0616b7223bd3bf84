"""Ctrl-C while a command imports, which takes seconds: one line, as later, and no traceback."""

import os
import signal
import sys

PACKAGES = ("minbert", "tasks", "experiments", "benchmarks", "compat")


def command_of(words: list[str]) -> str:
    """Return the module that a command line runs, as `python -m minbert.export RUN`; "" if none."""
    if "-m" not in words[1:-1]:
        return ""
    place = words.index("-m")
    is_script = any(word.endswith(".py") for word in words[1:place])  # which has a -m of its own
    return "" if is_script else words[place + 1]


def be_brief_while_importing() -> None:
    """Let Ctrl-C end the process with one line if it runs one of this project's modules.

    `run_script` puts Python's handler back. The three scripts begin with the same line.
    """
    if command_of(sys.orig_argv).split(".")[0] in PACKAGES:
        signal.signal(signal.SIGINT, lambda *_: (os.write(2, b"stopped.\n"), os._exit(130)))
