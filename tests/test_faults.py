"""Faults that are put into a copy of the project are noticed: make wiring."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import FAULTS

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = (".git", ".venv", "checkpoints", "runs", "data", "__pycache__", ".pytest_cache")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "project"
    ignore = shutil.ignore_patterns(*LEFT_OUT)
    shutil.copytree(ROOT, folder, ignore=lambda d, names: ignore(d, names) if d == str(ROOT) else {
        name for name in names if name == "__pycache__"
    })  # fmt: skip
    return folder


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault[0])
def test_a_fault_has_its_text(fault: tuple[str, ...]) -> None:
    """Where the text is gone the row is out of date."""
    _, file, text, *_ = fault
    assert (ROOT / file).read_text(encoding="utf-8").count(text) == 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault[0])
def test_a_fault_is_noticed(copy: Path, fault: tuple[str, ...]) -> None:
    _, file, text, other, tests, chosen = fault
    path = copy / file
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace(text, other), encoding="utf-8")
    words = ["-m", "pytest", "-x", "-p", "no:cacheprovider", f"tests/{tests}", "-k", chosen]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [sys.executable, *words], cwd=copy, env=environment, capture_output=True, text=True
        )
    finally:
        path.write_text(whole, encoding="utf-8")
    assert done.returncode == 1 and "1 failed" in done.stdout, done.stdout[-2000:]
