"""What people do with an nn.Module: each row of docs/pytorch.md is a test here."""

import copy
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
import torch.nn.utils.parametrize
import torch.nn.utils.prune
from torch import Tensor, nn

from minbert import AdamW, BertModel, UserError
from minbert.model.layers import set_kernels
from minbert.onnx import PaddedModel
from tests.conftest import TINY

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's, of what it deprecates or lacks
ROOT = Path(__file__).resolve().parents[1]
WHOLE = ["static_graph", "find_unused_parameters", "sparse", "plain"]


def make_model() -> BertModel:
    torch.manual_seed(0)
    return BertModel(TINY).eval()


def padded() -> dict[str, Tensor]:
    torch.manual_seed(1)
    mask = torch.ones(3, 9, dtype=torch.int64)
    mask[0, 5:] = mask[1, 7:] = 0
    return {"input_ids": torch.randint(5, 200, (3, 9)), "attention_mask": mask}


def step_with(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model(**padded())["pooler_output"].square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_every_row_of_the_table_has_a_test() -> None:
    table = (ROOT / "docs/pytorch.md").read_text(encoding="utf-8")
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    named = [re.findall(r"`(test_\w+)`", row.split("|")[-2]) for row in rows]
    assert len(rows) >= 17 and all(named)
    assert all(name in globals() for names in named for name in names)


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention_mask": torch.ones(3, 9, 9)}, "a mask for each query is not here"),
        ({"attention_mask": torch.ones(3, 8)}, r"\(3, 9\) or \(3, 1, 1, 9\) fits"),
        ({"attention_mask": torch.full((3, 9), 0.5)}, "1 is a real token, 0 is padding"),
        ({"attention_mask": torch.full((3, 9), -1.0)}, "at most -1000 at padding"),
        ({"position_ids": torch.full((1, 9), 64)}, r"position_ids 64..64 must be 0..63"),
        ({"position_ids": torch.zeros(3, 8)}, r"position_ids \(3, 8\) must have the shape"),
        ({"inputs_embeds": torch.zeros(3, 9, 32)}, "either input_ids or inputs_embeds"),
        ({"input_ids": None}, "either input_ids or inputs_embeds"),
        ({"input_ids": None, "inputs_embeds": torch.zeros(3, 9, 8)}, r"must be \(B, T, 32\)"),
        ({"token_type_ids": torch.full((3, 9), 2)}, "token_type_ids 2..2 must be 0..1"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_model()(**{**padded(), **change})


def test_outputs_as_in_transformers() -> None:
    model, inputs = make_model(), padded()
    out = model(**inputs, output_hidden_states=True)
    hidden, pooled, states = model(**inputs, output_hidden_states=True, return_dict=False)
    assert torch.equal(out[0], hidden) and torch.equal(out[1], pooled)
    assert out[0] is out["last_hidden_state"] is out.last_hidden_state
    assert len(out[2]) == len(states) == 3 and len(out[:2]) == 2
    with pytest.raises(AttributeError, match="nothing"):
        _ = out.nothing


@pytest.mark.parametrize("train", [False, True])
def test_hooks_fire(train: bool) -> None:
    """Of every module but the list of layers, which is none's to call; backward: of tensors."""
    model, seen, backward = make_model().train(train), set(), set()
    for name, module in model.named_modules():
        module.register_forward_hook(lambda m, i, o, name=name: seen.add(name))
        if name:
            module.register_full_backward_hook(lambda m, i, o, name=name: backward.add(name))
    model(**padded())[1].sum().backward()
    names = {name for name, _ in model.named_modules()} - {"bert_layers"}
    assert seen == names and backward == names - {""}


def test_hooks_change_what_they_return() -> None:
    model = make_model()
    model.bert_layers[1].out_layer_norm.register_forward_hook(lambda m, i, o: o * 0 + 3)
    assert (model(**padded())[0][0, 0] == 3).all()
    model = make_model()
    with nn.modules.module.register_module_forward_hook(
        lambda m, i, o: o * 0 + 5 if m is model.bert_layers[1].out_layer_norm else None
    ):
        assert (model(**padded())[0][0, 0] == 5).all()


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


def test_lora() -> None:
    peft = pytest.importorskip("peft")
    names = ["query", "value", "attention_dense", "pooler_dense", "word_embedding"]
    config = peft.LoraConfig(r=4, target_modules=names, init_lora_weights=False)
    torch.manual_seed(2)
    model = peft.get_peft_model(make_model(), config).eval()
    out = model(**padded())
    assert (out[0] - make_model()(**padded())[0]).abs().max() > 0.1
    out[1].sum().backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * (3 * 2 + 2) and all(p.grad is not None for p in trained.values())
    merged = model.merge_and_unload()
    torch.testing.assert_close(merged(**padded())[0], out[0], atol=1e-5, rtol=0)


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
    torch.testing.assert_close(out[0].float(), model(**padded())[0], atol=0.1, rtol=0)
    out[1].float().sum().backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())
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


@pytest.mark.parametrize("kind", WHOLE)
def test_data_parallel(parallel: dict[str, float], kind: str) -> None:
    assert parallel[kind] < 1e-6


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
    both = torch.stack([words.detach(), words.detach() + 1])
    each = torch.func.vmap(torch.func.grad(pooled_sum))(both)
    torch.testing.assert_close(each[1], torch.func.grad(pooled_sum)(both[1]))
    with pytest.raises(RuntimeError, match="vmap"):
        torch.func.vmap(lambda ids: model(ids)[1])(inputs["input_ids"][None])
    set_kernels(model, "minbert")
    (g,) = torch.autograd.grad(pooled_sum(words), words, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()


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
