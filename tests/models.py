"""A tiny encoder, and padded and packed inputs for it."""

import torch
from torch import Tensor

from minbert import Batch, BertModel
from tests.conftest import TINY


def make_model() -> BertModel:
    torch.manual_seed(0)
    return BertModel(TINY).eval()


def padded() -> dict[str, Tensor]:
    torch.manual_seed(1)
    mask = torch.ones(3, 9, dtype=torch.int64)
    mask[0, 5:] = mask[1, 7:] = 0
    return {"input_ids": torch.randint(5, 200, (3, 9)), "attention_mask": mask}


def packed(lengths: tuple[int, ...]) -> Batch:
    """Return any tokens in sequences of these lengths."""
    N = sum(lengths)
    positions = torch.cat([torch.arange(n) for n in lengths])
    return Batch(torch.arange(N) % 150 + 3, positions, torch.arange(N) % 2, lengths)
