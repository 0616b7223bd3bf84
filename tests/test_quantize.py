"""--quantize int8: a smaller model.onnx, and how well it agrees with the run on dev."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import train_multitask
from minbert import MultitaskModel, UserError
from minbert.export import Args, describe_quantized
from minbert.export import main as export
from minbert.exported import ExportedModel
from minbert.model.multitask import load_multitask
from minbert.onnx import quantize
from minbert.task.evaluation import task_outputs
from minbert.task.loading import DataSource, load_task
from tests.conftest import run
from tests.own_tasks import OWN, arguments
from tests.word_world import add_pets, train

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture
def trained(world: Path) -> Path:
    run(world, "--name", "run", "--precision", "fp32", "--epochs", "1")
    return world / "runs/run"


@pytest.mark.thorough
def test_a_classifier_in_8_bits(trained: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    capsys.readouterr()
    export([str(trained), str(out), "--to", "onnx", "--task", "sst", "--quantize", "int8"])
    said = capsys.readouterr().out.splitlines()[-1]
    model = MultitaskModel.load(trained, device="cpu")
    data = trained.parents[1] / "data"
    split = load_task(model.tasks["sst"], "dev", model.tokenizer, DataSource(data, None, 32))

    graph = onnx.load(out / "model.onnx").graph
    stored = {x.name: x.data_type for x in graph.initializer}
    assert "MatMulInteger" in {node.op_type for node in graph.node}
    eight_bits = [n for n, kind in stored.items() if kind == onnx.TensorProto.INT8]
    assert len([n for n in eight_bits if n.endswith("quantized")]) >= 7  # 6 matrices and words
    assert not (out / "fp32.onnx").exists()

    exported = ExportedModel(out / "model.onnx", model.network)
    theirs = task_outputs(exported, model.tasks["sst"], split).numpy()
    ours = task_outputs(model.network, model.tasks["sst"], split).numpy()
    apart = np.abs(ours - theirs)
    assert 0 < apart.max() < 0.1 and theirs.shape == (12, 5)
    same = np.mean(ours.argmax(1) == theirs.argmax(1))
    accuracy = np.mean(theirs.argmax(1) == split.labels)
    assert f"logits differ by {apart.mean():.4f}, at most {apart.max():.4f}, {same:.2%}" in said
    assert re.match(r"int8: 0 MiB; SST, 12 rows of dev: ", said)
    assert said.endswith(f"before, {accuracy:.4f} after")
    config = json.loads((out / "config.json").read_text())
    assert config["calibration_temperature"] == (model.network.heads["sst"].config.temperature)


@pytest.mark.parametrize(
    "task",
    [
        pytest.param("sts", marks=pytest.mark.thorough),
        pytest.param("", marks=pytest.mark.slow),
    ],
)
def test_embeddings_and_the_encoder_alone(world: Path, tmp_path: Path, capsys, task: str) -> None:
    more = ["--pair-encoding", "siamese", "--pooling", "mean", "--embedding-size", "24"]
    run(world, "--name", "run", "--precision", "fp32", "--epochs", "1", *more)
    words = ["--to", "onnx", "--quantize", "int8", *(["--task", task] if task else [])]
    export([str(world / "runs/run"), str(tmp_path / "out"), *words])
    said = capsys.readouterr().out
    if task:
        scores = re.search(
            r"STS, 6 rows of dev: scores differ by (\S+), at most (\S+), pears", said
        )
        assert 0 < float(scores[1]) <= float(scores[2]) < 0.2
    else:
        cosines = re.search(r"outputs of 12 texts of dev: cosine (\S+) to .* at least (\S+)", said)
        assert 1 >= float(cosines[1]) >= float(cosines[2]) > 0.99


@pytest.mark.slow
def test_the_encoder_alone_reads_siamese_sentences_one_by_one(
    world: Path, tmp_path: Path, capsys
) -> None:
    """Two of them together would be longer than the model can read."""
    path = world / "data/sts-dev.csv"
    header, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    long = [[*row[:2], f"{row[2]} red" + " cat" * 40, row[3] + " dog" * 40, row[4]] for row in rows]
    path.write_text("\n".join("\t".join(row) for row in [header, *long]) + "\n")
    more = ["--tasks", "sts", "--pair-encoding", "siamese", "--max-length", "64", "--epochs", "1"]
    run(world, "--name", "run", *more)
    words = ["--to", "onnx", "--quantize", "int8"]
    export([str(world / "runs/run"), str(tmp_path / "out"), *words])
    said = capsys.readouterr().out
    assert re.search(r"outputs of 1[012] texts of dev: cosine", said), said


@pytest.mark.thorough
def test_words(world: Path, tmp_path: Path, capsys) -> None:
    folder = train(add_pets(world), "one", "--epochs", "1")
    words = ["--to", "onnx", "--quantize", "int8", "--task", "pets"]
    export([str(folder), str(tmp_path / "out"), *words])
    found = re.search(r"at most (\S+), (\S+)% of the predictions", capsys.readouterr().out)
    assert 0 < float(found[1]) < 0.2 and float(found[2]) > 80


def test_without_its_dev_set_it_says_what_would_tell(trained: Path, tmp_path: Path) -> None:
    network, directory = load_multitask(trained)
    (tmp_path / "model.onnx").write_bytes(bytes(3 << 20))
    dev = trained.parents[1] / "data/sts-dev.csv"
    dev.write_text(dev.read_text() + "\n")
    found = describe_quantized(
        network, Args(task="sts", quantize="int8"), directory, tmp_path / "model.onnx"
    )
    assert f"{dev}: not what the run was evaluated on, so --data-dir DIR tells how well" in found
    for nowhere, args in (
        (tmp_path, Args(task="sts", quantize="int8", data_dir=str(tmp_path))),
        (trained.parents[1] / "data", Args(task="sts", quantize="int8")),  # the run's own
    ):
        (nowhere / "sts-dev.csv").unlink(missing_ok=True)
        found = describe_quantized(network, args, directory, tmp_path / "model.onnx")
        file = nowhere / "sts-dev.csv"
        assert (
            found == f"int8: 3 MiB; {file}: not there, so --data-dir DIR tells how well it agrees"
        )


def test_a_dev_share_is_compared_on_though_its_file_has_grown(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own / "own.toml").write_text(OWN.replace('dev = "intent.tsv"\n', "dev = 0.25\n", 1))
    train_multitask.main([*arguments(own), "--tasks", "intent", "--skip-predictions"])
    with (own / "data/intent.tsv").open("a") as file:
        file.write("red cat\twalk\n" * 40)
    network, directory = load_multitask(own / "runs/own")
    (tmp_path / "model.onnx").write_bytes(bytes(3 << 20))
    monkeypatch.setattr("minbert.export.agreement", lambda m, t, split, path: f"{len(split)} rows")
    args = Args(task="intent", quantize="int8")
    found = describe_quantized(network, args, directory, tmp_path / "model.onnx")
    assert found == "int8: 3 MiB; 4 rows"
    lines = (own / "data/intent.tsv").read_text().splitlines(keepends=True)
    (own / "data/intent.tsv").write_text("".join([lines[0], "old dog\trest\n", *lines[1:]]))
    found = describe_quantized(network, args, directory, tmp_path / "model.onnx")
    assert found.startswith("int8: 3 MiB; ") and "dev rows of intent" in found


def test_mistakes(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = str(tmp_path / "out")
    with pytest.raises(UserError, match="--quantize int8 goes with --to onnx"):
        export([str(trained), out, "--task", "sst", "--quantize", "int8"])
    with pytest.raises(UserError, match="invalid choice"):
        export([str(trained), out, "--to", "onnx", "--quantize", "int4"])
    monkeypatch.setitem(sys.modules, "onnxruntime.quantization", None)
    with pytest.raises(UserError, match=r'pip install -e "\.\[onnx\]"'):
        quantize(tmp_path / "model.onnx")


@pytest.mark.thorough
def test_outputs_that_are_cosines_are_called_that(world: Path, tmp_path: Path, capsys) -> None:
    more = ["--tasks", "quora", "--pair-encoding", "siamese", "--epochs", "1"]
    run(world, "--name", "run", "--skip-predictions", *more)
    words = ["--to", "onnx", "--quantize", "int8", "--task", "quora"]
    export([str(world / "runs/run"), str(tmp_path / "out"), *words])
    assert "rows of dev: cosines differ by" in capsys.readouterr().out
