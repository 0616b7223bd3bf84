"""Inputs of tasks that label words: tables of texts, files of words, lines."""

from pathlib import Path

import pytest

from minbert import UserError
from minbert.data.examples import Example
from minbert.stream import open_input
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
