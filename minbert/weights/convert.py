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


def to_published(name: str) -> str:
    """Return the published name of one of our parameters.

    bert_layers.0.out_dense.weight -> encoder.layer.0.output.dense.weight
    """
    stem, _, kind = name.rpartition(".")
    layer = re.fullmatch(r"bert_layers\.(\d+)\.(.+)", stem)
    if layer:
        return f"encoder.layer.{layer[1]}.{LAYER_TABLE[layer[2]]}.{kind}"
    return f"{TABLE[stem]}.{kind}"


def to_ours(name: str) -> str:
    """Return our name of a parameter in any known naming; an unknown name is not changed."""
    name = re.sub(r"^(bert|encoder(?=\.(embeddings|bert_layers)))\.", "", name)
    stem, _, kind = name.rpartition(".")
    kind = {"gamma": "weight", "beta": "bias"}.get(kind, kind)
    layer = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", stem)
    if layer and layer[2] in LAYER_INVERSE:
        return f"bert_layers.{layer[1]}.{LAYER_INVERSE[layer[2]]}.{kind}"
    return f"{INVERSE.get(stem, stem)}.{kind}"


def _guess(name: str) -> str:
    """Return what an unknown name tells of where it comes from."""
    if name.startswith("module."):
        return ": saved from DataParallel; take `module.` off the names"
    if name in ("state", "state_dict", "model", "model_state_dict"):
        return ": the weights are inside of it; save them alone"
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
        if IGNORED.match(re.sub(r"^bert\.", "", name)):
            continue
        ours = to_ours(name)
        if ours not in expected:
            raise UserError(f"{source}: unknown parameter {name!r}{_guess(name)}")
        if ours in found:
            raise UserError(
                f"{source}: parameter {ours!r} is there twice, the second time as {name!r}"
            )
        if tensor.shape != expected[ours].shape:
            raise UserError(
                f"{source}: {name} has shape {tuple(tensor.shape)}, config.json asks for "
                f"{tuple(expected[ours].shape)}"
            )
        found[ours] = tensor
    missing = sorted(expected.keys() - found.keys())
    if missing:
        raise UserError(
            f"{source}: {len(missing)} parameters are missing, first {to_published(missing[0])!r}"
        )
    return found
