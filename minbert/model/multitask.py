"""One shared encoder, one head a task."""

from torch import Tensor, nn

from minbert.batch import Batch
from minbert.model.encoder import BertModel
from minbert.model.heads import Head, HeadConfig, SiameseHead
from minbert.model.pooling import pool


class MultitaskModel(nn.Module):
    """`model(task, batch)` -> that task's head output, (S, outputs); siamese tasks have `embed`."""

    def __init__(
        self, encoder: BertModel, heads: dict[str, HeadConfig], head_dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.encoder = encoder
        size = encoder.config.hidden_size
        self.heads = nn.ModuleDict(
            {
                name: SiameseHead(size, c) if c.siamese else Head(size, c, head_dropout)
                for name, c in heads.items()
            }
        )

    def forward(self, task: str, batch: Batch) -> Tensor:
        _, pooled = self.encoder.encode(batch)  # (S, D)
        return self.heads[task](pooled)

    def embed(self, task: str, batch: Batch) -> Tensor:
        """Sentences alone -> their embeddings (S, E), by a siamese task's pooling and map."""
        head = self.heads[task]
        hidden, pooled = self.encoder.encode(batch)
        return head.embed(pool(hidden, pooled, batch, head.config.pooling))
