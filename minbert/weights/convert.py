"""One table of parameter names, both ways: published <-> ours, which are the courses'."""

import re

from torch import Tensor

from minbert.errors import UserError

# ours -> published, without the trailing .weight / .bias
TABLE = {
    "word_embedding": "embeddings.word_embeddings",
    "pos_embedding": "embeddings.position_embeddings",
    "tk_type_embedding": "embeddings.token_type_embeddings",
    "embed_layer_norm": "embeddings.LayerNorm",
    "pooler_dense": "pooler.dense",
}
LAYER_TABLE = {
    "self_attention.query": "attention.self.query",
    "self_attention.key": "attention.self.key",
    "self_attention.value": "attention.self.value",
    "attention_dense": "attention.output.dense",
    "attention_layer_norm": "attention.output.LayerNorm",
    "interm_dense": "intermediate.dense",
    "out_dense": "output.dense",
    "out_layer_norm": "output.LayerNorm",
}
INVERSE = {theirs: ours for ours, theirs in TABLE.items()}
LAYER_INVERSE = {theirs: ours for ours, theirs in LAYER_TABLE.items()}

# What a checkpoint may have beside an encoder's parameters: position indices (a constant) and the
# heads of pre-training and of the courses' models.
IGNORED = re.compile(r"(embeddings\.)?position_ids$|cls\.|classifier\.|heads?\.|qa_outputs\.")
PREFIX = re.compile(r"^(bert|encoder(?!\.layer\.))\.")  # what a larger model puts before names


def to_published(name: str) -> str:
    """Return the published name of one of our parameters.

    bert_layers.0.out_dense.weight -> encoder.layer.0.output.dense.weight

    Raises UserError for a parameter that BERT does not have, such as one of a pruned module.
    """
    stem, _, kind = name.rpartition(".")
    layer = re.fullmatch(r"bert_layers\.(\d+)\.(.+)", stem)
    published = LAYER_TABLE.get(layer[2]) if layer else TABLE.get(stem)
    if published is None or kind not in ("weight", "bias"):
        raise UserError(
            f"cannot save {name!r}, which BERT does not have: make what was done to the module "
            f"permanent first (prune.remove, remove_parametrizations, merge_and_unload)"
        )
    return f"encoder.layer.{layer[1]}.{published}.{kind}" if layer else f"{published}.{kind}"


def to_ours(name: str) -> str:
    """Return our name of a parameter in any known naming; of an unknown name, none of ours."""
    name = PREFIX.sub("", name)
    stem, _, kind = name.rpartition(".")
    kind = {"gamma": "weight", "beta": "bias"}.get(kind, kind)
    layer = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", stem)
    if layer and layer[2] in LAYER_INVERSE:
        return f"bert_layers.{layer[1]}.{LAYER_INVERSE[layer[2]]}.{kind}"
    return f"{INVERSE.get(stem, stem)}.{kind}"


def _guess(name: str, expected: dict[str, Tensor]) -> str:
    """Return a guess, for the end of a message, at where an unknown name comes from."""
    for prefix, wrapper in (("module.", "DataParallel"), ("_orig_mod.", "torch.compile")):
        if name.startswith(prefix):
            return f": saved from {wrapper}; take `{prefix}` off the names"
    if (layer := re.match(r"bert_layers\.(\d+)\.", to_ours(name))) and not any(
        other.startswith(layer[0]) for other in expected
    ):
        return ": the config has fewer layers (num_hidden_layers)"
    return "; is this a BERT checkpoint, without a head of its own?"


def convert(
    tensors: dict[str, Tensor], expected: dict[str, Tensor], source: str
) -> dict[str, Tensor]:
    """Return tensors by our names, checked against the names and shapes of an encoder's `expected`.

    source: their file, for messages. Raises UserError for a parameter that is unknown, missing,
    there twice or of another shape.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if IGNORED.match(PREFIX.sub("", name)):
            continue
        ours = to_ours(name)
        if ours not in expected:
            raise UserError(f"{source}: unknown parameter {name!r}{_guess(name, expected)}")
        if ours in found:
            raise UserError(
                f"{source}: parameter {ours!r} is there twice, the second time as {name!r}"
            )
        if tensor.shape != expected[ours].shape:
            raise UserError(
                f"{source}: {name} has shape {tuple(tensor.shape)}, the config asks for "
                f"{tuple(expected[ours].shape)}"
            )
        found[ours] = tensor
    missing = sorted(expected.keys() - found.keys())
    if missing:
        raise UserError(
            f"{source}: {len(missing)} parameters are missing, first {to_published(missing[0])!r}"
        )
    return found
