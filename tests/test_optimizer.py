"""AdamW against its equations in fp64, and against torch where the two definitions coincide."""

import copy
import math
import pickle
from collections.abc import Callable

import pytest
import torch

from minbert import AdamW
from minbert.training import optimizer as optimizer_file
from minbert.training.optimizer import clip_scale


@pytest.mark.parametrize("kernels", ["minbert", "torch"])
@pytest.mark.parametrize("correct_bias", [True, False])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_equations_in_fp64(kernels: str, correct_bias: bool, scale: float) -> None:
    torch.manual_seed(0)
    # the size of real weights: at values near 2 the rounding of fp32 itself adds up to 1e-6
    p = torch.nn.Parameter(torch.randn(7, 5) * 0.1)
    x, m, v = p.detach().double().clone(), torch.zeros(7, 5).double(), torch.zeros(7, 5).double()
    options = {"correct_bias": correct_bias, "kernels": kernels, "betas": (0.8, 0.99)}
    optimizer = AdamW([p], lr=1e-2, weight_decay=1e-2, **options)
    for t in range(1, 51):
        p.grad = torch.randn(7, 5)
        g = p.grad.double() * scale
        optimizer.step(scale=scale)
        m = 0.8 * m + 0.2 * g
        v = 0.99 * v + 0.01 * g * g
        a = 1e-2 * (math.sqrt(1 - 0.99**t) / (1 - 0.8**t) if correct_bias else 1.0)
        x = x - a * m / (v.sqrt() + 1e-6)
        x = x - 1e-2 * 1e-2 * x
    torch.testing.assert_close(p.detach().double(), x, atol=1e-6, rtol=0)
    state = optimizer.state[p]
    torch.testing.assert_close(state["exp_avg"].double(), m, atol=1e-6, rtol=0)
    torch.testing.assert_close(state["exp_avg_sq"].double(), v, atol=0, rtol=1e-5)


def test_same_as_torch_where_definitions_coincide() -> None:
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(20))
    theirs = torch.nn.Parameter(ours.detach().clone())
    a, b = AdamW([ours], eps=1e-15), torch.optim.AdamW([theirs], lr=1e-3, eps=1e-15, weight_decay=0)
    for _ in range(100):
        ours.grad = torch.randn(20)
        theirs.grad = ours.grad.clone()
        a.step()
        b.step()
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_state_dict_round_trip_is_exact() -> None:
    def run(steps: int, reload_at: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        p = torch.nn.Parameter(torch.ones(10))
        optimizer = AdamW([p], weight_decay=0.1)
        for step in range(steps):
            if step == reload_at:
                state = optimizer.state_dict()
                optimizer = AdamW([p], weight_decay=0.1)
                optimizer.load_state_dict(state)
            p.grad = torch.randn(10, generator=generator)
            optimizer.step()
        return p.detach()

    assert torch.equal(run(6, reload_at=3), run(6, reload_at=-1))


def test_parameter_without_gradient_is_untouched() -> None:
    used, idle = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2, 2))
    optimizer = AdamW([used, idle], weight_decay=0.5)
    used.grad = torch.ones(2, 2)
    optimizer.step()
    assert torch.equal(idle, torch.ones(2, 2)) and not torch.equal(used, torch.ones(2, 2))
    assert idle not in optimizer.state


@pytest.mark.parametrize("kernels", ["minbert", "torch"])
def test_gradients_of_an_infinite_norm_change_nothing(kernels: str) -> None:
    p = torch.nn.Parameter(torch.ones(4, 4))
    optimizer = AdamW([p], weight_decay=0.0, kernels=kernels)
    p.grad = torch.full((4, 4), 3e38)
    optimizer.step(scale=clip_scale([p], 1.0))
    assert torch.equal(p, torch.ones(4, 4))


def word_gradients(
    sparse: bool | None, clip: float, kernels: str, decay: float = 0.01
) -> list[torch.Tensor]:
    """An embedding and a matrix after some steps, the gradient of one as rows or as a whole.

    sparse None: as rows in every second step. The optimizer is another one after two of them, with
    the first one's state.
    """
    torch.manual_seed(1)
    words = torch.nn.Parameter(torch.randn(4000, 100))  # more than a block of the optimizer
    matrix = torch.nn.Parameter(torch.randn(100, 3))
    optimizer = AdamW([words, matrix], lr=1e-2, weight_decay=decay, kernels=kernels)
    for step in range(5):
        if step == 2:
            state, optimizer = optimizer.state_dict(), AdamW([words, matrix], kernels=kernels)
            optimizer.load_state_dict(state)
        ids = torch.randint(4000, (30,))  # some come twice
        ids[:5] = ids[5]
        rows = step % 2 == 0 if sparse is None else sparse
        out = torch.nn.functional.embedding(ids, words, sparse=rows) @ matrix
        out.square().sum().backward()
        assert words.grad.is_sparse == rows
        optimizer.step(scale=clip_scale([words, matrix], clip) if clip else 1.0)
        optimizer.zero_grad()
    state = [value for p in (words, matrix) for value in optimizer.state[p].values()]
    return [words.detach(), matrix.detach(), *(s for s in state if torch.is_tensor(s))]


@pytest.mark.parametrize("clip", [0.0, 0.5])
@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize("block", [1 << 10, optimizer_file.BLOCK])
def test_row_gradients_and_the_kernel_count_as_the_equations(
    monkeypatch: pytest.MonkeyPatch, block: int, decay: float, clip: float
) -> None:
    """Rows or all of a matrix, PyTorch's kernel or the equations: weights and state."""
    monkeypatch.setattr(optimizer_file, "BLOCK", block)
    expected = word_gradients(False, clip, "minbert", decay)
    for sparse, kernels in (
        (True, "minbert"), (None, "minbert"), (True, "torch"), (False, "torch"),
    ):  # fmt: skip
        ours = word_gradients(sparse, clip, kernels, decay)
        torch.testing.assert_close(ours[:2], expected[:2], atol=1e-6, rtol=0)
        for found, moment in zip(ours[2:], expected[2:], strict=True):
            # the largest of m and v differ, from 1e-5 (v with clipping) to 1,000 (v without)
            atol = 1e-6 * float(moment.abs().max())
            torch.testing.assert_close(found, moment, atol=atol, rtol=1e-5)


def test_rows_that_no_gradient_has_reached_are_not_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """But for weight decay, which is theirs, too."""
    sizes = []
    monkeypatch.setattr(optimizer_file, "adamw_equations", lambda p, *_: sizes.append(p[0].shape))
    for decay in (0.0, 0.01):
        words = torch.nn.Parameter(torch.ones(50, 4))
        adamw = AdamW([words], weight_decay=decay)
        for ids in ([3, 7, 7], [3, 4]):
            torch.nn.functional.embedding(torch.tensor(ids), words, sparse=True).sum().backward()
            adamw.step()
            adamw.zero_grad()
    assert sizes == [(2, 4), (3, 4), (50, 4), (50, 4)]


def test_what_the_kernel_cannot_read_the_equations_do() -> None:
    """A transposed gradient, bf16 weights: the kernel would take both for plain fp32 arrays."""
    for dtype in (torch.float32, torch.bfloat16):
        both = []
        for kernels in ("minbert", "torch"):
            torch.manual_seed(0)
            p = torch.nn.Parameter(torch.randn(4, 6).to(dtype))
            p.grad = torch.randn(6, 4).to(dtype).T
            AdamW([p], lr=1e-2, kernels=kernels).step()
            both.append(p.detach())
        assert torch.equal(*both)


def test_roots_of_tiny_second_moments_are_floored_without_a_trace() -> None:
    """The floor of `adamw_equations`: zero and denormal v give the same p as the exact root."""
    p = torch.nn.Parameter(torch.ones(4))
    optimizer = AdamW([p], lr=1e-2, correct_bias=False, kernels="minbert")
    p.grad = torch.tensor([0.0, 1e-30, 1e-20, 1e-8])
    g = p.grad.double().clone()
    optimizer.step()
    expected = 1 - 1e-2 * 0.1 * g / ((0.001 * g * g).sqrt() + 1e-6)
    torch.testing.assert_close(p.detach(), expected.float(), atol=0, rtol=1e-7)


@pytest.mark.parametrize("max_norm", [0.1, 1e9])
def test_clip_scale_is_what_torch_clips_by(max_norm: float) -> None:
    torch.manual_seed(2)
    parameters = [torch.nn.Parameter(torch.randn(5, 4)) for _ in range(3)]
    for p in parameters[:2]:
        p.grad = torch.randn(5, 4)
    before = [p.grad.clone() for p in parameters[:2]]
    scale = clip_scale(parameters, max_norm)
    torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    for p, g in zip(parameters, before, strict=False):
        assert torch.equal(p.grad, g * scale)
    assert clip_scale(parameters[2:], max_norm) == 1.0


def test_scale_is_that_of_the_gradient() -> None:
    def run(factor: float, scale: float | torch.Tensor) -> torch.Tensor:
        p = torch.nn.Parameter(torch.ones(4))
        optimizer = AdamW([p])
        p.grad = factor * torch.tensor([1.0, -2.0, 3.0, 1e-3])
        optimizer.step(scale=scale)
        return p.detach()

    assert torch.equal(run(1.0, 0.25), run(0.25, 1.0))
    assert torch.equal(run(1.0, torch.tensor(0.25)), run(0.25, 1.0))


def after_steps(optimizer: torch.optim.Optimizer, p: torch.nn.Parameter, steps: int) -> list[float]:
    for _ in range(steps):
        p.grad = torch.ones_like(p)
        optimizer.step()
    return p.detach().flatten().tolist()


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_tensor_as_learning_rate_counts_as_its_value(shape: tuple[int, ...]) -> None:
    p, q = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    lr = torch.full(shape, 1e-3)
    optimizer = AdamW([p], lr=lr, weight_decay=0.1)
    expected = after_steps(AdamW([q], lr=lr.item(), weight_decay=0.1), q, 3)
    assert after_steps(optimizer, p, 3) == expected
    assert lr.item() == optimizer.param_groups[0]["lr"].item() == torch.tensor(1e-3).item()
    lr.mul_(0)  # a scheduler's change counts from the next step on
    assert after_steps(optimizer, p, 1) == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_moments_stay_fp32_in_a_state_dict(dtype: torch.dtype) -> None:
    p = torch.nn.Parameter(torch.ones(3, dtype=dtype))
    optimizer = AdamW([p])
    p.grad = torch.tensor([1.0, 0.1, 0.01]).to(dtype)
    optimizer.step()
    before = {name: value for name, value in optimizer.state[p].items() if name != "step"}
    again = AdamW([p])
    again.load_state_dict(optimizer.state_dict())
    for name, value in before.items():
        assert again.state[p][name].dtype == torch.float32
        assert torch.equal(again.state[p][name], value)
        assert again.state[p][name] is not value


@pytest.mark.parametrize("how", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_keeps_the_choice_of_kernels_and_steps_alike(how: Callable) -> None:
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = AdamW([p], lr=0.1, kernels="torch")
    after_steps(optimizer, p, 1)
    other = how(optimizer)
    q = other.param_groups[0]["params"][0]
    assert other.kernels == "torch" and q is not p
    assert after_steps(other, q, 2) == after_steps(optimizer, p, 2)


def test_the_state_of_torch_s_adamw_is_gone_on_with() -> None:
    p = torch.nn.Parameter(torch.ones(3))
    theirs = torch.optim.AdamW([p], lr=1e-2, eps=1e-15, weight_decay=0.0)
    after_steps(theirs, p, 2)
    q = torch.nn.Parameter(p.detach().clone())
    ours = AdamW([q])
    ours.load_state_dict(theirs.state_dict())
    assert ours.param_groups[0]["correct_bias"] and ours.state[q]["step"] == 2
    assert after_steps(ours, q, 2) == pytest.approx(after_steps(theirs, p, 2), abs=1e-6)
    other = torch.optim.AdamW([p], amsgrad=True)
    with pytest.raises(ValueError, match="amsgrad=True, which is not supported"):
        ours.load_state_dict(other.state_dict())
    ours.step()  # as before: nothing of the other was taken


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"params": [torch.ones(2, dtype=torch.complex64)]}, "complex parameters"),
        ({"maximize": True}, "maximize=True, which is not supported"),
        ({"amsgrad": True}, "amsgrad=True, which is not supported"),
    ],
)
def test_groups_that_are_not_computed_are_refused(change: dict, message: str) -> None:
    optimizer = AdamW([torch.ones(2)])
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": [torch.ones(3)], **change})
    assert len(optimizer.param_groups) == 1


def test_a_sparse_gradient_without_rows_changes_nothing() -> None:
    """As of a batch that looks no word up."""
    words = torch.nn.Embedding(10, 4, sparse=True)
    before, optimizer = words.weight.detach().clone(), AdamW(words.parameters(), lr=0.1)
    words(torch.zeros(0, dtype=torch.long)).sum().backward()
    optimizer.step()
    assert torch.equal(words.weight, before)


@pytest.mark.parametrize("shape", [(3, 4), (5,)])
def test_a_gradient_that_is_sparse_in_all_dimensions(shape: tuple[int, ...]) -> None:
    p, q = (torch.nn.Parameter(torch.ones(shape)) for _ in range(2))
    q.grad = torch.zeros(shape).index_fill_(0, torch.tensor([1]), 2.0)
    p.grad = q.grad.to_sparse(len(shape))
    AdamW([p, q], lr=0.1).step()
    assert torch.equal(p, q) and (p[1] != 1).all()
