"""What only a GPU can show; skipped without one."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import pretrain_mlm
import train_multitask
from minbert import AdamW, Batch, BertModel, losses
from minbert.files import read_json_lines as read_log
from minbert.model.heads import HeadConfig
from minbert.model.layers import Dropout
from minbert.model.multitask import MultitaskNetwork
from minbert.run import mlm_args as mlm_options
from minbert.run.resolve_args import resolve_arguments
from minbert.run.steps import READ_EVERY
from minbert.training.optimizer import BLOCK, clip_scale
from tasks import TASKS
from tests.conftest import arguments

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def test_fp32_outputs_are_those_of_the_cpu(tiny: BertModel) -> None:
    ids = torch.randint(5, 60, (4, 12))
    mask = (torch.arange(12) < torch.tensor([[12], [7], [3], [1]])).long()
    with torch.no_grad():
        expected = tiny(ids, mask)
        ours = tiny.cuda()(ids.cuda(), mask.cuda())
    for name, value in expected.items():
        torch.testing.assert_close(ours[name].cpu(), value, atol=1e-5, rtol=0)


def packed(device: str) -> Batch:
    """Three sequences of different lengths."""
    lengths = (3, 7, 12)
    ids = torch.randint(5, 60, (22,), generator=torch.Generator().manual_seed(0))
    positions = torch.cat([torch.arange(n) for n in lengths])
    return Batch(ids, positions, torch.zeros_like(ids), lengths).to(torch.device(device))


def test_bf16_outputs_are_near_fp32(tiny: BertModel) -> None:
    tiny = tiny.cuda()
    with torch.no_grad():
        expected = tiny.encode(packed("cuda"))
        tiny.compute_dtype = torch.bfloat16
        for ours, exact in zip(tiny.encode(packed("cuda")), expected, strict=True):
            torch.testing.assert_close(ours.float(), exact, atol=5e-2, rtol=0)


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_gradients_are_those_of_the_cpu(tiny: BertModel, pooling: str) -> None:
    """On both devices the same equations: within 1e-4 of a tensor's largest entry.

    Those of the keys' biases are 0, as the softmax leaves out what all keys share, and what is
    there is rounding: seen up to 1.2e-9.
    """
    model = MultitaskNetwork(tiny, {"sts": HeadConfig(siamese=True, pooling=pooling)}).eval()
    found = {}
    for device in ("cpu", "cuda"):
        model.to(device).zero_grad()
        model.embed("sts", packed(device)).square().sum().backward()
        with_grads = [(n, p) for n, p in model.named_parameters() if p.grad is not None]
        grads = {n: p.grad.cpu().clone() for n, p in with_grads}  # .to moves what a model has
        found[device] = grads
    assert found["cpu"].keys() == found["cuda"].keys()
    for name, expected in found["cpu"].items():
        largest = float(expected.abs().max())
        atol = 1e-4 * largest + 1e-8
        torch.testing.assert_close(found["cuda"][name], expected, atol=atol, rtol=0)


GROUPS = torch.tensor([[0, 0], [1, 2], [3, 3], [4, 4], [0, 5], [6, 6], [7, 8], [9, 9]])


@pytest.mark.parametrize(
    ("name", "inputs"), [("mnr", 2), ("mnr_full", 4), ("cosent", 3), ("simcse", 2)]
)
def test_losses_of_pairs_are_those_of_the_cpu(name: str, inputs: int) -> None:
    u, v = torch.randn(2, 8, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([1.0, 0, 1, 1, 0, 1, 0, 1])
    given = [u, v, labels, GROUPS][:inputs]
    loss = getattr(losses, name)
    here = loss(*(t.cuda() for t in given)).cpu()
    torch.testing.assert_close(here, loss(*given), atol=1e-5, rtol=0)


def test_adamw_is_that_of_the_cpu() -> None:
    """Five steps of a matrix that a CPU updates in three blocks, and of a bias; all is clipped."""
    start = [0.1 * torch.randn(2 * BLOCK // 64 + 1, 64), 0.1 * torch.randn(64)]
    found = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        params = [torch.nn.Parameter(p.clone().to(device)) for p in start]
        optimizer = AdamW(params, lr=1e-2, weight_decay=1e-2)
        for _ in range(5):
            for p, like in zip(params, start, strict=True):
                p.grad = torch.randn(like.shape).to(device)
            optimizer.step(scale=clip_scale(params, 1.0))
        found.append([p.detach().cpu() for p in params])
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(there, here, atol=1e-6, rtol=0)


def test_dropout_keeps_its_share() -> None:
    """Within four sigma of 0.3 over a million values; what stays is scaled."""
    kept = Dropout(0.3)(torch.ones(1000, 1000, device="cuda"))
    assert abs(float((kept == 0).float().mean()) - 0.3) < 4 * (0.3 * 0.7 / 10**6) ** 0.5
    assert float((kept[kept != 0] - 1 / 0.7).abs().max()) < 1e-6


SIAMESE = ["--tasks", "quora", "--pair-encoding", "siamese", "--pooling", "mean"]
FINE_TUNING = {
    "cross": [],
    "frozen": ["--fine-tune-mode", "last-linear-layer"],
    "contrastive": [*SIAMESE, "--pair-loss", "contrastive"],
    "mnr": [*SIAMESE, "--pair-loss", "mnr"],
    "mnr-full": [*SIAMESE, "--pair-loss", "mnr-full"],
    "simcse": [*SIAMESE, "--pair-loss", "simcse"],
}


def steps_without_waiting(script: ModuleType, args: Any, folder: Path) -> None:
    """PyTorch raises at whatever would wait for the GPU."""
    run = script.set_up(args, folder, {name: TASKS[name] for name in args.tasks})
    first = 2  # of each task one: they set up libraries
    for step in range(first):
        script.train_step(run, step)
    run.records.flush()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(first, first + READ_EVERY["cuda"] - 1):
            script.train_step(run, step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    run.records.flush()
    steps = [x["step"] for x in read_log(folder / "log.jsonl") if x["event"] == "step"]
    assert steps == list(range(1, first + READ_EVERY["cuda"]))


@pytest.mark.parametrize("kind", FINE_TUNING)
def test_a_step_waits_for_nothing(world: Path, kind: str) -> None:
    argv = arguments(world, *FINE_TUNING[kind], "--epochs", "9", "--device", "cuda")
    given = train_multitask.parse_given(train_multitask.Args, argv, "")
    steps_without_waiting(train_multitask, resolve_arguments(given, TASKS), world / "gpu")


def test_a_step_of_pre_training_waits_for_nothing(world: Path) -> None:
    argv = arguments(world, "--epochs", "9", "--device", "cuda", "--held-out", "2", "--name", "gpu")
    given = pretrain_mlm.parse_given(pretrain_mlm.Args, argv, "")
    steps_without_waiting(pretrain_mlm, mlm_options.resolve_arguments(given, TASKS), world / "gpu")
