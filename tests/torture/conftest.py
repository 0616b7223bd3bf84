"""How much is tried, by how many at once, and the lines of figures at the end.

Each part has a short form, in every run of pytest, and a full one (`make torture`). The environment
sets TORTURE_SCALE (share of the full counts), TORTURE_SEED, TORTURE_SECONDS (for each part),
TORTURE_WORKERS and TORTURE_TRIAL (only the trial of this number).
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.torture.tally import Effort

FIGURES = pytest.StashKey[list[str]]()
FORMS = {"short": (0.02, 60.0), "full": (1.0, 1800.0)}  # scale and seconds


@pytest.fixture(params=["short", pytest.param("full", marks=pytest.mark.slow)])
def effort(request: pytest.FixtureRequest, own: Path) -> Iterator[Effort]:
    """How much to try in the world of `own`; a line of figures of it is printed at the end."""
    scale, seconds = FORMS[request.param]
    number = os.environ.get("TORTURE_TRIAL")
    effort = Effort(
        world=own,
        scale=float(os.environ.get("TORTURE_SCALE", scale)),
        seed=int(os.environ.get("TORTURE_SEED", 1)),
        seconds=float(os.environ.get("TORTURE_SECONDS", seconds)),
        workers=int(os.environ.get("TORTURE_WORKERS", min(2, os.cpu_count() or 1))),
        only=int(number) if number else None,
    )
    yield effort
    request.config.stash.setdefault(FIGURES, []).extend(effort.figures)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print each part's line of figures, also where output is captured."""
    for line in terminalreporter.config.stash.get(FIGURES, []):
        terminalreporter.write_line(line)
