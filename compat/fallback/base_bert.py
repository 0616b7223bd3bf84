"""The courses' module name: `from base_bert import BertPreTrainedModel`, what a BertModel is."""

import _project  # noqa: F401  # makes minbert importable

from minbert.model.encoder import BertModel as BertPreTrainedModel

__all__ = ["BertPreTrainedModel"]
