"""How much is tried, by how many at once, and the lines of figures at the end.

Each part has a short form (`make thorough`) and a full one (`make torture`). The environment
sets TORTURE_SCALE (share of the full counts), TORTURE_SEED, TORTURE_SECONDS (for each part),
TORTURE_WORKERS and TORTURE_TRIAL (only the trial of this number).
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.torture.tally import Effort

FORMS = {"thorough": (0.006, 60.0), "slow": (1.0, 1800.0)}  # scale and seconds, by marker


@pytest.fixture(params=[pytest.param(form, marks=getattr(pytest.mark, form)) for form in FORMS])
def effort(
    request: pytest.FixtureRequest, own: Path, record_property: Callable[[str, object], None]
) -> Iterator[Effort]:
    """How much to try in the world of `own`; a line of figures of it is printed at the end."""
    scale, seconds = FORMS[request.param]
    number = os.environ.get("TORTURE_TRIAL")
    workers = 1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, os.cpu_count() or 1)
    effort = Effort(
        world=own,
        scale=float(os.environ.get("TORTURE_SCALE", scale)),
        seed=int(os.environ.get("TORTURE_SEED", 1)),
        seconds=float(os.environ.get("TORTURE_SECONDS", seconds)),
        workers=int(os.environ.get("TORTURE_WORKERS", workers)),
        only=int(number) if number else None,
    )
    yield effort
    for line in effort.figures:
        record_property("figures", line)
