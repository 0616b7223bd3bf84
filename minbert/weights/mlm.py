"""A checkpoint with its masked-language-model head, in the published naming."""

import json
from pathlib import Path

from safetensors.torch import save_file

from minbert.errors import UserError
from minbert.model.encoder import BertModel
from minbert.model.mlm import MaskedLanguageModel
from minbert.weights.convert import to_published
from minbert.weights.pretrained import read_tensors
from minbert.weights.resolve import resolve

# ours -> published
HEAD_TABLE = {
    "dense.weight": "cls.predictions.transform.dense.weight",
    "dense.bias": "cls.predictions.transform.dense.bias",
    "layer_norm.weight": "cls.predictions.transform.LayerNorm.weight",
    "layer_norm.bias": "cls.predictions.transform.LayerNorm.bias",
    "bias": "cls.predictions.bias",
}


def load_mlm(name_or_dir: str | Path) -> tuple[MaskedLanguageModel, bool]:
    """The model in eval mode, and whether its head is new because the checkpoint has none.

    Raises UserError for half a head, and for all that `load_encoder` refuses.
    """
    directory = resolve(name_or_dir)
    model = MaskedLanguageModel(BertModel.from_pretrained(directory)).eval()
    tensors, path = read_tensors(directory)
    tensors = {k.replace("gamma", "weight").replace("beta", "bias"): v for k, v in tensors.items()}
    found = {ours: tensors[name] for ours, name in HEAD_TABLE.items() if name in tensors}
    if not found:
        return model, True
    for ours, p in model.mlm_head.named_parameters():
        if ours not in found or found[ours].shape != p.shape:
            raise UserError(f"{path}: {HEAD_TABLE[ours]} is missing or has another shape")
    model.mlm_head.load_state_dict({name: tensor.float() for name, tensor in found.items()})
    return model, False


def save_mlm(model: MaskedLanguageModel, directory: Path) -> None:
    """One file that BertForMaskedLM of transformers reads, and BertModel there and here."""
    directory.mkdir(parents=True, exist_ok=True)
    config = model.encoder.config.to_dict() | {"architectures": ["BertForMaskedLM"]}
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    encoder = {f"bert.{to_published(k)}": v for k, v in model.encoder.state_dict().items()}
    head = {HEAD_TABLE[k]: v for k, v in model.mlm_head.state_dict().items()}
    tensors = {k: v.detach().cpu().contiguous() for k, v in (encoder | head).items()}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
