"""Pair losses against sentence-transformers where the definitions coincide, else their formulas."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from minbert import losses


def theirs(loss: str, **options: float) -> torch.nn.Module:
    """A loss of sentence-transformers over the embeddings it is given; importing it takes long."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import losses as library

    class Given(SentenceTransformer):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

        def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
            return features

    return getattr(library, loss)(Given(), **options)


@pytest.fixture
def pairs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    u, v = (torch.randn(8, 16, generator=generator, requires_grad=True) for _ in range(2))
    return u, v, torch.tensor([1.0, 0, 1, 1, 0, 1, 0, 1])


def features(*embeddings: Tensor) -> list[dict[str, Tensor]]:
    return [{"sentence_embedding": e} for e in embeddings]


def assert_same(ours: Tensor, other: Tensor, *leaves: Tensor, atol: float = 1e-6) -> None:
    torch.testing.assert_close(ours, other, atol=atol, rtol=0)
    mine, reference = torch.autograd.grad(ours, leaves), torch.autograd.grad(other, leaves)
    for a, b in zip(mine, reference, strict=True):
        torch.testing.assert_close(a, b, atol=atol, rtol=0)


def test_cosine_mse(pairs) -> None:
    u, v, _ = pairs
    labels = torch.rand(8)
    reference = theirs("CosineSimilarityLoss")
    assert_same(losses.cosine_mse(u, v, labels, 1.0), reference(features(u, v), labels), u, v)
    expected = 25 * reference(features(u, v), labels)
    assert_same(losses.cosine_mse(u, v, 5 * labels), expected, u, v, atol=1e-5)  # values up to 25


def test_mnr_is_theirs_on_the_positive_pairs(pairs) -> None:
    u, v, labels = pairs
    loss = theirs("MultipleNegativesRankingLoss", scale=7.0)
    chosen = labels == 1
    for ours in (losses.mnr, losses.simcse):
        expected = loss(features(u[chosen], v[chosen]), labels)
        assert_same(ours(u[chosen], v[chosen], 7.0), expected, u, v)


def test_cosent(pairs) -> None:
    u, v, _ = pairs
    labels = torch.tensor([0.0, 1, 2, 2, 5, 3, 1, 4])
    assert_same(losses.cosent(u, v, labels), theirs("CoSENTLoss")(features(u, v), labels), u, v)


def rows(u: Tensor, v: Tensor) -> Iterator[tuple[list[float], list[float]]]:
    yield from zip(u.tolist(), v.tolist(), strict=True)


def cos(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def test_contrastive_is_the_paper_s_formula(pairs) -> None:
    u, v, _ = pairs
    labels = torch.tensor([0.0, 1, 0.5, 0.2, 1, 0.7, 0, 0.9])
    total = 0.0
    for (a, b), label in zip(rows(u, v), labels.tolist(), strict=True):
        distance = 1 - cos(a, b)
        total += label * distance + (1 - label) * max(0.0, 0.5 - distance)
    assert losses.contrastive(u, v, labels).item() == pytest.approx(total / 8, abs=1e-6)
    exact = tuple(t.detach().double().requires_grad_() for t in (u, v))
    assert torch.autograd.gradcheck(lambda a, b: losses.contrastive(a, b, labels.double()), exact)


def test_mnr_in_full_is_its_formula(pairs) -> None:
    """Both ways, all partners as negatives, none from the same group of paraphrases."""
    u, v, labels = pairs
    groups = torch.tensor([[0, 0], [1, 2], [3, 3], [0, 0], [4, 5], [6, 6], [7, 3], [8, 8]])
    a, b = u.tolist(), v.tolist()
    total = 0.0
    positive = [i for i in range(8) if labels[i] == 1]
    for i in positive:
        forth = [j for j in range(8) if j == i or groups[i, 0] != groups[j, 1]]
        back = [j for j in range(8) if j == i or groups[j, 0] != groups[i, 1]]
        own = 20 * cos(a[i], b[i])
        total += math.log(sum(math.exp(20 * cos(a[i], b[j])) for j in forth)) - own
        total += math.log(sum(math.exp(20 * cos(a[j], b[i])) for j in back)) - own
    expected = total / 2 / len(positive)
    # sums of exp(20 cos) in fp32
    assert losses.mnr_full(u, v, labels, groups).item() == pytest.approx(expected, abs=1e-5)
    without = losses.mnr_full(u, v, labels, all_apart(labels)).item()
    assert without > expected  # one negative fewer, one smaller sum


def all_apart(labels: torch.Tensor) -> torch.Tensor:
    """Return groups (S, 2) of one sentence each."""
    return torch.arange(2 * len(labels)).reshape(-1, 2)


def test_gradients_of_mnr_in_full_are_those_of_its_positive_rows(pairs) -> None:
    u, v, labels = pairs
    rows = (labels == 1).nonzero().squeeze(-1)
    scores = 20 * losses.normalized(u) @ losses.normalized(v).T
    chosen = (scores[rows], scores.T[rows])
    reference = sum(torch.nn.functional.cross_entropy(s, rows) for s in chosen) / 2
    assert_same(losses.mnr_full(u, v, labels, all_apart(labels)), reference, u, v)


@pytest.mark.parametrize("name", ["mnr", "mnr_full", "simcse", "cosent", "contrastive"])
def test_no_loss_asks_the_device_for_a_number(name: str) -> None:
    """Tensors without values: what would wait for a GPU fails here."""
    u, v = (torch.empty(8, 16, device="meta", requires_grad=True) for _ in range(2))
    more = () if name in ("mnr", "simcse") else (torch.empty(8, device="meta"),)
    if name == "mnr_full":
        more += (torch.empty(8, 2, dtype=torch.int64, device="meta"),)
    getattr(losses, name)(u, v, *more).backward()


@pytest.mark.parametrize("loss", [losses.cosine_mse, losses.contrastive, losses.cosent])
def test_bf16_embeddings_are_lifted_to_fp32(pairs, loss) -> None:
    u, v, labels = pairs
    low = loss(u.bfloat16(), v.bfloat16(), labels)
    assert low.dtype == torch.float32
    assert low.item() == pytest.approx(loss(u, v, labels).item(), rel=2e-2)


def test_a_zero_embedding_s_gradient_is_that_of_torch_s_cosine() -> None:
    v = torch.randn(1, 4, generator=torch.Generator().manual_seed(0))
    ours, theirs = (torch.zeros(1, 4, requires_grad=True) for _ in range(2))
    losses.cosine_mse(ours, v, torch.tensor([2.0])).backward()
    score = 5 * torch.nn.functional.cosine_similarity(theirs, v)
    torch.nn.functional.mse_loss(score, torch.tensor([2.0])).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
