"""Faults that are put into a copy of the project are noticed: make thorough."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from compileall import compile_dir
from pathlib import Path
from py_compile import PycInvalidationMode

import pytest

from tests.faults import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("minbert", "tasks", "experiments", "tests")
FILES = ("train_multitask.py", "pretrain_mlm.py", "evaluate.py", "pyproject.toml")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "project"
    for part in PARTS:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, folder / part, ignore=ignore)
    for file in FILES:
        shutil.copy(ROOT / file, folder)
    # once, and valid for what has the same content: not for the file that has a fault
    compile_dir(folder, quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
    return folder


@pytest.fixture(scope="module")
def server(copy: Path) -> Iterator[subprocess.Popen[str]]:
    """What runs pytest in the copy: see tests/pytest_server.py."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        [sys.executable, "tests/pytest_server.py"], cwd=copy, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        yield process
        process.stdin.close()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_has_its_text(fault: Fault) -> None:
    """Where the text is gone the row is out of date."""
    assert (ROOT / fault.file).read_text(encoding="utf-8").count(fault.text) == 1


def run_tests(copy: Path, server: subprocess.Popen[str], file: str, chosen: str) -> tuple[int, str]:
    """Run a file's chosen tests in the copy; return pytest's exit status and what it printed."""
    output = copy / "pytest.out"
    server.stdin.write(json.dumps([str(output), ["-x", f"tests/{file}", "-k", chosen]]) + "\n")
    server.stdin.flush()
    return int(server.stdout.readline()), output.read_text(encoding="utf-8")


@pytest.mark.thorough
@pytest.mark.parametrize("file", sorted({fault.tests for fault in FAULTS}))
def test_without_a_fault_the_chosen_tests_pass(
    copy: Path, server: subprocess.Popen[str], file: str
) -> None:
    chosen = " or ".join(sorted({f"({f.chosen})" for f in FAULTS if f.tests == file}))
    code, printed = run_tests(copy, server, file, chosen)
    assert code == 0 and " passed" in printed, printed[-2000:]


@pytest.mark.thorough
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_noticed(copy: Path, server: subprocess.Popen[str], fault: Fault) -> None:
    path = copy / fault.file
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace(fault.text, fault.other), encoding="utf-8")
    try:
        code, printed = run_tests(copy, server, fault.tests, fault.chosen)
    finally:
        path.write_text(whole, encoding="utf-8")
    assert code == 1 and "1 failed" in printed, printed[-2000:]
