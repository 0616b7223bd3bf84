"""A run used on new texts: from Python, from the command line, from a pipe."""

import gzip
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import evaluate
from minbert import MultitaskModel, UserError
from minbert.data.examples import read_examples
from minbert.stream import BLOCK, decode, line_rows
from minbert.task.predictions import read_predictions
from tasks import TASKS
from tests.conftest import run

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def trained(world: Path) -> Path:
    run(world, "--name", "trained", "--precision", "fp32", "--pair-encoding", "siamese")
    return world / "runs" / "trained"


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


def test_a_pipe_is_answered_line_by_line(trained: Path) -> None:
    """Who types a line gets its answer before the next one."""
    command = [sys.executable, str(ROOT / "evaluate.py"), "--checkpoint", str(trained)]
    command += ["--input", "-", "--task", "sst"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for text in (b"red cat\n", b"old dog\n"):
            process.stdin.write(text)
            process.stdin.flush()
            assert process.stdout.readline().endswith(b"\t" + text)
        process.stdin.close()
    assert process.returncode == 0


def test_a_file_is_answered_in_blocks() -> None:
    text = b"red cat runs\n" * (2 * BLOCK // 13)
    file = io.BufferedReader(io.BytesIO(text))
    groups = list(line_rows(1, file.readline(), file))
    assert len(groups) <= 5 and sum(map(len, groups)) == text.count(b"\n")
    assert {row.text for group in groups for row in group} == {"red cat runs"}


def test_a_table_is_read_by_its_columns(trained: Path, tmp_path: Path) -> None:
    def answers(name: str, text: str, task: str) -> list[str]:
        source, output = tmp_path / name, tmp_path / "out"
        source.write_text(text)
        to = ["--input", str(source), "--task", task, "--output", str(output)]
        evaluate.main(["--checkpoint", str(trained), *to])
        return [line.split("\t", 1)[1] for line in output.read_text().splitlines()]

    header = "sentence1\tid\tsentence2"
    assert answers("a.tsv", f"{header}\nred cat\tq\told dog\n", "sts") == [
        "id\tsentence1\tsentence2",
        "q\tred cat\told dog",
    ]
    assert answers("a.csv", 'n,sentence\n1,"a ""red"" cat, here"\n', "sst") == [
        "sentence",
        '"a ""red"" cat, here"',
    ]
    assert answers("a.jsonl", '{"id": 7, "sentence": "red cat"}\n', "sst")[1] == "7\tred cat"
    # a table by its first line alone, and lines that are none
    assert answers("a.txt", f"{header}\nred cat\tq\told dog\n", "sts")[1] == "q\tred cat\told dog"
    assert answers("b.txt", '{"sentence": "red cat"}\n', "sst") == ["sentence", "red cat"]
    assert answers("c.txt", "a red cat, here\n", "sst") == ["a red cat, here"]
    (tmp_path / "d.txt.gz").write_bytes(gzip.compress(b"red cat\nold dog\n"))
    to = ["--input", str(tmp_path / "d.txt.gz"), "--task", "sst", "--output", str(tmp_path / "out")]
    evaluate.main(["--checkpoint", str(trained), *to])
    assert len((tmp_path / "out").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid x\n", "a Git LFS pointer"),
        (b"PK\x03\x04abc", "a zip archive"),
        (b"\xff\xfea\0", "UTF-16 text"),
        (b'[{"sentence": "red cat"}]\n', "a JSON array; write one object a line"),
        (b'[\n{"sentence": "red cat"}\n]\n', "a JSON array"),
        (b"\x1f\x8b\x08", "compressed by gzip"),
    ],
)
def test_what_is_no_text_is_named(
    trained: Path, tmp_path: Path, content: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.txt").write_bytes(content)
    command = ["--checkpoint", str(trained), "--task", "sst", "--input"]
    with pytest.raises(UserError, match=f"in.txt: {message}"):
        evaluate.main([*command, str(tmp_path / "in.txt")])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    with pytest.raises(UserError, match=f"-: {message}"):
        evaluate.main([*command, "-"])


def test_an_output_is_whole_or_the_one_of_before(trained: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "out.csv"
    source.write_bytes(b"red cat\n" * 20_000 + b"\xff\n")
    output.write_text("of before")
    command = ["--checkpoint", str(trained), "--task", "sst", "--input", str(source), "--output"]
    with pytest.raises(UserError, match="line 20001: not UTF-8"):
        evaluate.main([*command, str(output)])
    assert output.read_text() == "of before"
    assert [path.name for path in tmp_path.glob("*.new")] == []
    with pytest.raises(UserError, match=r"out.xlsx: name a .csv, .tsv or .jsonl"):
        evaluate.main([*command, str(tmp_path / "out.xlsx")])


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


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("a.csv", "id,text\n1,red cat\n", "id, text"),
        ("a.tsv", "red cat\told dog\n", "red cat, old dog"),
        ("a.jsonl", '{"text": "red cat"}\n', "text"),
    ],
)
def test_a_table_with_other_columns_is_refused_with_those_it_has(
    trained: Path, tmp_path: Path, name: str, text: str, columns: str
) -> None:
    (tmp_path / name).write_text(text)
    to = ["--input", str(tmp_path / name), "--task", "sst"]
    with pytest.raises(UserError, match=f"no column 'sentence'; it has {columns}"):
        evaluate.main(["--checkpoint", str(trained), *to])


def test_the_input_is_not_overwritten(trained: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.txt").write_text("red cat\n")
    command = ["--checkpoint", str(trained), "--input", "in.txt", "--task", "sst", "--output"]
    with pytest.raises(UserError, match="that is the --input; name another file"):
        evaluate.main([*command, f"{tmp_path}/in.txt"])
    assert Path("in.txt").read_text() == "red cat\n"
    evaluate.main([*command, "-"])
    assert capsys.readouterr().out.endswith("\tred cat\n") and not Path("-").exists()


def test_the_screen_gets_no_escape_codes_and_a_file_the_text_as_it_is(
    trained: Path, tmp_path: Path, capsys
) -> None:
    (tmp_path / "in.txt").write_bytes(b"red\x1b[31m cat\x07\xc2\x9b\n")
    (tmp_path / "in.csv").write_bytes(b'sentence,id\n"red\x1b[31m\tcat",\x1b\n')
    for name in ("in.txt", "in.csv"):
        command = ["--checkpoint", str(trained), "--task", "sst", "--input", str(tmp_path / name)]
        evaluate.main(command)
        out = capsys.readouterr().out
        assert "red\\x1b[31m" in out and not {*"\x1b\x07\x9b"} & {*out}
        evaluate.main([*command, "--output", str(tmp_path / "out")])
        assert b"red\x1b[31m" in (tmp_path / "out").read_bytes()


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
    evaluate.main([*checkpoint, "--pair", "red cat runs", "red cat runs"])
    assert float(capsys.readouterr().out.split()[1]) == pytest.approx(5, abs=1e-4)  # cosine 1

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
        (["--text", "a", "--task", "sts"], "text 1: expected 2 sentences, found 1"),
        (["--text", ""], "text 1: empty sentence"),
        (["--input", "-"], "--input needs --task, one of sst, sts"),
    ],
)
def test_mistakes(trained: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate.main(["--checkpoint", str(trained), *arguments])


def test_text_needs_a_checkpoint() -> None:
    with pytest.raises(UserError, match="write one of"):
        evaluate.main(["--text", "a"])


def test_a_reader_that_leaves_is_no_error(trained: Path, tmp_path: Path) -> None:
    lines = tmp_path / "in.txt"
    lines.write_text("red cat\n" * 50000)  # more than a pipe holds
    command = [sys.executable, str(ROOT / "evaluate.py"), "--checkpoint", str(trained)]
    command += ["--input", str(lines), "--task", "sst"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline().endswith(b"\tred cat\n")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_file_that_is_missing_is_named(trained: Path) -> None:
    command = [sys.executable, str(ROOT / "evaluate.py"), "--checkpoint", str(trained)]
    command += ["--input", "no.tsv", "--task", "sst"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr == "error: no.tsv: No such file or directory\n"


def test_bytes_that_are_no_text_are_named() -> None:
    assert decode(b"\xef\xbb\xbfa\r", 1) == "a" and decode(b"\xc3\xa9", 2) == "\u00e9"
    with pytest.raises(UserError, match="line 2: not UTF-8"):
        decode(b"caf\xe9", 2)


def test_a_broken_line_is_named() -> None:
    lines = io.BytesIO(b"a\tb\nonly one\n")
    with pytest.raises(UserError, match="line 2: expected two sentences with a tab between"):
        list(line_rows(2, lines.readline(), lines))


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
