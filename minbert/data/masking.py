"""Masking for the masked language model (Devlin et al., 2018; paper, section 3.1).

All random numbers come from generators seeded by (seed, epoch, row), so that a resumed run masks
the same tokens.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from minbert.batch import Batch, to_device
from minbert.data.tokenizer import BertTokenizer


@dataclass(frozen=True)
class Masking:
    """How tokens are masked, and what of the vocabulary (V entries) that needs."""

    rate: float  # the probability of each real token to be masked
    whole_word: bool  # all pieces of a word are masked, or none
    mask_id: int
    special: np.ndarray  # ids that are never masked
    continues: np.ndarray  # (V,) bool, pieces that continue a word (##ing)

    @classmethod
    def of(cls, tokenizer: BertTokenizer, rate: float, whole_word: bool) -> "Masking":
        """Make the settings for a tokenizer's vocabulary."""
        # a text may have a [MASK] of its own, as one about BERT has: it is no word to guess
        special = (tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.mask_id)
        continues = tokenizer.continuation_pieces()
        return cls(rate, whole_word, tokenizer.mask_id, np.array(special), continues)


@dataclass(frozen=True)
class MaskedBatch:
    """A batch with M masked tokens, which the model is to predict."""

    batch: Batch  # with the ids after masking
    indices: Tensor  # (M,) where in the batch the masked tokens are
    targets: Tensor  # (M,) their ids before masking

    def to(self, device: torch.device) -> "MaskedBatch":
        """Return the same masked batch on another device."""
        indices, targets = to_device(self.indices, device), to_device(self.targets, device)
        return MaskedBatch(self.batch.to(device), indices, targets)


def mask_batch(batch: Batch, masking: Masking, seed: int, epoch: int) -> MaskedBatch:
    """Choose each real token with probability `rate`; a short row may have none.

    Of the chosen ones 80 % become [MASK], 10 % a random token and 10 % stay (Devlin et al., 2018,
    section 3.1, task 1).
    """
    ids = batch.ids.numpy()
    masked, chosen = ids.copy(), np.zeros(len(ids), dtype=bool)
    begin = 0
    for row, length in zip(batch.rows, batch.lengths, strict=True):
        span = slice(begin, begin + length)
        rng = np.random.default_rng([seed, epoch, row])
        masked[span], chosen[span] = _mask_row(ids[span], masking, rng)
        begin += length
    indices = torch.from_numpy(chosen.nonzero()[0])
    return MaskedBatch(replace(batch, ids=torch.from_numpy(masked)), indices, batch.ids[indices])


def _mask_row(
    ids: np.ndarray, masking: Masking, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a row's ids after masking and which were chosen, both (n,)."""
    n = len(ids)
    draw = rng.random(n)
    if masking.whole_word:
        word = np.cumsum(~masking.continues[ids]) - 1  # the number of each token's word
        draw = draw[np.maximum(word, 0)]  # all pieces of a word share one random number
    chosen = (draw < masking.rate) & ~np.isin(ids, masking.special)
    kind = rng.random(n)
    random_ids = rng.integers(0, len(masking.continues), n)
    result = np.where(chosen & (kind < 0.8), masking.mask_id, ids)
    return np.where(chosen & (kind >= 0.9), random_ids, result), chosen
