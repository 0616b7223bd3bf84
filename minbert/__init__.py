"""BERT from scratch in plain PyTorch."""

import os

# Large CPU tensors on huge pages: a step otherwise spends a fifth of its time on page faults.
# PyTorch reads this at its first allocation; 0 turns it off.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

from minbert.batch import Batch
from minbert.config import BertConfig
from minbert.data.tokenizer import BertTokenizer
from minbert.errors import UserError
from minbert.model.encoder import BertModel
from minbert.training.optimizer import AdamW

__all__ = ["AdamW", "Batch", "BertConfig", "BertModel", "BertTokenizer", "UserError"]
