"""The scripts from a clone whose package is not installed, from another folder; Ctrl-C early."""

import os
import re
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import setuptools

import train_multitask
from minbert.export import main as export
from minbert.interrupt import command_of
from minbert.report.__main__ import main as report
from tests.conftest import arguments

ROOT = Path(__file__).resolve().parents[1]
# What a package that is not installed looks like: nothing but the script's folder leads to it.
UNINSTALLED = """
import importlib.metadata as metadata, runpy, sys
known = metadata.version
def version(name):
    if name == "minbert":
        raise metadata.PackageNotFoundError(name)
    return known(name)
metadata.version = version
sys.path = [p for p in sys.path if not p.startswith("__editable__")]
sys.meta_path = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", "").lower()
                 and "editable" not in str(f).lower()]
sys.argv = sys.argv[1:]
sys.path[0] = sys.argv[0].rpartition("/")[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def script(name: str, *words: str, cwd: Path) -> str:
    """Run a script from another folder as if nothing were installed; return what it prints."""
    command = [sys.executable, "-c", UNINSTALLED, str(ROOT / name), *words]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_three_scripts_run_uninstalled_to_their_end(world: Path) -> None:
    where = world / "elsewhere"
    where.mkdir()
    out = script("train_multitask.py", *arguments(world, "--name", "run"), cwd=where)
    assert "Dev scores of the best step" in out
    run = world / "runs/run"
    assert "minbert 0." in (run / "README.md").read_text() and (run / "report.html").is_file()
    checkpoint = ["--checkpoint", str(run), "--data-dir", str(world / "data")]
    assert "overall: raw mean" in script("evaluate.py", *checkpoint, cwd=where)
    more = ["--epochs", "1", "--held-out", "2", "--name", "mlm"]
    out = script("pretrain_mlm.py", *arguments(world, *more), cwd=where)
    assert "Held-out masked tokens" in out and (world / "runs/mlm/README.md").is_file()
    assert not any(where.iterdir())  # all went where --output-dir says


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="only Linux tells what is loaded")
@pytest.mark.parametrize(
    "command",
    [
        "train_multitask.py", "pretrain_mlm.py", "evaluate.py", "-m minbert.export",
        "-u -m minbert.report", "-m tasks.download", "-m experiments.paper", "-m benchmarks",
    ],
)  # fmt: skip
def test_ctrl_c_while_a_command_imports_is_one_line(command: str) -> None:
    """As soon as the first library of the imports is loaded, PyTorch's being the slow one."""
    process = subprocess.Popen(
        [sys.executable, *command.split(), "--help"], cwd=ROOT, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while "numpy" not in Path(f"/proc/{process.pid}/maps").read_text() and process.poll() is None:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err == "stopped.\n"


@pytest.mark.parametrize(
    ("main", "words", "usage"),
    [
        (train_multitask.main, "train_multitask.py", "train_multitask.py [ARGUMENTS]"),
        (report, "-m minbert.report", "python -m minbert.report RUN... [ARGUMENTS]"),
        (export, "-m minbert.export", "python -m minbert.export RUN NEW_DIRECTORY [ARGUMENTS]"),
    ],
)
def test_usage_is_what_to_type(
    main: Callable[[list[str]], int], words: str, usage: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "orig_argv", ["python", *words.split(), "--help"])
    monkeypatch.setattr(sys, "argv", [words.split()[0], "--help"])
    with pytest.raises(SystemExit):
        main(["--help"])
    assert capsys.readouterr().out.startswith(f"usage: {usage}\n")


def test_help_needs_no_docstrings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which `python -OO` takes away."""
    monkeypatch.setattr(train_multitask, "__doc__", None)
    monkeypatch.setattr(sys, "orig_argv", ["python", "train_multitask.py", "--help"])
    monkeypatch.setattr(sys, "argv", ["train_multitask.py", "--help"])
    with pytest.raises(SystemExit):
        train_multitask.main(["--help"])
    assert capsys.readouterr().out.startswith("usage: train_multitask.py [ARGUMENTS]\n")


def test_what_is_installed_has_its_type_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **values: found.update(values))
    runpy.run_path(str(ROOT / "setup.py"))
    assert "py.typed" in found["package_data"]["minbert"] and (ROOT / "minbert/py.typed").is_file()
    names = [re.match(r"[\w-]+", needed)[0] for needed in found["extras_require"]["onnx"]]
    assert sorted(names) == ["onnx", "onnxruntime", "onnxscript"]  # what `--to onnx` imports


def test_other_people_s_programs_keep_their_ctrl_c() -> None:
    assert command_of(["python", "-X", "dev", "-m", "minbert.export", "run"]) == "minbert.export"
    for words, command in (
        ("python -m pytest -m slow", "pytest"),
        ("python app.py -m minbert.export", ""),
        ("python -m", ""),
        ("app", ""),
    ):
        assert command_of(words.split()) == command
    program = (  # of a job in the background Ctrl-C is ignored, which is inherited
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import minbert; "
        "print(signal.getsignal(signal.SIGINT).__name__)"
    )
    out = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert out.stdout == "default_int_handler\n"
