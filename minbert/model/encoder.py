"""BertModel (Devlin et al., 2018): embeddings, post-LN transformer layers, pooler.

N tokens in the batch, S sequences, D hidden; the padded interface, as transformers', takes (B, T).
Module names are the courses' (`bert_layers.0.self_attention.query`); minbert.weights maps the
published ones.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from minbert.batch import Batch
from minbert.config import BertConfig
from minbert.errors import UserError
from minbert.model import derived
from minbert.model.attention import SelfAttention
from minbert.model.config_check import check_config
from minbert.model.layers import Dropout, LayerNorm, Linear, is_plain
from minbert.model.packing import Layout, add_rows, lay_out, spare_rows
from minbert.model.padded import BertOutput, pack
from minbert.modules import without_values
from minbert.weights.convert import to_published
from minbert.weights.pretrained import POOLER, names_a_pooler, read_encoder, write_pretrained
from minbert.weights.resolve import resolve

TRACED = (
    "a trace of BertModel would hold only for the lengths of its example: trace or export "
    "minbert.onnx.PaddedModel(model), whose outputs are the same at real tokens"
)


class BertLayer(nn.Module):
    """x = LN(x + dropout(attention(x)));  x = LN(x + dropout(ffn(x)))

    attention(x) = o Wo^T + bo with the o of SelfAttention (Wo: attention_dense).
    ffn(x) = gelu(x W1^T + b1) W2^T + b2, gelu(u) = u Phi(u) with the normal distribution function
    Phi (Hendrycks and Gimpel, 2016). The tanh approximation would change the outputs by 2e-3.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        D, eps = config.hidden_size, config.layer_norm_eps
        self.self_attention = SelfAttention(config)
        self.attention_dense = Linear(D, D)
        self.attention_layer_norm = LayerNorm(D, eps)
        self.interm_dense = Linear(D, config.intermediate_size)
        self.out_dense = Linear(config.intermediate_size, D)
        self.out_layer_norm = LayerNorm(D, eps)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.kernels = "minbert"  # see minbert.kernels

    def forward(self, x: Tensor, layout: Layout, context: Tensor | None = None) -> Tensor:
        """Compute both equations, (N, D) -> (N, D); `context`: see SelfAttention.

        By default minbert.model.derived computes the same, with gradients derived by hand, in
        fewer passes over the memory; with --written-out what stands here is what runs.
        """
        if self.kernels != "written-out" and derived.can_run(self):
            return derived.compute_layer(self, x, layout, context)
        a = self.attention_dense(self.self_attention(x, layout, context))
        x = self.attention_layer_norm(x + self.dropout(a))
        f = self.out_dense(F.gelu(self.interm_dense(x)))
        return self.out_layer_norm(x + self.dropout(f))


class BertModel(nn.Module):
    """The encoder. `encode(batch)` reads packed sequences; calling it takes padded tensors."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        # bf16: products in bf16, parameters and statistics in fp32
        self.compute_dtype = torch.float32
        self.kernels = "minbert"  # see minbert.kernels; set by layers.set_kernels
        # True: a layer's activations are computed again in the backward pass instead of kept
        self.checkpoint_activations = False
        D = config.hidden_size
        self.word_embedding = nn.Embedding(config.vocab_size, D)
        self.pos_embedding = nn.Embedding(config.max_position_embeddings, D)
        self.tk_type_embedding = nn.Embedding(config.type_vocab_size, D)
        self.embed_layer_norm = LayerNorm(D, config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.bert_layers = nn.ModuleList(BertLayer(config) for _ in range(config.num_hidden_layers))
        self.pooler_dense = Linear(D, D)
        self.apply(self._init)

    def __repr__(self) -> str:
        """Return one line, not the tree of all modules; `named_modules` has that."""
        c, parameters = self.config, sum(p.numel() for p in self.parameters())
        return (
            f"BertModel({c.num_hidden_layers} layers, {c.hidden_size} wide, "
            f"{c.num_attention_heads} heads, {c.vocab_size:,} words, {parameters:,} parameters)"
        )

    @property
    def device(self) -> torch.device:
        return self._embedding_weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters; see `compute_dtype` for that of the products."""
        return self._embedding_weight.dtype

    @property
    def _embedding_weight(self) -> Tensor:
        """The weight to read device and dtype from; an embedding may be replaced by one without.

        `parameters()` comes last: for a replica of DataParallel it is empty.
        """
        modules = (self.word_embedding, self.pos_embedding, self.tk_type_embedding)
        weights = (getattr(module, "weight", None) for module in modules)
        found = [weight for weight in weights if isinstance(weight, Tensor)]
        return found[0] if found else next(self.parameters())

    @property
    def attention_heads(self) -> int:
        """How many heads its attention modules have; all layers share one layout of them."""
        own = (m.num_heads for m in self.bert_layers.modules() if isinstance(m, SelfAttention))
        return next(own, self.config.num_attention_heads)

    def for_inference(self, dtype: torch.dtype) -> "BertModel":
        """Switch to evaluation, with the layers' matrices rounded to dtype for good.

        The same outputs as with compute_dtype, without a cast of all matrices in every call; on a
        CPU a second copy of them is kept, see `Linear.reorder`.
        """
        self.compute_dtype = dtype
        for module in self.bert_layers.modules():
            if isinstance(module, Linear):
                module.to(dtype)
                module.reorder()
        return self.eval()

    def _init(self, module: nn.Module) -> None:
        """Draw Linear and Embedding from N(0, initializer_range^2); biases are 0."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    def reinitialize(self, layers: int) -> None:
        """Give the pooler and this number of top layers random values, as a new model has.

        Few-sample fine-tuning, Zhang et al. (2020).
        """
        for module in (self.pooler_dense, *self.bert_layers[len(self.bert_layers) - layers :]):
            for part in module.modules():
                self._init(part)
                if isinstance(part, LayerNorm):
                    nn.init.ones_(part.weight)
                    nn.init.zeros_(part.bias)

    def embed(self, batch: Batch, inputs_embeds: Tensor | None = None) -> Tensor:
        """Return dropout(LN(word + position + segment embedding)), (N, D).

        inputs_embeds: (N, D), in place of the ids' word embeddings.
        """
        words = self.word_embedding(batch.ids) if inputs_embeds is None else inputs_embeds
        x = words + self.pos_embedding(batch.positions) + self.tk_type_embedding(batch.segments)
        x = self.embed_layer_norm(x)
        if x.dtype == torch.float32:  # fp64 models stay fp64: the tests' exact reference
            x = x.to(self.compute_dtype)
        return self.dropout(x)

    def embed_and_lay_out(
        self, batch: Batch, inputs_embeds: Tensor | None = None
    ) -> tuple[Tensor, Layout]:
        """Return `embed`'s output with the rows that layers need beside it, and their layout."""
        x = add_rows(self.embed(batch, inputs_embeds), spare_rows(batch.lengths))
        return x, lay_out(batch.lengths, self.attention_heads, x)

    def hidden_states(self, batch: Batch, inputs_embeds: Tensor | None = None) -> list[Tensor]:
        """Return `embed`'s output for the same arguments, then every layer's, each (N, D)."""
        x, layout = self.embed_and_lay_out(batch, inputs_embeds)
        states = [x]
        for layer in self.bert_layers:
            states.append(self.run_layer(layer, states[-1], layout))
        return [state[: len(batch.ids)] for state in states]

    def encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return hidden states (N, D) and, in the parameters' dtype, tanh(W h[CLS] + b) (S, D)."""
        hidden = self.hidden_states(batch)[-1]
        return hidden, self.pool(batch.first_rows(hidden))

    def pooled_output(self, batch: Batch, layers: tuple[int, ...] = ()) -> Tensor:
        """Return tanh(W h[CLS] + b) (S, D), as `encode` does.

        The last layer computes only the first tokens, which saves nearly a sixth of the work of six
        layers; with --written-out, and with a hook of its own, all. layers: numbers, from 1, of
        layers whose mean output is pooled instead of the top layer's (Sun et al., 2019).
        """
        *lower, last = self.bert_layers
        # a hook before the last layer or its attention may change the tokens that they read
        is_own = is_plain(last, BertLayer) and is_plain(last.self_attention, SelfAttention)
        if layers or self.kernels == "written-out" or not is_own:
            return self.pool(batch.first_rows(self.token_states(batch, layers)))
        x, layout = self.embed_and_lay_out(batch)
        for layer in lower:
            x = self.run_layer(layer, x, layout)
        first = add_rows(batch.first_rows(x))
        first = self.run_layer(last, first, layout.first_tokens(), x)
        return self.pool(first[: len(batch.lengths)])

    def token_states(self, batch: Batch, layers: tuple[int, ...]) -> Tensor:
        """Return the top layer's output, (N, D), or the mean of those of `layers`, from 1."""
        states = self.hidden_states(batch)
        return torch.stack([states[layer] for layer in layers]).mean(0) if layers else states[-1]

    def run_layer(
        self, layer: BertLayer, x: Tensor, layout: Layout, context: Tensor | None = None
    ) -> Tensor:
        """Call one layer; checkpoint_activations keeps its input alone for the backward pass."""
        if self.checkpoint_activations and torch.is_grad_enabled():
            return checkpoint(layer, x, layout, context, use_reentrant=False)
        return layer(x, layout, context)

    def pool(self, first: Tensor) -> Tensor:
        """Compute tanh(W h[CLS] + b), (S, D) -> (S, D)."""
        return torch.tanh(self.pooler_dense(first.to(self.dtype)))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        *,
        output_hidden_states: bool | None = False,
        output_attentions: bool | None = False,
        return_dict: bool | None = True,
    ) -> BertOutput | tuple[Any, ...]:
        """Read padded (B, T) ids, mask (1 real, 0 padding) and segments, as in transformers.

        inputs_embeds: (B, T, D) in place of the ids' word embeddings. Returns `last_hidden_state`
        (B, T, D), zero at padding, and `pooler_output` (B, D); on request `hidden_states`, a tuple
        of (B, T, D), whose last one is `last_hidden_state`; the others are copies of what the
        layers read. None, which wrappers may give, is the default. Raises UserError for inputs that
        do not fit (see `pack`), for output_attentions, and while a program records the operations,
        because it would record the lengths of its example.
        """
        if output_attentions:
            raise UserError(
                "output_attentions: no map is kept; docs/pytorch.md says how to see one"
            )
        if torch.jit.is_tracing() or torch.compiler.is_exporting():
            raise UserError(TRACED)
        packed = pack(
            self.config, input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds
        )
        states = self.hidden_states(packed.batch, packed.inputs_embeds)
        pooled = self.pool(packed.batch.first_rows(states[-1]))
        padded = tuple(map(packed.unpack, states if output_hidden_states else states[-1:]))
        out = BertOutput(last_hidden_state=padded[-1], pooler_output=packed.unsort(pooled))
        if output_hidden_states:
            out["hidden_states"] = padded
        return out.to_tuple() if return_dict is False else out

    @classmethod
    def from_pretrained(
        cls, name_or_dir: str | Path = "bert-base-uncased", **changes: Any
    ) -> "BertModel":
        """Load published weights, in eval mode and fp32; `changes` replace config fields.

        Raises UserError: model not found, unknown / missing / misshapen parameters, a damaged file,
        and a change whose name is no field of BertConfig.
        """
        if unknown := [name for name in changes if name not in BertConfig.__dataclass_fields__]:
            raise UserError(f"{unknown[0]}: not a field of BertConfig")
        directory = resolve(name_or_dir)
        config = BertConfig.from_file(directory / "config.json")
        config = BertConfig.from_dict({**config.to_dict(), **changes})
        with without_values():  # load_state_dict sets every parameter
            model = cls(config)
        model.load_state_dict(read_encoder(directory, config, model.state_dict()), assign=True)
        return model.eval()

    def save_pretrained(self, directory: str | Path) -> None:
        """Write config.json and model.safetensors by published names, as AutoModel reads it.

        Raises UserError as `published_state_dict`, and then writes nothing.
        """
        tensors = self.published_state_dict()
        write_pretrained(Path(directory), self.config, tensors, "BertModel")

    def published_state_dict(self) -> dict[str, Tensor]:
        """Return the parameters by published names.

        Raises UserError for a parameter that BERT does not have, and for a model that differs from
        what its config describes: loading would fail, or give other outputs. The pooler may be
        missing.
        """
        tensors = {to_published(name): tensor for name, tensor in self.state_dict().items()}
        ignored_prefixes = () if names_a_pooler(tensors) else (POOLER,)
        check_config(self, BertModel, ignored_prefixes)
        return tensors
