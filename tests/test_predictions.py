"""Prediction files: the course's bytes, read back and scored by id."""

import json
from pathlib import Path

import numpy as np
import pytest

import evaluate
from minbert import UserError
from minbert.data.encoded import EncodedSplit
from minbert.files import replaced_file
from minbert.task.gold import gold_task
from minbert.task.predictions import read_predictions, score_predictions, write_predictions
from minbert.task.task import Task
from minbert.task.taskfile import make_task, read_tasks
from tasks import TASKS

OUTPUTS = {
    "sst": (np.eye(5)[[3, 0]] * 2.5, b"id \t Predicted_Sentiment \na1 , 3 \nb2 , 0 \n"),
    "quora": (np.array([[0.5], [-2]]), b"id \t Predicted_Is_Paraphrase \na1 , 1.0 \nb2 , 0.0 \n"),
    "sts": (np.array([[4.25], [0.5]]), b"id \t Predicted_Similiary \na1 , 4.25 \nb2 , 0.5 \n"),
}
NAMES = {"sst": "sst-dev-output.csv", "quora": "para-dev-output.csv", "sts": "sts-dev-output.csv"}


def split() -> EncodedSplit:
    empty = np.zeros(0, dtype=np.int32)
    return EncodedSplit(np.array([b"a1", b"b2"]), np.zeros(2), empty, empty, empty)


@pytest.mark.parametrize("task", OUTPUTS)
def test_the_course_s_bytes_and_logits_beside_them(tmp_path: Path, task: str) -> None:
    outputs, expected = OUTPUTS[task]
    write_predictions(tmp_path / "p", TASKS[task], "dev", split(), outputs)
    path = tmp_path / "p" / NAMES[task]
    assert path.read_bytes() == expected
    lines = (tmp_path / "p" / f"{task}-dev-logits.jsonl").read_text().splitlines()
    assert {r["id"]: r["logits"] for r in map(json.loads, lines)} == {
        "a1": outputs[0].tolist(),
        "b2": outputs[1].tolist(),
    }
    predictions, duplicates = read_predictions(path)
    decoded = TASKS[task].decode(outputs)
    assert predictions == {"a1": decoded[0], "b2": decoded[1]} and duplicates == 0


@pytest.mark.parametrize(
    "text",
    [
        "id,Predicted_Sentiment\na1,3\nb2,0\n",
        "id\tPredicted_Sentiment\nA1\t3\nb2\t0.0\n",
        "\ufeffid,Predicted_Sentiment\r\na1,3\r\nb2,0\r\n",
        "a1 , 3\nb2 , 0",
        "id,Predicted_Sentiment\na1\t3\nb2\t0\n",  # as one course's files were
    ],
)
def test_clean_forms_are_read_too(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.csv").write_bytes(text.encode())
    assert read_predictions(tmp_path / "p.csv") == ({"a1": 3.0, "b2": 0.0}, 0)


@pytest.fixture
def gold(tmp_path: Path) -> Path:
    path = tmp_path / "ids-sst-dev.csv"
    rows = [f"{i}\tid{i}\tsome words\t{i % 5}" for i in range(10)]
    path.write_text("\tid\tsentence\tsentiment\n" + "\n".join(rows) + "\n")
    return path


def score(tmp_path: Path, gold: Path, text: str, capsys) -> tuple[int, dict[str, object]]:
    (tmp_path / "p.csv").write_text(text)
    job = ["--score", str(tmp_path / "p.csv"), "--gold", str(gold), "--json"]
    code = evaluate.main(job)
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize("head", ["id \t Predicted_Sentiment \n", " \nid,Predicted_Sentiment\n"])
def test_scored_by_id_in_any_order(tmp_path: Path, gold: Path, capsys, head: str) -> None:
    lines = [f"ID{i} , {i % 5 if i < 7 else (i + 1) % 5} \n" for i in reversed(range(10))]
    code, report = score(tmp_path, gold, head + "".join(lines), capsys)
    assert code == 0 and report == {
        "task": "sst", "accuracy": 0.7, "scored": 10, "missing": 0, "extra": 0, "duplicate": 0,
    }  # fmt: skip


def test_missing_extra_and_duplicate_ids_are_counted(tmp_path: Path, gold: Path, capsys) -> None:
    code, report = score(tmp_path, gold, "id0,0\nid1,1\nid1,2\nother,3\n", capsys)
    assert code == 1
    assert report["scored"] == 2 and report["accuracy"] == 1.0
    assert (report["missing"], report["extra"], report["duplicate"]) == (8, 1, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id0,0\nid1 1\n", r"p\.csv:2: expected `id , prediction`, found 'id1 1': 1 fields$"),
        ("id;label\nid0;0\n", r"p\.csv:1: expected .*: 1 fields; separate them by tabs or commas"),
        (",id,label\n0,id0,0\n", r"p\.csv:1: expected .*: 3 fields"),
        (
            "id0,nan\n",
            r"p\.csv:1: expected .* found 'id0,nan' \(expected a whole number from 0 to 4",
        ),
        ("id0,9\n", r"p\.csv:1: expected .* found 'id0,9' "),
        ("zz,1\n", "not one id of"),
    ],
)
def test_mistakes(tmp_path: Path, gold: Path, capsys, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        score(tmp_path, gold, text, capsys)


@pytest.mark.parametrize("name", ["p.jsonl", "p.parquet"])
def test_predictions_in_json_are_not_taken_for_csv(tmp_path: Path, gold: Path, name: str) -> None:
    """As an --output that ends in .jsonl."""
    (tmp_path / name).write_text('{"id": "id0", "label": "0", "text": "red cat"}\n')
    with pytest.raises(UserError, match=rf"{name}: predictions to score are CSV or TSV"):
        evaluate.main(["--score", str(tmp_path / name), "--gold", str(gold)])


def test_a_score_that_is_no_number_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("id0,1.5\nid1,nan\n")
    with pytest.raises(UserError, match=r"p\.csv:2: prediction 'nan' is not a number"):
        read_predictions(path)
    path.write_text("id0,1_5\n")
    with pytest.raises(UserError, match=r"p\.csv:1: .*'1_5' is no number"):
        read_predictions(path, TASKS["sts"].parse_prediction)


def test_predictions_of_another_task_are_refused(tmp_path: Path) -> None:
    """The ids of several sets may coincide."""
    write_predictions(tmp_path, TASKS["sst"], "dev", split(), OUTPUTS["sst"][0])
    gold = tmp_path / "sts-dev.csv"
    gold.write_text("id\tsentence1\tsentence2\tsimilarity\na1\tx\ty\t1\nb2\tx\ty\t4\n")
    with pytest.raises(UserError, match="another task: the column is Predicted_Sentiment"):
        evaluate.main(["--score", str(tmp_path / NAMES["sst"]), "--gold", str(gold)])


def test_gold_is_of_the_task_whose_folder_it_is_in(tmp_path: Path) -> None:
    """As in GLUE's folders, where every task has a dev.tsv of the same columns."""
    text = ""
    for name, kind in (("stars", 'regression"\nrange = [0, 5]'), ("poles", 'classification"')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dev.tsv").write_text("id\ttext\tlabel\n1\tred cat\t1\n")
        more = "" if "range" in kind else "\nlabels = 2"
        text += f'[{name}]\nkind = "{kind}{more}\ntext = "text"\nlabel = "label"\n'
        text += f'train = "{name}/train.tsv"\ndev = "{name}/dev.tsv"\n'
    tasks = list(read_tasks(text, "own.toml", None).values())
    for name in ("stars", "poles"):
        assert gold_task(tmp_path / name / "dev.tsv", tasks, []).name == name


def test_a_file_that_two_tasks_would_read_differently_needs_a_task(tmp_path: Path) -> None:
    (tmp_path / "gold.csv").write_text("id,text,label\n1,red cat,1\n")
    same = 'text = "text"\nlabel = "label"\ntrain = "{0}-train.csv"\ndev = "{0}-dev.csv"\n'
    text = '[stars]\nkind = "regression"\nrange = [0, 5]\n' + same.format("stars")
    text += '[poles]\nkind = "classification"\nlabels = 2\n' + same.format("poles")
    tasks = list(read_tasks(text, "own.toml", None).values())
    with pytest.raises(UserError, match="the file of stars, poles: --task says whose"):
        gold_task(tmp_path / "gold.csv", tasks, ["id", "Predicted_label"])
    with pytest.raises(UserError, match=r"fit none of the tasks sst: .*--task-file"):
        gold_task(tmp_path / "gold.csv", [TASKS["sst"]], [])


def test_a_file_named_like_a_task_s_is_that_task_s(tmp_path: Path) -> None:
    """`old` is a part of gold.csv's name, but no word of it."""
    text = ""
    for name, high in (("old", 5), ("new", 1)):
        text += f'[{name}]\nkind = "regression"\nrange = [0, {high}]\ntext = "text"\n'
        text += f'label = "label"\ntrain = "{name}-train.csv"\ndev = "{name}-dev.csv"\n'
    tasks = list(read_tasks(text, "own.toml", None).values())
    for name in ("gold.csv", "my_old.csv", "new-test.csv"):
        (tmp_path / name).write_text("id,text,label\n1,red cat,1\n")
    assert gold_task(tmp_path / "my_old.csv", tasks, []).name == "old"
    assert gold_task(tmp_path / "new-test.csv", tasks, []).name == "new"
    with pytest.raises(UserError, match="the file of old, new: --task says whose"):
        gold_task(tmp_path / "gold.csv", tasks, [])


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("regression", "range = [0, 5]", "range = [0, 10]"),
        ("classification", "labels = 2", 'labels = 2\nid = "id"'),
    ],
)
def test_tasks_differ_by_their_ranges_and_ids_too(
    tmp_path: Path, kind: str, one: str, other: str
) -> None:
    (tmp_path / "gold.csv").write_text("id,text,label\n7,red cat,1\n")
    text = '[{0}]\nkind = "{1}"\ntext = "text"\nlabel = "label"\ntrain = "{0}.csv"\n{2}\n'

    def task(name: str, more: str) -> Task:
        return read_tasks(text.format(name, kind, more), "own.toml", None)[name]

    with pytest.raises(UserError, match="the file of one, two: --task says whose"):
        gold_task(tmp_path / "gold.csv", [task("one", one), task("two", other)], ["id"])
    assert gold_task(tmp_path / "gold.csv", [task("one", one), task("two", one)], ["id"])


def test_a_text_of_an_output_may_have_line_ends_and_commas(
    tmp_path: Path, gold: Path, capsys
) -> None:
    gold.write_text('\tid\tsentence\tsentiment\n0\tid0\t"x\nb, c"\t0\n')
    _, report = score(tmp_path, gold, 'id\tlabel\ttext\nid0\t0\t"x\nb, c"\n', capsys)
    assert report["scored"] == 1 and report["accuracy"] == 1.0


def test_a_quote_before_a_formula_is_taken_away_where_a_run_has_put_it(tmp_path: Path) -> None:
    """An --output has ids as they were."""
    of_runs = [("id,Predicted_stars", "'+4912,1", "+4912"), ("id,label", "'+4912,1", "+4912")]
    for header, row, id_ in (*of_runs, ("id,label,text", "'+4912,1,red", "'+4912")):
        (tmp_path / "p.csv").write_text(f"{header}\n{row}\n")
        assert list(read_predictions(tmp_path / "p.csv", float, False)[0]) == [id_]


STARS = """
[stars]
kind = "classification"
text = "text"
label = "label"
id = "id"
train = "train.csv"
dev = "stars-dev.csv"
labels = 3
display_names = ["1", "2", "3"]
"""


@pytest.mark.parametrize(
    ("header", "cells"), [("id,Predicted_stars\n", "012"), ("id,label\n", "123"), ("", "012")]
)
def test_names_for_people_may_be_other_classes_numbers(
    tmp_path: Path, header: str, cells: str
) -> None:
    """As of one to three stars: predictions have numbers from 0, what is shown has the names."""
    gold, predicted = tmp_path / "stars-dev.csv", tmp_path / "predicted.csv"
    gold.write_text("id,text,label\na,red cat,0\nb,old dog,1\nc,new cat,2\n")
    rows = (f"{id_},{cell}\n" for id_, cell in zip("abc", cells, strict=True))
    predicted.write_text(header + "".join(rows))
    found = score_predictions(predicted, gold, [*read_tasks(STARS, "own.toml", None).values()])
    assert (found["accuracy"], found["scored"]) == (1.0, 3)


@pytest.mark.parametrize(
    ("text", "fits"), [("2", True), ("2.0", True), ("3", False), (".9", False)]
)
def test_what_is_no_class_is_no_prediction(text: str, fits: bool) -> None:
    """A probability, say, or classes that are counted from 1: it would be scored as wrong."""
    table = {"kind": "classification", "labels": 3, "train": "a.tsv", "dev": 0.1}
    task = make_task("topic", {**table, "text": "t", "label": "l"})
    if fits:
        assert task.parse_prediction(text) == 2
    else:
        with pytest.raises(ValueError, match="expected"):
            task.parse_prediction(text)


@pytest.mark.parametrize(
    ("cut", "more", "what"),
    [(1, "", "missing"), (0, "other,3\n", "extra"), (0, "id1,2\n", "duplicate")],
)
def test_one_missing_extra_or_duplicate_id_is_a_failure(
    tmp_path: Path, gold: Path, capsys, cut: int, more: str, what: str
) -> None:
    rows = [f"id{i},{i % 5}\n" for i in range(10)]
    code, report = score(tmp_path, gold, "".join(rows[cut:]) + more, capsys)
    counts = {key: report[key] for key in ("missing", "extra", "duplicate")}
    assert code == 1 and counts == dict.fromkeys(counts, 0) | {what: 1}


def test_predictions_of_rows_without_a_label_are_not_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of Quora's dev set, two of whose rows have none, one of them no second question either."""
    gold, path = tmp_path / "quora-dev.csv", tmp_path / "p.csv"
    cells = ("0\tA1\tone\ttwo\t1", "1\tb2\tone\ttwo\t", "2\tc3\tone\t\t", "3\td4\ta\tb\t0")
    head = "\tid\tsentence1\tsentence2\tis_duplicate\n"
    gold.write_text(head + "".join(f"{row}\n" for row in cells))
    path.write_text(
        "id \t Predicted_Is_Paraphrase \n"
        + "".join(f"{id_} , 1 \n" for id_ in ("a1", "b2", "c3", "d4"))
    )
    assert evaluate.main(["--score", str(path), "--gold", str(gold)]) == 0
    found = capsys.readouterr()
    assert "accuracy,0.5\n" in found.out and "scored,2\n" in found.out
    assert found.err == f"{gold}: not scored: 2 without a label (lines 3, 4)\n"
    path.write_text(path.read_text() + "e5 , 1 \n")
    assert evaluate.main(["--score", str(path), "--gold", str(gold)]) == 1


def test_a_file_that_cannot_be_written_is_named_as_it_was_asked_for(tmp_path: Path) -> None:
    asked = tmp_path / ("f" * 250)  # too long with what is added until it is whole
    with pytest.raises(OSError) as error, replaced_file(asked):
        pass
    assert error.value.filename == str(asked)
