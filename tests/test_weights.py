"""Checkpoints in every naming people have; broken ones are refused in one line."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from minbert import BertModel, UserError
from minbert.model.mlm import MaskedLanguageModel, load_mlm, save_mlm
from minbert.tensors import load_tensors
from minbert.weights.convert import to_published
from minbert.weights.pretrained import write_pretrained

Tensors = dict[str, torch.Tensor]


def published(model: BertModel) -> Tensors:
    return {to_published(name): w.clone() for name, w in model.state_dict().items()}


def old(model: BertModel) -> Tensors:
    """2018's: prefix, gamma and beta, the position indices and the pre-training heads."""

    def rename(name: str) -> str:
        name = re.sub(r"LayerNorm\.weight", "LayerNorm.gamma", name)
        return "bert." + re.sub(r"LayerNorm\.bias", "LayerNorm.beta", name)

    extras = {
        "bert.embeddings.position_ids": torch.arange(64)[None],
        "cls.predictions.bias": torch.zeros(200),
        "cls.seq_relationship.weight": torch.zeros(2, 32),
    }
    return {rename(name): w for name, w in published(model).items()} | extras


NAMINGS: dict[str, Callable[[BertModel], Tensors]] = {
    "published": published,
    "prefixed": lambda m: {f"bert.{name}": w for name, w in published(m).items()},
    "old": old,
    "course": lambda m: {name: w.clone() for name, w in m.state_dict().items()},
    "course-classifier": lambda m: {
        f"bert.{name}": w.clone() for name, w in m.state_dict().items()
    },
    "network": lambda m: {  # of a model that has it as its encoder, with heads
        "heads.sst.weight": torch.zeros(5, 32),
        **{f"encoder.{name}": w.clone() for name, w in m.state_dict().items()},
    },
    "encoder": lambda m: {  # of a BertModel from before its positions were a constant
        "encoder.embeddings.position_ids": torch.arange(64)[None],
        **{f"encoder.{name}": w for name, w in published(m).items()},
    },
    "double": lambda m: {name: w.double() for name, w in published(m).items()},
}


def write(directory: Path, model: BertModel, tensors: Tensors, binary: bool = False) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(model.config.to_dict()))
    if binary:
        torch.save(tensors, directory / "pytorch_model.bin")
    else:
        save_file(tensors, directory / "model.safetensors")
    return directory


@pytest.mark.parametrize("binary", [False, True], ids=["safetensors", "bin"])
@pytest.mark.parametrize("naming", NAMINGS)
def test_every_naming_loads_the_same(tiny: BertModel, tmp_path: Path, naming, binary) -> None:
    loaded = BertModel.from_pretrained(write(tmp_path, tiny, NAMINGS[naming](tiny), binary))
    assert not loaded.training
    for name, w in tiny.state_dict().items():
        assert torch.equal(w, loaded.state_dict()[name]), name


def test_saved_model_loads_in_transformers(tiny: BertModel, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path / "deep" / "folder")
    theirs = transformers.AutoModel.from_pretrained(tmp_path / "deep" / "folder").eval()
    ids = torch.tensor([[2, 5, 9, 3]])
    torch.testing.assert_close(
        tiny(ids).pooler_output, theirs(ids).pooler_output, atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("kind", ["MaskedLM", "QuestionAnswering", "TokenClassification"])
def test_a_model_without_a_pooler_gets_a_new_one(
    tiny: BertModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    tiny.save_pretrained(tmp_path / "whole")
    theirs = getattr(transformers, f"BertFor{kind}").from_pretrained(tmp_path / "whole")
    theirs.save_pretrained(tmp_path / "saved")
    capsys.readouterr()
    torch.manual_seed(1)
    loaded = BertModel.from_pretrained(tmp_path / "saved").state_dict()
    told = capsys.readouterr().err
    assert told.count("model.safetensors: no pooler in it; a new one") == 1
    assert ("its head is left out (classifier" in told) == (kind == "TokenClassification")
    for name, w in tiny.state_dict().items():
        assert torch.equal(w, loaded[name]) is not name.startswith("pooler_dense.w"), name
    assert 0.01 < float(loaded["pooler_dense.weight"].std()) < 0.03
    torch.manual_seed(1)
    again = BertModel.from_pretrained(tmp_path / "saved").state_dict()
    assert torch.equal(again["pooler_dense.weight"], loaded["pooler_dense.weight"])


@pytest.mark.parametrize("prefix", ["", "bert.", "encoder."])
@pytest.mark.parametrize("head", ["classifier.", "qa_outputs.", "heads.sst.", "head."])
def test_a_head_that_is_left_out_is_named(
    tiny: BertModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], head: str, prefix: str
) -> None:
    """With what a terminal would take for a command written out, as in any file of another's."""
    names = [f"{prefix}{head}bias", f"{prefix}{head}\x1b[31m"]
    heads = {name: torch.ones(2) for name in names}
    BertModel.from_pretrained(write(tmp_path, tiny, {**published(tiny), **heads}))
    shown = f"{prefix}{head}\\x1b[31m, {prefix}{head}bias"
    path = tmp_path / "model.safetensors"
    assert capsys.readouterr().err == f"{path}: its head is left out ({shown})\n"


def test_older_layouts_of_sentence_transformers(tiny: BertModel, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path / "0_Transformer")
    (tmp_path / "config.json").write_text('{"__version__": "0.2.0"}')
    (tmp_path / "modules.json").write_text('[{"idx": 0, "path": "0_Transformer"}]')
    loaded = BertModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.pooler_dense.weight, tiny.pooler_dense.weight)
    (tmp_path / "modules.json").write_text('{"path": ""}')
    with pytest.raises(UserError, match=r"modules\.json: not a list of modules"):
        BertModel.from_pretrained(tmp_path)


def changed(change: Callable[[Tensors], object]) -> Callable[[BertModel], Tensors]:
    def make(model: BertModel) -> Tensors:
        tensors = published(model)
        change(tensors)
        return tensors

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            changed(lambda t: t.update({"decoder.weight": torch.zeros(2)})),
            "unknown parameter.*decoder.weight.*; is this a BERT checkpoint",
        ),
        (
            changed(lambda t: t.pop("pooler.dense.bias")),
            "missing.*pooler.dense.bias",
        ),
        (
            changed(lambda t: t.update({"pooler.dense.bias": torch.zeros(7)})),
            r"pooler.dense.bias has shape \(7,\).*\(32,\)",
        ),
        (changed(lambda t: t.update({"bert.pooler.dense.bias": torch.zeros(32)})), "there twice"),
    ],
)
def test_wrong_parameters(tiny: BertModel, tmp_path: Path, make, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        BertModel.from_pretrained(write(tmp_path, tiny, make(tiny)))
    assert "\n" not in str(error.value) and "model.safetensors" in str(error.value)


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('code of a pickle ran')",)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("file", "spoil", "message"),
    [
        ("model.safetensors", truncate, "damaged or cut short"),
        ("model.safetensors", lambda p: p.write_bytes(b"\x08" + bytes(7) + b"nonsense"), "damaged"),
        ("model.safetensors", lambda p: p.write_bytes(b""), "damaged"),
        ("model.safetensors", lambda p: p.unlink(), "neither model.safetensors nor"),
        ("pytorch_model.bin", truncate, "damaged or cut short"),
        ("pytorch_model.bin", lambda p: torch.save({"a": Attack()}, p), "could run code"),
        (
            "pytorch_model.bin",
            lambda p: torch.save([torch.ones(1)], p),
            "holds a list, not tensors",
        ),
        ("config.json", lambda p: p.write_text("{"), "not valid JSON"),
        ("config.json", lambda p: p.write_text('{"hidden_act": "relu"}'), "hidden_act is 'relu'"),
        ("config.json", lambda p: p.write_text('{"model_type": "gpt2"}'), "only 'bert'"),
    ],
)
def test_damaged_files(tiny: BertModel, tmp_path: Path, file: str, spoil, message: str) -> None:
    write(tmp_path, tiny, published(tiny), binary=file.endswith(".bin"))
    spoil(tmp_path / file)
    with pytest.raises(UserError, match=message) as error:
        BertModel.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


def test_unknown_name_says_where_it_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="no such directory, not in the Hugging Face cache"):
        BertModel.from_pretrained("bert-enormous-uncased")


def test_weights_of_a_run_are_found(tiny: BertModel, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path / "run" / "best")
    loaded = BertModel.from_pretrained(tmp_path / "run")
    saved = load_file(tmp_path / "run/best/model.safetensors")
    assert torch.equal(loaded.pooler_dense.bias, saved["pooler.dense.bias"])


def test_another_framework_s_file_is_named(tiny: BertModel, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "tf_model.h5")
    with pytest.raises(UserError, match=r"tf_model.h5 is of another framework"):
        BertModel.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "is a list, not a dense tensor"),
        (3, "is a int, not a dense tensor of numbers$"),
        ({"a": 1}, "is a dict, not a dense .*; if the weights are inside of an entry, save"),
        (torch.eye(3).to_sparse(), "is a Tensor, not a dense tensor"),
        (torch.empty(3, device="meta"), "is a Tensor, not a dense tensor"),
        (torch.full((200, 32), torch.nan), "is not finite in every entry"),
        (torch.ones(200, 32, dtype=torch.int8), "has the type torch.int8; weights are floats"),
    ],
)
def test_what_is_no_tensor_of_numbers(
    tiny: BertModel, tmp_path: Path, value: object, message: str
) -> None:
    tiny.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    name = "embeddings.word_embeddings.weight"
    torch.save({**tensors, name: value}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=message):
        BertModel.from_pretrained(tmp_path)


def test_names_that_tell_where_they_come_from(tiny: BertModel, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"the config has fewer layers"):
        BertModel.from_pretrained(tmp_path, num_hidden_layers=1)
    for prefix, library in (("module.", "DataParallel"), ("_orig_mod.", "torch.compile")):
        renamed = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
        save_file(renamed, tmp_path / "model.safetensors")
        with pytest.raises(UserError, match=f"saved from {library}; take `{prefix}` off"):
            BertModel.from_pretrained(tmp_path)


def test_weights_of_one_byte_are_read(tiny: BertModel, tmp_path: Path) -> None:
    small = {name: w.to(torch.float8_e4m3fn) for name, w in published(tiny).items()}
    loaded = BertModel.from_pretrained(write(tmp_path, tiny, small))
    expected = small["pooler.dense.weight"].float()
    assert torch.equal(loaded.pooler_dense.weight, expected)


def test_a_manifest_of_another_program_is_none_of_ours(tiny: BertModel, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path)
    (tmp_path / "manifest.json").write_text('{"name": "x", "version": 1}')
    assert BertModel.from_pretrained(tmp_path).config == tiny.config
    (tmp_path / "manifest.json").write_text('{"config.json": "x"}')
    with pytest.raises(UserError, match=r"no readable manifest\.json"):
        BertModel.from_pretrained(tmp_path)


def test_a_decoder_of_its_own_is_refused_for_masked_words(tiny: BertModel, tmp_path: Path) -> None:
    save_mlm(MaskedLanguageModel(tiny), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    with pytest.raises(UserError, match="tie_word_embeddings is false"):
        load_mlm(tmp_path)
    write_pretrained(tmp_path, tiny.config, tiny.published_state_dict(), "BertModel")
    (tmp_path / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    assert load_mlm(tmp_path)[1], "without any head it gets a new one"


def test_where_a_tensor_is_in_a_file_changes_no_bit(tmp_path: Path) -> None:
    """A run that goes on reads its weights from another file than it began with."""
    torch.manual_seed(0)
    x, w = torch.randn(37, 384), torch.randn(384, 384)
    for length in range(1, 65, 7):  # of the header, and with it the place
        save_file({"a" * length: torch.ones(length), "w": w}, tmp_path / "m.safetensors")
        loaded = load_tensors(tmp_path / "m.safetensors")
        assert all(tensor.data_ptr() % 64 == 0 for tensor in loaded.values())
        assert torch.equal(x @ loaded["w"], x @ w)
