"""The courses' module name: `from optimizer import AdamW`."""

import _project  # noqa: F401  # makes minbert importable

from minbert.training.optimizer import AdamW

__all__ = ["AdamW"]
