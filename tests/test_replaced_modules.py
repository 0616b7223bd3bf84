"""Modules of the encoder that others have taken the place of are called, and no part left out."""

import pytest
import torch
import torch.nn.utils.parametrize
import torch.nn.utils.prune
from torch import Tensor, nn

from minbert import BertModel, UserError
from minbert.kernels import KERNELS
from minbert.model import derived
from minbert.model.attention import SelfAttention
from minbert.model.layers import Dropout, set_kernels
from minbert.model.packing import Layout
from minbert.onnx import PaddedModel
from tests.conftest import TINY
from tests.models import make_model, packed, padded


def test_replaced_modules_are_called() -> None:
    expected, inputs = make_model()(**padded()), padded()
    model = make_model()
    same = nn.LayerNorm(32, eps=TINY.layer_norm_eps)
    same.load_state_dict(model.bert_layers[0].out_layer_norm.state_dict())
    model.bert_layers[0].out_layer_norm = same
    model.bert_layers[1].dropout = nn.Identity()
    torch.testing.assert_close(model(**inputs)[0], expected[0])
    model.pooler_dense = nn.Identity()
    torch.testing.assert_close(model(**inputs)[1], expected[0][:, 0].tanh())
    model.word_embedding = nn.Embedding.from_pretrained(torch.zeros(200, 32))
    assert not torch.allclose(model(**inputs)[0], expected[0])
    pruned = make_model()
    for module in (pruned.bert_layers[1].out_layer_norm, pruned.word_embedding):
        torch.nn.utils.prune.random_unstructured(module, "weight", 1.0)
    assert (pruned(**inputs)[0] == 0).all()  # of LN's x w + b, w is 0

    class Zero(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 0

    other = make_model()
    torch.nn.utils.parametrize.register_parametrization(
        other.bert_layers[1].out_layer_norm, "weight", Zero()
    )
    assert (other(**inputs)[0] == 0).all()


class Doubled(nn.Module):
    """An attention without the parts of ours."""

    def __init__(self, inner: SelfAttention) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, layout: Layout, context: Tensor | None = None) -> Tensor:
        return 2 * self.inner(x, layout, context)


@pytest.mark.parametrize("kernels", KERNELS)
def test_another_attention_is_called(kernels: str) -> None:
    expected, model = make_model(), make_model()
    for parameter in expected.bert_layers[0].self_attention.value.parameters():
        parameter.data *= 2
    model.bert_layers[0].self_attention = Doubled(model.bert_layers[0].self_attention)
    set_kernels(model, kernels)
    torch.testing.assert_close(model(**padded())[0], expected(**padded())[0])
    model.train()(**padded())[1].sum().backward()
    assert model.bert_layers[0].self_attention.inner.query.weight.grad is not None


def test_a_word_embedding_in_two_factors_is_called() -> None:
    """As ALBERT's: it has no weight of its own."""
    model, small = make_model(), nn.Embedding(200, 8)
    widen = nn.Linear(8, 32)
    model.word_embedding = nn.Sequential(small, widen)
    same = make_model()
    same.word_embedding = nn.Embedding.from_pretrained(widen(small.weight))
    torch.testing.assert_close(model(**padded())[0], same(**padded())[0])
    assert (model.dtype, model.device) == (torch.float32, torch.device("cpu"))


class Nothing(nn.Module):
    """An embedding without a weight, as of sines, that adds nothing."""

    def forward(self, ids: Tensor) -> Tensor:
        return torch.zeros(*ids.shape, 32)


@pytest.mark.parametrize("name", ["word_embedding", "pos_embedding", "tk_type_embedding"])
def test_an_embedding_without_a_weight_is_called(name: str) -> None:
    model, same = make_model(), make_model()
    setattr(model, name, Nothing())
    getattr(same, name).weight.data.zero_()
    torch.testing.assert_close(model(**padded())[0], same(**padded())[0])
    for other in ("word_embedding", "pos_embedding", "tk_type_embedding"):
        setattr(model, other, Nothing())
    assert model(**padded())[0].dtype == model.dtype == torch.float32


class Halved(SelfAttention):
    """An attention with the parts of ours and another forward."""

    def forward(self, x: Tensor, layout: Layout, context: Tensor | None = None) -> Tensor:
        return super().forward(x, layout, context) / 2


def test_the_padded_model_leaves_no_change_out() -> None:
    """Layers and their attention are not called in it, their parts are."""
    ids = torch.ones(2, 5, dtype=torch.int64)
    model, inputs = make_model(), (ids, ids, 0 * ids)
    padded_model, changed = PaddedModel(model), Halved(TINY)
    before = padded_model(*inputs)[0]
    for module in (model.bert_layers[0], model.bert_layers[1].self_attention):
        hook = module.register_forward_hook(lambda m, i, o: o * 2)
        with pytest.raises(UserError, match=r"a \w+ was replaced or has a hook"):
            padded_model(*inputs)
        hook.remove()
    hook = model.bert_layers[1].self_attention.query.register_forward_hook(lambda m, i, o: o * 2)
    assert not torch.allclose(padded_model(*inputs)[0], before)
    hook.remove()
    torch.testing.assert_close(padded_model(*inputs)[0], before, rtol=0, atol=0)
    model.bert_layers[1].self_attention = changed
    with pytest.raises(UserError, match="a SelfAttention was replaced or has a hook"):
        padded_model(*inputs)


@pytest.mark.parametrize("name", ["bert_layers.1", "bert_layers.1.self_attention"])
def test_a_hook_before_the_last_layer_changes_all_tokens(name: str) -> None:
    """Where first tokens alone are needed, too."""
    model, batch = make_model(), packed((5, 9, 12))
    before = model.pooled_output(batch)
    model.get_submodule(name).register_forward_pre_hook(lambda m, i: (i[0] + i[0][0], *i[1:]))
    hooked = model.pooled_output(batch)
    torch.testing.assert_close(hooked, model.encode(batch)[1], rtol=0, atol=1e-6)
    assert not torch.allclose(hooked, before, rtol=0, atol=1e-3)


def test_dropout_is_drawn_alike_without_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reentrant checkpoint computes a layer without gradients first, then with them."""
    monkeypatch.setattr(derived, "SCORES_AT_ONCE", 75)  # three heads of five tokens
    model, found = make_model().train(), []
    for has_gradients in (False, True):
        torch.manual_seed(3)
        with torch.set_grad_enabled(has_gradients):
            found.append(model.encode(packed((5,)))[0].detach())
    torch.testing.assert_close(*found, rtol=0, atol=1e-6)


def test_the_padded_model_has_every_dropout() -> None:
    """For a graph that is recorded to be trained."""
    ids = torch.ones(2, 5, dtype=torch.int64)
    inputs = {"input_ids": ids, "attention_mask": ids, "token_type_ids": 0 * ids}

    def called(model: nn.Module, encoder: BertModel) -> list[str]:
        seen = []
        for name, module in encoder.named_modules():
            if isinstance(module, Dropout):
                module.register_forward_hook(lambda m, i, o, name=name: seen.append(name))
        model.train()(**inputs)
        return seen

    ours, encoder = make_model(), make_model()
    assert called(PaddedModel(encoder), encoder) == called(ours, ours)


def test_a_change_of_few_numbers_is_noticed() -> None:
    """In a model as `MultitaskModel.load` has it, whose matrices are copied in another order."""
    ids, model = padded()["input_ids"], make_model()
    model.for_inference(torch.float32)
    with torch.no_grad():
        before = model(ids)[0]
        model.bert_layers[0].interm_dense.weight[7, 3] += 1
        changed = model(ids)[0]
        model.bert_layers[0].interm_dense.weight[7, 3] -= 1
        torch.testing.assert_close(model(ids)[0], before)
    assert not torch.equal(changed, before)
