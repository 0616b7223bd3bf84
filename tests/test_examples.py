"""Data files as people have them -> examples; what is broken is named with file and line."""

from dataclasses import replace
from pathlib import Path

import pytest

from minbert import UserError
from minbert.data.examples import Columns, read_examples
from minbert.data.unlabelled import read_unlabelled
from tasks import TASKS

SST, STS = TASKS["sst"].columns, TASKS["sts"].columns


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    "text",
    [
        '\tid\tsentence\tsentiment\n0\t A1 \t kites fly \t3\n1\tb2\t"it\'s ""fine"""\t0.0\n',
        '\ufeff\tid\tsentence\tsentiment\r\n0\ta1\tkites fly\t3\r\n1\tb2\t"it\'s ""fine"""\t0\r\n',
        'id,sentence,sentiment\na1,kites fly,3\nb2,"it\'s ""fine""",0\n',
        'sentiment\tsentence\tid\n3\tkites fly\ta1\n0\t"it\'s ""fine"""\tb2',
    ],
    ids=["course", "bom-crlf", "comma", "other-order"],
)
def test_forms_of_the_same_file(tmp_path: Path, text: str) -> None:
    examples, unlabelled = read_examples(write(tmp_path / "f.csv", text), SST, True)
    assert [(e.id, e.text, e.pair, e.label) for e in examples] == [
        ("a1", "kites fly", None, 3.0),
        ("b2", 'it\'s "fine"', None, 0.0),
    ]
    assert unlabelled.counts.total() == 0


def test_what_takes_long_to_read_is_shown(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("minbert.progress.LINE_EVERY_S", 0)
    path = write(tmp_path / "f.csv", "id,sentence,sentiment\na1,kites fly,3\n")
    for what, shown in (("f.csv: rows", "f.csv: rows: 1\n"), ("", "")):
        read_examples(path, SST, True, what)
        assert capsys.readouterr().out == shown


def test_cmu_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "f.txt", "\n3 ||| kites fly\n\n0 ||| it rains\n")
    examples, _ = read_examples(path, SST, True)
    assert [(e.id, e.text, e.label) for e in examples] == [
        ("2", "kites fly", 3.0),
        ("4", "it rains", 0.0),
    ]


def test_objects_of_json_need_not_all_have_all_keys(tmp_path: Path) -> None:
    """Those of the first one neither: ids are not dropped for it, nor labels missed."""
    rows = '{"sentence": "it rains"}\n{"id": "x", "sentence": "kites fly", "sentiment": 3}\n'
    path = write(tmp_path / "f.jsonl", rows)
    with pytest.raises(UserError, match=r"f.jsonl:1: empty id; every row needs one"):
        read_unlabelled(path, SST, "f.jsonl")
    columns = replace(SST, id="", bad_rows=0.5, course=False)
    examples, left_out = read_examples(path, columns, True)
    assert [(e.text, e.label) for e in examples] == [("kites fly", 3.0)]
    assert "without a label (line 1)" in left_out.summary()


def test_commas_inside_fields_and_shifted_header(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", '0\t\tid\tsentence\n1\t0.0\tx\ta, b, "c"\n')
    examples, _ = read_examples(path, SST, False)
    assert (examples[0].id, examples[0].text, examples[0].label) == ("x", 'a, b, "c"', None)


def test_labels_stay_floats(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "id\tsentence1\tsentence2\tsimilarity\n1\ta\tb\t4.6\n")
    assert read_examples(path, STS, True)[0][0].label == 4.6


def test_rows_without_label_are_counted(tmp_path: Path) -> None:
    rows = "id\tsentence1\tsentence2\tsimilarity\n1\ta\tb\t\n2\ta\tb\t1\n3\ta\t\t\n"
    examples, unlabelled = read_examples(write(tmp_path / "s.csv", rows), STS, True)
    assert [e.id for e in examples] == ["2"] and unlabelled.counts.total() == 2


HEAD = "id\tsentence\tsentiment\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "1\tgood\t7\n", r"f\.csv:2: sentiment is '7'.*from 0 to 4"),
        (HEAD + "1\tgood\tvery\n", r"f\.csv:2: sentiment is 'very'"),
        (HEAD + "1\tgood\tnan\n", r"f\.csv:2: sentiment is 'nan'"),
        (HEAD + "1\tgood\t1\n1\tbad\t0\n", r"f\.csv:3: id '1' is on line 2 already"),
        (HEAD + "\tgood\t1\n", r"f\.csv:2: empty id"),
        (HEAD + "x" * 1001 + "\tgood\t1\n", r"f\.csv:2: an id of 1001 characters; is id the id"),
        (HEAD + "1\tgood\t1\n2\tbad\n", r"f\.csv:3: 2 fields, the header has 3"),
        (HEAD + "1\t \t1\n", r"f\.csv:2: empty sentence"),
        (HEAD, r"f\.csv: no row in it but the columns"),
        (HEAD + "1\tgood\t\n", r"f\.csv: no usable row.*1 without a label"),
        ("", r"f\.csv: the file is empty"),
        ("id\ttext\tsentiment\n1\tgood\t1\n", r"f\.csv:1: no column 'sentence'.*id, text"),
        ("1 ||| fine\n2 || bad\n", r"f\.csv:2: expected `label \|\|\| sentence`"),
    ],
)
def test_malformed_rows(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        read_examples(write(tmp_path / "f.csv", text), SST, True)
    assert "\n" not in str(error.value)


def test_an_accent_of_its_own_in_a_column_s_name(tmp_path: Path) -> None:
    """A header that was typed on macOS looks the same and is another text."""
    path = write(tmp_path / "f.csv", "phrase re\u0301elle\tsentiment\nbon\t1\n")
    columns = replace(SST, texts=("phrase r\u00e9elle",), id="")
    with pytest.raises(UserError, match=r"no column 'phrase r.elle'.*copy the name from there"):
        read_examples(path, columns, True)


def test_not_utf8_and_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", HEAD + "1\tgood\t1\n2\tcaf\xe9\t1\n", "latin-1")
    with pytest.raises(UserError, match=r"f\.csv:3: not UTF-8"):
        read_examples(path, SST, True)
    with pytest.raises(UserError, match=r"none\.csv: no such file; fetch .* point --data-dir"):
        read_examples(tmp_path / "none.csv", SST, True)


def test_all_real_files_are_read(real_data: Path) -> None:
    """SST and STS have as many rows as the data's own README says."""
    counts = {}
    for task in TASKS.values():
        for split, (file,) in task.files.items():
            counts[file] = len(read_examples(real_data / file, task.columns, split != "test")[0])
    assert counts["ids-sst-train.csv"] == 8544 and counts["ids-sst-dev.csv"] == 1101
    assert counts["quora-train.csv"] > 141_000 and counts["sts-train.csv"] == 6040


def test_the_share_that_is_advised_is_enough(tmp_path: Path) -> None:
    """7 of 45 rows are 15.6 %."""
    path = write(tmp_path / "f.csv", "text,label\n" + "red,1\n" * 38 + "red,\n" * 7)
    columns = Columns(("text",), "label", id="")
    with pytest.raises(UserError, match=r"bad_rows = 0\.16 in the task file leaves them out$"):
        read_examples(path, columns, True)
    assert len(read_examples(path, replace(columns, bad_rows=0.16), True)[0]) == 38


@pytest.mark.parametrize("labelled", [True, False])  # texts to predict on have no labels
def test_a_header_alone_is_no_row_without_a_label(tmp_path: Path, labelled: bool) -> None:
    (tmp_path / "a.csv").write_text("text,label\n,\n")
    with pytest.raises(UserError, match=r"a.csv: no row in it but the columns' names$"):
        read_examples(tmp_path / "a.csv", Columns(("text",), "label", id=""), labelled)
