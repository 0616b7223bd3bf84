"""BERT from scratch in plain PyTorch, fine-tuned on several tasks at once."""

from minbert.interrupt import be_brief_while_importing

be_brief_while_importing()  # does nothing in other people's programs

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
