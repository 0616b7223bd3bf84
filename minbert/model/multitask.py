"""One shared encoder, one head a task."""

from torch import Tensor, nn

from minbert.batch import Batch
from minbert.model.encoder import BertModel
from minbert.model.heads import Head


class MultitaskModel(nn.Module):
    """`model(task, batch)` -> that task's head output, (S, outputs)."""

    def __init__(
        self, encoder: BertModel, outputs: dict[str, int], head_dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.encoder = encoder
        size = encoder.config.hidden_size
        self.heads = nn.ModuleDict(
            {name: Head(size, k, head_dropout) for name, k in outputs.items()}
        )

    def forward(self, task: str, batch: Batch) -> Tensor:
        _, pooled = self.encoder.encode(batch)  # (S, D)
        return self.heads[task](pooled)
