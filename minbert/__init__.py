"""BERT from scratch in plain PyTorch."""

from minbert.batch import Batch
from minbert.config import BertConfig
from minbert.data.tokenizer import BertTokenizer
from minbert.errors import UserError
from minbert.model.encoder import BertModel
from minbert.training.optimizer import AdamW

__all__ = ["AdamW", "Batch", "BertConfig", "BertModel", "BertTokenizer", "UserError"]
