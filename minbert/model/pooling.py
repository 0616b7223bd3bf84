"""One vector a sequence: (N, D) hidden states -> (S, D)."""

import torch
from torch import Tensor

from minbert.batch import Batch, to_device

KINDS = ("cls", "mean", "max")  # cls is BERT's own pooler output


def pool(hidden: Tensor, batch: Batch, kind: str) -> Tensor:
    """mean or max over all tokens, [CLS] and [SEP] too, in fp32 at least.

    Sentence-BERT, Reimers and Gurevych (2019), section 3.
    """
    if kind not in KINDS[1:]:
        raise ValueError(f"pooling {kind!r}: one of {', '.join(KINDS[1:])}")
    hidden = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    lengths = to_device(torch.tensor(batch.lengths), hidden.device)
    # unsafe: without the check that the lengths sum up to N, which would wait for the GPU
    return torch.segment_reduce(hidden, kind, lengths=lengths, axis=0, unsafe=True)
