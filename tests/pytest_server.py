"""Run pytest again and again, each time in a fork of one process that has the libraries.

A line of stdin is a run: the file of its output and its arguments, as JSON. Its exit code is a
line of stdout. What is tested is imported by each run anew, from the folder this was started in.
"""

import gc
import json
import os
import sys

import numpy  # noqa: F401 - these are imported here once, and the forks have them
import pytest
import safetensors.torch  # noqa: F401
import tokenizers  # noqa: F401
import torch._dynamo  # noqa: F401 - else the first backward pass of every fork imports it

PLUGINS = ("anyio", "cacheprovider", "unraisableexception", "xdist")  # which cost time


def main() -> None:
    """Answer every line until there are no more."""
    sys.path[0] = os.getcwd()
    gc.freeze()  # else every fork looks through the libraries' objects, and has its own copy then
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _be_pytest(*json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _be_pytest(output: str, words: list[str]) -> None:
    """End this process with the exit code of `pytest WORDS`."""
    handle = os.open(output, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o666)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    without = [word for name in PLUGINS for word in ("-p", f"no:{name}")]
    code = pytest.main([*without, "--assert=plain", *words])
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
