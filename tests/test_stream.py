"""Texts of a user's as they come: files, tables and pipes, and where their answers go."""

import gzip
import io
import json
import os
import select
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

import evaluate
import train_multitask
from minbert import MultitaskModel, UserError
from minbert.cli import run_script
from minbert.data.examples import Columns
from minbert.data.tables import Dialect
from minbert.files import write_text
from minbert.printable import silence
from minbert.report.__main__ import main as report
from minbert.task.inputs import BLOCK, ROWS, line_rows, table_ending, table_rows
from tests.conftest import arguments
from tests.processes import SECONDS

ROOT = Path(__file__).resolve().parents[1]


def test_a_pipe_is_answered_line_by_line(trained: Path) -> None:
    """Who types a line gets its answer before the next one."""
    command = [sys.executable, str(ROOT / "evaluate.py"), "--checkpoint", str(trained)]
    command += ["--input", "-", "--task", "sst"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for text in (b"red cat\n", b"old dog\n"):
            process.stdin.write(text)
            process.stdin.flush()
            assert select.select([process.stdout], [], [], SECONDS)[0], "no answer to a line"
            assert process.stdout.readline().endswith(b"\t" + text)
        process.stdin.close()
    assert process.returncode == 0


def test_a_file_is_answered_in_blocks() -> None:
    text = b"red cat runs\n" * (2 * BLOCK // 13)
    file = io.BufferedReader(io.BytesIO(text))
    groups = list(line_rows(Columns(("text",), "label"), file.readline(), file))
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


def test_an_output_is_whole_or_stays_as_it_was(trained: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "out.csv"
    source.write_bytes(b"red cat\n" * 20_000 + b"\xff\n")
    output.write_text("older")
    command = ["--checkpoint", str(trained), "--task", "sst", "--input", str(source), "--output"]
    with pytest.raises(UserError, match="line 20001: not UTF-8"):
        evaluate.main([*command, str(output)])
    assert output.read_text() == "older"
    assert [path.name for path in tmp_path.glob("*.new")] == []
    for name in ("out.xlsx", "out.conll"):
        with pytest.raises(UserError, match=f"{name}: name a .csv, .tsv or .jsonl"):
            evaluate.main([*command, str(tmp_path / name)])
    source.write_bytes(b"red cat\n")
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(IsADirectoryError, match=tmp_path.name),
    ):
        patch.setattr(MultitaskModel, "answers", None)  # before anything is predicted
        evaluate.main([*command, str(tmp_path)])


def test_the_rows_of_a_large_file_are_counted_while_they_are_checked_and_predicted(
    trained: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minbert.progress.LINE_EVERY_S", 0)
    (tmp_path / "in.txt").write_text("red cat\nold dog\n")
    command = ["--checkpoint", str(trained), "--task", "sst", "--input", str(tmp_path / "in.txt")]
    evaluate.main([*command, "--output", str(tmp_path / "out.csv")])
    said = capsys.readouterr().out
    assert "in.txt: rows checked: 2\n" in said and "in.txt: rows: 2\n" in said
    evaluate.main(command)  # whose answers are the output
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("a.csv", "id,text\n1,red cat\n", "id, text"),
        ("a.tsv", "red cat\told dog\n", "red cat, old dog"),
        ("a.jsonl", '{"text": "red cat"}\n', "text"),
        ("a.txt", '{"text": "red cat"}\n', "text"),  # an object of JSON is no sentence
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


def test_an_output_may_be_a_shell_s_pipe() -> None:
    """As >(command), which has a name in /dev/fd alone."""
    reader, writer = os.pipe()
    write_text(Path(f"/dev/fd/{writer}"), "piped")
    assert os.read(reader, 9) == b"piped"
    os.close(reader)
    os.close(writer)


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


def test_lines_may_be_in_the_encoding_of_the_task_s_files() -> None:
    columns = Columns(("sentence",), "label", dialect=Dialect(charset="cp1252"))
    lines = io.BytesIO(b"caf\xe9\r\ncaf\xc3\xa9\n")
    rows = [row.text for group in line_rows(columns, lines.readline(), lines) for row in group]
    assert rows == ["caf\u00e9", "caf\u00e9"]


def test_a_table_s_ids_are_kept_and_rows_without_a_text_left_out(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also for the course's tasks, whose own files have small ids and no empty text."""
    source, output = tmp_path / "in.tsv", tmp_path / "out.jsonl"
    source.write_text("id\tsentence\nABC\tred cat\nDEF\t\nGhI\told dog\n")
    to = ["--input", str(source), "--task", "sst", "--output", str(output)]
    evaluate.main(["--checkpoint", str(trained), *to])
    assert [json.loads(line)["id"] for line in output.open()] == ["ABC", "GhI"]
    assert "in.tsv: left out: " in capsys.readouterr().err


def test_a_table_in_a_pipe_has_the_pipe_s_name(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not that of the file which it is copied to."""
    command = ["--checkpoint", str(trained), "--task", "sst", "--input", "-"]
    for rows, message in (("1\tred cat\n2\n", r"^-:3: 1 fields"), ("1\tred cat\n2\t\n", "")):
        content = io.BytesIO(f"id\tsentence\n{rows}".encode())
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(content))
        with pytest.raises(UserError, match=message) if message else nullcontext():
            evaluate.main(command)
    assert "\n-: left out: " in "\n" + capsys.readouterr().err


def test_one_column_is_a_table_whose_commas_are_text(trained: Path, tmp_path: Path) -> None:
    """As `cut -f 3` leaves it."""
    (tmp_path / "in.txt").write_text('sentence\nred, old cat\n"red" cat\n"old, new"\n')
    to = ["--input", str(tmp_path / "in.txt"), "--task", "sst", "--output"]
    evaluate.main(["--checkpoint", str(trained), *to, str(tmp_path / "out.jsonl")])
    texts = [json.loads(line)["text"] for line in (tmp_path / "out.jsonl").open()]
    assert texts == ["red, old cat", '"red" cat', "old, new"]


def test_what_begins_as_json_and_is_none_is_a_sentence() -> None:
    columns = Columns(("sentence",), "label")
    assert table_ending(b"{curly} red cat\n", columns, has_commas=False) == ""
    assert table_ending(b'{"sentence": "red"}\n', columns, has_commas=False) == ".jsonl"


def test_a_comma_is_no_sign_of_a_table_whose_columns_have_no_names() -> None:
    named = ("label", "sentence")
    columns = Columns(("sentence",), "label", dialect=Dialect(names=named))
    assert table_ending(b"A warm, clever film.\n", columns, has_commas=False) == ""
    assert table_ending(b"1,A warm film.\n", columns, has_commas=True)
    assert table_ending(b"1\tA warm, clever film.\n", columns, has_commas=False) == ".tsv"
    assert table_ending(b"\tA film without a label.\n", columns, has_commas=False) == ".tsv"
    assert not table_ending(b" \r\n", columns, has_commas=False)
    columns = Columns(("sentence",), "label", dialect=Dialect(names=named, delimiter=","))
    assert table_ending(b"1,A warm film.\n", columns, has_commas=False)


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no such names of files")
def test_what_an_encoding_lacks_is_escaped_where_it_is_printed(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run's name, of a text and of bytes that are no UTF-8 in a file's name, as Linux has."""
    (world / "caf\udce9.txt").write_text("red caf\u00e9\n", encoding="utf-8")
    train = arguments(world, "--name", "caf\u00e9", "--tasks", "sst", "--epochs", "1")
    name, page = str(world / "runs/caf\u00e9"), str(world / "\udce9.html")
    texts = ["--task", "sst", "--input", str(world / "caf\udce9.txt")]
    for main, argv, shown in (
        (train_multitask.main, train, b"runs/caf\\xe9: steps 0 to 5"),
        (evaluate.main, ["--checkpoint", name, *texts], b"\tred caf\\xe9\n"),
        (report, [name, "--output", page], b"\\udce9.html"),
    ):
        stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
            patch.setattr("sys.stdout", stdout)
            patch.setattr("sys.argv", ["", *argv])
            run_script(main)
        stdout.flush()
        assert end.value.code == 0 and shown in stdout.buffer.getvalue()


def test_what_is_silenced_may_be_any_text() -> None:
    with silence(True):
        print("caf\udce9")  # as a letter that the locale's encoding lacks


def test_every_row_of_a_long_table_is_answered(tmp_path: Path) -> None:
    ids = [f"k{i}" for i in range(2 * ROWS + 3)]
    (tmp_path / "a.tsv").write_text("id\ttext\n" + "".join(f"{id_}\tred cat\n" for id_ in ids))
    _, groups = table_rows(tmp_path / "a.tsv", Columns(("text",), "label"), "a.tsv")
    assert [row.id for group in groups for row in group] == ids


@pytest.mark.parametrize("header", ["id,text", "text\tid", '"text","id"', "id;text", "text"])
def test_a_table_of_another_program_may_have_commas_or_tabs(tmp_path: Path, header: str) -> None:
    """As evaluate.py's own --output has, of a task whose training files have semicolons."""
    columns = Columns(("text",), "label", id="", dialect=Dialect(delimiter=";"))
    assert table_ending(header.encode(), columns, has_commas=True)
    delimiter = next((mark for mark in ",\t;" if mark in header), "")
    cells = ["red cat" if "text" in name else "7" for name in header.split(delimiter or None)]
    for ending in (".csv", ".tsv"):
        path = tmp_path / f"in{ending}"
        path.write_text(f"{header}\n{delimiter.join(cells)}\n")
        _, groups = table_rows(path, columns, path.name)
        assert [row.text for group in groups for row in group] == ["red cat"]


def test_a_table_that_no_delimiter_fits_is_refused_as_the_task_s_files_are(tmp_path: Path) -> None:
    columns = Columns(("text",), "label", id="", dialect=Dialect(delimiter=";"))
    (tmp_path / "in.csv").write_text("id;body\n7;red cat\n")
    with pytest.raises(UserError, match=r"in.csv:1: no column 'text'; it has id, body"):
        table_rows(tmp_path / "in.csv", columns, "in.csv")
