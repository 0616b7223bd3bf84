"""What people do with an nn.Module: rows of docs/pytorch.md."""

import copy
import importlib
import io
import pickle
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor, nn

from minbert import AdamW, UserError
from minbert.model.layers import set_kernels
from minbert.onnx import PaddedModel
from tests import test_modules, test_padded, test_replaced_modules
from tests.models import make_model, padded

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's, of what it deprecates or lacks
ROOT = Path(__file__).resolve().parents[1]
WHOLE = ["static_graph", "find_unused_parameters", "sparse", "plain"]


def step_with(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model(**padded())["pooler_output"].square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_every_row_of_the_table_has_a_test() -> None:
    table = (ROOT / "docs/pytorch.md").read_text(encoding="utf-8")
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    named = [re.findall(r"`(test_\w+)`", row.split("|")[-2]) for row in rows]
    assert len(rows) >= 17 and all(named)
    known = (test_padded, test_modules, test_replaced_modules)
    tests = {name for module in known for name in vars(module)} | {*globals()}
    assert all(name in tests for names in named for name in names)


@pytest.mark.parametrize(
    "make",
    [
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=5),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 5),
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: 0.0),
    ],
)
def test_schedulers(make: Callable) -> None:
    model = make_model()
    optimizer = AdamW(model.parameters(), lr=0.01)
    scheduler = make(optimizer)
    before = model.pooler_dense.weight.detach().clone()
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        step_with(model, optimizer)
        scheduler.step()
    moved = not torch.equal(before, model.pooler_dense.weight)
    assert moved == any(rates) and (len(set(rates)) > 1 or rates == [0] * 4)


def test_averaged_models() -> None:
    model = make_model()
    optimizer = AdamW(model.parameters(), lr=0.01)
    mean = torch.optim.swa_utils.AveragedModel(model)
    ema = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5)
    )
    seen = []
    for _ in range(2):
        step_with(model, optimizer)
        seen.append(model.pooler_dense.weight.detach().clone())
        mean.update_parameters(model)
        ema.update_parameters(model)
    for averaged in (mean, ema):
        torch.testing.assert_close(averaged.module.pooler_dense.weight, sum(seen) / 2)
        assert averaged.eval()(**padded())[0].isfinite().all()


def test_autocast() -> None:
    model = make_model()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(**padded())
    # bf16 has three digits
    torch.testing.assert_close(out[0].float(), model(**padded())[0], atol=0.02, rtol=0)
    out[1].float().sum().backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())
    model = make_model()
    model.word_embedding.sparse = True
    model(**padded())[1].sum().backward()
    with pytest.raises(NotImplementedError):
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    with torch.autocast("cpu", torch.bfloat16):  # of the head and the loss alone
        with torch.autocast("cpu", enabled=False):
            pooled = make_model()(**padded()).pooler_output
        pooled.sum().backward()
    scaler = torch.amp.GradScaler("cpu")
    model = make_model()
    optimizer = AdamW(model.parameters())
    scaler.scale(model(**padded())[1].sum()).backward()
    scaler.step(optimizer)
    assert optimizer.state[model.pooler_dense.weight]["step"] == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kernels", ["minbert", "torch", "written-out"])
def test_sixteen_bit_parameters(dtype: torch.dtype, kernels: str) -> None:
    model = make_model()
    expected = model(**padded())
    expected[1].square().sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    small = make_model().to(dtype)
    set_kernels(small, kernels)
    out = small(**padded())
    assert out[0].dtype == out[1].dtype == dtype
    # of values up to 3 in bf16's three digits; seen: .028
    torch.testing.assert_close(out[0].float(), expected[0], atol=0.05, rtol=0)
    out[1].float().square().sum().backward()
    for name, p in small.named_parameters():
        assert p.grad.dtype == dtype and p.grad.isfinite().all()
        if "embed" in name:
            away = (p.grad.float() - gradients[name]).norm()
            assert away < 0.1 * gradients[name].norm(), name


@pytest.fixture(scope="module")
def parallel() -> dict[str, float]:
    """How far each kind of two processes' gradient is from that of one process, at most."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "tests.two_processes", str(port)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return dict((n, float(v)) for n, v in (line.split() for line in done.stdout.splitlines()))


@pytest.mark.thorough
@pytest.mark.parametrize("kind", WHOLE)
def test_data_parallel(parallel: dict[str, float], kind: str) -> None:
    assert parallel[kind] < 1e-6


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["fsdp", "fsdp_encode"])
def test_fully_sharded(parallel: dict[str, float], kind: str) -> None:
    assert parallel[kind] < 1e-6


def test_accelerate() -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    expected, model = make_model(), make_model()
    optimizer = AdamW(expected.parameters(), lr=0.01)
    step_with(expected, optimizer)
    model, optimizer = accelerator.prepare(model, AdamW(model.parameters(), lr=0.01))
    accelerator.backward(model(**padded())["pooler_output"].square().mean())
    optimizer.step()
    assert torch.equal(model.pooler_dense.weight, expected.pooler_dense.weight)


def test_fabric() -> None:
    fabric = pytest.importorskip("lightning_fabric").Fabric(accelerator="cpu", devices=1)
    expected, model = make_model(), make_model()
    step_with(expected, AdamW(expected.parameters(), lr=0.01))
    model, optimizer = fabric.setup(model, AdamW(model.parameters(), lr=0.01))
    fabric.backward(model(**padded())["pooler_output"].square().mean())
    optimizer.step()
    assert torch.equal(model.pooler_dense.weight, expected.pooler_dense.weight)


@pytest.mark.thorough
def test_compile() -> None:
    """In training, with dropout; "aot_eager" needs no compiler of C."""
    model = make_model().train()
    compiled = torch.compile(model, backend="aot_eager")
    compiled(**padded())[1].sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    torch.testing.assert_close(
        torch.compile(model.eval(), backend="aot_eager")(**padded())[0], make_model()(**padded())[0]
    )


def test_traces_and_exports() -> None:
    model = make_model()
    inputs = (*padded().values(), torch.zeros(3, 9, dtype=torch.int64))
    others = tuple(x[:2, :7].contiguous() for x in inputs)
    with pytest.raises(UserError, match=r"export minbert.onnx.PaddedModel\(model\)"):
        torch.jit.trace(model, inputs)
    with pytest.raises(UserError, match=r"export minbert.onnx.PaddedModel\(model\)"):
        torch.export.export(model, inputs)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens", max=64)}
    exported = torch.export.export(PaddedModel(model), inputs, dynamic_shapes=(sizes,) * 3)
    expected = model(*others)
    for recorded in (torch.jit.trace(PaddedModel(model), inputs), exported.module()):
        hidden, pooled = recorded(*others)
        real = others[1].bool()
        torch.testing.assert_close(hidden[real], expected[0][real])
        torch.testing.assert_close(pooled, expected[1])


def test_second_derivatives() -> None:
    model, inputs = make_model(), padded()
    set_kernels(model, "written-out")
    model.double()

    def pooled_sum(words: Tensor) -> Tensor:
        return model(inputs_embeds=words, attention_mask=inputs["attention_mask"])[1].sum()

    words = model.word_embedding(inputs["input_ids"]).detach().requires_grad_()
    direction = torch.randn_like(words)
    (g,) = torch.autograd.grad(pooled_sum(words), words, create_graph=True)
    (curvature,) = torch.autograd.grad((g * direction).sum(), words)
    h = 1e-5
    (up,), (down,) = (
        torch.autograd.grad(pooled_sum(words + s * h * direction), words) for s in (1, -1)
    )
    torch.testing.assert_close(curvature, (up - down) / (2 * h), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.func.grad(pooled_sum)(words.detach()), g)
    (batched,) = torch.autograd.grad(
        pooled_sum(words), words, torch.tensor([1.0, 2.0]).double(), is_grads_batched=True
    )
    torch.testing.assert_close(batched, torch.stack([g, 2 * g]))
    both = torch.stack([words.detach(), words.detach() + 1])
    each = torch.func.vmap(torch.func.grad(pooled_sum))(both)
    torch.testing.assert_close(each[1], torch.func.grad(pooled_sum)(both[1]))
    with pytest.raises(RuntimeError, match="vmap"):
        torch.func.vmap(lambda ids: model(ids)[1])(inputs["input_ids"][None])
    for kernels in ("minbert", "torch"):
        set_kernels(model, kernels)
        with pytest.raises(UserError, match="have no derivatives: before the forward pass call"):
            torch.autograd.grad(pooled_sum(words), words, create_graph=True)
        with pytest.raises(UserError, match="have no derivatives: before the forward pass call"):
            torch.autograd.functional.hvp(pooled_sum, words.detach(), direction)
    with pytest.raises(UserError, match="kernels 'written_out': write one of minbert, torch"):
        set_kernels(model, "written_out")


def test_attention_maps(tmp_path: Path) -> None:
    model, ids, maps = make_model(), padded()["input_ids"][2:], []
    model.save_pretrained(tmp_path)
    theirs = transformers.BertModel.from_pretrained(tmp_path, attn_implementation="eager")
    model.bert_layers[1].self_attention.dropout.register_forward_pre_hook(
        lambda module, inputs: maps.append(inputs[0])
    )
    with torch.no_grad():
        model(ids)
        expected = theirs(ids, output_attentions=True).attentions[1]
    torch.testing.assert_close(maps[0], expected[0])  # (H, T, T)
    with pytest.raises(UserError, match="output_attentions: no map is kept"):
        model(ids, output_attentions=True)


def test_dynamic_quantization_changes_nothing() -> None:
    same = torch.ao.quantization.quantize_dynamic(make_model(), {nn.Linear})
    assert torch.equal(same(**padded())[0], make_model()(**padded())[0])


def test_copies() -> None:
    model = make_model()
    optimizer = AdamW(model.parameters(), lr=0.01)
    step_with(model, optimizer)
    expected = model(**padded())[0]
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    pickled = pickle.loads(pickle.dumps((model, optimizer)))
    for other in (copy.deepcopy(model), pickled[0], again):
        assert torch.equal(other(**padded())[0], expected)
    step_with(*pickled)
    step_with(model, optimizer)
    assert torch.equal(pickled[0].pooler_dense.weight, model.pooler_dense.weight)


def test_a_replica_of_data_parallel_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parameters are plain tensors, which parameters() does not list; here without GPUs."""
    replicate = importlib.import_module("torch.nn.parallel.replicate")
    monkeypatch.setattr(replicate, "_get_device_index", lambda *_: 0)
    monkeypatch.setattr(
        replicate, "_broadcast_coalesced_reshape",
        lambda tensors, devices, detach=False: [[t.view_as(t) for t in tensors] for _ in devices],
    )  # fmt: skip
    model, ids = make_model().eval(), torch.tensor([[2, 7, 9, 3], [2, 8, 3, 0]])
    replica = replicate.replicate(model, [0, 0])[1]
    assert not list(replica.parameters())
    torch.testing.assert_close(replica(ids).pooler_output, model(ids).pooler_output)
