"""A multitask checkpoint: the encoder as transformers reads it, the heads beside it."""

import json
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file

from minbert.errors import UserError
from minbert.model.encoder import BertModel
from minbert.model.heads import HeadConfig
from minbert.model.multitask import MultitaskNetwork
from minbert.weights.convert import convert, to_published
from minbert.weights.pretrained import load_tensors
from minbert.weights.resolve import resolve

HEADS, CONFIGS = "heads.safetensors", "heads.json"
SECOND = "second.safetensors"  # the encoder of second sentences, if the towers are separate


def save_multitask(model: MultitaskNetwork, directory: Path) -> None:
    """config.json, model.safetensors (encoder, published names) and heads.safetensors."""
    model.encoder.save_pretrained(directory)
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.heads.state_dict().items()}
    save_file(tensors, directory / HEADS)
    if model.second is not None:
        second = {k: v.detach().cpu().contiguous() for k, v in model.second.state_dict().items()}
        save_file({to_published(k): v for k, v in second.items()}, directory / SECOND)
    configs = {name: asdict(head.config) for name, head in model.heads.items()}
    (directory / CONFIGS).write_text(json.dumps(configs, indent=1) + "\n")


def load_multitask(run: Path, head_dropout: float = 0.3) -> tuple[MultitaskNetwork, Path]:
    """The model of a run (its best/, else last/), in eval mode, and where it was found."""
    if not run.is_dir():
        raise UserError(f"{run}: no such run; give the folder that train_multitask.py made")
    directory = resolve(run)
    if not (directory / HEADS).is_file():
        raise UserError(f"{directory}: no {HEADS}; give a run directory of train_multitask.py")
    tensors = load_tensors(directory / HEADS)
    try:
        saved = json.loads((directory / CONFIGS).read_text())
        heads = {name: HeadConfig(**config) for name, config in saved.items()}
        encoder, separate = BertModel.from_pretrained(directory), (directory / SECOND).is_file()
        model = MultitaskNetwork(encoder, heads, head_dropout, separate)
        model.heads.load_state_dict(tensors)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{directory}: {HEADS} and {CONFIGS} do not fit ({reason})") from error
    if model.second is not None:
        path = directory / SECOND
        expected = model.second.state_dict()
        model.second.load_state_dict(convert(load_tensors(path), expected, str(path)))
    return model.eval(), directory
