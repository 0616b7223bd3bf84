"""Rows that cannot be used, other delimiters and encodings: read if the task file says so."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

import evaluate
import pretrain_mlm
import train_multitask
from minbert import UserError
from minbert.data.examples import Example, read_examples
from minbert.data.tokenizer import BertTokenizer
from minbert.task.loading import DataSource, load_task
from minbert.task.predictions import score_predictions
from minbert.task.taskfile import read_task_file, read_tasks
from tests.conftest import logged
from tests.own_tasks import OWN, arguments
from tests.test_real_files import read, task_of

ROWS = ["text,label", *(f"film {n},{n % 2}" for n in range(40))]


def table(*changed: tuple[int, str]) -> str:
    """Return forty rows, the first on line 2, with some lines changed."""
    lines = ROWS.copy()
    for line, text in changed:
        lines[line - 1] = text
    return "\n".join(lines) + "\n"


BAD = table((3, "film,"), (7, ",1"), (8, " ,0"), (9, ",1"), (12, ",1"), (20, "film,7"))


def test_a_share_of_the_rows_is_left_out_and_said(own: Path, capsys) -> None:
    (own / "data/a.csv").write_text(BAD)
    task = task_of(own / "data", "a.csv", bad_rows=0.2)
    tokenizer = BertTokenizer.from_directory(own / "model")
    said = (
        "a.csv: 34 rows, the last on line 41; left out: 1 without a label (line 3), 4 with an "
        "empty text (lines 7, 8, 9 ...), 1 with another label ('7', line 20)"
    )
    for _ in range(2):  # from the file, from the cache
        split = load_task(task, "train", tokenizer, DataSource(own / "data", own / "ids", 16))
        assert said in capsys.readouterr().out and len(split) == 34
        assert not {"3", "7", "8", "9", "12", "20"} & {*split.id_strings()}


@pytest.mark.parametrize(("dev", "of_dev"), [("b.csv", {"dev": {"without a label": 1}}), (0.5, {})])
def test_a_run_s_log_and_card_count_what_is_left_out(own: Path, dev: Any, of_dev: dict) -> None:
    """Also of a limited set, from the cache and with --quiet; drawn dev rows are train's."""
    for name, text in (("a.csv", BAD), ("b.csv", table((5, "film,")))):
        (own / "data" / name).write_text(text)
    keys = 'kind = "classification"\ntrain = "a.csv"\ntext = "text"\nlabel = "label"\nlabels = 2\n'
    (own / "own.toml").write_text(f"[own]\n{keys}bad_rows = 0.2\ndev = {json.dumps(dev)}\n")
    train = {"without a label": 1, "with an empty text": 4, "with another label": 1}
    argv = [*arguments(own), "--quiet", "--limit", "8", "--name"]
    for name in ("first", "again"):
        train_multitask.main([*argv, name])
        (line,) = logged(own / "runs" / name, "start")
        assert line["left_out"] == {"own": {"train": train, **of_dev}}
        card = (own / "runs" / name / "README.md").read_text()
        said = ", ".join(f"{count} {reason}" for reason, count in train.items())
        assert f"| a.csv | 8; left out: {said} |" in card
        assert ("; left out: 1 without a label |" in card) == bool(of_dev)
    pretrain_mlm.main([*argv, "mlm", "--held-out", "0"])
    assert logged(own / "runs/mlm", "start")[0]["left_out"] == {"own": {"train": train}}


def test_no_label_at_all_is_written_as_a_sign(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\nred cat,\nold dog,-\n")
    toml = '[a]\nkind = "multi-label"\ntrain = "a.csv"\ntext = "x"\nlabel = "y"\nlabels = [1, 2]\n'
    columns = read_tasks(toml, "own.toml", None)["a"].columns
    with pytest.raises(UserError, match=r"a.csv:2: no y; fill it in, - for none; 1 of 2 rows"):
        read_examples(tmp_path / "a.csv", columns, labelled=True)


def test_above_the_share_all_counts_come_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(BAD)
    message = (
        r"a.csv:3: no label; fill it in; 6 of 40 rows cannot be used: 1 without a label "
        r"\(line 3\), 4 with an empty text \(lines 7, 8, 9 \.\.\.\), "
        r"1 with another label \('7', line 20\); "
        r"bad_rows = 0.15 in the task file leaves them out"
    )
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, "a.csv", BAD)
    assert "\n" not in str(error.value)
    assert len(read(tmp_path, "a.csv", BAD, bad_rows=0.15)) == 34


@pytest.mark.parametrize(("bad", "kept"), [(2, 38), (3, None)])
def test_a_twentieth_is_the_default(tmp_path: Path, bad: int, kept: int | None) -> None:
    text = table(*((line, "film,") for line in range(2, 2 + bad)))
    if kept:
        assert len(read(tmp_path, "a.csv", text)) == kept
    else:
        with pytest.raises(UserError, match=r"3 of 40 rows cannot be used"):
            read(tmp_path, "a.csv", text)
    with pytest.raises(UserError, match=r"1 with an empty text \(line 7\)$"):  # none at all
        read(tmp_path, "a.csv", table((7, ",1")), bad_rows=0)


def test_a_typo_in_the_labels_names_what_the_file_has(tmp_path: Path) -> None:
    """Half of the rows have a label that the task file spells otherwise."""
    text = "text,label\n" + "".join(f"a,{'spam' if n % 2 else 'ham'}\n" for n in range(40))
    message = (
        r"a.csv:3: label is 'spam': expected one of sapm, ham; 20 of 40 .*\('spam', lines 3, 5, 7"
    )
    with pytest.raises(UserError, match=message):
        read(tmp_path, "a.csv", text, labels=["sapm", "ham"])


def test_objects_may_lack_what_others_have(tmp_path: Path) -> None:
    """As null: such a row cannot be used; but the first one names the columns."""
    whole = [{"text": "red", "label": 1}] * 40
    lines = [json.dumps(row) for row in [*whole, {"text": "old"}, {"label": 1}]]
    assert len(read(tmp_path, "a.jsonl", "\n".join(lines), bad_rows=0.1)) == 40
    assert len(read(tmp_path, "a.jsonl", "\n".join([lines[-2], *lines]), bad_rows=0.1)) == 40
    with pytest.raises(UserError, match=r"a.jsonl:1: no column 'label'; it has text"):
        read(tmp_path, "a.jsonl", "\n".join([lines[-2]] * 40))


@pytest.mark.parametrize(
    ("value", "keys", "message"),
    [
        (
            "25,5",
            {"kind": "regression", "range": [0, 100], "labels": ""},
            "a decimal comma. write a point",
        ),
        ("spam", {"labels": ["ham", "eggs"]}, "expected one of ham, eggs"),
        ("1", {"labels": ["ham", "eggs"]}, "numbered, write labels = 2, and the names as display_"),
        ("1.0", {"labels": ["1", "2"]}, "one of 1, 2; labels without quotes are compared as num"),
    ],
)
def test_other_labels_are_no_reason_to_leave_all_rows_out(
    tmp_path: Path, value: str, keys: dict, message: str
) -> None:
    text = "text;label\n" + f"red;{value}\n" * 40
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path, "a.csv", text, delimiter=";", **keys)
    assert "bad_rows" not in str(error.value)


def test_a_mark_of_utf_8_is_believed_before_the_task_file(tmp_path: Path) -> None:
    text = "\ufeffn,text,label\n1,f\u00fcr,1\n"
    with pytest.raises(UserError, match=r"a.csv: UTF-8, not cp1252; save it as cp1252"):
        read(tmp_path, "a.csv", text, charset="cp1252")


def test_lines_are_read_by_a_task_whose_files_have_no_header(own: Path) -> None:
    """A table has as many cells as `columns` names."""
    (own / "data/bare.csv").write_text("1,red cat,walk\n2,old dog,rest\n" * 10)
    (own / "own.toml").write_text(
        '[bare]\nkind = "classification"\ntrain = "bare.csv"\ndev = "bare.csv"\n'
        'columns = ["n", "said", "what"]\ntext = "said"\nlabel = "what"\n'
        'labels = ["walk", "rest"]\n'
    )
    train_multitask.main([*arguments(own), "--tasks", "bare"])
    argv = ["--checkpoint", str(own / "runs/own"), "--output", str(own / "out"), "--input"]
    for text, lines in (("red cat\nold dog, too\n", 2), ("7,red cat,walk\n8,old dog,rest\n", 3)):
        (own / "in.txt").write_text(text)
        evaluate.main([*argv, str(own / "in.txt")])  # the only task needs no --task
        assert len((own / "out").read_text().splitlines()) == lines


def test_rows_that_may_be_cut_are_counted(own: Path, capsys) -> None:
    train_multitask.main([*arguments(own), "--tasks", "intent", "--max-length", "6"])
    assert re.search(r"intent.tsv: 16 rows, .*; 1\d fill --max-length 6 and may be cut",
                     capsys.readouterr().out)  # fmt: skip


def test_the_course_s_files_are_read_as_ever(tmp_path: Path) -> None:
    text = table(*((line, "film,") for line in range(2, 30)))
    assert len(read(tmp_path, "a.csv", text, course=True)) == 12
    with pytest.raises(UserError, match=r"a.csv:7: empty sentence; remove the row or fill it in$"):
        read(tmp_path, "a.csv", table((7, ",1")), course=True)


def test_rows_of_several_files_are_named_with_their_file(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(table((4, ",1")))
    task = task_of(tmp_path, "a.csv", bad_rows=0.01)
    message = r"a.csv:4: .*2 of 80 .*\(lines \S*a.csv:4, \S*b.csv:4\)"
    with pytest.raises(UserError, match=message):
        read_examples([tmp_path / "a.csv", tmp_path / "b.csv"], task.columns, True)


def test_rows_of_input_without_a_text_are_left_out_and_named(own: Path, capsys) -> None:
    train_multitask.main([*arguments(own), "--tasks", "intent"])
    (own / "in.csv").write_text("utterance\n" + "red cat\n" * 40 + '" "\n')
    argv = ["--checkpoint", str(own / "runs/own"), "--task", "intent", "--output", str(own / "out")]
    assert evaluate.main([*argv, "--input", str(own / "in.csv")]) == 0
    assert len((own / "out").read_text().splitlines()) == 41
    assert "in.csv: left out: 1 with an empty text (line 42)" in capsys.readouterr().err


def texts(rows: list[Example]) -> list[str]:
    return [row.text for row in rows]


@pytest.mark.parametrize(
    ("content", "keys", "expected"),
    [
        ("text;label\ncaf\u00e9, au lait;1\n", {"delimiter": ";"}, "caf\u00e9, au lait"),
        ('text;label\n"a; b";1\n', {"delimiter": ";"}, "a; b"),
        ("text|label\na, b|1\n", {"delimiter": "|"}, "a, b"),
        ("text\tlabel\na, b\t1\n", {"delimiter": "\t"}, "a, b"),
        ("a, b;1\n", {"delimiter": ";", "columns": ["text", "label"]}, "a, b"),
        ('text;label\n"a";1\n', {"delimiter": ";", "quoting": "none"}, '"a"'),
    ],
)
def test_delimiters(tmp_path: Path, content: str, keys: dict[str, Any], expected: str) -> None:
    assert texts(read(tmp_path, "a.csv", "\ufeff" + content, **keys)) == [expected]


@pytest.mark.parametrize("charset", ["cp1252", "latin-1", "utf-16", "utf-16-le", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_charsets(tmp_path: Path, charset: str, end: str, ending: str) -> None:
    data = end.join(["text,label", "caf\u00e9,1", "\u00fcber,0", ""]).encode(charset)
    data = gzip.compress(data) if ending == "csv.gz" else data
    assert texts(read(tmp_path, f"a.{ending}", data, charset=charset)) == ["caf\u00e9", "\u00fcber"]


def test_json_lines_have_a_charset_too(tmp_path: Path) -> None:
    row = json.dumps({"text": "caf\u00e9", "label": 1}, ensure_ascii=False)
    assert texts(read(tmp_path, "a.jsonl", row.encode("utf-16"), charset="utf-16")) == ["caf\u00e9"]


@pytest.mark.parametrize(
    ("data", "charset", "message"),
    [
        (b"text,label\nx,1\n", "utf-16", r"a.csv: at its beginning: not utf-16"),
        (b"text,label\nx\x81,1\n", "cp1252", r"a.csv: at its beginning: not cp1252 \("),
        (b"text,label\n" + b"x,1\n" * 9000 + b"\x81,1\n", "cp1252", r"after line \d{4}: not"),
        (gzip.compress(b"text,label\nx,1\n", mtime=0)[:-9], "cp1252", "a damaged .gz file"),
        (b"\n", "cp1252", "the file is empty"),
    ],
)
def test_bytes_of_another_charset(tmp_path: Path, data: bytes, charset: str, message: str) -> None:
    name = "a.csv.gz" if data[:2] == b"\x1f\x8b" else "a.csv"
    with pytest.raises(UserError, match=message):
        read(tmp_path, name, data, charset=charset)


def test_predictions_are_scored_against_such_a_file(tmp_path: Path) -> None:
    data = tmp_path / "a.csv"
    data.write_bytes("id;text;label\na;caf\u00e9;1\nb;x;0\n".encode("cp1252"))
    task = task_of(tmp_path, "a.csv", delimiter=";", charset="cp1252", id="id")
    (tmp_path / "p.csv").write_text("id,label\na,1\nb,1\n")
    assert score_predictions(tmp_path / "p.csv", data, [task])["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('delimiter = ""', r"\[entails\] delimiter = '': write one character"),
        ('delimiter = ";;"', r"delimiter = ';;': write one character"),
        ("delimiter = '\"'", r"delimiter = '\"': write one character, no quote"),
        ("delimiter = 3", r"delimiter = 3: write a word"),
        ('charset = "utf-88"', r"charset = 'utf-88': write one that Python knows"),
        ('charset = "rot13"', r"charset = 'rot13': write one that Python knows"),
        (
            'encoding = "cp1252"',
            r"encoding = 'cp1252': write one of cross, siamese, both; that of the files is",
        ),
        ("bad_rows = 5", r"bad_rows = 5: write a share of the rows, from 0 to 1"),
        ('bad_rows = "5"', r"bad_rows = '5': write a share"),
    ],
)
def test_mistakes(own: Path, line: str, message: str) -> None:
    (own / "own.toml").write_text(OWN.replace("weight = 0.5", line))
    with pytest.raises(UserError, match=message):
        read_task_file(own / "own.toml", own / "data")


def test_a_single_sentence_s_encoding_is_its_files(own: Path) -> None:
    (own / "own.toml").write_text(
        OWN.replace('label = "what"', 'label = "what"\nencoding = "cp1252"')
    )
    with pytest.raises(UserError, match=r"'encoding' is not a key .*that of the files is charset"):
        read_task_file(own / "own.toml", own / "data")


def test_an_id_has_no_nul_character(tmp_path: Path) -> None:
    """At its end numpy would leave it out, and the id be another one."""
    rows = '{"id": "7\\u0000", "text": "a film", "label": 1}\n'
    with pytest.raises(UserError, match=r"a\.jsonl:1: a NUL character in the id '7.x00'"):
        read(tmp_path, "a.jsonl", rows, id="id")
