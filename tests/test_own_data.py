"""Files as people have them: what they hold is read as they meant it, or refused by name."""

import os
from pathlib import Path

import pytest

import evaluate
import train_multitask
from minbert import BertTokenizer, UserError
from minbert.data.examples import Columns, read_examples
from minbert.data.id_cache import load_split
from minbert.data.tables import Dialect, open_table
from minbert.data.textfile import is_utf8, text_lines
from minbert.files import check_writable
from minbert.metrics import decimals
from minbert.report.tables import markdown_table
from minbert.task.gold import gold_task
from minbert.task.inputs import open_input, table_rows
from minbert.task.predictions import header_of, read_predictions
from minbert.task.table_checks import check_table
from minbert.task.task import Task
from minbert.task.taskfile import read_tasks
from tests.own_tasks import arguments

UMLAUTS = "text\tlabel\nGrüße aus Köln\tja\n"


def task_text(name: str, **keys: object) -> str:
    """Return a task file's table of one task."""
    own = {"kind": "classification", "text": "text", "label": "label", "train": "train.csv", **keys}
    return f"[{name}]\n" + "".join(f"{key} = {value!r}\n" for key, value in own.items())


def test_a_task_s_kind_changes_what_is_cached(tmp_path: Path, world: Path) -> None:
    """Places of classes are not sets of them: 1 is the second class, or the first alone."""
    (tmp_path / "train.csv").write_text("text,label\nred cat,a\nold dog,b\nbig cat,c\n")
    tokenizer, cache = BertTokenizer.from_directory(world / "model"), tmp_path / "ids"
    found = {}
    for kind in ("classification", "multi-label"):
        text = task_text("pets", kind=kind, labels=["a", "b", "c"])
        columns = read_tasks(text, "own.toml", None)["pets"].columns
        split = load_split(tmp_path / "train.csv", columns, True, tokenizer, 16, cache)
        found[kind] = split.labels.tolist()
    assert found == {"classification": [0, 1, 2], "multi-label": [1, 2, 4]}


def test_of_tasks_in_one_file_the_predictions_say_whose_they_are(tmp_path: Path, capsys) -> None:
    gold, predictions = tmp_path / "dev.csv", tmp_path / "p.csv"
    gold.write_text("id,text,toxic,insult\n1,red cat,0,1\n2,old dog,0,0\n")
    more = {"labels": 2, "id": "id", "dev": "dev.csv"}
    text = "".join(task_text(name, label=name, **more) for name in ("toxic", "insult"))
    (tmp_path / "own.toml").write_text(text)
    tasks = list(read_tasks(text, "own.toml", None).values())
    assert gold_task(gold, tasks, ["id", "Predicted_insult"]).name == "insult"
    with pytest.raises(UserError, match="the file of toxic, insult: --task says whose"):
        gold_task(gold, tasks, ["text", "id", "label"])
    predictions.write_text("id,label,text\n1,1,red cat\n2,0,old dog\n")
    words = ["--score", str(predictions), "--gold", str(gold)]
    words += ["--task-file", str(tmp_path / "own.toml")]
    with pytest.raises(UserError, match="--task says whose"):
        evaluate.main(words)
    for name, accuracy in (("insult", "1.0"), ("toxic", "0.5")):
        assert evaluate.main([*words, "--task", name]) == 0
        assert f"task,{name}\naccuracy,{accuracy}\n" in capsys.readouterr().out
    with pytest.raises(UserError, match="--task x: write one of toxic, insult"):
        evaluate.main([*words, "--task", "x"])


def test_utf_8_is_not_read_as_the_charset_of_other_files(tmp_path: Path) -> None:
    """In training it is refused by name; texts to predict on come from other programs, in UTF-8."""
    path, dialect = tmp_path / "june.tsv", Dialect(charset="cp1252")
    path.write_bytes(UMLAUTS.encode("cp1252"))
    assert [row["text"] for _, row in open_table(path, dialect)[1]] == ["Grüße aus Köln"]
    assert not is_utf8(path, "cp1252")
    path.write_bytes(UMLAUTS.encode())
    with pytest.raises(UserError, match=r"june.tsv: UTF-8, not cp1252; save it as cp1252, or all"):
        list(text_lines(path, "cp1252"))
    _, groups = table_rows(path, Columns(("text",), "label", id="", dialect=dialect), "june")
    assert [row.text for group in groups for row in group] == ["Grüße aus Köln"]
    list(text_lines(path, "gb18030"))  # whose characters of two bytes may be UTF-8 by chance
    path.write_text("text\tlabel\nplain\tja\n")
    assert list(text_lines(path, "cp1252")) == ["text\tlabel", "plain\tja"]


@pytest.mark.parametrize("charset", ["gb18030", "shift_jis", "utf-16", "utf-32"])
@pytest.mark.parametrize("text", ["Grüße aus Köln, 東京", "plain"])
def test_texts_to_predict_on_are_in_utf_8_or_in_the_task_s_charset(
    tmp_path: Path, charset: str, text: str
) -> None:
    path = tmp_path / "june.tsv"
    columns = Columns(("text",), "label", id="", dialect=Dialect(charset=charset))
    for written in ("utf-8", charset):
        path.write_bytes(f"text\tlabel\n{text}\tja\n".encode(written, errors="ignore"))
        _, groups = table_rows(path, columns, "june")
        as_read = text.encode(written, errors="ignore").decode(written)
        assert [row.text for group in groups for row in group] == [as_read]


@pytest.mark.parametrize(
    ("text", "has_words"),
    [
        ("Ask Ada Archer .\n", False),
        ("Ask Ada Archer .\nWhere is she ?\n", True),  # columns, as far as a program can tell
        ("Ask Ada Archer about the kettle .\nWhere is she ?\n", False),
        ("Ask O\nAda B-PET\n\nred O\n", True),
        ("Ask O\n\nAda B-PET\n", True),
        ("Ask\nAda\n", True),  # words without tags
    ],
)
def test_a_text_of_sentences_is_none_of_words(tmp_path: Path, text: str, has_words: bool) -> None:
    """CoNLL-2003's files end in .txt, and so do plain texts."""
    toml = task_text("pets", kind="token-classification", labels=["O", "B-PET"], train="train.txt")
    task = read_tasks(toml, "own.toml", None)["pets"]
    (tmp_path / "notes.txt").write_text(text)
    with open_input(str(tmp_path / "notes.txt"), task) as (columns, groups):
        rows = [row for group in groups for row in group]
    assert (columns is not None) == has_words
    assert has_words or [row.text for row in rows] == text.splitlines()


@pytest.mark.parametrize("ids", ["7,7", ",8"])
def test_a_column_that_is_no_id_does_not_stop_predictions(
    tmp_path: Path, ids: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A task without an `id` may have a column of that name, of products, say."""
    path = tmp_path / "in.csv"
    first, second = ids.split(",")
    path.write_text(f"id,text\n{first},red cat\n{second},old dog\n")
    columns, groups = table_rows(path, Columns(("text",), "label", id=""), "in.csv")
    rows = [row for group in groups for row in group]
    assert columns.id == "" and [(row.id, row.text) for row in rows] == [
        ("2", "red cat"), ("3", "old dog"),
    ]  # fmt: skip
    said = capsys.readouterr().err
    assert said.startswith("column `id` is not used, lines are numbered in its place: in.csv:")
    why = "id '7' is on line 2 already" if ids == "7,7" else "empty id"
    with pytest.raises(UserError, match=why):
        table_rows(path, Columns(("text",), "label", id="id"), "in.csv")
    path.write_text("id,text\n7,red cat\n8,old dog\n")
    for own in ("", "Nr"):  # what --output wrote has a column id, whatever the task's is called
        columns, groups = table_rows(path, Columns(("text",), "label", id=own), "in.csv")
        assert columns.id == "id" and [row.id for group in groups for row in group] == ["7", "8"]


def test_blank_rows_of_a_spreadsheet_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id;text;label\n1;red cat;ja\n;;\n ; ;\n2;old dog;nein\n;;\n  \n;\n")
    rows = list(open_table(path, Dialect(delimiter=";"))[1])
    assert [(line, cells["id"]) for line, cells in rows] == [(2, "1"), (5, "2")]


def test_letters_that_are_not_printed_are_no_control_characters() -> None:
    base = {"kind": "classification", "text": "text", "label": "label", "train": "a.csv"}
    persian = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"  # with a joiner
    check_table({**base, "labels": [persian, "👩\u200d🔧", "Service\u00a0client"]})
    for text in ("a\x1b[31mb", "a\nb", "a\u2028b"):
        with pytest.raises(ValueError, match="without control characters"):
            check_table({**base, "labels": [text, "b"]})


def test_a_line_of_commas_is_a_row_only_with_a_label(tmp_path: Path) -> None:
    toml = task_text("films", labels=["pos", "neg"], columns=["label", "text"])
    task = read_tasks(toml, "own.toml", None)["films"]
    for text, expected in (
        ("A warm, clever film.\nDull.\n", ["A warm, clever film.", "Dull."]),
        ("pos,a clever film\n,a dull one\n", ["a clever film", "a dull one"]),
    ):
        (tmp_path / "films.txt").write_text(text)
        with open_input(str(tmp_path / "films.txt"), task) as (_, groups):
            assert [row.text for group in groups for row in group] == expected
    (tmp_path / "films.csv").write_text("pos,a,b\n")
    with pytest.raises(UserError, match=r"films.csv:1: 3 fields, `columns` names 2"):
        list(open_table(tmp_path / "films.csv", task.columns.dialect)[1])


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_writable(tmp_path / "run" / "predictions", "--output")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(UserError, match="predictions: cannot be written; --output DIR names an"):
        check_writable(tmp_path / "run" / "predictions", "--output")


def test_a_missing_file_with_its_whole_path_is_named(tmp_path: Path) -> None:
    toml = task_text("pets", labels=2, train=str(tmp_path / "no" / "train.csv"))
    with pytest.raises(UserError, match=r"train = '.*no/train.csv': no such file"):
        read_tasks(toml, "own.toml", tmp_path / "data")


def test_a_task_file_in_the_folder_of_a_new_run_is_not_removed(own: Path) -> None:
    """What a stopped start left there is."""
    folder = own / "runs" / "mine"
    folder.mkdir(parents=True)
    (own / "own.toml").rename(folder / "tasks.toml")
    text = (folder / "tasks.toml").read_text()
    words = ["--task-file", str(folder / "tasks.toml"), "--name", "mine", "--tasks", "intent"]
    with pytest.raises(UserError, match="in the folder of the new run; put it elsewhere"):
        train_multitask.main(arguments(own, *words))
    assert (folder / "tasks.toml").read_text() == text


def test_old_macs_line_ends_are_ends_of_sentences(tmp_path: Path) -> None:
    task = read_tasks(task_text("pets", labels=2), "own.toml", None)["pets"]
    for text, found in (("A red cat.\rAn old dog.\r", None), ("text\rA red cat.\r", "text")):
        (tmp_path / "new.txt").write_bytes(text.encode())
        with open_input(str(tmp_path / "new.txt"), task) as (columns, groups):
            rows = [row.text for group in groups for row in group]
        assert rows == [s for s in text.split("\r") if s and s != found]
        assert (columns is not None) == bool(found)


@pytest.mark.parametrize("charset", ["", "cp1252"])
def test_old_macs_lines_may_end_in_a_line_feed_of_another_program(
    tmp_path: Path, charset: str
) -> None:
    (tmp_path / "a.tsv").write_bytes(b"x\ty\rred\t1\rold\t2\n")
    assert [*text_lines(tmp_path / "a.tsv", charset)] == ["x\ty", "red\t1", "old\t2"]


def test_an_input_without_a_name_is_not_none() -> None:
    """As of `--input "$FILE"` with FILE unset: a run's own files would be scored, and written."""
    for word in ("", " "):
        with pytest.raises(UserError, match=r"^--input: empty: leave it out"):
            evaluate.main(["--checkpoint", "run", "--input", word])


@pytest.mark.parametrize(
    ("text", "header", "found"),
    [
        ("id \t Predicted_Sentiment \r\n1 , 3 \r\n", ["id", "Predicted_Sentiment"], "3"),
        ('id,"A, B"\r\n1,x\r\n', ["id", "A, B"], "x"),
        ("id\tlabel\tprobability_oil, gas\n1\toil, gas\t.5\n", None, "oil, gas"),
        ("id\tlabel\n1\toil, gas\n", ["id", "label"], "oil, gas"),
        ("1\toil, gas\n2\tb\n", None, "oil, gas"),
        ('"1","oil, gas"\n2,b\n', None, "oil, gas"),
    ],
)
def test_cells_of_predictions_are_told_apart_by_what_stands_after_the_id(
    tmp_path: Path, text: str, header: list[str] | None, found: str
) -> None:
    path = tmp_path / "p.txt"
    path.write_bytes(text.encode())
    assert header is None or header_of(path) == header
    rows, _ = read_predictions(path, parse=lambda text: text)
    assert rows["1"] == found


def test_tags_are_read_by_their_names_for_people() -> None:
    more = {"kind": "token-classification", "labels": 3, "display_names": ["O", "B-X", "I-X"]}
    task = read_tasks(task_text("tags", **more), "own.toml", None)["tags"]
    for text in ("O B-X I-X", "0 1 2"):
        assert task.parse_prediction(text).tolist() == [0, 1, 2]
    for text in ("0 3", "0 -1", "0 0.5", "0 nan"):
        with pytest.raises(ValueError, match="expected a whole number from 0 to 2"):
            task.parse_prediction(text)


def test_a_column_that_no_task_reads_may_hold_anything(tmp_path: Path) -> None:
    """As a time after the year 9999, which databases write for "for ever"."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    times = arrow.array([10**18], arrow.timestamp("us"))
    table = arrow.table({"text": ["red cat"], "label": ["1"], "until": times})
    path = tmp_path / "pets.parquet"
    parquet.write_table(table, path)
    columns = Columns(("text",), "label", id="")
    assert [row.text for row in read_examples(path, columns, labelled=True)[0]] == ["red cat"]
    with pytest.raises(UserError, match=r"pets.parquet: a value cannot be read \("):
        read_examples(path, Columns(("until",), "label", id=""), labelled=True)


def test_scores_of_a_small_or_large_range_keep_their_digits() -> None:
    def task(*ends: float) -> Task:
        more = {"kind": "regression", "range": list(ends)}
        return read_tasks(task_text("s", **more), "own.toml", None)["s"]

    assert task(0, 2e6).describe(1234567.0) == "1234567"
    assert task(0, 5).describe(-0.001) == "0"
    assert task(0, 5).describe(2.5) == "2.5"
    assert task(0, 5e-4).describe(1.23456e-4) == "0.000123"
    assert [decimals(x) for x in (0.0, 0.0001234, 0.47456, 12345.6789)] == [
        "0.000", "0.000123", "0.475", "12345.679",
    ]  # fmt: skip


def test_what_is_code_in_a_card_s_table_has_no_entities() -> None:
    shown = markdown_table([("argument", "value"), ("data_dir", "`R&D|x`"), ("A & B", "-")])
    assert shown.split("\n")[2:] == ["| data_dir | `R&D\\|x` |", "| A &amp; B | - |"]
