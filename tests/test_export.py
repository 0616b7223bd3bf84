"""Exported runs in the libraries they are for, and back."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import transformers

from minbert import BertModel, MultitaskModel, UserError
from minbert.export import main as export
from minbert.model.multitask import load_multitask
from minbert.onnx import PaddedModel
from tasks import TASKS
from tests.conftest import run

TEXTS = ["red cat runs slowly here", "dog", "old blue dog sleeps fast"]


@pytest.fixture
def siamese(world: Path, a_run: Callable[..., Path]) -> Callable[..., Path]:
    """Return a function that takes options to a run with them."""
    return partial(a_run, world, "--pair-encoding", "siamese")


@pytest.mark.parametrize("task", ["sst", "sts"])
def test_classifiers_have_the_same_logits_in_transformers(
    trained: Path, tmp_path: Path, task: str
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "out").symlink_to("there")
    export([str(trained), str(tmp_path / "out"), "--to", "transformers", "--task", task])
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "there")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    texts = TEXTS if task == "sst" else list(zip(TEXTS, TEXTS[::-1], strict=True))
    if task == "sst":
        inputs = tokenizer(texts, padding=True, return_tensors="pt")
    else:
        inputs = tokenizer(TEXTS, TEXTS[::-1], padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = model.eval()(**inputs).logits.numpy()
    ours = MultitaskModel.load(trained, device="cpu").outputs(task, texts)
    assert ours.shape == (3, TASKS[task].outputs)
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


@pytest.mark.parametrize(
    ("task", "problem", "names"),
    [
        (
            "sst",
            "single_label_classification",
            ["negative", "somewhat negative", "neutral", "somewhat positive", "positive"],
        ),
        (
            "quora",
            "multi_label_classification",
            ["duplicate"],
        ),  # two classes, one logit: the second one's
    ],
)
def test_the_names_of_the_classes_and_the_dropout_go_along(
    world: Path, tmp_path: Path, task: str, problem: str, names: list[str]
) -> None:
    dropout = ("--hidden-dropout-prob", "0.2")  # neither our default nor transformers'
    run(world, "--name", "named", "--tasks", task, "--epochs", "1", *dropout)
    export([str(world / "runs/named"), str(tmp_path / "out"), "--task", task])
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert model.config.id2label == dict(enumerate(names))
    assert model.config.classifier_dropout == 0.2
    assert model.config.problem_type == problem  # that of the loss: by it pipelines show numbers


@pytest.mark.parametrize("to", ["transformers", "sentence-transformers", "onnx"])
def test_separate_towers_are_not_exported_as_one(
    siamese: Callable[..., Path], tmp_path: Path, to: str
) -> None:
    folder, out = siamese("--towers", "separate", "--tasks", "sst,quora"), tmp_path / "out"
    for options, message in (
        ([], "separate towers has two encoders"),
        (["--task", "quora"], "--task quora: its pairs are read by two encoders, which only min"),
    ):
        with pytest.raises(UserError, match=message):
            export([str(folder), str(out), "--to", to, *options])
    network = load_multitask(folder / "best")[0]
    for task, message in (("", "two encoders: give one of them"), ("quora", "by two encoders")):
        with pytest.raises(UserError, match=message):
            PaddedModel(network, task)
    assert not out.exists()
    if to == "transformers":  # a single sentence has one encoder
        export([str(folder), str(out), "--to", to, "--task", "sst"])


def test_the_encoder_goes_there_and_back(trained: Path, tmp_path: Path) -> None:
    export([str(trained), str(tmp_path / "out")])
    transformers.AutoModel.from_pretrained(tmp_path / "out").save_pretrained(tmp_path / "back")
    ours = BertModel.from_pretrained(trained / "best")
    back = BertModel.from_pretrained(tmp_path / "back")
    for name, value in ours.state_dict().items():
        assert torch.equal(value, back.state_dict()[name]), name


def sentence_transformer(folder: Path) -> Any:
    """Load an export in its library, whose import takes seconds."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu")


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
@pytest.mark.parametrize("size", [0, 48])
def test_embeddings_are_the_same_in_sentence_transformers(
    siamese: Callable[..., Path], tmp_path: Path, pooling: str, size: int
) -> None:
    folder = siamese("--pooling", pooling, "--embedding-size", str(size))
    options = ["--to", "sentence-transformers", "--task", "sts"]
    export([str(folder), str(tmp_path / "out"), *options])
    theirs = sentence_transformer(tmp_path / "out").encode(TEXTS)
    ours = embeddings(MultitaskModel.load(folder, device="cpu"), "sts", pooling)
    assert theirs.shape == (3, size or 32)
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


def test_without_a_task_it_encodes_as_the_run_does(trained: Path, tmp_path: Path) -> None:
    export([str(trained), str(tmp_path / "out"), "--to", "sentence-transformers"])
    theirs = sentence_transformer(tmp_path / "out")
    ours = MultitaskModel.load(trained, device="cpu")
    np.testing.assert_allclose(theirs.encode(TEXTS), ours.encode(TEXTS), atol=1e-5)
    units = theirs.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(units, ours.encode(TEXTS, normalize=True), atol=1e-5)


def test_a_sentence_transformer_is_a_model_to_start_from(
    siamese: Callable[..., Path], tmp_path: Path
) -> None:
    folder = siamese("--pooling", "mean")
    export([str(folder), str(tmp_path / "out"), "--to", "sentence-transformers"])
    sentence_transformer(tmp_path / "out").save(str(tmp_path / "back"))
    ours = BertModel.from_pretrained(folder / "best").state_dict()
    for name, value in BertModel.from_pretrained(tmp_path / "back").state_dict().items():
        assert torch.equal(value, ours[name]), name


def onnx_outputs(folder: Path, texts: list[str], pairs: list[str] | None = None) -> list:
    """What onnxruntime makes of padded texts, tokenized by transformers."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = dict(tokenizer(texts, pairs, padding=True, return_tensors="np"))
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    names = [i.name for i in session.get_inputs()]
    return session.run(None, {n: inputs[n].astype(np.int64) for n in names})


def test_onnxruntime_has_the_same_outputs(
    shallow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For other numbers of sequences and other lengths than those of the export."""
    run(shallow, "--name", "cross", "--epochs", "1")
    trained = shallow / "runs/cross"
    model = MultitaskModel.load(trained, device="cpu")
    export([str(trained), str(tmp_path / "sts"), "--to", "onnx", "--task", "sts"])
    (theirs,) = onnx_outputs(tmp_path / "sts", TEXTS, TEXTS[::-1])
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    np.testing.assert_allclose(theirs, model.outputs("sts", pairs), atol=1e-5)
    capsys.readouterr()
    export([str(trained), str(tmp_path / "all"), "--to", "onnx"])
    assert "for onnx, the encoder without a head (--task takes one)" in capsys.readouterr().out
    hidden, pooled = onnx_outputs(tmp_path / "all", TEXTS[:1])
    assert hidden.shape[0] == 1 and hidden.shape[2] == 32
    ours = model.encode(TEXTS[:1], "cls")
    np.testing.assert_allclose(pooled, ours, atol=1e-5)


@pytest.mark.parametrize("encoding", ["cross", "siamese"])
@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_what_is_exported_computes_what_the_run_does(
    world: Path, pooling: str, encoding: str
) -> None:
    """In PyTorch, where every pooling costs little; two of them are exported below."""
    words = ["--pair-encoding", encoding, "--pooling", pooling, "--epochs", "1"]
    run(world, "--name", "run", "--precision", "fp32", *words)
    model = MultitaskModel.load(world / "runs/run", device="cpu")
    inputs = transformers.AutoTokenizer.from_pretrained(world / "runs/run/best")(
        TEXTS, padding=True, return_tensors="pt"
    )
    cross = encoding == "cross"
    with torch.no_grad():
        (theirs,) = PaddedModel(model.network.eval(), "sst" if cross else "sts")(**inputs)
    ours = model.outputs("sst", TEXTS) if cross else embeddings(model, "sts", pooling)
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


def embeddings(model: MultitaskModel, task: str, pooling: str) -> np.ndarray:
    """What a siamese head makes of the encoder's vectors of TEXTS."""
    vectors = torch.from_numpy(model.encode(TEXTS, pooling))
    with torch.no_grad():
        return model.network.heads[task].embed(vectors).numpy()


def test_a_head_of_all_tokens_is_the_same_in_onnxruntime(shallow: Path, tmp_path: Path) -> None:
    run(shallow, "--name", "all", "--pooling", "max", "--epochs", "1", "--precision", "fp32")
    folder = shallow / "runs/all"
    export([str(folder), str(tmp_path / "out"), "--to", "onnx", "--task", "sst"])
    (theirs,) = onnx_outputs(tmp_path / "out", TEXTS)
    ours = MultitaskModel.load(folder, device="cpu").outputs("sst", TEXTS)
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


def test_embeddings_are_the_same_in_onnxruntime(shallow: Path, tmp_path: Path) -> None:
    options = ("--pair-encoding", "siamese", "--pooling", "mean", "--embedding-size", "48")
    run(shallow, "--name", "siamese", *options)
    folder = shallow / "runs/siamese"
    export([str(folder), str(tmp_path / "out"), "--to", "onnx", "--task", "sts"])
    (theirs,) = onnx_outputs(tmp_path / "out", TEXTS)
    ours = embeddings(MultitaskModel.load(folder, device="cpu"), "sts", "mean")
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


def test_options_may_come_first(trained: Path, tmp_path: Path) -> None:
    export(["--to", "transformers", str(trained), "--task=sst", str(tmp_path / "out")])
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]


def test_nothing_beside_the_new_directory_is_touched(trained: Path, tmp_path: Path) -> None:
    for ending in (".new", ".old"):
        (tmp_path / f"out{ending}").mkdir()
        (tmp_path / f"out{ending}" / "mine").write_text("kept")
    (tmp_path / "out").mkdir()  # an empty one may be there
    before = set(tmp_path.iterdir())
    export([str(trained), str(tmp_path / "out"), "--task", "sst"])
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert set(tmp_path.iterdir()) == before
    assert all((tmp_path / f"out{ending}" / "mine").is_file() for ending in (".new", ".old"))


def test_an_export_that_fails_leaves_nothing(trained: Path, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    with pytest.raises(UserError, match="sts is no siamese task: export"):
        export([str(trained), str(tmp_path / "out"), "--to", "sentence-transformers",
                "--task", "sts"])  # fmt: skip
    assert set(tmp_path.iterdir()) == before


def test_mistakes(
    trained: Path,
    world: Path,
    tmp_path: Path,
    siamese: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = str(tmp_path / "out")
    with pytest.raises(UserError, match="--task quora: this run has sst, sts"):
        export([str(trained), out, "--task", "quora"])
    with pytest.raises(UserError, match=r"write python -m minbert\.export RUN NEW_DIRECTORY"):
        export([str(trained)])
    with pytest.raises(UserError, match="--data-dir x goes with --quantize"):
        export([str(trained), out, "--data-dir", "x"])
    with pytest.raises(UserError, match="--task: expected one argument"):
        export([str(trained), out, "--task"])
    with pytest.raises(UserError, match="not empty"):
        export([str(trained), str(world)])
    with pytest.raises(UserError, match="sts compares sentences"):
        export([str(siamese()), out, "--task", "sts"])
    with pytest.raises(UserError, match="invalid choice"):
        export([str(trained), out, "--to", "keras"])
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserError, match=r"\.: the directory that you are in; name a new one"):
        export([str(trained), "."])
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "volume")
    with pytest.raises(UserError, match=r"volume: a mount point; name a new directory in it"):
        export([str(trained), "volume"])
