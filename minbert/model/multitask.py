"""One shared encoder, one head a task."""

import copy

import torch
from torch import Tensor, nn

from minbert.batch import Batch
from minbert.model.encoder import BertModel
from minbert.model.heads import Head, HeadConfig, SiameseHead
from minbert.model.pooling import pool


class MultitaskNetwork(nn.Module):
    """`model(task, batch)` -> that task's head output, (S, outputs); siamese tasks have `embed`.

    separate_towers: the second sentences of siamese pairs have an encoder of their own, which
    starts as a copy of the first (TwinBERT, Lu et al., 2020).
    """

    def __init__(
        self,
        encoder: BertModel,
        heads: dict[str, HeadConfig],
        head_dropout: float = 0.3,
        separate_towers: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.second = copy.deepcopy(encoder) if separate_towers else None
        size = encoder.config.hidden_size
        self.heads = nn.ModuleDict(
            {
                name: SiameseHead(size, c) if c.siamese else Head(size, c, head_dropout)
                for name, c in heads.items()
            }
        )

    def set_precision(self, dtype: torch.dtype) -> None:
        """Of the encoders' products: torch.float32 or torch.bfloat16."""
        for encoder in self.encoders:
            encoder.compute_dtype = dtype

    def set_row_gradients(self, on: bool) -> None:
        """Half of a small model is its vocabulary, of which a batch sees a few hundred words."""
        for encoder in self.encoders:
            encoder.row_gradients = on

    def set_checkpointing(self, on: bool) -> None:
        """A third more time for the memory of one layer's activations instead of all layers'."""
        for encoder in self.encoders:
            encoder.checkpoint_activations = on

    @property
    def encoders(self) -> list[BertModel]:
        return [self.encoder] if self.second is None else [self.encoder, self.second]

    def forward(self, task: str, batch: Batch) -> Tensor:
        return self.heads[task](self.encoder.encode_first(batch))

    def embed(self, task: str, batch: Batch, side: int = 0) -> Tensor:
        """Sentences alone -> their embeddings (S, E), by a siamese task's pooling and map.

        side: 0 for first sentences of pairs, 1 for second ones; it matters with separate towers.
        """
        head = self.heads[task]
        encoder = self.second if side == 1 and self.second is not None else self.encoder
        if head.config.pooling == "cls":
            return head.embed(encoder.encode_first(batch))
        hidden = encoder.hidden_states(batch)[-1]
        return head.embed(pool(hidden, batch, head.config.pooling))
