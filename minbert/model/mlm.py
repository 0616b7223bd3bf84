"""The masked language model (Devlin et al., 2018). M masked tokens, D hidden, V vocabulary."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minbert.batch import Batch
from minbert.model.encoder import BertModel, round_rows
from minbert.model.layers import LayerNorm, Linear


class MlmHead(nn.Module):
    """LN(gelu(dense(h))) against every word embedding, plus a bias a word."""

    def __init__(self, hidden_size: int, vocab_size: int, eps: float, std: float) -> None:
        super().__init__()
        self.dense = Linear(hidden_size, hidden_size)
        self.layer_norm = LayerNorm(hidden_size, eps)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        nn.init.normal_(self.dense.weight, std=std)
        nn.init.zeros_(self.dense.bias)

    def forward(self, hidden: Tensor, word_embeddings: Tensor) -> Tensor:
        """(M, D), (V, D) -> (M, V); the decoder is the embedding table itself."""
        h = self.layer_norm(F.gelu(self.dense(hidden)))
        return F.linear(h, word_embeddings.to(h.dtype), self.bias.to(h.dtype))


class MaskedLanguageModel(nn.Module):
    """`model(batch, places)` -> logits at these tokens; the other 85 % are never projected."""

    def __init__(self, encoder: BertModel) -> None:
        super().__init__()
        self.encoder = encoder
        config = encoder.config
        self.mlm_head = MlmHead(
            config.hidden_size, config.vocab_size, config.layer_norm_eps, config.initializer_range
        )

    def forward(self, batch: Batch, places: Tensor) -> Tensor:
        """(N tokens), (M,) -> (M, V)."""
        hidden = self.encoder.hidden_states(batch)[-1].index_select(0, places)
        logits = self.mlm_head(round_rows(hidden), self.encoder.word_embedding.weight)
        return logits[: len(places)]
