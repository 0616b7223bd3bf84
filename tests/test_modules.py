"""Hooked, replaced and wrapped modules are called as they are; defaults of PyTorch change none."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.utils.parametrize
import torch.nn.utils.prune
import transformers
from torch import Tensor, nn

from minbert import AdamW, Batch, BertModel, BertTokenizer, UserError
from minbert.kernels import KERNELS
from minbert.model.heads import HeadConfig
from minbert.model.layers import set_kernels
from minbert.model.mlm import MaskedLanguageModel, save_mlm
from minbert.model.multitask import (
    MultitaskNetwork,
    load_directory,
    load_multitask,
    save_multitask,
)
from minbert.onnx import PaddedModel
from tests.conftest import TINY
from tests.models import make_model, packed, padded

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's, of hooks without inputs


@pytest.mark.parametrize("train", [False, True])
def test_hooks_fire(train: bool) -> None:
    """Of every module but the list of layers, which is none's to call; backward: not of dicts."""
    model, seen, backward = make_model().train(train), set(), set()
    for name, module in model.named_modules():
        module.register_forward_hook(lambda m, i, o, name=name: seen.add(name))
        module.register_full_backward_hook(lambda m, i, o, name=name: backward.add(name))
    model(**padded())[1].sum().backward()
    names = {name for name, _ in model.named_modules()} - {"bert_layers"}
    assert seen == names and backward == names - {""}
    network = MultitaskNetwork(model, {"sst": HeadConfig(outputs=5)})
    seen.clear()
    backward.clear()
    network("sst", packed((3, 5))).sum().backward()
    assert seen == backward == names - {""}  # a network calls its encoder's methods


def test_hooks_change_what_they_return() -> None:
    model = make_model()
    model.bert_layers[1].out_layer_norm.register_forward_hook(lambda m, i, o: o * 0 + 3)
    assert (model(**padded())[0][0, 0] == 3).all()
    model = make_model()
    with nn.modules.module.register_module_forward_hook(
        lambda m, i, o: o * 0 + 5 if m is model.bert_layers[1].out_layer_norm else None
    ):
        assert (model(**padded())[0][0, 0] == 5).all()


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
    merged = MultitaskNetwork(make_model(), {}, 0.0)
    merged.encoder.for_inference(torch.float32)
    model = peft.get_peft_model(merged.encoder, config).eval()
    with torch.no_grad():  # as a loaded run computes, whose matrices are kept in another order, too
        out = model(**padded())[0]
        found = model.merge_and_unload()(**padded())[0]
    torch.testing.assert_close(found, out, atol=1e-5, rtol=0)
    typed = peft.LoraConfig(task_type="FEATURE_EXTRACTION", target_modules=["query"])
    assert peft.get_peft_model(make_model(), typed)(**padded()).pooler_output.shape == (3, 32)


def test_heads_are_trained_whole_beside_lora(tmp_path: Path) -> None:
    """Not as targets: a network reads a head's config, which peft's layers do not have."""
    peft = pytest.importorskip("peft")
    batch = packed((3, 5))
    for targets in (["query"], "all-linear"):
        network = MultitaskNetwork(make_model(), {"sst": HeadConfig(outputs=5)}).eval()
        config = peft.LoraConfig(target_modules=targets, modules_to_save=["sst"])
        model = peft.get_peft_model(network, config).eval()
        out = model("sst", batch)
        out.sum().backward()
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        heads = {name.rsplit(".", 1)[1] for name in trained if "heads" in name}
        assert heads == {"weight", "bias"} and len(trained) > 2
        assert all(p.grad is not None for p in trained.values())
        merged = model.merge_and_unload()
        torch.testing.assert_close(merged("sst", batch), out, atol=1e-5, rtol=0)
        save_multitask(merged, tmp_path / "model")
    network = MultitaskNetwork(make_model(), {"sst": HeadConfig(outputs=5)})
    model = peft.get_peft_model(network, peft.LoraConfig(target_modules=["sst"]))
    with pytest.raises(AttributeError, match="config"):
        model("sst", batch)


def test_a_changed_module_is_not_saved_under_a_name_that_nobody_reads(tmp_path: Path) -> None:
    pruned = make_model()
    torch.nn.utils.prune.random_unstructured(pruned.pooler_dense, "weight", 0.5)
    with pytest.raises(UserError, match=r"cannot save 'pooler_dense.weight_\w+'.*prune.remove"):
        pruned.save_pretrained(tmp_path)
    torch.nn.utils.prune.remove(pruned.pooler_dense, "weight")
    pruned.save_pretrained(tmp_path)
    loaded = BertModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.pooler_dense.weight, pruned.pooler_dense.weight)
    tied = make_model()
    tied.bert_layers[1] = tied.bert_layers[0]  # as ALBERT has it
    tied.save_pretrained(tmp_path)
    loaded = BertModel.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(loaded(**padded())[0], tied.eval()(**padded())[0])


def test_a_model_that_its_config_does_not_describe_is_not_saved(tmp_path: Path) -> None:
    model = make_model()
    model.bert_layers = model.bert_layers[:1]
    model.word_embedding = nn.Embedding(210, 32)
    changes = "num_hidden_layers=1, vocab_size=210"
    with pytest.raises(UserError, match=rf"dataclasses.replace\(model.config, {changes}\)"):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    model.config = dataclasses.replace(model.config, num_hidden_layers=1, vocab_size=210)
    model.pooler_dense = nn.Identity()  # a model without a pooler is one
    model.save_pretrained(tmp_path / "model")
    loaded = BertModel.from_pretrained(tmp_path / "model")
    assert torch.equal(loaded(**padded())[0], model.eval()(**padded())[0])


def narrow(model: BertModel, layers: int) -> None:
    """Prune the feed-forward maps of the first layers from 64 to 48."""
    for layer in model.bert_layers[:layers]:
        layer.interm_dense, layer.out_dense = nn.Linear(32, 48), nn.Linear(48, 32)


def set_constant(model: BertModel, key: str, value: float) -> None:
    for module in model.modules():
        if hasattr(module, key):
            setattr(module, key, value)


CHANGED = {
    "a size": (lambda m: narrow(m, 2), "intermediate_size=48"),
    "eps": (lambda m: set_constant(m, "eps", 0.1), "layer_norm_eps=0.1"),
    "heads": (lambda m: set_constant(m, "num_heads", 2), "num_attention_heads=2"),
}


@pytest.mark.parametrize("kind", CHANGED)
def test_what_a_config_can_describe_is_saved_when_it_does(tmp_path: Path, kind: str) -> None:
    (change, values), model = CHANGED[kind], make_model()
    model.save_pretrained(tmp_path)
    saved = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    change(model)
    expected = model.eval()(**padded())[0]
    with pytest.raises(UserError, match=rf"dataclasses.replace\(model.config, {values}\)"):
        model.save_pretrained(tmp_path)
    assert saved == {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    key, value = values.split("=")
    model.config = dataclasses.replace(model.config, **{key: type(getattr(TINY, key))(value)})
    model.save_pretrained(tmp_path)
    loaded = BertModel.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(**padded())[0], expected)


@pytest.mark.parametrize(
    ("name", "module", "message"),
    [
        (
            "pooler_dense",
            nn.Linear(32, 16),
            r"pooler_dense.weight is \(16, 32\), where .* \(32, 32",
        ),
        ("pooler_dense", nn.Linear(32, 32, bias=False), "pooler_dense.bias is missing"),
        ("bert_layers.1.interm_dense", nn.Linear(32, 64, bias=False), "interm_dense.bias is miss"),
        ("bert_layers.0.out_dense", nn.Linear(48, 32), r"out_dense.weight is \(32, 48\), where"),
        ("bert_layers.0.attention_layer_norm", nn.Identity(), "layer_norm.weight is missing"),
        ("bert_layers.1.out_layer_norm", nn.LayerNorm(32), "out_layer_norm.eps is 1e-05, where"),
        ("embed_layer_norm", nn.Identity(), "embed_layer_norm.weight is missing, where its config"),
    ],
)
def test_what_no_config_describes_is_not_saved(
    tmp_path: Path, name: str, module: nn.Module, message: str
) -> None:
    """Neither an encoder nor a network with it, as one of its towers; and nothing is written."""
    model = make_model()
    model.set_submodule(name, module)
    towers = MultitaskNetwork(make_model(), {}, separate_towers=True)
    towers.second_tower = model
    masked = MaskedLanguageModel(model)
    for save in (
        model.save_pretrained,
        partial(save_multitask, MultitaskNetwork(model, {})),
        partial(save_multitask, towers),
        partial(save_mlm, masked),
    ):
        with pytest.raises(UserError, match=message):
            save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_network_that_its_files_would_not_hold_is_not_saved(tmp_path: Path) -> None:
    """A second tower unlike the first, as all files have one config; and a head of another size."""
    for name, module, message in (
        ("heads.sst", nn.Linear(32, 3), r"heads.sst.weight is \(3, 32\), where .* \(5, 32\)"),
        ("second_tower.pooler_dense", nn.Identity(), "second_tower.pooler_dense.weight is missing"),
        (
            "second_tower",
            BertModel(dataclasses.replace(TINY, vocab_size=9)),
            r"is \(9, 32\), where",
        ),
    ):
        network = MultitaskNetwork(make_model(), {"sst": HeadConfig(outputs=5)}, 0.0, True)
        if name.startswith("heads"):
            module.config = network.heads["sst"].config
        network.set_submodule(name, module)
        with pytest.raises(UserError, match=message):
            save_multitask(network, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_compiled_network_and_one_of_another_library_s_config_are_saved(tmp_path: Path) -> None:
    """Whose parameters have a prefix, and which is no dataclass."""
    network = MultitaskNetwork(make_model(), {"sst": HeadConfig(outputs=5)})
    save_multitask(torch.compile(network), tmp_path / "compiled")
    saved = load_directory(tmp_path / "compiled", 0.0)
    assert torch.equal(saved.heads["sst"].weight, network.heads["sst"].weight)
    model = BertModel(transformers.BertConfig(**TINY.to_dict()))
    model.save_pretrained(tmp_path / "other")
    saved = BertModel.from_pretrained(tmp_path / "other")
    assert torch.equal(saved.word_embedding.weight, model.word_embedding.weight)
    model.bert_layers = model.bert_layers[:1]
    with pytest.raises(UserError, match="config to have num_hidden_layers=1"):
        model.save_pretrained(tmp_path / "shorter")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda n, b: n("zz", b), "task 'zz': this network has cross, apart"),
        (lambda n, b: n.embed("zz", b), "task 'zz': this network has cross, apart"),
        (lambda n, b: PaddedModel(n, "zz"), "task 'zz': this network has cross, apart"),
        (lambda n, b: PaddedModel(n.encoder, "cross"), "task 'cross': a BertModel has no heads"),
        (lambda n, b: n("apart", b), "task 'apart': its head compares embeddings: call embed"),
        (lambda n, b: n.embed("cross", b), "task 'cross': its head has no embeddings: call the"),
    ],
)
def test_tasks_that_a_network_has_not(ask: Callable, message: str) -> None:
    heads = {"cross": HeadConfig(outputs=2), "apart": HeadConfig(siamese=True)}
    ids = torch.arange(5)
    with pytest.raises(UserError, match=message):
        ask(MultitaskNetwork(make_model(), heads), Batch(ids, ids, ids * 0, (2, 3)))


def in_a_program(
    model: BertModel, optimizer: AdamW, folder: Path, default: torch.dtype | str
) -> list[Tensor]:
    """Train, compute and load; return all that was found. default: of the program's tensors."""
    inputs = padded()
    (torch.set_default_device if isinstance(default, str) else torch.set_default_dtype)(default)
    try:
        torch.manual_seed(0)
        for _ in range(2):
            model.train()(**inputs)[1].square().sum().backward()
            optimizer.step()
        with torch.no_grad():
            found = [*model.parameters(), *model.eval()(**inputs).to_tuple()]
        loaded, _ = load_multitask(folder)
        rows = BertTokenizer.from_directory(folder)(["red cat", "blue dog"])
        vectors = loaded.heads["sst"](loaded.encoder(**rows).pooler_output)
        return [*found, *loaded.parameters(), *rows.values(), vectors]
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16, "meta"])
def test_defaults(world: Path, kernels: str, default: torch.dtype | str) -> None:
    """On "meta" tensors have no values: what is made there by mistake cannot be read."""
    folder, found = world / "model", []
    save_multitask(MultitaskNetwork(make_model(), {"sst": HeadConfig(outputs=5)}), folder)
    for kind in (torch.float32, default):
        model = make_model()
        set_kernels(model, kernels)
        model.word_embedding.sparse = True
        optimizer = AdamW(model.parameters(), lr=0.01, kernels=kernels)
        found.append(in_a_program(model, optimizer, folder, kind))
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b) and (a.dtype, a.device) == (b.dtype, b.device)
