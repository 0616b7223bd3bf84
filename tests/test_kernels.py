"""Every faster path against the written-out equations it stands for; which of them runs."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import train_multitask
from minbert import Batch, BertConfig, BertModel, BertTokenizer, kernels
from minbert.data.collate import collate
from minbert.data.id_cache import load_split
from minbert.files import read_json
from minbert.model import packing
from minbert.model.encoder import BertLayer
from minbert.model.heads import HeadConfig
from minbert.model.layers import Dropout, set_kernels
from minbert.model.multitask import MultitaskNetwork
from minbert.model.packing import add_rows, lay_out, spare_rows
from minbert.task.evaluation import encode_features
from minbert.training import distributed
from tasks import TASKS
from tests.conftest import TINY, arguments, logged

Tensors = dict[str, torch.Tensor]
FAST = ("minbert", "torch")
LENGTHS = {"padded": (3, 4, 16, 17, 30), "alone": (9,), "full": (16, 16)}


def make_layer(dtype: torch.dtype, p: float, training: bool, kernels: str) -> BertLayer:
    """Return a layer of random parameters, the same for all kernels, that drop the same."""
    torch.manual_seed(3)
    config = {"hidden_dropout_prob": p, "attention_probs_dropout_prob": p / 2}
    layer = BertLayer(BertConfig.from_dict(TINY.to_dict() | config)).train(training)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    set_kernels(layer, kernels)
    for module in layer.modules():
        if isinstance(module, Dropout):
            module.kernels = "minbert"
    return layer.to(torch.promote_types(dtype, torch.float32))


def run(layer: BertLayer, lengths: tuple[int, ...], dtype: torch.dtype, first: bool) -> Tensors:
    """Return the output and every gradient by name; first: of the first tokens alone."""
    torch.manual_seed(4)
    x = torch.randn(sum(lengths), TINY.hidden_size).to(dtype)
    inputs = {"x": add_rows(x, spare_rows(lengths))}
    layout = lay_out(lengths, TINY.num_attention_heads, inputs["x"])
    if first:
        starts = torch.tensor((0, *lengths[:-1])).cumsum(0)
        inputs = {"x": add_rows(x.index_select(0, starts)), "context": inputs["x"]}
        layout = layout.first_tokens()
    inputs = {name: tensor.detach().requires_grad_() for name, tensor in inputs.items()}
    out = layer(inputs["x"], layout, inputs.get("context"))
    assert out.dtype == dtype
    rows = len(lengths) if first else len(x)
    out.backward(torch.randn_like(out))  # also of rows that were added, as of a hook's loss
    parameters = dict(layer.named_parameters()) | inputs
    return {"y": out.detach()[:rows]} | {name: p.grad for name, p in parameters.items()}


@pytest.mark.parametrize("kernels", FAST)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.1, True), (0.1, False)])
@pytest.mark.parametrize(
    # bf16: written out, each of many results is rounded to 8 bits, and sums of them are
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 2e-5), (torch.bfloat16, 4e-2)],
)
def test_a_layer_with_derived_gradients_is_the_written_out_one(
    lengths: tuple[int, ...], first: bool, p: float, training: bool, dtype: torch.dtype,
    tolerance: float, kernels: str,
) -> None:  # fmt: skip
    written, ours = (
        run(make_layer(dtype, p, training, name), lengths, dtype, first)
        for name in ("written-out", kernels)
    )
    assert written.keys() == ours.keys()
    for name, expected in written.items():
        if name != "self_attention.key.bias":  # on which softmax does not depend: all rounding
            scale = expected.double().abs().max().clamp_min(1)
            apart = (ours[name].double() - expected.double()).abs().max()
            assert apart <= tolerance * scale, name


@pytest.mark.parametrize("kernels", FAST)
def test_a_layer_has_the_gradient_of_its_output(kernels: str) -> None:
    """By differences in random directions, with dropout."""
    layer, lengths = make_layer(torch.float64, 0.1, True, kernels), (2, 3)
    x = add_rows(torch.randn(5, TINY.hidden_size, dtype=torch.float64), 1).requires_grad_()
    layout = lay_out(lengths, TINY.num_attention_heads, x)
    names = [name for name, _ in layer.named_parameters() if "bias" in name or "norm" in name]

    def output(x: torch.Tensor, *some: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(5)
        given = dict(zip(names, some, strict=True))
        return torch.func.functional_call(layer, given, (x, layout))[:5, :4]

    some = [layer.get_parameter(name).detach().requires_grad_() for name in names]
    torch.autograd.gradcheck(output, (x, *some), fast_mode=True)


def test_the_choice_reaches_every_module_and_is_what_runs(
    tiny: BertModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default no kernel of PyTorch is called; with it every residual layer norm is its."""
    calls = []
    norm = kernels.layer_norm
    monkeypatch.setattr(kernels, "layer_norm", lambda *a: calls.append(a) or norm(*a))
    ids = torch.tensor([[5, 6, 7]])
    assert tiny.kernels == "minbert"
    default = tiny(ids).last_hidden_state
    assert not calls
    set_kernels(tiny, "torch")
    torch.testing.assert_close(tiny(ids).last_hidden_state, default, atol=1e-5, rtol=0)
    assert len(calls) == 2 * TINY.num_hidden_layers
    set_kernels(tiny, "written-out")
    torch.testing.assert_close(tiny(ids).last_hidden_state, default, atol=1e-5, rtol=0)
    assert len(calls) == 2 * TINY.num_hidden_layers


def test_written_out_dropout_is_torch_s() -> None:
    def drawn(layer: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        torch.manual_seed(5)
        return layer(torch.ones(50, 7))

    ours, theirs = Dropout(0.3), torch.nn.Dropout(0.3)
    assert not torch.equal(drawn(ours), drawn(theirs))
    ours.kernels = "written-out"
    assert torch.equal(drawn(ours), drawn(theirs))


def test_dropout_of_a_step_is_its_own() -> None:
    """Training seeds every step anew: the masks of steps and seeds are independent."""
    n, p = 100_000, 0.3
    masks = []
    for seed, step in ((1, 0), (1, 1), (1, 2), (2, 0)):
        torch.manual_seed(distributed.own_seed(seed, step))
        masks.append(Dropout(p)(torch.ones(n)) != 0)
    both = (1 - p) ** 2
    band = 5 * (both * (1 - both) / n) ** 0.5
    for one, other in itertools.combinations(masks, 2):
        assert abs(float((one & other).float().mean()) - both) < band


@pytest.mark.parametrize("kernels", FAST)
@pytest.mark.parametrize("options", [[], ["--accumulate", "2"], ["--pair-encoding", "siamese"]])
def test_training_ends_in_the_same_weights(still: Path, options: list[str], kernels: str) -> None:
    """Steps with faster paths, and the same ones written out; in fp32 on a CPU.

    Without dropout: the two draw it differently. The weights, the heads, AdamW's m and v.
    """
    found = []
    for name in ("fast", "slow"):
        argv = ["--model", str(still / "model"), "--data-dir", str(still / "data"), "--epochs", "1"]
        argv += ["--output-dir", str(still / "runs"), "--precision", "fp32", "--lr", "1e-4"]
        argv += ["--hidden-dropout-prob", "0", "--device", "cpu"]
        argv += ["--tasks", "sst,sts", "--skip-predictions"]
        argv += ["--written-out"] if name == "slow" else ["--kernels", kernels]
        train_multitask.main([*argv, "--batch-size", "4", "--name", name, *options])
        last = still / "runs" / name / "last"
        found.append(
            {
                f"{file.name} {key}": tensor
                for file in sorted(last.glob("*.safetensors"))
                for key, tensor in load_file(file).items()
            }
        )
    fast, slow = found
    assert fast.keys() == slow.keys()
    assert {key.split()[0] for key in fast} == {
        "heads.safetensors", "model.safetensors", "optimizer.safetensors",
    }  # fmt: skip
    for key, expected in slow.items():
        if "exp_avg" not in key:
            torch.testing.assert_close(fast[key], expected, atol=1e-5, rtol=0)
        elif "key.bias" not in key:  # on which softmax does not depend: it is all rounding
            # second moments are near 1e-8: a difference is small beside the largest entry alone;
            # 1e-3 of it, since later gradients are those of weights that differ already
            atol = 1e-3 * float(expected.abs().max())
            torch.testing.assert_close(fast[key], expected, atol=atol, rtol=0)


def test_features_of_a_frozen_encoder_are_what_it_says_in_every_step(world: Path) -> None:
    model = BertModel.from_pretrained(world / "model").double()
    tokenizer = BertTokenizer.from_directory(world / "model")
    task = TASKS["sst"]
    split = load_split(task.paths("train", world / "data"), task.columns, True, tokenizer, 64)
    network = MultitaskNetwork(model, {"sst": HeadConfig(5)})
    features = encode_features(network, {"sst": split})["sst"]
    for rows in np.array_split(np.random.default_rng(0).permutation(len(split)), 3):
        batch = collate(split, rows)
        set_kernels(model, "written-out")
        with torch.no_grad():
            expected = model.pooled_output(batch)
        ours = features[torch.tensor(batch.rows)].double()  # kept in fp32
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)


def test_rows_added_for_fewer_shapes_change_nothing(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """add_rows: the same outputs, and gradients to the order of bf16's sums."""
    model = BertModel.from_pretrained(world / "model")
    model.compute_dtype = torch.bfloat16
    lengths = (5, 9, 11, 20)
    positions = torch.cat([torch.arange(n) for n in lengths])
    batch = Batch(positions + 7, positions, torch.zeros_like(positions), lengths)
    found = []
    for step in (packing.TOKEN_STEP, 1):
        monkeypatch.setattr(packing, "TOKEN_STEP", step)
        monkeypatch.setattr(packing, "SMALL_STEP", min(step, packing.SMALL_STEP))
        hidden, pooled = model.encode(batch)
        model.zero_grad()
        (hidden.float().square().sum() + pooled.sum()).backward()
        found.append([hidden.detach(), *(p.grad.clone() for p in model.parameters())])
    for rounded, plain in zip(*found, strict=True):
        assert rounded.shape == plain.shape
        scale = float(plain.abs().max())
        # a softmax does not depend on the keys' bias: its gradient is nothing but rounding
        torch.testing.assert_close(rounded, plain, atol=1e-2 * scale + 1e-6, rtol=0)


@pytest.mark.parametrize("name", kernels.KERNELS)
def test_predictions_are_of_the_kernels_that_best_was_chosen_with(world: Path, name: str) -> None:
    """Or the card's score would be another one than the log's: in bf16 they round differently."""
    options = ["--tasks", "sts", "--lr", "1e-3", "--precision", "bf16", "--kernels", name]
    train_multitask.main(arguments(world, "--name", "run", *options))
    best = logged(world / "runs/run", "end")[0]["best"]["scores"]["sts"]
    found = read_json(world / "runs/run/findings.json")["sts"]["metrics"]["pearson"]
    assert found == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("how", ["forward", "backward", "own"])
def test_what_stands_before_a_part_of_a_layer_is_called(how: str) -> None:
    """A hook before its forward or backward, or a forward of its own, as accelerate's."""
    layer, called = make_layer(torch.float32, 0.0, True, "minbert"), []
    part = layer.interm_dense

    def note(*_: object) -> None:
        called.append(how)

    if how == "forward":
        part.register_forward_pre_hook(note)
    elif how == "backward":
        part.register_full_backward_pre_hook(note)
    else:
        forward = part.forward
        part.forward = lambda x: note() or forward(x)
    run(layer, (3, 4), torch.float32, first=False)
    assert called == [how]
