"""The padded door: inputs and outputs as in transformers."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from minbert import BertModel, UserError
from minbert.onnx import PaddedModel
from tests.models import make_model, padded


def test_inputs_as_in_transformers() -> None:
    model, inputs = make_model(), padded()
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    expected = model(ids, mask)
    shifted = torch.arange(3, 12)
    for form in (mask[:, None, None, :], mask.float(), mask.bool(), mask[:, None, None].float()):
        assert torch.equal(model(ids, form)[0], expected[0])
    for low in (-1e4, torch.finfo(torch.float32).min, -torch.inf):
        additive = torch.zeros(mask.shape).masked_fill(mask == 0, low)
        assert torch.equal(model(ids, additive)[0], expected[0])
        assert torch.equal(model(ids, additive[:, None, None])[0], expected[0])
    nothing_masked = torch.zeros(3, 1, 1, 9)
    assert torch.equal(model(ids, nothing_masked)[0], model(ids)[0])
    assert torch.equal(model(ids, mask, position_ids=torch.arange(9)[None])[0], expected[0])
    moved = model(ids, mask, position_ids=shifted.expand(3, 9))[0]
    model.pos_embedding.weight.data[:9] = model.pos_embedding.weight.data[3:12].clone()
    torch.testing.assert_close(moved, model(ids, mask)[0])
    words = model.word_embedding(ids)
    torch.testing.assert_close(
        model(inputs_embeds=words, attention_mask=mask)[0], model(ids, mask)[0]
    )


def of_transformers(model: BertModel, folder: Path) -> transformers.BertModel:
    """Return their model with our weights, in eval mode."""
    model.save_pretrained(folder)
    return transformers.BertModel.from_pretrained(folder)


def test_left_padding_as_in_transformers(tmp_path: Path) -> None:
    """But for `pooler_output`, of which ours is of a token, where theirs is of the first column."""
    model, inputs = make_model(), padded()
    mask = inputs["attention_mask"] = inputs["attention_mask"].flip(1)
    assert mask.sum(1).tolist() == [5, 7, 9] and mask[:, 0].tolist() == [0, 0, 1]
    theirs, segments = of_transformers(model, tmp_path), torch.zeros_like(mask)
    with torch.no_grad():
        found, expected = model(**inputs), theirs(**inputs)
        first = expected[0][range(3), [4, 2, 0]]  # the first real token of each
        padded_pooled = PaddedModel(model)(inputs["input_ids"], mask, segments)[1]
        pooled = theirs.pooler(first[:, None])
    real = mask.bool()
    torch.testing.assert_close(found[0][real], expected[0][real], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1], pooled, atol=1e-5, rtol=0)
    torch.testing.assert_close(padded_pooled, expected[1], atol=1e-5, rtol=0)
    assert (pooled - expected[1]).abs().amax(1)[:2].min() > 0.01


def test_padding_has_a_gradient_where_no_mask_hides_it(tmp_path: Path) -> None:
    model, inputs = make_model(), padded()
    inputs["input_ids"] *= inputs["attention_mask"]
    theirs = of_transformers(model, tmp_path)
    for mask, ours in ((None, True), (inputs["attention_mask"], False)):
        for one, weight, has in (
            (model, model.word_embedding.weight, ours),
            (theirs, theirs.get_input_embeddings().weight, False),
        ):
            weight.grad = None
            one(inputs["input_ids"], mask)[1].sum().backward()
            assert weight.grad.any() and bool(weight.grad[0].any()) == has


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention_mask": torch.ones(3, 9, 9)}, "a mask for each query is not supported"),
        ({"attention_mask": torch.ones(3, 8)}, r"\(3, 9\) or \(3, 1, 1, 9\) fits"),
        ({"attention_mask": torch.full((3, 9), 0.5)}, "1 is a real token, 0 is padding"),
        ({"attention_mask": torch.full((3, 9), -1.0)}, "at most -1000 at padding"),
        ({"input_ids": torch.full((3, 9), -1)}, r"input_ids -1..-1 must be 0..199"),
        ({"position_ids": torch.full((1, 9), 64)}, r"position_ids 64..64 must be 0..63"),
        ({"position_ids": torch.zeros(3, 8).long()}, r"position_ids \(3, 8\) must have the shape"),
        ({"position_ids": torch.zeros(1, 8).long()}, r"position_ids \(1, 8\) must have the shape"),
        ({"position_ids": torch.tensor([4])}, r"position_ids \(1,\) must have the shape"),
        ({"position_ids": torch.tensor(0)}, r"position_ids \(\) must have the shape"),
        ({"inputs_embeds": torch.zeros(3, 9, 32)}, "either input_ids or inputs_embeds"),
        ({"input_ids": None}, "either input_ids or inputs_embeds"),
        ({"input_ids": None, "inputs_embeds": torch.zeros(3, 9, 8)}, r"must be \(B, T, 32\)"),
        ({"token_type_ids": torch.full((3, 9), 2)}, "token_type_ids 2..2 must be 0..1"),
        ({"input_ids": torch.zeros(0, 9, dtype=torch.int64)}, "there is no token in it"),
        ({"input_ids": torch.zeros(2, 0, dtype=torch.int64)}, "there is no token in it"),
        ({"attention_mask": torch.zeros(3, 9)}, "has no real token"),
        ({"attention_mask": torch.zeros(3, 1, 1, 9, dtype=torch.int64)}, "has no real token"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_model()(**{**padded(), **change})


@pytest.mark.parametrize("name", ["input_ids", "token_type_ids", "position_ids"])
def test_ids_of_another_type_are_refused_by_name(name: str) -> None:
    model, ones = make_model(), torch.ones(3, 9, dtype=torch.int64)
    expected, found = (model(**{**padded(), name: x})[0] for x in (ones, ones.int()))
    assert torch.equal(expected, found)
    for dtype in ("int16", "int8", "uint8", "bool", "float32"):
        with pytest.raises(UserError, match=f"{name} is a tensor of {dtype}; give one of int64"):
            model(**{**padded(), name: ones.to(getattr(torch, dtype))})


@pytest.mark.parametrize("make", [np.array, list, dict])
@pytest.mark.parametrize(
    "name", ["input_ids", "token_type_ids", "position_ids", "attention_mask", "inputs_embeds"]
)
def test_what_is_no_tensor_is_refused_by_name(name: str, make: type) -> None:
    inputs = padded() if name != "inputs_embeds" else {}
    kind = type(make([])).__name__
    with pytest.raises(UserError, match=f"{name} is a {kind}; give a tensor"):
        make_model()(**{**inputs, name: make([])})


def test_outputs_as_in_transformers() -> None:
    model, inputs = make_model(), padded()
    out = model(**inputs, output_hidden_states=True)
    hidden, pooled, states = model(**inputs, output_hidden_states=True, return_dict=False)
    assert torch.equal(out[0], hidden) and torch.equal(out[1], pooled)
    assert out[0] is out["last_hidden_state"] is out.last_hidden_state
    assert len(out[2]) == len(states) == 3 and len(out[:2]) == 2
    with pytest.raises(AttributeError, match="nothing"):
        _ = out.nothing


def test_gradients_of_hidden_states() -> None:
    model, inputs, seen = make_model(), padded(), []
    model.bert_layers[0].register_forward_hook(lambda m, i, out: seen.append(out))
    out = model(**inputs, output_hidden_states=True)
    assert out.hidden_states[-1] is out.last_hidden_state
    rows = zip(out.hidden_states[1], (5, 7, 9), strict=True)  # the shortest comes first
    assert torch.equal(seen[0][:21], torch.cat([row[:n] for row, n in rows])) and len(seen[0]) > 21
    loss, first = out.last_hidden_state.square().sum(), [out.hidden_states[1], *seen]
    found = torch.autograd.grad(loss, first, allow_unused=True, retain_graph=True)
    assert found[0] is None and found[1].any()
    out.hidden_states[1].square().sum().backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None}
    assert "word_embedding.weight" in reached
    assert any(name.startswith("bert_layers.0.") for name in reached)
    assert not any(name.startswith("bert_layers.1.") for name in reached)
