"""Files without a header or an ending, with a whole path, or renamed: read as what they are."""

import io
import os
from codecs import BOM_UTF8
from pathlib import Path

import pytest

import evaluate
from minbert import BertTokenizer, UserError
from minbert.data.examples import read_examples
from minbert.data.id_cache import load_split
from minbert.task.gold import split_of
from minbert.task.inputs import open_input
from minbert.task.predictions import score_predictions
from minbert.task.task import Task
from minbert.task.taskfile import make_task, read_tasks
from tasks import TASKS

COLUMNS = {"text": "text", "label": "label"}


def task_of(folder: Path, **keys: object) -> Task:
    """Return a task of a file that has been checked."""
    own = {"kind": "classification", "labels": 3, **COLUMNS, **keys}
    text = "[own]\n" + "".join(f"{key} = {value!r}\n" for key, value in own.items())
    return read_tasks(text, "own.toml", folder)["own"]


def test_a_value_that_is_missing_is_no_text(tmp_path: Path) -> None:
    """As NaN, which Python's json and other programs write for it."""
    rows = ['{"text": NaN, "label": 1}', '{"text": "red", "label": NaN}']
    rows.append('{"text": "old", "label": 2}')
    (tmp_path / "own.jsonl").write_text("\n".join(rows) + "\n")
    task = task_of(tmp_path, train="own.jsonl", bad_rows=0.7)
    examples, left_out = read_examples(tmp_path / "own.jsonl", task.columns, labelled=True)
    assert [e.text for e in examples] == ["old"]
    assert left_out.counts == {"with an empty text": 1, "without a label": 1}


def test_lines_of_label_and_text_need_no_names(tmp_path: Path, capsys) -> None:
    """Also with a semicolon, in training and as the gold of predictions."""
    (tmp_path / "own.txt").write_text("2 ||| red cats; old dogs\n0 ||| it rains\n")
    task = task_of(tmp_path, train="own.txt", dev="own.txt")
    examples, _ = read_examples(tmp_path / "own.txt", task.columns, labelled=True)
    assert [(e.id, e.label, e.text) for e in examples] == [
        ("1", 2, "red cats; old dogs"),
        ("2", 0, "it rains"),
    ]
    (tmp_path / "p.csv").write_text("id,Predicted_own\n1,2\n2,1\n")
    (tmp_path / "own.toml").write_text(
        '[own]\nkind = "classification"\nlabels = 3\ntext = "text"\nlabel = "label"\n'
        'train = "own.txt"\ndev = "own.txt"\n'
    )
    words = ["--gold", str(tmp_path / "own.txt"), "--task-file", str(tmp_path / "own.toml")]
    assert evaluate.main(["--score", str(tmp_path / "p.csv"), *words]) == 0
    assert "accuracy,0.5\n" in capsys.readouterr().out
    (tmp_path / "p.csv").write_text(
        "id,label,text\n1,2,red cats; old dogs\n2,1,it rains\n"
    )  # an --output
    assert evaluate.main(["--score", str(tmp_path / "p.csv"), *words]) == 0
    assert "accuracy,0.5\n" in capsys.readouterr().out


def test_a_delimiter_of_bars_is_none_of_theirs(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("text|label|||\nred|1|||\n")
    task = task_of(tmp_path, train="own.csv", delimiter="|")
    (example,) = read_examples(tmp_path / "own.csv", task.columns, labelled=True)[0]
    assert (example.text, example.label) == ("red", 1)


@pytest.mark.parametrize("name", ["{folder}/dev.csv", "dev.csv", "in/dev.csv"])
def test_the_split_of_a_file_is_found_by_its_name_or_whole_path(tmp_path: Path, name: str) -> None:
    table = {"kind": "classification", "labels": 2, **COLUMNS, "train": "train.csv"}
    task = make_task("own", {**table, "dev": name.format(folder=tmp_path)})
    path = tmp_path / name.format(folder=tmp_path)
    assert split_of(path, task) == ("dev", tmp_path)
    assert split_of(Path("/dev.csv"), task) == (("dev", Path("/")) if name == "dev.csv" else None)


@pytest.mark.parametrize("name", ["train", "train.gz"])
def test_a_task_of_words_without_an_ending_reads_a_pipe(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    table = {"kind": "token-classification", "labels": ["O", "B"], "columns": ["w", "t"]}
    task = make_task("own", {**table, "text": "w", "label": "t", "train": name})
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Ask Ada\n")))
    with open_input("-", task) as (_, groups):
        assert [row.text for group in groups for row in group] == ["Ask Ada"]


def test_what_is_cached_of_a_file_is_of_its_ending(tmp_path: Path, world: Path) -> None:
    """One column: a quoted text goes on in the next line in .csv alone."""
    content, tokenizer = 'text\n"red\ncat"\nold\n', BertTokenizer.from_directory(world / "model")
    rows = {}
    for ending in ("csv", "tsv"):
        path = tmp_path / f"test.{ending}"
        path.write_text(content)
        columns = make_task("own", {"kind": "classification", "labels": 2, **COLUMNS,
                                    "train": path.name}).columns  # fmt: skip
        rows[ending] = len(load_split(path, columns, False, tokenizer, 16, tmp_path / "ids"))
        path.unlink()
    assert rows == {"csv": 2, "tsv": 3}


def test_names_in_brackets_are_a_header(tmp_path: Path) -> None:
    """As SQL Server writes them; an array of JSON is refused."""
    (tmp_path / "own.csv").write_text("[text],[label]\nred,1\n")
    task = task_of(tmp_path, train="own.csv", text="[text]", label="[label]")
    (example,) = read_examples(tmp_path / "own.csv", task.columns, labelled=True)[0]
    assert (example.text, example.label) == ("red", 1)
    for begin in ('[{"text": "red"}]', "[", "[ [1, 2] ]", '["red"]'):
        (tmp_path / "own.csv").write_text(f"{begin}\nred,1\n")
        with pytest.raises(UserError, match="a JSON array"):
            read_examples(tmp_path / "own.csv", task.columns, labelled=True)


@pytest.mark.parametrize("label", ["[null]", '[""]', "null"])
def test_a_list_of_nothing_is_no_label(tmp_path: Path, label: str) -> None:
    """And [] is one: of a row that has none of the names."""
    rows = [f'{{"text": "red", "label": {one}}}\n' for one in (label, "[]", '["b"]')]
    (tmp_path / "own.jsonl").write_text("".join(rows))
    keys = {"kind": "multi-label", "labels": ["a", "b"], "train": "own.jsonl", "bad_rows": 0.5}
    task = task_of(tmp_path, **keys)
    examples, left_out = read_examples(tmp_path / "own.jsonl", task.columns, labelled=True)
    assert [e.label for e in examples] == [0, 2] and left_out.counts.total() == 1


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("['" + "名" * 40 + "']", "write a name of at most 100 bytes"),
        ("[own]\nprediction_file = 'own-{split}-logits.jsonl'", "is one of logits; name another"),
    ],
)
def test_names_of_files_that_cannot_be(tmp_path: Path, table: str, message: str) -> None:
    text = f"{table}\nkind = 'classification'\nlabels = 2\ntrain = 'a.csv'\ntext = 'a'\nlabel = 'b'"
    (tmp_path / "a.csv").write_text("a,b\nred,1\n")
    with pytest.raises(UserError, match=message):
        read_tasks(text, "own.toml", tmp_path)


UMLAUTS = [("1", "\u00c4pfel, rot"), ("2", "alte B\u00e4ume")]


@pytest.mark.parametrize("charset", ["cp1252", "utf-8"])
def test_a_table_in_a_pipe_has_the_task_s_charset(
    monkeypatch: pytest.MonkeyPatch, charset: str
) -> None:
    """Else the header would be a text, and each line another."""
    keys = {"kind": "classification", "labels": 2, "label": "label", "train": "train.csv"}
    more = {"text": "\u00c4u\u00dferung", "charset": "cp1252", "delimiter": ";"}
    task = make_task("own", keys | more)
    lines = ["Nr;\u00c4u\u00dferung", *(";".join(row) for row in UMLAUTS)]
    piped = io.TextIOWrapper(io.BytesIO("\n".join(lines).encode(charset)))
    monkeypatch.setattr("sys.stdin", piped)
    with open_input("-", task) as (columns, groups):
        texts = [row.text for group in groups for row in group]
    assert columns and texts == [text for _, text in UMLAUTS]


def test_words_in_utf_8_for_a_task_of_another_charset(tmp_path: Path) -> None:
    text = "Gr\u00fc\u00dfe\tO\nAda\tO\n\nrot\tO\n"
    (tmp_path / "train.tsv").write_bytes(text.encode("cp1252"))
    (tmp_path / "new.tsv").write_bytes(text.encode())
    keys = {"kind": "token-classification", "labels": ["O", "B"], "train": "train.tsv"}
    names = {"text": "tokens", "label": "tags", "columns": ["tokens", "tags"]}
    task = task_of(tmp_path, **keys, **names, charset="cp1252")
    for name in ("train.tsv", "new.tsv"):
        with open_input(str(tmp_path / name), task) as (_, groups):
            found = [row.text for group in groups for row in group]
        assert found == ["Gr\u00fc\u00dfe Ada", "rot"], name


def test_the_mark_of_utf_8_before_another_charset(tmp_path: Path) -> None:
    """Some programs write it before any text."""
    text = "text,label\ncaf\u00e9,1\n"
    (tmp_path / "own.csv").write_bytes(BOM_UTF8 + text.encode("cp1252"))
    task = task_of(tmp_path, train="own.csv", charset="cp1252")
    (example,) = read_examples(tmp_path / "own.csv", task.columns, labelled=True)[0]
    assert (example.text, example.label) == ("caf\u00e9", 1)


@pytest.mark.parametrize("which", ["predictions", "gold"])
def test_a_pipe_is_not_scored_in_part(tmp_path: Path, which: str) -> None:
    """It is read for its header first."""
    files = {"predictions": tmp_path / "p.csv", "gold": tmp_path / "g.csv"}
    files["predictions"].write_text("id,Predicted_Sentiment\nid0,1\n")
    files["gold"].write_text("id\tsentence\tsentiment\nid0\ta\t1\n")
    files[which].unlink()
    os.mkfifo(files[which])
    with pytest.raises(UserError, match="a pipe is read once, and this more often"):
        score_predictions(files["predictions"], files["gold"], [TASKS["sst"]])
