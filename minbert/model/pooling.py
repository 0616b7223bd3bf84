"""One vector a sequence: (N, D) hidden states -> (S, D)."""

import torch
from torch import Tensor

from minbert.batch import Batch

KINDS = ("cls", "mean", "max")


def pool(hidden: Tensor, pooled: Tensor, batch: Batch, kind: str) -> Tensor:
    """cls: BERT's own pooler output; mean, max: over all tokens, [CLS] and [SEP] too.

    Sentence-BERT, Reimers and Gurevych (2019), section 3. In fp32 at least.
    """
    if kind == "cls":
        return pooled
    if kind not in KINDS:
        raise ValueError(f"pooling {kind!r}: one of {', '.join(KINDS)}")
    hidden = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    lengths = torch.tensor(batch.lengths, device=hidden.device)
    return torch.segment_reduce(hidden, kind, lengths=lengths, axis=0)
