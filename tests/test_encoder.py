"""The encoder against transformers, and packing against one sequence at a time."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode

from minbert import Batch, BertConfig, BertModel, UserError
from minbert.model import derived, packing
from minbert.model.heads import Head, HeadConfig
from minbert.weights.convert import to_published
from minbert.weights.resolve import resolve
from tests.conftest import TINY


def padded_input(
    vocab: int, lengths: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    T = max(lengths)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, vocab, (len(lengths), T), generator=generator)
    segments = torch.randint(0, 2, ids.shape, generator=generator)
    mask = (torch.arange(T)[None] < torch.tensor(lengths)[:, None]).long()
    return ids * mask, mask, segments


def assert_same_as_reference(ours: BertModel, reference: "transformers.BertModel") -> None:
    ids, mask, segments = padded_input(ours.config.vocab_size, (37, 5, 12, 30, 20, 12))
    out = ours(ids, mask, segments)
    ref = reference(ids, mask, segments)
    real = mask[..., None]
    torch.testing.assert_close(
        out.last_hidden_state, ref.last_hidden_state * real, atol=1e-5, rtol=0
    )
    torch.testing.assert_close(out.pooler_output, ref.pooler_output, atol=1e-5, rtol=0)
    weight = torch.randn(out.last_hidden_state.shape, generator=torch.Generator().manual_seed(2))
    for result in (out, ref):
        (result.last_hidden_state * real * weight).mean().backward()
    for result in (ours(ids, mask, segments), reference(ids, mask, segments)):
        result.pooler_output.square().mean().backward()
    grads = {name: p.grad for name, p in reference.named_parameters()}
    for name, p in ours.named_parameters():
        expected = grads.pop(to_published(name))
        difference = float((p.grad - expected).abs().max())
        if name.endswith("key.bias"):  # softmax does not depend on it: 0 but for rounding
            assert difference <= 1e-8
        else:
            assert difference <= 1e-5 * float(expected.abs().max()), name
    assert not grads


def test_tiny_equals_transformers(tiny: BertModel, tmp_path) -> None:
    tiny.save_pretrained(tmp_path)
    reference = transformers.BertModel.from_pretrained(tmp_path, attn_implementation="eager").eval()
    assert_same_as_reference(tiny, reference)


def test_minilm_equals_transformers() -> None:
    directory = resolve("all-MiniLM-L6-v2")
    reference = transformers.BertModel.from_pretrained(
        directory, attn_implementation="eager"
    ).eval()
    assert_same_as_reference(BertModel.from_pretrained("all-MiniLM-L6-v2"), reference)


def test_packed_equals_one_at_a_time(tiny: BertModel) -> None:
    tiny = tiny.double()
    ids, mask, segments = padded_input(200, (17, 3, 40, 40, 16, 33))
    out = tiny(ids, mask, segments)
    for i, n in enumerate(mask.sum(1).tolist()):
        alone = tiny(ids[i : i + 1, :n], None, segments[i : i + 1, :n])
        torch.testing.assert_close(
            out.last_hidden_state[i, :n], alone.last_hidden_state[0], atol=1e-9, rtol=0
        )
        torch.testing.assert_close(out.pooler_output[i], alone.pooler_output[0], atol=1e-9, rtol=0)


def test_a_gpu_s_longer_groups_change_nothing(
    tiny: BertModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lengths that are four groups on a CPU and one on a GPU."""
    lengths = (3, 18, 35, 50)
    ids = torch.randint(5, 60, (sum(lengths),), generator=torch.Generator().manual_seed(0))
    positions = torch.cat([torch.arange(n) for n in lengths]) % TINY.max_position_embeddings
    batch = Batch(ids, positions, torch.zeros_like(ids), lengths)
    with torch.no_grad():
        expected = tiny.hidden_states(batch)[-1]
        assert len(packing.lay_out(lengths, 1, expected).groups) == 4
        monkeypatch.setattr(packing, "LENGTH_STEP", packing.GPU_LENGTH_STEP)
        found = tiny.hidden_states(batch)[-1]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert len(packing.lay_out(lengths, 1, found).groups) == 1


class Largest(TorchDispatchMode):
    """Keeps the largest number of attention's scores that a softmax was of."""

    scores = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._softmax.default:
            self.scores = max(self.scores, out.numel())
        return out


@pytest.mark.parametrize("at_once", [1, 5 * 32 * 32, 2**22])
def test_few_scores_at_once_are_the_same_without_a_gradient(
    tiny: BertModel, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(derived, "SCORES_AT_ONCE", at_once)
    inputs = padded_input(TINY.vocab_size, (3, 12, 20, 30, 31, 32))
    whole = tiny(*inputs)
    with torch.no_grad(), Largest() as largest:
        parts = tiny(*inputs)
    assert 0 < largest.scores <= max(at_once, 32 * 32)  # one head's scores, if no fewer
    for a, b in zip(parts.to_tuple(), whole.to_tuple(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("lengths", "sizes"),
    [((2, 2), (4, 2)), ((3, 4), (7, 3)), ((2, 0, 3), (5, 0))],
)
def test_lengths_that_are_not_those_of_the_tokens(lengths: tuple, sizes: tuple) -> None:
    message = "Batch of 5 tokens: its lengths sum up to {}, the least is {}: give".format(*sizes)
    with pytest.raises(UserError, match=message):
        Batch(torch.arange(5), torch.arange(5), torch.zeros(5).long(), lengths)


def test_a_batch_of_nothing_is_refused() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    with pytest.raises(
        UserError, match="Batch of 0 tokens: its lengths sum up to 0, the least is 0"
    ):
        Batch(nothing, nothing, nothing, ())


def test_order_of_sequences_does_not_matter(tiny: BertModel) -> None:
    tiny = tiny.double()
    sequences = [torch.arange(1, n + 1) for n in (20, 4, 33, 4, 19)]

    def pooled(order: list[int]) -> torch.Tensor:
        chosen = [sequences[i] for i in order]
        batch = Batch(
            torch.cat(chosen),
            torch.cat([torch.arange(len(s)) for s in chosen]),
            torch.cat([torch.zeros_like(s) for s in chosen]),
            tuple(map(len, chosen)),
        )
        return tiny.encode(batch)[1]

    torch.testing.assert_close(
        pooled([0, 1, 2, 3, 4])[[1, 3, 4, 0, 2]], pooled([1, 3, 4, 0, 2]), atol=1e-9, rtol=0
    )


@pytest.mark.parametrize("lengths", [(5,), (3, 16, 16, 17, 40), (16,) * 70])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.bfloat16, 3e-2)])
def test_first_tokens_alone_are_the_same(
    tiny: BertModel, lengths: tuple[int, ...], dtype: torch.dtype, tolerance: float
) -> None:
    """Outputs and every gradient, the last layer run for all tokens or for the first ones only.

    In bf16, of three digits, the products are summed up in another order.
    """
    if dtype == torch.float64:
        tiny = tiny.double()
    tiny.compute_dtype = dtype
    N = sum(lengths)
    positions = torch.cat([torch.arange(n) for n in lengths])
    batch = Batch(torch.arange(N) % 150 + 3, positions, torch.arange(N) % 2, lengths)
    weight = torch.randn(len(lengths), tiny.config.hidden_size).to(tiny.pooler_dense.weight.dtype)

    def run(encode: Callable[[Batch], torch.Tensor]) -> list[torch.Tensor]:
        tiny.zero_grad()
        out = encode(batch)
        (out * weight).sum().backward()
        return [out.detach(), *(p.grad.clone() for p in tiny.parameters())]

    for ours, expected in zip(
        run(tiny.pooled_output), run(lambda b: tiny.encode(b)[1]), strict=True
    ):
        scale = expected.abs().max().clamp_min(1)
        torch.testing.assert_close(ours, expected, atol=float(tolerance * scale), rtol=0)


def test_dropout_is_active_in_training_only(tiny: BertModel) -> None:
    ids, mask, _ = padded_input(200, (9, 7))
    assert torch.equal(tiny(ids, mask).pooler_output, tiny(ids, mask).pooler_output)
    tiny.train()
    assert not torch.equal(tiny(ids, mask).pooler_output, tiny(ids, mask).pooler_output)


def test_bf16_stays_near_fp32() -> None:
    model = BertModel.from_pretrained("all-MiniLM-L6-v2")
    ids, mask, _ = padded_input(30000, (30, 12, 25))
    with torch.no_grad():
        exact = model(ids, mask).pooler_output
        model.compute_dtype = torch.bfloat16
        rough = model(ids, mask).pooler_output
        for_good = model.for_inference(torch.bfloat16)(ids, mask).pooler_output
    assert 0 < float((exact - rough).abs().max()) < 5e-2
    assert torch.equal(for_good, rough)


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        (torch.full((1, 4), 200), None, "vocabulary"),
        (torch.ones(1, 65, dtype=torch.long), None, "at most 64"),
        (torch.ones(2, 3, dtype=torch.long), torch.tensor([[1, 1, 1], [0, 0, 0]]), "no real token"),
    ],
)
def test_bad_input_is_one_clear_line(tiny: BertModel, ids, mask, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        tiny(ids, mask)
    assert "\n" not in str(error.value)


def test_config_is_the_published_one() -> None:
    path = resolve("all-MiniLM-L6-v2") / "config.json"
    published, ours = json.loads(path.read_text()), BertConfig.from_file(path).to_dict()
    known = {key: value for key, value in published.items() if key in ours}
    assert len(known) > 10 and {key: ours[key] for key in known} == known | {
        "architectures": ["BertModel"]
    }
    assert TINY.to_dict()["model_type"] == "bert"


def test_norms_and_biases_of_top_layers_start_anew_too() -> None:
    model = BertModel(TINY)
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(7.0)
    model.reinitialize(1)
    lower, top = model.bert_layers
    assert all((p == 7).all() for p in lower.parameters())
    for norm in (top.attention_layer_norm, top.out_layer_norm):
        assert (norm.weight == 1).all() and (norm.bias == 0).all()
    assert (top.out_dense.bias == 0).all() and (model.pooler_dense.bias == 0).all()


def test_new_weights_are_drawn_as_bert_s() -> None:
    torch.manual_seed(0)
    matrices = [p for p in BertModel(TINY).parameters() if p.ndim == 2 and p.numel() >= 1000]
    matrices.append(Head(32, HeadConfig(100), 0.0).weight)
    assert len(matrices) > 10
    assert all(0.018 < float(p.detach().std()) < 0.022 for p in matrices)


def test_first_tokens_have_the_heads_of_the_attention_modules(tiny: BertModel) -> None:
    with torch.no_grad():
        for layer in tiny.bert_layers:
            layer.self_attention.num_heads = 2
            layer.self_attention.query.weight *= 20  # else heads hardly matter
            layer.self_attention.key.weight *= 20
    batch = Batch(torch.arange(5, 14), torch.arange(9), torch.zeros(9).long(), (9,))
    torch.testing.assert_close(tiny.pooled_output(batch), tiny.encode(batch)[1])
