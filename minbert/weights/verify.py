"""Comparing a model with reference outputs in a .data, .pt, .npz or .safetensors file."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from minbert.config import BertConfig
from minbert.errors import UserError, first_line
from minbert.files import replaced_file
from minbert.manifest import check_content
from minbert.modules import evaluating
from minbert.tensors import load_pickled, load_tensors
from minbert.weights.pretrained import is_dense_on_cpu

# The two sentences of the courses' sanity check, whose file holds outputs without inputs.
SANITY_IDS = [[101, 7592, 2088, 102, 0, 0, 0, 0], [101, 7592, 15756, 2897, 2005, 17953, 2361, 102]]
SANITY_MASK = [[1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1]]
IDS = ("input_ids", "token_type_ids")
INPUTS = (*IDS, "attention_mask")
FORMS = (".safetensors", ".npz", ".pt", ".data")  # of the files that are written


def check_reference(path: Path) -> None:
    """Raise UserError for a file of reference outputs that is not there."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; make one with --emit {path.name}")


def read_reference(path: Path) -> dict[str, Tensor]:
    """Return a reference file's tensors by name; code in the file is never run.

    Raises UserError for a file that is missing, damaged or not a dict of tensors.
    """
    check_reference(path)
    if path.suffix == ".safetensors":
        return load_tensors(path)
    if path.suffix == ".npz":
        check_content(path)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        except Exception as error:  # a damaged archive raises whatever its bytes happen to say
            raise UserError(f"{path}: damaged or no archive ({first_line(error)})") from error
    tensors = load_pickled(path)
    if not isinstance(tensors, dict):
        raise UserError(f"{path}: holds a {type(tensors).__name__}, not a dict of tensors")
    return _flatten(tensors)


def _flatten(tensors: dict[str, Any]) -> dict[str, Tensor]:
    """Return lists as single tensors: hidden_states as hidden_states.0, hidden_states.1, ..."""
    flat: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if isinstance(value, list | tuple):
            flat.update({f"{name}.{i}": tensor for i, tensor in enumerate(value)})
        else:
            flat[str(name)] = value
    return flat


@torch.no_grad()
def named_outputs(
    model: nn.Module, inputs: dict[str, Tensor], heads: dict[str, nn.Module]
) -> dict[str, Tensor]:
    """Return every output that a reference may hold, in eval mode, `logits.<task>` of each head.

    With one head only, `logits` is another name of its output.
    """
    with evaluating(nn.ModuleList([model, *heads.values()])):
        out = model(**inputs, output_hidden_states=True)
        logits = {f"logits.{task}": head(out.pooler_output) for task, head in heads.items()}
    named = {"last_hidden_state": out.last_hidden_state, "pooler_output": out.pooler_output}
    named |= {f"hidden_states.{i}": h for i, h in enumerate(out["hidden_states"])}
    if len(logits) == 1:
        logits["logits"] = next(iter(logits.values()))
    return named | logits


def sanity_inputs() -> dict[str, Tensor]:
    """Return the sanity check's inputs, (2, 8) each."""
    return {"input_ids": torch.tensor(SANITY_IDS), "attention_mask": torch.tensor(SANITY_MASK)}


def fit_inputs(inputs: dict[str, Tensor], config: BertConfig) -> dict[str, Tensor]:
    """Return inputs with all ids inside a model's vocabulary, and no longer than it reads."""
    cut = {name: x[:, : config.max_position_embeddings] for name, x in inputs.items()}
    return {**cut, "input_ids": cut["input_ids"] % config.vocab_size}


def inputs_in(reference: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return a reference's inputs, in types that PyTorch computes with, which uint16 is not, say.

    Raises UserError for one that no model takes, and for what is no dense tensor.
    """
    for name, value in reference.items():
        if not is_dense_on_cpu(value):
            raise UserError(f"{path}: {name} is a {type(value).__name__}, not a dense tensor")
        if value.is_complex() or (name in IDS and value.is_floating_point()):
            kind = "ids are whole numbers" if name in IDS else "a model has real numbers"
            raise UserError(f"{path}: {name} has the type {value.dtype}; {kind}")
    inputs = {name: reference[name] for name in INPUTS if name in reference}
    return {n: x.double() if x.is_floating_point() else x.long() for n, x in inputs.items()}


def verify(
    model: nn.Module, path: Path, heads: dict[str, nn.Module], atol: float, rtol: float
) -> dict[str, Any]:
    """Compare a model with a reference file and return a report for each of its tensors.

    A value passes if |a - b| <= atol + rtol |b|, as in torch.allclose; positions of padding do not
    count. Raises UserError for a file whose tensors cannot be compared.
    """
    reference = read_reference(path)
    inputs = inputs_in(reference, path)
    if not inputs:
        inputs = sanity_inputs()
        if not torch.equal(fit_inputs(inputs, model.config)["input_ids"], inputs["input_ids"]):
            raise UserError(
                f"{path}: no input_ids in it, so they are bert-base-uncased's, and this model has "
                f"too few words or positions for them: give a file of --emit, or another --model"
            )
    if "input_ids" not in inputs:
        raise UserError(f"{path}: has {', '.join(inputs)} but no input_ids")
    ours = named_outputs(model, inputs, heads)
    shape = inputs["input_ids"].shape
    mask = inputs.get("attention_mask", torch.ones(shape)).reshape(shape)  # of (B, 1, 1, T), too
    real = mask == mask.max()  # the maximum: 1 in a mask of 1 and 0, 0 in an additive mask
    reference = {name: value for name, value in reference.items() if name not in inputs}
    unknown = [name for name in reference if name not in ours]
    if unknown or not reference:
        raise UserError(
            f"{path}: cannot compare {', '.join(unknown) or 'nothing'}; known are {', '.join(ours)}"
        )
    rows = {}
    for name, expected in reference.items():
        got = ours[name]
        if got.shape != expected.shape:
            raise UserError(
                f"{path}: {name} is {tuple(expected.shape)}, this model gives {tuple(got.shape)}"
            )
        rows[name] = _compare(got, expected.float(), real, atol, rtol)
    layers = sorted((n for n in rows if n.startswith("hidden_states.")), key=lambda n: int(n[14:]))
    return {
        "pass": all(row["outside"] == 0 for row in rows.values()),
        "first_diverging": _first_diverging(layers, rows),
        "tensors": rows,
    }


def _first_diverging(layers: list[str], rows: dict[str, dict[str, Any]]) -> str | None:
    """Return the first part of the model whose output differs; the file's hidden states tell."""
    for name in layers:
        if rows[name]["outside"] > 0:
            number = int(name.removeprefix("hidden_states."))
            return "embeddings" if number == 0 else f"encoder.layer.{number - 1}"
    later = [name for name in rows if name not in layers and rows[name]["outside"] > 0]
    return ("pooler" if "pooler_output" in later else later[0]) if layers and later else None


def _compare(
    got: Tensor, expected: Tensor, real: Tensor, atol: float, rtol: float
) -> dict[str, Any]:
    """Return the largest difference, its index, the mean, and the share outside the tolerance.

    real: (B, T) bool, the tokens of hidden states that count.
    """
    real = real[..., None] if got.ndim == 3 else torch.ones_like(got, dtype=torch.bool)
    difference = torch.where(real, (got - expected).abs(), 0.0)
    # False for NaN and infinity; an infinite expected value would allow every difference
    inside = difference.isfinite() & (difference <= atol + rtol * expected.abs())
    worst = int(torch.nan_to_num(difference, nan=torch.inf).argmax())
    count = real.expand_as(difference).sum()
    return {
        "max": float(difference.flatten()[worst]),
        "mean": float(difference.sum() / count),
        "outside": float((~inside & real).sum() / count),
        "worst": [int(i) for i in np.unravel_index(worst, tuple(got.shape))],
    }


def check_form(path: Path) -> None:
    """Raise UserError for the name of a file to write whose suffix is no form's."""
    if path.suffix not in FORMS:
        raise UserError(f"--emit {path}: end the name in {', '.join(FORMS[:-1])} or {FORMS[-1]}")


def emit_reference(model: nn.Module, path: Path, heads: dict[str, nn.Module]) -> None:
    """Write the sanity check's inputs, as far as they fit the model, and all its outputs.

    The suffix names the form. Raises UserError as `check_form`.
    """
    check_form(path)
    inputs = fit_inputs(sanity_inputs(), model.config)
    outputs = named_outputs(model, inputs, heads)
    # safetensors refuses one tensor under two names: every name gets a copy
    tensors = {name: t.contiguous().clone() for name, t in (inputs | outputs).items()}
    with replaced_file(path) as file:
        if path.suffix == ".safetensors":
            file.write(safetensors.torch.save(tensors, metadata={"format": "pt"}))
        elif path.suffix == ".npz":
            np.savez(file, **{name: t.numpy() for name, t in tensors.items()})
        else:
            content = io.BytesIO()  # torch.save makes a RuntimeError of a full disk
            torch.save(tensors, content)
            file.write(content.getbuffer())
