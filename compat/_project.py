"""Makes the project importable from a course's folder, and says which weights to take."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def model_name(name: str) -> str:
    """MINBERT_MODEL, a name or a directory, takes the place of what a script names."""
    return os.environ.get("MINBERT_MODEL", name)
