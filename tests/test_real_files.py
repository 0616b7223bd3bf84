"""Files as people have them: structured values, odd labels, containers, GLUE, any name."""

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from minbert import UserError
from minbert.data.delimited import delimited_line
from minbert.data.encoded import EncodedSplit
from minbert.data.examples import Example, read_examples
from minbert.task.predictions import score_predictions, write_predictions
from minbert.task.task import Task
from minbert.task.taskfile import read_task_file
from tests.conftest import SHARED_DATA

CASES = SHARED_DATA.parent / "cases"


def task_of(folder: Path, file: str, **keys: Any) -> Task:
    table = {"kind": "classification", "text": "text", "label": "label", "labels": 2}
    table |= {"train": file, "dev": file, **keys}
    lines = (f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in table.items() if v != "")
    (folder / "t.toml").write_text("[t]\n" + "\n".join(lines) + "\n")
    return read_task_file(folder / "t.toml", folder)["t"]


def read(folder: Path, file: str, content: str | bytes, **keys: Any) -> list[Example]:
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    (folder / file).write_bytes(data)
    return read_examples(folder / file, task_of(folder, file, **keys).columns, True)[0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["a", "good", "film"], "a good film"),
        ("a \ud83d b", "a \ufffd b"),  # half an emoji, as tweets cut in the middle have it
        ({"en": "a film"}, "text: a dict is not a text"),
        ([["a"], "b"], "text: a list is not a text"),
        (True, "text: a bool is not a text"),
    ],
)
def test_a_text_is_a_text(tmp_path: Path, value: object, expected: str) -> None:
    row = json.dumps({"text": value, "label": 1}) + "\n"
    if " is not a text" in expected:
        with pytest.raises(UserError, match=f"a.jsonl:1: {expected}"):
            read(tmp_path, "a.jsonl", row)
    else:
        assert read(tmp_path, "a.jsonl", row)[0].text == expected


def test_parquet_s_bytes_words_and_structs(tmp_path: Path) -> None:
    def text_of(value: object) -> str:
        texts = value if isinstance(value, pyarrow.Array) else [value]
        parquet.write_table(pyarrow.table({"text": texts, "label": [1]}), tmp_path / "a.parquet")
        columns = task_of(tmp_path, "a.parquet").columns
        return read_examples(tmp_path / "a.parquet", columns, True)[0][0].text

    assert text_of(b"a good film") == text_of(["a", "good", "film"]) == "a good film"
    assert text_of(Decimal("4.50")) == "4.50"
    assert text_of(pyarrow.array([0.1], pyarrow.float32())) == "0.1"
    with pytest.raises(UserError, match="text: a dict is not a text"):
        text_of({"en": "a good film"})
    with pytest.raises(UserError, match=r"text: .*utf-8"):
        text_of(b"caf\xe9")
    two_bytes = [None, pyarrow.py_buffer(b"\0\0\0\0\2\0\0\0"), pyarrow.py_buffer(b"\xff\xfe")]
    broken = pyarrow.Array.from_buffers(pyarrow.string(), 1, two_bytes)
    with pytest.raises(UserError, match=r"a.parquet: a text in it is not UTF-8"):
        text_of(broken)


@pytest.mark.parametrize(
    ("labels", "value", "expected"),
    [
        ([0, 1, 2], [1, 0, 0], None),  # one 0 or 1 a class: never the set {0, 1}
        ([0, 1, 2], [1.0, 0.0, 1.0], None),
        ([0, 1], [0, 1], None),
        (["a", "b", "c"], [1, 0, 0], None),
        (["a", "b", "c"], ["a", "c"], 5.0),
        (["a", "b", "c"], "a;c", 5.0),
        (["a", "b", "c"], [], 0.0),
        (["a", "b", "c"], "a, c", None),
        ([0, 1, 2, 6, 7], "[2, 6, 7, 0]", None),
        ([0, 1, 2], [2, 0], 5.0),
        (["a", "b"], ["a;b"], None),
        (["a", "b"], ["a", "a"], None),
    ],
)
def test_sets_of_labels(
    tmp_path: Path, labels: list, value: object, expected: float | None
) -> None:
    row = json.dumps({"text": "x", "label": value}) + "\n"
    options = {"kind": "multi-label", "labels": labels}
    if expected is None:
        with pytest.raises(UserError, match=r"a\.jsonl:1: "):
            read(tmp_path, "a.jsonl", row, **options)
    else:
        assert read(tmp_path, "a.jsonl", row, **options)[0].label == expected


@pytest.mark.parametrize("labels", [["a;b", "c"], ["-", "c"]])
def test_names_that_a_set_cannot_hold(tmp_path: Path, labels: list[str]) -> None:
    (tmp_path / "a.tsv").write_text("text\tlabel\nx\tc\n")
    with pytest.raises(UserError, match="stands between a row's labels"):
        task_of(tmp_path, "a.tsv", kind="multi-label", labels=labels)


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        ('{"text":"x","label":true}\n', {"labels": ["false", "true"]}, 1.0),  # as the file has it
        ('{"text":"x","label":true}\n', {}, "label is 'true': "),
        ('{"text":"x","label":-1}\n', {"labels": 3}, "label is '-1': expected a whole number"),
        (
            '{"text":"x","label":"-"}\n',
            {"labels": ["a", "b"]},
            "label is '-': expected one of a, b",
        ),
        ('{"text":"x","label":"3.6"}\n', {"kind": "regression", "labels": ""}, 3.6),
        ('{"text":"x","label":"3,5"}\n', {"kind": "regression", "labels": ""}, "label is '3,5'"),
        ('{"text":"x","label":{"a":1}}\n', {}, "label: a dict is not a text"),
    ],
)
def test_labels_as_they_come(
    tmp_path: Path, content: str, options: dict, expected: float | str
) -> None:
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected):
            read(tmp_path, "a.jsonl", content, **options)
    else:
        assert read(tmp_path, "a.jsonl", content, **options)[0].label == expected


TABLE = "text,label\ngood,1\nbad,0\n"


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("a.csv", "\ufeff" + TABLE, 2),
        ("a.csv", TABLE.replace("\n", "\r\n"), 2),
        ("a.csv", TABLE.replace("\n", "\r"), 2),
        ("a.csv.gz", gzip.compress(TABLE.encode(), mtime=0), 2),
        ("a.jsonl.gz", gzip.compress(b'{"text":"good","label":"1"}\n', mtime=0), 1),
        ("a.JSONL", '{"text":"good","label":"1"}\n', 1),
        ("a.csv", TABLE.replace("good", "go\u2028od"), 2),
        ("a.csv.gz", gzip.compress(TABLE.encode(), mtime=0)[:-9], "a damaged .gz file"),
        ("a.csv.gz", TABLE, "not compressed by gzip; .* if it is text, take .gz off its name"),
        ("a.csv", "sep=;\n" + TABLE, "'sep=;' is Excel's; take that line out"),
        ("a.csv", TABLE.replace(",", ";"), "`;` between the columns"),
        ("a.csv", TABLE.encode("utf-16"), "UTF-16 text; save it as UTF-8"),
        ("a.csv", TABLE.encode("utf-16-le"), 'UTF-16 text; .* charset = "utf-16-le"'),
        ("a.csv", TABLE.encode("utf-16-be"), 'UTF-16 text; .* charset = "utf-16-be"'),
        ("a.csv", TABLE.replace("good", "caf\u00e9").encode("cp1252"), "a.csv:2: not UTF-8"),
        ("a.csv", b"PK\x03\x04rest", "a zip archive, an Excel workbook or a Word text; unpack it"),
        ("a.csv", "version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        ("a.json", '[{"text":"good","label":"1"}]', "found a JSON array"),
        ("a.json", '[\n {"text":"good","label":"1"}\n]', "found a JSON array"),
        ("a.jsonl", '{"text":' * 5000, "a.jsonl:1: not a line of JSON"),
        ("a.csv", "text,text,label\n17,good,1\n", "two columns are called 'text'"),
        ("a.tsv", "text\tlabel\ngood\t1\t\n", "a.tsv:2: 3 fields, the header has 2"),
    ],
)
def test_containers(tmp_path: Path, file: str, content: str | bytes, expected: int | str) -> None:
    if isinstance(expected, str):
        with pytest.raises(UserError, match=expected) as error:
            read(tmp_path, file, content)
        assert "\n" not in str(error.value)
    else:
        assert len(read(tmp_path, file, content)) == expected


GLUE = {  # layouts of the benchmark's own files, with rows made up here; quotes as they have them
    "sst-2": ({"text": "sentence"}, "sentence\tlabel\n", ['"a" film \t1', 'it "works\t1', "no\t0"]),
    "sts-b": (
        {"kind": "pair-similarity", "labels": "", "text": ["sentence1", "sentence2"],
         "label": "score"},
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n",
        ['0\tg\tf\t2012\t1\tn\tn\t"A man sings.\tA man sings."\t5.000',
         '1\tg\tf\t2012\t2\tn\tn\tHe said "go.\t"No," he said.\t1.250'],
    ),
    "qqp": (
        {"kind": "pair-classification", "text": ["question1", "question2"],
         "label": "is_duplicate"},
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n",
        ['1\t5\t6\t"How?\tHow can I?\t1', '2\t7\t8\t"What is ""it""?"\tWhat?\t0',
         '3\t9\t10\tWho "am" I?\t"Why\t0'],
    ),
    "mrpc": (
        {"kind": "pair-classification", "text": ["#1 String", "#2 String"], "label": "Quality"},
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n",
        ['1\t70\t71\t"He named him .\t"By him he was named .', "0\t80\t81\tSold .\tOpen ."],
    ),
    "cola": (
        {"text": "sentence", "columns": ["source", "label", "mark", "sentence"]},
        "", ['gj04\t1\t\tThey "saw" it.', 'gj04\t0\t*\t"They it saw.'],
    ),
    "mnli": (
        {"kind": "pair-classification", "text": ["sentence1", "sentence2"], "id": "pairID",
         "label": "gold_label", "labels": ["entailment", "neutral", "contradiction"]},
        "index\tpromptID\tpairID\tgenre\tsentence1\tsentence2\tlabel1\tgold_label\n",
        ['0\t1\t1n\tx\t"one\ttwo"\tneutral\tneutral', "1\t2\t2e\tx\ta\tb\tentailment\tentailment"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GLUE)
def test_glue_s_layouts_have_as_many_rows_as_lines(tmp_path: Path, name: str) -> None:
    keys, header, lines = GLUE[name]
    rows = read(tmp_path, "train.tsv", header + "\n".join(lines) + "\n", **keys)
    assert len(rows) == len(lines)
    for row, line in zip(rows, lines, strict=True):
        cells = [cell.strip() for cell in line.split("\t")]
        for text in (row.text, row.pair):  # as it is in the line, or with CSV's whole quotes off
            assert text is None or text in cells or '"' + text.replace('"', '""') + '"' in cells


def test_the_short_rows_of_glue_are_named(tmp_path: Path) -> None:
    """A question with a line end in it, no quotes around: two lines, none of them a row."""
    text = (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t5\t6\tHow?\tWhy?\t1\n2\t7\t8\tWas\n"
    )
    keys = GLUE["qqp"][0]
    with pytest.raises(UserError, match=r"a.tsv:3: 4 fields, the header has 6"):
        read(tmp_path, "a.tsv", text + '"\tIs there?\t0\n', **keys)


def test_public_reports_files(tmp_path: Path) -> None:
    if not CASES.is_dir():
        pytest.skip("the cases are not beside this checkout (../shared/cases)")
    folder = CASES / "02-glue-formats"
    tasks = {}
    for name in ("mrpc", "mnli", "cola", "qqp"):
        table = (folder / "tasks.toml").read_text().split(f"[{name}]")[1].split("\n\n")[0]
        (tmp_path / "t.toml").write_text(f"[{name}]{table}")
        try:
            task = read_task_file(tmp_path / "t.toml", folder)[name]
            rows, _ = read_examples(folder / f"{name}.tsv", task.columns, True)
            tasks[name] = len(rows)
        except UserError as error:
            tasks[name] = str(error)
    assert (tasks["mrpc"], tasks["mnli"]) == (2, 3)
    assert "no column 'sentence'; it has gj04" in tasks["cola"]
    assert "qqp.tsv:3: 4 fields, the header has 6" in tasks["qqp"]


@pytest.mark.parametrize(
    ("labels", "rows"),
    [
        (["neg", "pos"], [("a", "neg"), ("b", "pos")]),
        (["web 1.0", "web 2.0"], [("a", "web 1.0"), ("b", "web 2.0")]),
        (["1.0", "1"], [("a", "1.0"), ("b", "1")]),
        (["oil, gas", "pos"], [("a", "oil, gas"), ("b", "pos")]),
        (['say "no"', "pos"], [("a", 'say "no"'), ("b", "pos")]),
        (["neg", "pos"], [("7,1", "neg"), ("7,2", "pos")]),
        (["neg", "pos"], [("a\u2028b", "neg"), ("c\x85", "pos")]),
        (["neg", "pos"], [("a 1", "neg"), ("b  2", "pos")]),
        (["neg", "pos"], [("id", "neg"), ("id-1", "pos")]),
        ([1.5, 2.0], [("a", "1.5"), ("b", "2")]),
        (["=1+1", "-"], [("=cmd|' /C calc'!A0", "=1+1"), ("'=b", "-")]),
        (["-1", "+a"], [("@x", "-1"), ("'c", "+a")]),
    ],
)
def test_own_predictions_keep_any_name_and_id(
    tmp_path: Path, labels: list, rows: list[tuple[str, str]]
) -> None:
    lines = [("id", "text", "label"), *((i, "x", label) for i, label in rows)]
    data = "".join(delimited_line(line, ",") for line in lines)
    (tmp_path / "d.csv").write_text(data)
    task = task_of(tmp_path, "d.csv", labels=labels, id="id")
    gold, _ = read_examples(tmp_path / "d.csv", task.columns, True)
    label = np.array([e.label for e in gold], dtype=np.float32)
    split = EncodedSplit(
        np.array([e.id.encode() for e in gold]), label, *(np.zeros(1, np.int64),) * 3
    )
    write_predictions(tmp_path / "p", task, "dev", split, np.eye(2)[label.astype(int)])
    path = tmp_path / "p" / task.prediction_file.format(split="dev")
    found = score_predictions(path, tmp_path / "d.csv", [task])
    assert found["accuracy"] == 1.0 and found["scored"] == 2
    assert found["missing"] == found["extra"] == found["duplicate"] == 0
    assert [e.id for e in gold] == [i.strip() for i, _ in rows]
    written = path.read_text().splitlines()[1:]
    assert not any(line.lstrip('"')[:2] in ("=c", "=1", "@x") or ",=" in line for line in written)


def test_a_file_without_a_header_may_begin_with_any_id(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("id,text,label\nid-1,x,neg\nid-2,y,pos\n")
    task = task_of(tmp_path, "d.csv", labels=["neg", "pos"], id="id")
    (tmp_path / "clean.csv").write_text("id-1,neg\nid-2,pos\n")
    found = score_predictions(tmp_path / "clean.csv", tmp_path / "d.csv", [task])
    assert found["scored"] == 2 and found["accuracy"] == 1.0
