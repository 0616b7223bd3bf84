"""Make the project importable from a course's folder, and choose the weights."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
for place in (HERE / "fallback", HERE.parent):  # behind the course's own files
    if str(place) not in sys.path:
        sys.path.append(str(place))


def model_name(name: str) -> str:
    """Return MINBERT_MODEL, a name or a directory, if it is set, else a script's own choice."""
    return os.environ.get("MINBERT_MODEL") or name
