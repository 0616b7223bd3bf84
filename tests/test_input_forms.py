"""Inputs in the forms of a task's own training files, and tables with and without a header."""

import io
from pathlib import Path

import pytest

import evaluate
import train_multitask
from minbert import UserError
from minbert.data.examples import read_examples
from minbert.task.inputs import open_input
from minbert.task.task import Task
from minbert.task.taskfile import make_task
from tests.own_tasks import arguments

KEYS = {"kind": "classification", "text": "text", "label": "queue", "labels": ["lamp", "kettle"]}


def task(**keys: object) -> Task:
    return make_task("own", {**KEYS, "train": "train.txt", **keys})


def texts_of(source: str, own: Task) -> list[str]:
    with open_input(source, own) as (_, groups):
        return [row.text for group in groups for row in group]


LINES = "lamp ||| a red lamp\n ||| it sings; loudly\n"


@pytest.mark.parametrize("name", ["in.txt", "in.csv", "-"])
@pytest.mark.parametrize("charset", ["", "cp1252"])
def test_lines_of_label_and_text_are_predicted_without_the_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, charset: str
) -> None:
    own = task(**({"charset": charset} if charset else {}))
    raw = (LINES + "lamp ||| caf\u00e9\n").encode(charset or "utf-8")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))
    (tmp_path / "in").write_bytes(raw)
    if name != "-":
        (tmp_path / "in").rename(tmp_path / name)
        name = str(tmp_path / name)
    assert texts_of(name, own) == ["a red lamp", "it sings; loudly", "caf\u00e9"]


@pytest.mark.parametrize("blank", ["\n", "\ufeff \r\n\n"])
@pytest.mark.parametrize(
    "text",
    ["text\tqueue\nred\tlamp\n", '{"text": "red"}\n', "lamp ||| red\n", "red\n", "red"],
)
def test_blank_lines_before_an_input_are_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blank: str, text: str
) -> None:
    raw = (blank + text).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))
    (tmp_path / "in.txt").write_bytes(raw)
    for source in ("-", str(tmp_path / "in.txt")):
        assert texts_of(source, task()) == ["red"]


def test_bars_in_a_text_are_text(tmp_path: Path) -> None:
    """What stands before them is no label of the task."""
    (tmp_path / "in.txt").write_text("a red ||| lamp\nold\n")
    assert texts_of(str(tmp_path / "in.txt"), task()) == ["a red ||| lamp", "old"]


def test_lines_of_label_and_text_are_answered_with_line_numbers_as_ids(own: Path) -> None:
    rows = [f"{('lamp', 'kettle')[n % 2]} ||| cat {n} runs\n" for n in range(12)]
    (own / "data/bars.txt").write_text("".join(rows))
    (own / "own.toml").write_text(
        '[bars]\nkind = "classification"\ntrain = "bars.txt"\ndev = "bars.txt"\ntext = "text"\n'
        'label = "queue"\nlabels = ["lamp", "kettle"]\n'
    )
    train_multitask.main([*arguments(own), "--tasks", "bars", "--skip-predictions"])
    files = ["--input", str(own / "data/bars.txt"), "--output", str(own / "out.csv")]
    assert evaluate.main(["--checkpoint", str(own / "runs/own"), *files]) == 0
    head, first, *_ = (own / "out.csv").read_text().splitlines()
    assert head.startswith("id,label,") and first.startswith("1,") and first.endswith(",cat 0 runs")
    gold = ["--gold", str(own / "data/bars.txt"), "--task-file", str(own / "own.toml")]
    assert evaluate.main(["--score", str(own / "out.csv"), *gold]) == 0


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_in_utf_16_is_read_whatever_its_ending(tmp_path: Path, end: str) -> None:
    """As Excel's "Unicode Text" is, which has tabs and the ending .txt."""
    own, path = task(charset="utf-16"), tmp_path / "new.txt"
    path.write_bytes(end.join(["text\tqueue", "caf\u00e9\tlamp", ""]).encode("utf-16"))
    assert texts_of(str(path), own) == ["caf\u00e9"]
    path.write_text("caf\u00e9\nred\n", encoding="utf-8")
    assert texts_of(str(path), own) == ["caf\u00e9", "red"]
    path.write_bytes("caf\u00e9\n".encode("utf-16"))
    with pytest.raises(UserError, match=r"new.txt: UTF-16 text; save it as UTF-8"):
        texts_of(str(path), task(charset="cp1252"))


def test_a_table_in_another_charset_that_is_no_text_is_called_what_it_is(tmp_path: Path) -> None:
    own = task(charset="cp1252")
    for content, what in (
        (b"PK\x03\x04\x9d", "a zip archive, an Excel workbook"),
        ("text\tqueue\n".encode("utf-16"), "UTF-16 text"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ):
        (tmp_path / "may.csv").write_bytes(content)
        with pytest.raises(UserError, match=f"may.csv: {what}"):
            read_examples(tmp_path / "may.csv", own.columns, True)


@pytest.mark.parametrize("head", ["text,queue", "queue, text", '"queue","text"'])
def test_names_of_columns_in_a_file_that_has_a_header_are_one_too_many(
    tmp_path: Path, head: str
) -> None:
    own = task(columns=["text", "queue"], bad_rows=0.5)
    (tmp_path / "a.csv").write_text(f"{head}\nred,lamp\n")
    with pytest.raises(UserError, match=r"a.csv:1: the file has a header: take `columns` out"):
        read_examples(tmp_path / "a.csv", own.columns, labelled=True)
    (tmp_path / "a.txt").write_text(f"{head}\nred,lamp\n")
    with pytest.raises(UserError, match="the input's first line is a header, which `columns`"):
        texts_of(str(tmp_path / "a.txt"), own)
    (tmp_path / "a.csv").write_text("text,lamp\nred,lamp\n")
    assert len(read_examples(tmp_path / "a.csv", own.columns, labelled=True)[0]) == 2


def test_objects_of_another_ending(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_text('{"text": "red", "queue": "lamp"}\n')
    (row,) = read_examples(path, task().columns, labelled=True)[0]
    assert (row.text, row.label) == ("red", 0) and texts_of(str(path), task()) == ["red"]


def test_a_table_with_semicolons_is_no_text_of_sentences(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("id;text\n7;red\n")
    with pytest.raises(UserError, match="the input's first line: `;` between the columns"):
        texts_of(str(tmp_path / "in.txt"), task())
    (tmp_path / "in.txt").write_text("sep=;\nid;text\n7;red\n")
    with pytest.raises(UserError, match="the input's first line: 'sep=;' is Excel's; take that"):
        texts_of(str(tmp_path / "in.txt"), task())
