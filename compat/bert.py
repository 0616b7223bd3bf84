"""The courses' module name: `from bert import BertModel`."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from minbert.model.encoder import BertModel as _BertModel


class BertModel(_BertModel):
    """MINBERT_MODEL, a directory or name, takes the place of what the script names."""

    @classmethod
    def from_pretrained(
        cls, name_or_dir: str = "bert-base-uncased", **changes: object
    ) -> _BertModel:
        return _BertModel.from_pretrained(os.environ.get("MINBERT_MODEL", name_or_dir), **changes)


__all__ = ["BertModel"]
