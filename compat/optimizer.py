"""The courses' module name: `from optimizer import AdamW`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from minbert.training.optimizer import AdamW

__all__ = ["AdamW"]
