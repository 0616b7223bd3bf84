"""The courses' module name: `from bert import BertModel, BertLayer, BertSelfAttention`.

B sequences, T their padded length, D hidden.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from _project import model_name
from torch import Tensor

from minbert.batch import Batch
from minbert.config import BertConfig
from minbert.model.attention import SelfAttention
from minbert.model.encoder import BertLayer as _BertLayer
from minbert.model.encoder import BertModel as _BertModel
from minbert.modules import without_values
from minbert.onnx import padded_attention, padded_layer, padded_layers


@dataclass(frozen=True)
class NamedConfig(BertConfig):
    """A configuration that knows where its weights are from."""

    name_or_path: str = ""


class BertSelfAttention(SelfAttention):
    """Attention over padded hidden states, with the courses' additive mask."""

    def forward(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        """Attend, (B, T, D) and (B, 1, 1, T) -> (B, T, D)."""
        return padded_attention(self, hidden_states, attention_mask)


class BertLayer(_BertLayer):
    """A layer over padded hidden states, with the courses' additive mask."""

    def forward(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        """Compute the layer, (B, T, D) and (B, 1, 1, T) -> (B, T, D)."""
        return padded_layer(self, hidden_states, attention_mask)


class BertModel(_BertModel):
    """minbert's encoder; MINBERT_MODEL chooses the weights if it is set.

    Its own layers read packed sequences: call `encode`, not bert_layers[i].
    """

    @classmethod
    def from_pretrained(cls, name: str = "bert-base-uncased", **changes: Any) -> "BertModel":
        """Load the encoder; changes: as in minbert's, others of the courses are ignored."""
        known = {key: value for key, value in changes.items() if hasattr(BertConfig, key)}
        return cls.of(_BertModel.from_pretrained(model_name(name), **known), model_name(name))

    @classmethod
    def of(cls, encoder: _BertModel, name: str) -> "BertModel":
        """Return minbert's encoder with the courses' calls, in eval mode; name: of its weights."""
        with without_values():  # load_state_dict sets every parameter
            model = cls(NamedConfig(**asdict(encoder.config), name_or_path=name))
        model.load_state_dict(encoder.state_dict(), assign=True)
        return model.eval()

    def embed(self, input_ids: Tensor | Batch, words: Tensor | None = None) -> Tensor:
        """Embed padded ids, (B, T) -> (B, T, D); a packed batch as minbert does."""
        if isinstance(input_ids, Batch):
            return super().embed(input_ids, words)
        B, T = input_ids.shape
        ids = input_ids.flatten()
        positions = torch.arange(T, device=ids.device).repeat(B)
        packed = super().embed(Batch(ids, positions, torch.zeros_like(ids), (T,) * B))
        return packed.view(B, T, -1)

    def encode(self, hidden_states: Tensor | Batch, attention_mask: Tensor | None = None) -> Any:
        """Run all layers on embedded sequences, (B, T, D) and (B, T) -> (B, T, D).

        attention_mask: 1 at real tokens; None: all are. A packed batch as minbert does.
        """
        if isinstance(hidden_states, Batch):
            return super().encode(hidden_states)
        if attention_mask is None:
            attention_mask = hidden_states.new_ones(hidden_states.shape[:2])
        return padded_layers(self, hidden_states, attention_mask.to(hidden_states.dtype))

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """Leave out the courses' buffer of positions, which is 0, 1, 2, ..."""
        state.pop(f"{prefix}position_ids", None)
        super()._load_from_state_dict(state, prefix, *rest)


__all__ = ["BertLayer", "BertModel", "BertSelfAttention"]
