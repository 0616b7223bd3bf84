"""What only a GPU can show; skipped without one."""

from pathlib import Path

import pytest
import torch

import train_multitask
from minbert import BertModel
from minbert.training.runlog import read_log
from minbert.training.steprecords import READ_EVERY
from tasks.options import resolve_arguments
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


def test_a_step_waits_for_nothing(world: Path) -> None:
    """PyTorch raises at whatever would wait for the GPU."""
    given = train_multitask.parse_given(train_multitask.Args, arguments(world), "")
    run = train_multitask.set_up(resolve_arguments(given | {"device": "cuda"}), world / "gpu")
    train_multitask.train_step(run, 0)  # the first one of all sets up libraries
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(1, READ_EVERY["cuda"] - 1):
            train_multitask.train_step(run, step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    run.records.flush()
    steps = [x["step"] for x in read_log(world / "gpu/log.jsonl") if x["event"] == "step"]
    assert steps == list(range(1, READ_EVERY["cuda"]))
