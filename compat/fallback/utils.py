"""The courses' module name: `from utils import get_extended_attention_mask`."""

import torch
from torch import Tensor


def get_extended_attention_mask(attention_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what is added to attention's scores: (B, T) of 1 and 0 -> (B, 1, 1, T)."""
    return (1 - attention_mask[:, None, None, :].to(dtype)) * -10000.0


__all__ = ["get_extended_attention_mask"]
