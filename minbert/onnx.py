"""The model as ONNX, over padded tensors: its equations without any data-dependent shape.

B sequences or pairs, T tokens with padding, D hidden, H heads, K head size, E size of an embedding.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minbert.errors import UserError
from minbert.model.attention import SelfAttention
from minbert.model.encoder import BertLayer, BertModel
from minbert.model.layers import is_plain
from minbert.model.multitask import MultitaskNetwork
from minbert.modules import evaluating

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
INSTALL = 'pip install -e ".[onnx]"'


class PaddedModel(nn.Module):
    """A model whose inputs are transformers': three (B, T) int64 tensors.

    With a task it returns the logits (B, outputs), of one that labels words (B, T, outputs), or
    the embeddings (B, E) of a siamese one; without a task, or of an encoder, the hidden states
    (B, T, D) and the pooled output (B, D).
    """

    def __init__(self, model: MultitaskNetwork | BertModel, task: str = "") -> None:
        super().__init__()
        if task and isinstance(model, BertModel):
            raise UserError(f"task {task!r}: a BertModel has no heads; give a MultitaskNetwork")
        self.encoder = model if isinstance(model, BertModel) else model.encoder
        if not task and isinstance(model, MultitaskNetwork) and model.second_tower is not None:
            raise UserError("a network of two encoders: give one of them, or a task's name")
        if task and (why := model.why_only_minbert(task)):
            raise UserError(f"{task}: {why}")
        self.head = model.head_named(task) if task else None
        self.siamese = bool(task) and self.head.config.siamese

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what forward returns."""
        if self.head is None:
            return ("last_hidden_state", "pooler_output")
        return ("embeddings",) if self.siamese else ("logits",)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor
    ) -> tuple[Tensor, ...]:
        """Compute the encoder's equations over padded sequences, then the head's."""
        e = self.encoder
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = e.word_embedding(input_ids) + e.pos_embedding(positions)
        x = e.dropout(e.embed_layer_norm(x + e.tk_type_embedding(token_type_ids)))
        real = attention_mask.to(x.dtype)  # (B, T) 1 or 0
        x = padded_layers(e, x, real)
        if self.head is None:
            return x, e.pool(x[:, 0])
        if self.head.config.per_word:
            return (self.head(x),)
        pooled = self.pooled(x, real)
        return (self.head.embed(pooled) if self.siamese else self.head(pooled),)

    def pooled(self, x: Tensor, real: Tensor) -> Tensor:
        """Pool hidden states (B, T, D) with the mask (B, T) to (B, D), as pooled_sentences does."""
        kind, real = self.head.config.pooling, real[:, :, None]
        if kind == "cls":
            return self.encoder.pool(x[:, 0])
        if kind == "mean":
            return (x * real).sum(1) / real.sum(1)
        return (x - (1 - real) * 1e9).amax(1)


def padded_layers(encoder: BertModel, x: Tensor, real: Tensor) -> Tensor:
    """Run all layers over (B, T, D); real: (B, T) of 1 and 0 in the dtype of x."""
    mask = (1 - real)[:, None, None, :] * -1e9  # (B, 1, 1, T)
    for layer in encoder.bert_layers:
        check_is_own(layer, BertLayer)
        x = padded_layer(layer, x, mask)
    return x


def check_is_own(module: nn.Module, cls: type[nn.Module]) -> None:
    """Raise UserError for a replaced or hooked module that is computed here without a call."""
    if not is_plain(module, cls):
        raise UserError(
            f"a {cls.__name__} was replaced or has a hook, which would be left out: over padded "
            f"tensors it is not called; hook or replace the parts of it"
        )


def padded_attention(attention: SelfAttention, x: Tensor, mask: Tensor) -> Tensor:
    """Attend within (B, T, D) by all heads; mask (B, 1, 1, T) is added to the scores."""

    def heads(t: Tensor) -> Tensor:  # (B, T, D) -> (B, H, T, K)
        return t.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)

    q, k, v = (heads(linear(x)) for linear in (attention.query, attention.key, attention.value))
    return attention.attend(q, k, v, mask).transpose(1, 2).flatten(2)


def padded_layer(layer: BertLayer, x: Tensor, mask: Tensor) -> Tensor:
    """Compute x = LN(x + attention(x)), then x = LN(x + ffn(x)), over (B, T, D)."""
    check_is_own(layer.self_attention, SelfAttention)
    a = layer.attention_dense(padded_attention(layer.self_attention, x, mask))
    x = layer.attention_layer_norm(x + layer.dropout(a))
    ffn = layer.out_dense(F.gelu(layer.interm_dense(x)))
    return layer.out_layer_norm(x + layer.dropout(ffn))


@contextmanager
def no_warnings() -> Iterator[None]:
    """Silence whatever loggers say below errors, and all of Python's warnings."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def write_onnx(model: MultitaskNetwork, task: str, path: Path) -> None:
    """Write one file that takes any number of sequences of any length that the model takes.

    Raises UserError if the exporter's packages are not installed.
    """
    padded = PaddedModel(model, task)
    # three tensors: one object used three times would be exported as one input
    example = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in INPUTS)
    batch = torch.export.Dim("batch", min=1)
    tokens = torch.export.Dim("tokens", min=2, max=model.encoder.config.max_position_embeddings)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # The exporter warns if torchvision is missing, of dimensions that its inputs share, and of
        # deprecated calls of its own.
        with evaluating(padded), no_warnings():
            torch.onnx.export(
                padded, example, path, input_names=INPUTS, output_names=padded.outputs,
                dynamic_shapes=({0: batch, 1: tokens},) * 3, dynamo=True, external_data=False,
                verbose=False,
            )  # fmt: skip
    except ImportError as error:
        raise UserError(f"--to onnx needs its packages: {INSTALL}") from error


def quantize(path: Path) -> None:
    """Replace a model.onnx by one with weights of 8 bits, by onnxruntime's dynamic quantizer.

    Each column of a matrix has a range of its own, which halves the error. What goes into a product
    is rounded to 8 bits, too. Raises UserError if onnxruntime is not installed.
    """
    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise UserError(f"--quantize needs onnxruntime: {INSTALL}") from error
    whole = path.with_name("fp32.onnx")
    path.replace(whole)
    options = {"weight_type": QuantType.QInt8, "per_channel": True}
    options["reduce_range"] = True  # 7 bits: with 8 a CPU without VNNI cuts off large sums
    with no_warnings():  # it recommends a preparation for images, in any case
        quantize_dynamic(whole, path, **options)
    whole.unlink()
