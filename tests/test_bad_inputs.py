"""Inputs that cannot be read, from files and pipes: one line, and nothing that is lost."""

import gzip
import io
from pathlib import Path

import pytest

import evaluate
from minbert import UserError
from minbert.data.examples import Columns
from minbert.task.inputs import decode, line_rows
from tests import forked


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid x\n", "a Git LFS pointer"),
        (b"PK\x03\x04abc", "a zip archive"),
        (b"\xff\xfea\0", "UTF-16 text"),
        (b'[{"sentence": "red cat"}]\n', "a JSON array; write one object a line"),
        (b'[\n{"sentence": "red cat"}\n]\n', "a JSON array"),
        (b'\xef\xbb\xbf[{"sentence": "red cat"}]\n', "a JSON array"),
        (b'{\n"sentence": "red cat"\n}\n', "an object over several lines"),
        (b"\x1f\x8b\x08", "compressed by gzip"),
        (b"\xd0\xcf\x11\xe0\xa1", "an old Excel workbook or Word text; save it as CSV"),
        (b"BZh61AY&SYabc", "compressed by bzip2; unpack it with `bunzip2`"),
        (b"\xfd7zXZ\0abc", "compressed by xz; unpack it with `unxz`"),
        (b"\x28\xb5\x2f\xfdabc", "compressed by zstd; unpack it with `unzstd`"),
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04abc", "a zip archive"),
        (b"BZh61AY&SYabc", "compressed by bzip2"),
        (b"red cat\n", "not compressed by gzip; .* if it is text, take .gz off its name"),
        (b"\x1f\x8b\x08", "a damaged .gz file"),
    ],
)
def test_what_is_no_gzip_under_its_ending_is_named(
    trained: Path, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "in.txt.gz").write_bytes(content)
    with pytest.raises(UserError, match=f"in.txt.gz: {message}"):
        evaluate.main(
            ["--checkpoint", str(trained), "--task", "sst", "--input", str(tmp_path / "in.txt.gz")]
        )


def test_a_file_that_is_missing_is_named(trained: Path) -> None:
    command = ["--checkpoint", str(trained), "--input", "no.tsv", "--task", "sst"]
    ended = forked.run("evaluate", command, trained)
    assert ended.code == 2
    assert ended.err == "error: no.tsv: No such file or directory\n"


def test_a_closed_standard_input_is_named(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UserError, match=r"^--input -: standard input is closed; pipe texts to it"):
        evaluate.main(["--checkpoint", str(trained), "--task", "sst", "--input", "-"])


def test_bytes_that_are_no_text_are_named() -> None:
    assert decode(b"\xef\xbb\xbfa\r", 1, "") == "a" and decode(b"\xc3\xa9", 2, "") == "\u00e9"
    with pytest.raises(UserError, match=r"line 2: not UTF-8 \("):
        decode(b"caf\xe9", 2, "")
    with pytest.raises(UserError, match=r"line 2: not UTF-8 or cp1252 \("):
        decode(b"caf\x81", 2, "cp1252")
    with pytest.raises(UserError, match="line 2: not UTF-8 or utf-16"):
        decode(b"caf\xe9", 2, "utf-16")


def test_a_broken_line_is_named_after_the_answers_to_those_before_it() -> None:
    lines, found = io.BytesIO(b"a\tb\nc\td\nonly one\n"), []
    with pytest.raises(UserError, match="line 3: expected two sentences with a tab between"):
        found.extend(line_rows(Columns(("a", "b"), "label"), lines.readline(), lines))
    assert [row.text for group in found for row in group] == ["a", "c"]


@pytest.mark.parametrize("ending", [".txt", ".txt.gz"])
def test_a_file_with_a_broken_line_is_refused_before_the_work(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    source, pack = tmp_path / f"in{ending}", gzip.compress if ending.endswith("gz") else bytes
    command = ["--checkpoint", str(trained), "--task", "sst", "--input", str(source)]
    source.write_bytes(pack(b"red cat\n" * 20_000 + b"\xff\n"))
    with pytest.raises(UserError, match="line 20001: not UTF-8"):
        evaluate.main(command)
    assert capsys.readouterr().out == ""
    source.write_bytes(pack(b"red cat\nold dog\n"))
    evaluate.main(command)
    assert [x.split("\t")[1] for x in capsys.readouterr().out.split("\n")[:2]] == [
        "red cat", "old dog",
    ]  # fmt: skip
