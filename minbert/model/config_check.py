"""A config describes a model if the model, saved and loaded with it, gives the same outputs."""

from collections.abc import Callable
from dataclasses import asdict, replace

from torch import nn

from minbert.config import BertConfig
from minbert.errors import UserError
from minbert.modules import check_same_form, find_difference, traits, without_values

# Where a model has its config's values: the lengths of these matrices, these attributes of modules.
LENGTHS = {
    "vocab_size": "word_embedding.weight",
    "max_position_embeddings": "pos_embedding.weight",
    "type_vocab_size": "tk_type_embedding.weight",
    "intermediate_size": "bert_layers.0.interm_dense.weight",
}
ATTRIBUTES = {
    "num_attention_heads": "bert_layers.0.self_attention.num_heads",
    "layer_norm_eps": "embed_layer_norm.eps",
}


def check_config(
    model: nn.Module, build: Callable[[BertConfig], nn.Module], ignored_prefixes: tuple[str, ...]
) -> None:
    """Raise UserError for a BertModel that its config does not describe.

    The message says what to change in the config, if a changed one describes it. build: makes a
    model from a config. ignored_prefixes: prefixes of parameters that may be missing.
    """
    config = model.config
    with without_values():
        described = build(config)
    if not find_difference(model, described, ignored_prefixes):
        return
    is_own = isinstance(config, BertConfig)
    config = config if is_own else BertConfig.from_dict(config.to_dict())  # another library's
    needed = needed_config(model, config)
    with without_values():
        other = build(needed)
    if find_difference(model, other, ignored_prefixes):  # no config describes it
        check_same_form(model, described, ignored_prefixes)
    changes = asdict(needed).items() - asdict(config).items()
    listed = ", ".join(f"{key}={x}" for key, x in sorted(changes))
    mend = f"= dataclasses.replace(model.config, {listed})" if is_own else f"to have {listed}"
    raise UserError(
        f"cannot save a model that its config does not describe: set model.config {mend}"
    )


def needed_config(model: nn.Module, config: BertConfig) -> BertConfig:
    """Return a config with the sizes and constants that a BertModel's modules have."""
    found = traits(model)
    lengths = {key: found[name][0] for key, name in LENGTHS.items() if name in found}
    constants = {key: found[name] for key, name in ATTRIBUTES.items() if name in found}
    layers = len(model.bert_layers)
    return replace(config, num_hidden_layers=layers, **lengths, **constants)
