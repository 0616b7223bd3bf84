"""The masked language model (Devlin et al., 2018). M masked tokens, D hidden, V vocabulary."""

from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minbert.batch import Batch
from minbert.errors import UserError
from minbert.files import read_json
from minbert.model.encoder import BertModel
from minbert.model.heads import draw_weights
from minbert.model.layers import LayerNorm, Linear
from minbert.model.packing import add_rows
from minbert.modules import check_same_form, without_values
from minbert.weights.pretrained import (
    check_weights,
    names_a_pooler,
    read_tensors,
    write_pretrained,
)
from minbert.weights.resolve import resolve

PUBLISHED = {  # the head's parameters: ours -> published
    "dense.weight": "cls.predictions.transform.dense.weight",
    "dense.bias": "cls.predictions.transform.dense.bias",
    "layer_norm.weight": "cls.predictions.transform.LayerNorm.weight",
    "layer_norm.bias": "cls.predictions.transform.LayerNorm.bias",
    "bias": "cls.predictions.bias",
}


class MlmHead(nn.Module):
    """LN(gelu(dense(h))) against every word embedding, plus one bias for each word."""

    def __init__(self, hidden_size: int, vocab_size: int, eps: float, std: float) -> None:
        super().__init__()
        self.dense = Linear(hidden_size, hidden_size)
        self.layer_norm = LayerNorm(hidden_size, eps)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        draw_weights(self.dense, std)

    def forward(self, hidden: Tensor, word_embeddings: Tensor) -> Tensor:
        """Score every word, (M, D), (V, D) -> (M, V); the embedding table is the decoder."""
        h = self.layer_norm(F.gelu(self.dense(hidden)))
        return F.linear(h, word_embeddings.to(h.dtype), self.bias.to(h.dtype))


class MaskedLanguageModel(nn.Module):
    """`model(batch, indices)` -> logits at these tokens; other tokens' logits are not computed."""

    def __init__(self, encoder: BertModel) -> None:
        super().__init__()
        self.encoder = encoder
        self.has_pooler = True  # False: the file had none; the random one is never trained or saved
        config = encoder.config
        self.mlm_head = MlmHead(
            config.hidden_size, config.vocab_size, config.layer_norm_eps, config.initializer_range
        )

    def forward(self, batch: Batch, indices: Tensor) -> Tensor:
        """Return logits (M, V) of the tokens at these indices (M,) of a batch."""
        hidden = self.encoder.hidden_states(batch)[-1].index_select(0, indices)
        logits = self.mlm_head(add_rows(hidden), self.encoder.word_embedding.weight)
        return logits[: len(indices)]


def load_mlm(name_or_dir: str | Path) -> tuple[MaskedLanguageModel, bool]:
    """Return the model in eval mode, and whether its head is random because the file has none.

    Raises UserError for half a head, and for all that `BertModel.from_pretrained` refuses.
    """
    directory = resolve(name_or_dir)
    encoder = BertModel.from_pretrained(directory)
    tensors, path = read_tensors(directory)
    has_pooler = names_a_pooler(tensors)
    tensors = {k.replace("gamma", "weight").replace("beta", "bias"): v for k, v in tensors.items()}
    head_tensors = {ours: tensors[name] for ours, name in PUBLISHED.items() if name in tensors}
    is_tied = read_json(directory / "config.json").get("tie_word_embeddings", True) is not False
    if head_tensors and not is_tied:
        raise UserError(
            f"{directory}: tie_word_embeddings is false: its decoder is a matrix of its own; here "
            f"it is the embedding table"
        )
    with without_values() if head_tensors else nullcontext():
        model = MaskedLanguageModel(encoder).eval()
    model.has_pooler = has_pooler
    if not head_tensors:
        return model, True
    for ours, p in model.mlm_head.named_parameters():
        if ours not in head_tensors or head_tensors[ours].shape != p.shape:
            raise UserError(f"{path}: {PUBLISHED[ours]} is missing or has another shape")
    check_weights(head_tensors, path)
    state = {name: tensor.float().contiguous() for name, tensor in head_tensors.items()}
    model.mlm_head.load_state_dict(state, assign=True)
    return model, False


def save_mlm(model: MaskedLanguageModel, directory: Path) -> None:
    """Write one file that BertForMaskedLM of transformers reads, and BertModel there and here.

    Raises UserError as `BertModel.published_state_dict`, for the head, too.
    """
    with without_values():
        expected = MaskedLanguageModel(BertModel(model.encoder.config))
    check_same_form(model.mlm_head, expected.mlm_head)
    encoder = {
        f"bert.{name}": tensor
        for name, tensor in model.encoder.published_state_dict().items()
        if model.has_pooler or not names_a_pooler([name])
    }
    head = {PUBLISHED[k]: v for k, v in model.mlm_head.state_dict().items()}
    write_pretrained(directory, model.encoder.config, encoder | head, "BertForMaskedLM")
