"""Make the project importable from a course's folder, and choose the weights."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def model_name(name: str) -> str:
    """Return MINBERT_MODEL, a name or a directory, if it is set, else a script's own choice."""
    return os.environ.get("MINBERT_MODEL", name)
