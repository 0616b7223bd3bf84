"""Tab- and comma-separated text: every physical line is accounted for."""

import csv
import io
from pathlib import Path

import pytest

from minbert import UserError
from minbert.data.delimited import QUOTING, delimited_rows
from minbert.data.tables import Dialect, table_of

PATH = Path("file.tsv")


def cells(text: str, delimiter: str = "\t", quoting: str = "auto") -> list[list[str]]:
    return [row for _, row in delimited_rows(PATH, iter(text.split("\n")), delimiter, quoting)][1:]


def test_a_cell_may_be_a_whole_document() -> None:
    """csv's own limit is 131072 characters."""
    text = "red cat " * 20_000
    assert cells(f'id,text\n1,"{text}"\n', ",") == [["1", text]]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('1\t"He said so\t0', ["1", '"He said so', "0"]),  # a quote that never ends
        ('1\t"It" is a word\t0', ["1", '"It" is a word', "0"]),
        ('1\tin "the" middle\t0', ["1", 'in "the" middle', "0"]),
        ('1\t"So ""good"" ."\t0', ["1", 'So "good" .', "0"]),  # whole by CSV's rules
        ('1\t""\t0', ["1", "", "0"]),
        ('1\t"\t0', ["1", '"', "0"]),
        ('1\t"a\tb"', ["1", '"a', 'b"']),  # the header's number of tabs: literal
        ('1\t"a\tb"\t0', ["1", "a\tb", "0"]),  # one tab more, within quotes
    ],
)
def test_a_line_with_the_header_s_tabs_is_a_row(line: str, expected: list[str]) -> None:
    text = f"id\ttext\tlabel\n{line}\n2\tplain\t1\n"
    assert cells(text) == [expected, ["2", "plain", "1"]]


def test_the_last_cell_may_go_on_in_the_next_line() -> None:
    """As pandas writes a table whose last column is the text."""
    text = 'id\tlabel\ttext\n1\t0\t"two\nlines"\n2\t1\tplain\n3\t0\t"odd\n4\t1\tquote"\n'
    assert cells(text) == [
        ["1", "0", "two\nlines"], ["2", "1", "plain"], ["3", "0", '"odd'], ["4", "1", 'quote"'],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "rows",
    [
        [["two\nlines", "a"], ["plain", "b"]],  # in the first column, as in pandas' files
        [['one\n"two"\n\nfour', "a"], ['a "b"', "c"]],  # with quotes and an empty line
        [["1", "two\nlines", "three\nlines\nhere"], ["2", "a", "b"]],  # in two cells
        [["1", "2", 'a\n"b"\nc'], ["2", "a", "b"]],
    ],
)
def test_what_csv_s_quoting_wrote_over_lines_is_read(rows: list[list[str]]) -> None:
    file = io.StringIO()
    names = ["id", "text", "label"][: len(rows[0])]
    csv.writer(file, delimiter="\t", lineterminator="\n").writerows([names, *rows])
    assert cells(file.getvalue()) == rows


def test_a_cell_over_lines_takes_no_other_row_with_it() -> None:
    """The first row lacks its label; a quote in the next one closes its own by chance."""
    text = 'id\ttext\tlabel\n1\t"a\n2\tb"\t0\n'
    assert cells(text) == [["1", '"a'], ["2", 'b"', "0"]]


def test_no_quote_takes_other_rows_with_it() -> None:
    """Quotes at the beginning of fields, in five of six rows, as GLUE's files have them."""
    rows = [
        ["1", '"a', "0"],
        ["2", 'b"', "1"],
        ["3", "c", "0"],
        ["4", '"d "e', "1"],
        ["5", '"', "0"],
    ]
    text = "\n".join("\t".join(row) for row in [["id", "text", "label"], *rows])
    assert cells(text) == rows
    assert (
        len(list(csv.reader(io.StringIO(text), delimiter="\t"))) < 6
    )  # what CSV's rules make of it


def test_a_whole_cell_may_hold_line_ends() -> None:
    text = 'id\ttext\tlabel\n1\t"two\nlines"\t0\n2\tb\t1\n3\t"cut\n4\td\t0\n'
    rows = list(delimited_rows(PATH, iter(text.split("\n")), "\t"))[1:]
    assert rows[:2] == [(2, ["1", "two\nlines", "0"]), (4, ["2", "b", "1"])]
    assert rows[2:] == [
        (5, ["3", '"cut']),
        (6, ["4", "d", "0"]),
    ]  # not whole: the caller refuses it


@pytest.mark.parametrize(
    ("first", "row"), [('"two\nlines"\t0', ["two\nlines", "0"]), ('"a\ttab"\t0', ["a\ttab", "0"])]
)
def test_the_first_row_of_a_file_without_a_header_is_as_any_other(
    first: str, row: list[str]
) -> None:
    rows = list(delimited_rows(PATH, iter(f"{first}\nb\t1".split("\n")), "\t", columns=2))
    assert [cells for _, cells in rows] == [row, ["b", "1"]]


def test_none_takes_quotes_as_text_and_csv_takes_them_away() -> None:
    text = 'id\ttext\tlabel\n1\t"a"\t0\n'
    assert cells(text, quoting="none") == [["1", '"a"', "0"]]
    assert cells(text, quoting="csv") == cells(text) == [["1", "a", "0"]]
    text = 'id,text,label\n1,"a, b",0\n'
    assert cells(text, ",") == [["1", "a, b", "0"]]
    assert cells(text, ",", "none") == [["1", '"a', ' b"', "0"]]


@pytest.mark.parametrize("body", ['1,"a\n2,b\n3,c\n', '1,"a\n2,"b"\n', '1,"a"b,0\n'])
def test_quotes_between_commas_belong_to_pairs(body: str) -> None:
    with pytest.raises(UserError, match=r"file.tsv:2: a quote that does not belong to a pair") as e:
        cells("id,text,label\n" + body, ",")
    assert "\n" not in str(e.value)


def test_line_ends_of_other_systems_and_characters_that_only_look_like_them() -> None:
    assert cells("a\tb\r\n1\tx\u2028y\r\n2\tz\x85\r\n") == [["1", "x\u2028y"], ["2", "z\x85"]]
    assert cells("a,b\r1,x\r2,y\r", ",") == [["1", "x"], ["2", "y"]]


def test_the_courses_files_are_read_as_by_csv_s_rules(real_data: Path) -> None:
    paths = sorted(real_data.glob("*.csv"))
    assert len(paths) >= 12
    for path in paths:
        text = path.read_text(encoding="utf-8-sig")
        found = [row for _, row in delimited_rows(path, iter(text.split("\n")), "\t")]
        assert found == [row for row in csv.reader(io.StringIO(text, newline=""), delimiter="\t")]
        assert len(found) == text.count("\n")


@pytest.mark.parametrize("quoting", QUOTING)
def test_a_table_may_begin_with_empty_lines(quoting: str) -> None:
    lines = ["", "\r", "text\tlabel", "a, b\tc"]
    names, rows = table_of(PATH, iter(lines), Dialect(quoting))
    assert names == ["text", "label"]
    assert list(rows) == [(4, {"text": "a, b", "label": "c"})]
    with pytest.raises(UserError, match="no names of columns"):
        table_of(PATH, iter(["", ""]), Dialect(quoting))


def test_quotes_are_text_in_the_rows_alone() -> None:
    """Those of the header are CSV's, also where the task file says "none"."""
    lines = ['"text"\t"label"', '"red\tlamp']
    names, rows = table_of(PATH, iter(lines), Dialect("none"))
    assert names == ["text", "label"] and [cells["text"] for _, cells in rows] == ['"red']
