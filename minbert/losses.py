"""Pure (outputs, labels) -> mean loss, in fp32. S sequences, C classes."""

from torch import Tensor
from torch.nn import functional as F


def cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """-log softmax(outputs)[label]; outputs (S, C), labels (S,) class numbers."""
    return F.cross_entropy(outputs.float(), labels.long())


def binary_cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """-l log s - (1-l) log(1-s) with s = sigmoid(output); outputs (S, 1), labels (S,) 0 or 1."""
    return F.binary_cross_entropy_with_logits(outputs.float().squeeze(-1), labels.float())


def mean_squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    """(output - label)^2; outputs (S, 1), labels (S,) floats."""
    return F.mse_loss(outputs.float().squeeze(-1), labels.float())
