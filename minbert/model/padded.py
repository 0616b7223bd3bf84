"""The padded interface: other libraries' (B, T) tensors to a packed batch and back.

B sequences, T their padded length, N real tokens, D hidden.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import register_pytree_node

from minbert.batch import Batch
from minbert.config import BertConfig
from minbert.errors import UserError

MASKED = -1000.0  # an additive mask has 0 at real tokens and at most this at padding


class BertOutput(dict[str, Tensor]):
    """A dict whose entries are attributes and numbers too: out["pooler_output"] is out[1]."""

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the values, as a model returns them with return_dict=False."""
        return tuple(self.values())


# Without this DistributedDataParallel finds no tensors in it and averages no gradients.
register_pytree_node(
    BertOutput,
    lambda out: (list(out.values()), tuple(out)),
    lambda values, names: BertOutput(zip(names, values, strict=True)),
    serialized_type_name="minbert.BertOutput",
)


@dataclass(frozen=True)
class Packed:
    """The real tokens of padded inputs, shortest sequence first, and where they came from."""

    batch: Batch
    inputs_embeds: Tensor | None  # (N, D), in place of the word embeddings of the batch's ids
    row: Tensor  # (N,)
    column: Tensor  # (N,)
    order: Tensor  # (B,), the row of each of the batch's sequences
    shape: tuple[int, int]  # (B, T)

    def unpack(self, hidden: Tensor) -> Tensor:
        """Put (N, D) back into (B, T, D), zero at padding."""
        padded = hidden.new_zeros(*self.shape, hidden.shape[-1])
        return padded.index_put((self.row, self.column), hidden)

    def unsort(self, pooled: Tensor) -> Tensor:
        """Put (B, D) back into the order of the padded rows."""
        return pooled[self.order.argsort()]


def pack(
    config: BertConfig, input_ids: Tensor | None, attention_mask: Tensor | None,
    token_type_ids: Tensor | None, position_ids: Tensor | None, inputs_embeds: Tensor | None,
) -> Packed:  # fmt: skip
    """Return the real tokens of inputs as transformers takes them.

    Raises UserError for what is no tensor, ids that are not int64 or int32, shapes that do not fit
    each other, ids outside the vocabulary, sequences longer than the position table, a row without
    a real token, and a mask that is neither 0 and 1 nor additive.
    """
    inputs = {
        "input_ids": input_ids, "token_type_ids": token_type_ids, "position_ids": position_ids,
        "attention_mask": attention_mask, "inputs_embeds": inputs_embeds,
    }  # fmt: skip
    for name, x in inputs.items():
        if x is not None:
            check_type(name, x)
    ids = padded_ids(config, input_ids, inputs_embeds)
    real = torch.ones_like(ids, dtype=torch.bool)
    if attention_mask is not None:
        real = real_tokens(attention_mask, ids.shape)
    if not bool(real.any(1).all()):
        raise UserError("a row of the batch has no real token: drop empty rows")
    segments = torch.zeros_like(ids) if token_type_ids is None else token_type_ids
    check_range("token_type_ids", segments, ids.shape, config.type_vocab_size - 1)

    lengths, order = real.sum(1).sort(stable=True)
    row, column = real[order].nonzero(as_tuple=True)
    row = order[row]  # sorted by length, so that attention runs in few groups
    positions = column
    if position_ids is not None:
        if position_ids.shape == (1, ids.shape[1]):
            position_ids = position_ids.expand(ids.shape)
        check_range("position_ids", position_ids, ids.shape, config.max_position_embeddings - 1)
        positions = position_ids[row, column]
    batch = Batch(ids[row, column], positions, segments[row, column], tuple(lengths.tolist()))
    embeds = None if inputs_embeds is None else inputs_embeds[row, column]
    return Packed(batch, embeds, row, column, order, tuple(ids.shape))


def padded_ids(
    config: BertConfig, input_ids: Tensor | None, inputs_embeds: Tensor | None
) -> Tensor:
    """Return the ids (B, T), zeros where embeddings are given instead. Raises UserError."""
    if (input_ids is None) == (inputs_embeds is None):
        raise UserError("give either input_ids or inputs_embeds")
    words, ids = inputs_embeds, input_ids
    if words is not None and (words.ndim != 3 or words.shape[-1] != config.hidden_size):
        raise UserError(f"inputs_embeds {tuple(words.shape)} must be (B, T, {config.hidden_size})")
    if ids is None:
        ids = torch.zeros(words.shape[:2], dtype=torch.int64, device=words.device)
    if ids.ndim != 2:
        raise UserError(f"input_ids {tuple(ids.shape)} must be (B, T)")
    if ids.numel() == 0:
        raise UserError(f"input_ids {tuple(ids.shape)}: there is no token in it")
    if ids.shape[1] > config.max_position_embeddings:
        raise UserError(
            f"sequence of {ids.shape[1]} tokens; this model takes at most "
            f"{config.max_position_embeddings}: truncate, as tokenizer(texts, max_length=...) does"
        )
    hint = ": outside the vocabulary; was another tokenizer used?"
    check_range("input_ids", ids, ids.shape, config.vocab_size - 1, hint)
    return ids


def check_type(name: str, x: Any) -> None:
    """Raise UserError for what is no tensor, and for ids of a type that no embedding looks up."""
    if not isinstance(x, Tensor):
        raise UserError(f"{name} is a {type(x).__name__}; give a tensor")
    if name.endswith("_ids") and x.dtype not in (torch.int64, torch.int32):
        dtype = str(x.dtype).removeprefix("torch.")
        raise UserError(f"{name} is a tensor of {dtype}; give one of int64")


def check_range(name: str, x: Tensor, shape: torch.Size, last: int, hint: str = "") -> None:
    """Raise UserError for what would otherwise be an index error inside an embedding."""
    if x.shape != shape:
        raise UserError(f"{name} {tuple(x.shape)} must have the shape of the ids, {tuple(shape)}")
    low, high = map(int, x.aminmax())
    if low < 0 or high > last:
        raise UserError(f"{name} {low}..{high} must be 0..{last}{hint}")


def real_tokens(mask: Tensor, shape: torch.Size) -> Tensor:
    """Return which tokens are real, (B, T) bool.

    mask: (B, T) or (B, 1, 1, T), of 1 at real tokens and 0 at padding, or what is added to
    attention's scores: 0 and a large negative number. Raises UserError for others.
    """
    B, T = shape
    if mask.shape not in ((B, T), (B, 1, 1, T)):
        raise UserError(
            f"attention_mask {tuple(mask.shape)}: ({B}, {T}) or ({B}, 1, 1, {T}) fits these ids; a "
            f"mask for each query is not supported"
        )
    flat = mask.reshape(B, T)
    low, high = (end.item() for end in flat.aminmax())
    if low < 0 or (mask.ndim == 4 and mask.is_floating_point() and high == 0):
        real, padding = flat == 0, flat <= MASKED
        form = f"an additive mask has 0 at real tokens and at most {MASKED:.0f} at padding"
    else:
        real, padding = flat == 1, flat == 0
        form = "1 is a real token, 0 is padding"
    if not bool((real | padding).all()):
        raise UserError(f"attention_mask with values from {low:g} to {high:g}: {form}")
    return real
