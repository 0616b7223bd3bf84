"""Make the project importable from a course's folder, and choose the weights."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
if str(HERE / "fallback") not in sys.path:  # behind the course's own files
    sys.path.append(str(HERE / "fallback"))


def model_name(name: str) -> str:
    """Return MINBERT_MODEL, a name or a directory, if it is set, else a script's own choice."""
    return os.environ.get("MINBERT_MODEL", name)
