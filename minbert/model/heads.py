"""Task heads: dropout and a linear map on the pooled output (S, D) -> (S, outputs)."""

from torch import Tensor, nn

from minbert.model.layers import Linear, dropout


class Head(Linear):
    """Dropout (0.3 by default, as in the course) + linear."""

    def __init__(self, hidden_size: int, outputs: int, dropout_prob: float = 0.3) -> None:
        super().__init__(hidden_size, outputs)
        self.dropout_prob = dropout_prob
        nn.init.normal_(self.weight, std=0.02)
        nn.init.zeros_(self.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        return super().forward(dropout(pooled, self.dropout_prob, self.training))
