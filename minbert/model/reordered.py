"""A weight matrix in the order of oneDNN's products, which a CPU reads fastest."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Reordered:
    """Hold a copy of a weight matrix in oneDNN's order, and tell whether it is out of date.

    Changes in place raise `_version`. What replaces the memory (weight.data = new, half(), cuda())
    changes the address. Fused optimizers and writes through weight.data change neither: so some 64
    of the entries are compared, too.
    """

    weight: Tensor
    version: int  # weight._version when it was copied
    address: int  # in memory, then
    entries: Tensor  # a view of some 64 entries of the matrix, as they are now
    values: Tensor  # what these entries were then
    copy: Tensor

    @classmethod
    def of(cls, weight: Tensor) -> "Reordered":
        """Copy a contiguous matrix on the CPU."""
        w = weight.detach()
        entries = w.view(-1)[:: w.numel() // 64 + 1]
        copy = torch.ops.mkldnn._reorder_linear_weight(w)
        return cls(weight, weight._version, w.data_ptr(), entries, entries.clone(), copy)

    def is_current(self, weight: Tensor) -> bool:
        """Return whether the copy still equals the matrix.

        A change of few entries by weight.data, which PyTorch does not count, may be missed.
        """
        return (
            weight is self.weight
            and weight._version == self.version
            and weight.data_ptr() == self.address
            and torch.equal(self.entries, self.values)
        )


def has_reordered_products(dtype: torch.dtype) -> bool:
    """Return whether this build of PyTorch and this CPU have oneDNN's products of a dtype."""
    if not torch.backends.mkldnn.is_available():
        return False
    bf16 = torch.ops.mkldnn._is_mkldnn_bf16_supported
    return dtype == torch.float32 or (dtype == torch.bfloat16 and bf16())
