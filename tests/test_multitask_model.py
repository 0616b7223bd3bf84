"""A run used on new texts: from Python, from the command line, from a pipe."""

import copy
import io
import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import evaluate
from minbert import BertModel, MultitaskModel, UserError
from minbert.data.examples import read_examples
from minbert.memory import lack_of_memory
from minbert.model.multitask import load_multitask, save_multitask
from minbert.run.checkpoint import atomic_directory
from minbert.task.predictions import read_predictions
from minbert.training import distributed
from minbert.training.device import choose_device
from tasks import TASKS


@pytest.fixture
def trained(world: Path, a_run: Callable[..., Path]) -> Path:
    return a_run(world, "--pair-encoding", "siamese")


@pytest.mark.parametrize(
    "message",
    [
        "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory",
        "unable to mmap 240000112 bytes from file <model.safetensors>: Cannot allocate memory (12)",
    ],
)
def test_a_lack_of_memory_is_no_damage(
    trained: Path, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    def full(folder: Path) -> BertModel:
        raise RuntimeError(message)

    monkeypatch.setattr(BertModel, "from_pretrained", full)
    with pytest.raises(RuntimeError, match="llocate memory") as error:
        load_multitask(trained)
    assert lack_of_memory(error.value).startswith("out of memory")


def test_the_same_as_the_run_s_own_predictions(trained: Path, world: Path) -> None:
    model = MultitaskModel.load(trained, device="cpu")
    for name in ("sst", "sts"):
        files = TASKS[name].paths("dev", world / "data")
        examples, _ = read_examples(files, TASKS[name].columns, True)
        texts = [(e.text, e.pair) if e.pair else e.text for e in examples]
        file = trained / "predictions" / f"{name}-dev-output.csv"
        expected, _ = read_predictions(file)
        got = TASKS[name].decode(model.outputs(name, texts))
        np.testing.assert_allclose(got, [expected[e.id] for e in examples], atol=1e-5)


def test_a_program_of_several_processes_has_the_answers_to_its_own_texts(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its processes are not asked: each has other texts, or none."""
    model, texts = MultitaskModel.load(trained, device="cpu"), ["red cat runs", "old dog", "blue"]
    known = model.predict("sst", texts), model.encode(texts)
    for name, value in {"is_initialized": True, "get_world_size": 2, "get_rank": 1}.items():
        monkeypatch.setattr(torch.distributed, name, lambda value=value: value)
    assert model.predict("sst", texts) == known[0]
    np.testing.assert_array_equal(model.encode(texts), known[1])
    assert distributed.world_size() == 2 and distributed.rank() == 1


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_best_that_is_replaced_meanwhile_is_read_again(
    trained: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Before or after its encoder is read, and when its heads have been."""
    (later, best), original = load_multitask(trained), BertModel.from_pretrained
    for parameter in later.parameters():
        parameter.data += 0.5
    reads = []

    def replaced(directory: Path) -> BertModel:
        encoder = original(directory) if moment == "after" else None
        if not reads:
            with atomic_directory(best) as new:
                save_multitask(later, new)
        reads.append(directory)
        return encoder or original(directory)

    monkeypatch.setattr(BertModel, "from_pretrained", replaced)
    found = load_multitask(trained)[0].state_dict()
    assert len(reads) == 2
    assert all(torch.equal(found[name], tensor) for name, tensor in later.state_dict().items())


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_embeddings_keep_the_order_of_their_texts(trained: Path, pooling: str) -> None:
    model = MultitaskModel.load(trained, device="cpu")
    texts = ["red cat runs slowly here", "dog", "old blue dog sleeps", "cat runs"]
    vectors = model.encode(texts, pooling, normalize=True)
    assert vectors.shape == (4, 32) and vectors.dtype == np.float32
    for text, vector in zip(texts, vectors, strict=True):
        alone = model.encode([text], pooling, normalize=True)
        np.testing.assert_allclose(alone[0], vector, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    plain = model.encode(texts, pooling)
    with torch.no_grad():
        ids = torch.tensor([model.tokenizer.encode_batch(texts[:1])[0].ids])
        out = model.network.encoder(ids)
    expected = {
        "cls": out.pooler_output[0],
        "mean": out.last_hidden_state[0].mean(0),
        "max": out.last_hidden_state[0].amax(0),
    }[pooling]
    np.testing.assert_allclose(plain[0], expected.numpy(), atol=1e-5)


def test_no_text_is_no_answer(trained: Path) -> None:
    model = MultitaskModel.load(trained, device="cpu")
    assert model.predict("sst", []) == [] and model.predict("sts", []) == []
    assert model.outputs("sst", []).shape == (0, 5) and model.encode([]).shape == (0, 32)


@pytest.mark.parametrize("text", [{"text": "red"}, None, 3, float("nan"), b"red", ("red", None)])
def test_only_texts_are_texts(trained: Path, text: object) -> None:
    model = MultitaskModel.load(trained)
    task = "sts" if isinstance(text, tuple) else "sst"
    with pytest.raises(UserError, match=r"text 2: a (dict|NoneType|int|float|bytes), not a text"):
        model.predict(task, ["red cat" if task == "sst" else ("red", "cat"), text])


def test_a_best_alone_has_the_length_of_its_run(trained: Path, tmp_path: Path) -> None:
    """Copied to another place, where nothing of the run is around it."""
    shutil.copytree(trained / "best", tmp_path / "alone")
    alone = MultitaskModel.load(tmp_path / "alone", max_length=None)
    assert alone.max_length == MultitaskModel.load(trained).max_length == 32


def test_a_run_without_its_arguments_is_refused(trained: Path) -> None:
    (trained / "args.json").unlink()
    with pytest.raises(UserError, match=r"args.json: gone; put it back"):
        MultitaskModel.load(trained, device="cpu")


def test_the_longest_text_is_the_one_that_was_asked_for(trained: Path, capsys) -> None:
    command = ["--checkpoint", str(trained), "--task", "sts", "--max-length", "4", "--pair"]
    evaluate.main([*command, "red cat runs", "red cat sleeps here"])  # the same two words
    assert float(capsys.readouterr().out.split()[1]) == pytest.approx(5, abs=1e-4)


def test_from_the_command_line(trained: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    checkpoint = ["--checkpoint", str(trained)]
    assert evaluate.main([*checkpoint, "--text", "red cat runs", "--json"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("SST") and list(json.loads(out[-1])["predictions"]) == ["sst"]
    evaluate.main([*checkpoint, "--pair", "red cat runs", "red cat runs", "--json"])
    text, line = capsys.readouterr().out.splitlines()
    assert float(text.split()[1]) == pytest.approx(5, abs=1e-4)  # cosine 1
    assert json.loads(line)["predictions"] == {"sts": pytest.approx(5, abs=1e-4)}  # a number

    lines = tmp_path / "in.txt"
    lines.write_text("red cat\tblue dog\n\nold dog\told dog\n")
    output = tmp_path / "out.txt"
    evaluate.main([*checkpoint, "--input", str(lines), "--task", "sts", "--output", str(output)])
    rows = [line.split("\t") for line in output.read_text().splitlines()]
    assert [row[1:] for row in rows] == [["red cat", "blue dog"], ["old dog", "old dog"]]

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfred cat\n")))
    capsys.readouterr()
    evaluate.main([*checkpoint, "--input", "-", "--task", "sst"])
    assert capsys.readouterr().out.endswith("\tred cat\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", "a", "--pair", "b", "c"], "write one of --text, --pair and --input"),
        (["--text", "a", "--task", "no"], "task 'no': this run has sst, sts"),
        (["--text", "a", "--task", "sts"], "sts reads pairs: use --pair"),
        (["--pair", "a", "b", "--task", "sst"], "sst reads single sentences: use --text"),
        (["--text", ""], "text 1: empty sentence"),
        (["--input", "-"], "--input needs --task, one of sst, sts"),
    ],
)
def test_mistakes(trained: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate.main(["--checkpoint", str(trained), *arguments])


def test_text_needs_a_checkpoint() -> None:
    with pytest.raises(UserError, match="they go with --checkpoint RUN"):
        evaluate.main(["--emit", "f.pt", "--text", "a"])


def test_models_print_as_a_few_lines(trained: Path) -> None:
    model = MultitaskModel.load(trained, device="cpu")
    encoder = repr(model.network.encoder)
    assert encoder == ("BertModel(2 layers, 32 wide, 4 heads, 200 words, 26,720 parameters)")
    heads = ["  sst: Head(5 outputs)", "  sts: SiameseHead(cosine, cls pooling)"]
    assert repr(model.network).splitlines() == [f"MultitaskNetwork: {encoder}", *heads]
    assert repr(model).splitlines() == [
        f"MultitaskModel({model.directory}): {encoder}",
        "  sst: classification",
        "  sts: pair-similarity",
    ]


class Table:
    """What iterates over the names of its columns, as a DataFrame does."""

    columns = ("sentence",)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


def test_what_is_no_list_of_texts(trained: Path) -> None:
    model = MultitaskModel.load(trained, device="cpu")
    for texts in (Table(), {"red cat": 1}, None, 3, np.array("red cat")):
        for ask in (lambda x: model.predict("sst", x), model.encode):
            with pytest.raises(UserError, match="give a list of texts, as a column of a table"):
                ask(texts)
    expected = model.predict("sst", ["red cat", "old dog"])
    assert model.predict("sst", np.array(["red cat", "old dog"], dtype=object)) == expected
    assert model.predict("sst", [np.array("red cat"), np.array("old dog")]) == expected
    pairs = [["red cat", "a"], ["old dog", "b"]]
    assert model.predict("sts", np.array(pairs, dtype=object)) == model.predict("sts", pairs)
    with pytest.raises(UserError, match=r"task \['red cat'\]: this run has sst, sts"):
        model.outputs(["red cat"], "sst")
    with pytest.raises(UserError, match="raw is of probabilities"):
        model.predict("sst", ["red cat"], raw=True)


def test_a_copy_says_the_same(trained: Path) -> None:
    model = MultitaskModel.load(trained, device="cpu")
    for copied in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert copied.tasks["sst"].table == model.tasks["sst"].table
        for task, texts in (("sst", ["red cat"]), ("sts", [("red cat", "old dog")])):
            np.testing.assert_allclose(
                copied.outputs(task, texts), model.outputs(task, texts), atol=1e-6
            )
            assert copied.predict(task, texts) == model.predict(task, texts)
        assert np.allclose(copied.encode(["red cat"]), model.encode(["red cat"]), atol=1e-6)


def test_vectors_have_no_dropout(trained: Path) -> None:
    model = MultitaskModel.load(trained, device="cpu")
    expected = model.encode(["red cat"])
    model.network.train()
    assert np.array_equal(model.encode(["red cat"]), expected)


def test_mistakes_in_loading(world: Path) -> None:
    for folder, what in (("nowhere", "no such run; give the folder"), ("model", "give a run dir")):
        with pytest.raises(UserError, match=f"{folder}: .*{what}"):
            MultitaskModel.load(world / folder)
    for wrong in (3, "32", 10.5):
        with pytest.raises(UserError, match=f"max_length {wrong!r}: write a whole number, 4"):
            MultitaskModel.load(world / "nowhere", max_length=wrong)
    with pytest.raises(UserError, match="--device None: write auto, cpu"):
        choose_device(None)
    with pytest.raises(UserError, match="hidden_dropout: not a field of BertConfig"):
        BertModel.from_pretrained(world / "model", hidden_dropout=0.3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--probabilities"], "--probabilities does nothing beside --checkpoint without a text"),
        (["--raw"], "--raw does nothing beside --checkpoint without a text"),
        (["--text", "x", "--gold", "f"], "--gold does nothing beside --checkpoint with a text: "),
        (["--text", "x", "--data-dir", "d"], "--data-dir does nothing beside --checkpoint with a"),
        (["--model", "m"], "--model does nothing beside --checkpoint without a text: leave it out"),
        (
            ["--model", evaluate.Args.model],
            "--model does nothing beside --checkpoint without a text",
        ),
        (["--atol", "1"], "--atol does nothing beside --checkpoint"),
        (["--task-file", "f"], "--task-file does nothing beside --checkpoint"),
        (["--output", "preds.csv"], "--output preds.csv: a folder for the files of all tasks"),
    ],
)
def test_flags_that_would_do_nothing(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate.main(["--checkpoint", "run", *words])


@pytest.mark.parametrize("job", ["verify", "emit", "score"])
@pytest.mark.parametrize(
    "words",
    ["--output f", "--max-length 9", "--data-dir d", "--device cuda", "--precision bf16"],
)
def test_flags_of_a_run_do_nothing_beside_other_jobs(job: str, words: str) -> None:
    with pytest.raises(UserError, match=f"{words.split()[0]} does nothing beside --{job}: leave"):
        evaluate.main([f"--{job}", "file", *words.split()])
