"""Inputs of tasks that label words: tables of texts, files of words, lines."""

from pathlib import Path

import pytest

from minbert import UserError
from minbert.data.examples import Example, read_examples
from minbert.task.inputs import open_input
from minbert.task.taskfile import make_task

TAGS = ["O", "B-PET"]


def rows_of(path: Path, train: str) -> list[Example]:
    """Return what is read of an input by a task whose files are called so."""
    table = {"kind": "token-classification", "train": train, "labels": TAGS, "columns": ["w", "t"]}
    task = make_task("pets", {**table, "text": "w", "label": "t"})
    with open_input(str(path), task) as (_, groups):
        return [row for group in groups for row in group]


@pytest.mark.parametrize("train", ["a.conll", "a.tsv", "a.csv", "a.txt"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("new.csv", 'id,w\n7,"Ask Ada, please"\n8,Where is Bob\n'),
        ("new.tsv", "id\tw\n7\tAsk Ada, please\n8\tWhere is Bob\n"),
        ("new.tsv", "w\tid\nAsk Ada, please\t7\nWhere is Bob\t8\n"),
        ("new.txt", "id\tw\n7\tAsk Ada, please\n8\tWhere is Bob\n"),
    ],
)
def test_a_table_has_texts_under_the_name_of_the_words(
    tmp_path: Path, name: str, text: str, train: str
) -> None:
    (tmp_path / name).write_text(text)
    found = [(row.id, row.text, row.words) for row in rows_of(tmp_path / name, train)]
    assert found == [("7", "Ask Ada, please", None), ("8", "Where is Bob", None)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("new.tsv", "id\ttokens\tlanguage\n7\tred cat\ten\n8\tblue dog\ten\n"),
        ("new.csv", "id,tokens,language\n7,red,en\n8,blue,en\n"),
    ],
)
def test_the_texts_of_a_table_may_be_in_any_column(tmp_path: Path, name: str, text: str) -> None:
    """Also where the task's files, of words, have no names of columns."""
    (tmp_path / name).write_text(text)
    table = {"kind": "token-classification", "train": f"a.{name[-3:]}", "labels": TAGS}
    with open_input(str(tmp_path / name), make_task("pets", table)) as (_, groups):
        found = [(row.id, row.text.split()[0]) for group in groups for row in group]
    assert found == [("7", "red"), ("8", "blue")]


def test_a_table_without_that_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("id,message\n1,Ask Ada\n")
    with pytest.raises(UserError, match=r"new.csv:1: no column 'w'; it has id, message"):
        rows_of(tmp_path / "new.csv", "a.conll")


@pytest.mark.parametrize("text", ["Ask\tO\nAda\tB-PET\n", "w\tt\nAsk\tO\nAda\tB-PET\n"])
def test_a_tsv_of_words_stays_one_where_the_task_s_files_are(tmp_path: Path, text: str) -> None:
    (tmp_path / "new.tsv").write_text(text)
    (row,) = rows_of(tmp_path / "new.tsv", "a.tsv")
    assert row.words[-2:] == ("Ask", "Ada")


def test_json_lines_keep_their_lists_whatever_the_file_is_called(tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text('{"w": ["Ask", "Ada"]}\n')
    assert rows_of(tmp_path / "new.txt", "a.conll")[0].words == ("Ask", "Ada")


def sentences(path: Path, text: str, columns: list[str], labelled: bool = True) -> list[object]:
    """Return the lines that the sentences of a CoNLL file begin on, and their words."""
    path.write_text(text)
    table = {"kind": "token-classification", "train": "a.conll", "labels": TAGS}
    task = make_task("pets", {**table, "columns": columns, "text": "w", "label": "t"})
    return [(row.id, row.words) for row in read_examples(path, task.columns, labelled)[0]]


@pytest.mark.parametrize(
    "text",
    [
        "# newdoc\n# text = A B\nAsk O\nAda B-PET\n\n\n# sent_id = 2\n\n# no two\nred O\n",
        "# a comment\n\n#\nAsk\tO\nAda\tB-PET\n\n-DOCSTART-\tO\n\n# newdoc\n# b\tc\td\nred\tO\n",
        "# a new document\r\n#\tone\ttwo\r\nAsk O \r\nAda B-PET\r\n\r\n# x y\r\n#\r\nred O\r\n",
    ],
)
def test_comments_before_a_sentence_are_no_words(tmp_path: Path, text: str) -> None:
    lines = [line.rstrip("\r") for line in text.split("\n")]
    first, second = (str(1 + i) for i, line in enumerate(lines) if line[:3] in ("Ask", "red"))
    words = sentences(tmp_path / "a.conll", text, ["w", "t"])
    assert words == [(first, ("Ask", "Ada")), (second, ("red",))]


def test_a_comment_may_have_as_many_words_as_there_are_columns(tmp_path: Path) -> None:
    columns = ["w", "x", "y", "t"]
    found = sentences(tmp_path / "a.conll", "# sent_id = 1\nAsk X Y O\n", columns)
    assert found == [("2", ("Ask",))]
    found = sentences(tmp_path / "a.conll", "# of four words\nAsk\tX\tY\tO\n", columns)
    assert found == [("2", ("Ask",))]


@pytest.mark.parametrize("text", ["# O\nAda B-PET\n\n# O\n", "#\tO\nAda\tB-PET\n\n#\tO\n"])
def test_a_word_may_be_a_number_sign(tmp_path: Path, text: str) -> None:
    found = sentences(tmp_path / "a.conll", text, ["w", "t"])
    assert found == [("1", ("#", "Ada")), ("4", ("#",))]
    alone = sentences(tmp_path / "a.conll", "#\nAda\n\n# of two\n#\n", ["w", "t"], labelled=False)
    assert alone == [("1", ("#", "Ada")), ("5", ("#",))]
    assert sentences(tmp_path / "a.conll", "# O\n", ["w", "t"]) == [("1", ("#",))]


def test_a_file_of_comments_has_no_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a.conll: no sentence in it"):
        sentences(tmp_path / "a.conll", "# sent_id = 1\n\n", ["w", "t"])
    with pytest.raises(UserError, match=r"a.conll:2: 3 columns, the first line has 2: '# b c'"):
        sentences(tmp_path / "a.conll", "Ask O\n# b c\n", ["w", "t"])


@pytest.mark.parametrize("ending", ["conll", "bio", "iob", "iob2"])
def test_files_of_these_endings_have_words(tmp_path: Path, ending: str) -> None:
    """Whatever the endings of the task's own files are."""
    (tmp_path / f"new.{ending}").write_text("Ask\tO\nAda\tB-PET\n")
    (row,) = rows_of(tmp_path / f"new.{ending}", "a.txt")
    assert row.words == ("Ask", "Ada")
