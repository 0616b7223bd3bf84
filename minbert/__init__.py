"""BERT from scratch in plain PyTorch, fine-tuned on several tasks at once."""

from minbert.batch import Batch
from minbert.config import BertConfig
from minbert.data.tokenizer import BertTokenizer
from minbert.errors import UserError
from minbert.inference import MultitaskModel
from minbert.model.encoder import BertModel
from minbert.training.optimizer import AdamW

__all__ = [
    "AdamW", "Batch", "BertConfig", "BertModel", "BertTokenizer", "MultitaskModel", "UserError",
]  # fmt: skip
