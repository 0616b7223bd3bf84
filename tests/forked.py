"""Run the project's scripts as a user would, in forked children that need not import anything."""

import importlib
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from pathlib import Path
from unittest import mock

from minbert.cli import run_script

ROOT = Path(__file__).resolve().parents[1]
MEMORY = 3 << 30  # bytes of address space that a command may take on top of its imports
SECONDS = 30.0  # far more than any command takes on this data; a hang is what is looked for
# One thread each: a forked child hangs in a parallel region if its parent has been in one.
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1",
    "THP_MEM_ALLOC_ENABLE": "0",
}  # fmt: skip
SCRIPTS = {
    "train": "train_multitask", "pretrain": "pretrain_mlm", "evaluate": "evaluate",
    "export": "minbert.export", "report": "minbert.report.__main__", "probe": "tests.torture.probe",
    "compat": "compat.__main__", "ask-hub": "tests.ask_hub",
}  # fmt: skip
LOCK = threading.Lock()  # multiprocessing looks at all children whenever one starts or ends


@dataclass(frozen=True)
class Outcome:
    """What a user sees of a command."""

    code: int | None  # None: it was killed because it did not end in time
    out: str
    err: str

    @property
    def error(self) -> str:
        """The last line on stderr."""
        return (self.err.strip().splitlines() or [""])[-1]


class Command:
    """A script with arguments, started in a folder.

    Its output goes to files beside the folder, which may be full or compared with another one.
    environment: more variables than ENVIRONMENT.
    """

    def __init__(
        self, script: str, argv: list[str], folder: Path, stdin: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        environment = environment or {}
        name = folder.name + environment.get("RANK", "")
        self.files = [folder.parent / f"{name}.{kind}" for kind in ("out", "err")]
        files = [stdin or Path(os.devnull), *self.files]
        job = (SCRIPTS[script], argv, folder, files, environment)
        self.files[1].unlink(missing_ok=True)  # it is there again when the script has begun
        self.process = server().Process(target=_child, args=job)
        with LOCK:
            self.process.start()
        self.end = time.monotonic() + SECONDS

    def is_running(self) -> bool:
        """Return whether it has not ended yet."""
        return not connection.wait([self.process.sentinel], 0)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal when the script has begun, unless the command has ended."""
        while self.is_running() and not self.files[1].exists():
            time.sleep(0.001)
        if self.is_running():
            with suppress(ProcessLookupError):  # it may end between the two lines
                os.kill(self.process.pid or 0, number)

    def finish(self) -> Outcome:
        """Wait for the end, which comes at the latest after SECONDS."""
        in_time = connection.wait([self.process.sentinel], max(0, self.end - time.monotonic()))
        if not in_time:
            self.process.kill()
        with LOCK:
            self.process.join()
        code = self.process.exitcode if in_time else None
        out, err = (
            file.read_bytes().decode(errors="replace") if file.is_file() else ""
            for file in self.files
        )
        return Outcome(code, out, err)


def run(script: str, argv: list[str], folder: Path, stdin: Path | None = None) -> Outcome:
    """Run a script to its end."""
    return Command(script, argv, folder, stdin).finish()


def together(script: str, argv: list[str], folders: list[Path]) -> list[Command]:
    """Start a script in processes that know of each other as torchrun's do, each in its folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared["WORLD_SIZE"] = str(len(folders))
    return [
        Command(script, argv, folder, None, {**shared, "RANK": str(i), "LOCAL_RANK": str(i)})
        for i, folder in enumerate(folders)
    ]


def server() -> multiprocessing.context.ForkServerContext:
    """Return the context whose processes are children of the fork server."""
    context = multiprocessing.get_context("forkserver")
    with LOCK, mock.patch.dict(os.environ, ENVIRONMENT):
        context.set_forkserver_preload(["tests.preloaded"])
        forkserver.ensure_running()
    return context


def _child(
    module: str, argv: list[str], folder: Path, files: list[Path], environment: dict[str, str]
) -> None:
    """Be the script: `run_script` ends this process with the code that a user would see."""
    # as the scripts' first lines, and before there is a file on stderr: see `Command.signal`
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    modes = (os.O_RDONLY, *[os.O_CREAT | os.O_TRUNC | os.O_WRONLY] * 2)
    for number, (file, mode) in enumerate(zip(files, modes, strict=True)):
        handle = os.open(file, mode, 0o666)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - all three stay open
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.chdir(folder)
    os.environ.update(environment)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup the tests have it ignored
    if (mapped := Path("/proc/self/statm")).is_file():  # Linux alone says it
        limit = int(mapped.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sys.argv = [module, *argv]
    run_script(importlib.import_module(module).main)
