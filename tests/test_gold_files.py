"""Which rows predictions are scored against: of one file or a list, by ids or by lines."""

import json
import re
from pathlib import Path

import pytest

import evaluate
from minbert import UserError
from minbert.task.gold import gold_task
from minbert.task.predictions import score_predictions
from minbert.task.task import Task
from minbert.task.taskfile import make_task, read_tasks
from tasks import TASKS

KEYS = {"kind": "classification", "text": "text", "label": "queue", "labels": ["lamp", "kettle"]}
FILES = {"train": "train.csv", "dev": ["may.csv", "june.csv"]}
Rows = list[tuple[str, str]]  # text and label
MAY = [("a red lamp", "lamp"), ("an old kettle", "kettle"), ("two lamps", "lamp")]
JUNE = [("my kettle sings", "kettle"), ("no light", "lamp"), ("it boils", "kettle")]


def task(**keys: object) -> Task:
    return make_task("own", {**KEYS, **FILES, **keys})


def write(path: Path, rows: Rows, has_ids: bool = True) -> Path:
    """Write a table of rows, with ids from 1 unless it has none."""
    lines = [f"{f'{number},' * has_ids}{','.join(row)}\n" for number, row in enumerate(rows, 1)]
    path.write_text(f"{'id,' * has_ids}text,queue\n" + "".join(lines))
    return path


def output(path: Path, rows: Rows, first: int = 1) -> Path:
    """Write an --output that is right in all rows, with ids from `first`."""
    lines = [f"{number},{label},1.0,{text}\n" for number, (text, label) in enumerate(rows, first)]
    path.write_text("id,label,probability_lamp,text\n" + "".join(lines))
    return path


def counts(found: dict[str, float | int | str]) -> tuple[object, ...]:
    return tuple(found[key] for key in ("accuracy", "scored", "missing", "extra"))


@pytest.mark.parametrize("name", ["may", "june"])
def test_an_output_of_one_file_is_scored_by_its_own_ids(tmp_path: Path, name: str) -> None:
    """Both files count their rows from 1."""
    for month, rows in (("may", MAY), ("june", JUNE)):
        write(tmp_path / f"{month}.csv", rows)
    predicted = output(tmp_path / "o.csv", MAY if name == "may" else JUNE)
    found = score_predictions(predicted, tmp_path / f"{name}.csv", [task()])
    assert counts(found) == (1.0, 3, 0, 0)


def test_ids_that_two_files_have_are_refused(tmp_path: Path) -> None:
    """Of June's rows some have ids that no row of May has: neither file alone is meant."""
    write(tmp_path / "may.csv", MAY)
    write(tmp_path / "june.csv", [*JUNE, ("a lamp", "lamp")])
    predicted = output(tmp_path / "o.csv", [*MAY, ("a lamp", "lamp")])
    with pytest.raises(UserError, match=r"june.csv:2: id '1' is on line 2 of \S*may.csv already"):
        score_predictions(predicted, tmp_path / "may.csv", [task()])


@pytest.mark.parametrize("has_ids", [True, False])
def test_one_file_of_a_list_is_scored_alone_if_it_has_all_ids(
    tmp_path: Path, has_ids: bool
) -> None:
    for month, rows in (("may", MAY), ("june", JUNE)):
        write(tmp_path / f"{month}.csv", [(f"{text} {month}", x) for text, x in rows], has_ids)
    if has_ids:
        june = (tmp_path / "june.csv").read_text()
        (tmp_path / "june.csv").write_text(re.sub(r"\n(\d)", r"\n1\1", june))
    own = task(id="id") if has_ids else task()
    first, others = ([1, 2, 3], [11, 12, 13]) if has_ids else ([2, 3, 4], [2, 3, 4])
    whole = (
        [*first, *others] if has_ids else [*(f"1:{n}" for n in first), *(f"2:{n}" for n in others)]
    )
    labels = [label for _, label in (*MAY, *JUNE)]
    for ids in (first, whole):
        rows = "".join(f"{id_},{label}\n" for id_, label in zip(ids, labels, strict=False))
        (tmp_path / "p.csv").write_text(f"id,Predicted_queue\n{rows}")
        found = score_predictions(tmp_path / "p.csv", tmp_path / "may.csv", [own])
        assert counts(found) == (1.0, len(ids), 0, 0)
    (tmp_path / "june.csv").unlink()
    with pytest.raises(UserError, match=r"june.csv: no such file; own has it beside may.csv: put"):
        score_predictions(tmp_path / "p.csv", tmp_path / "may.csv", [own])


def test_a_gold_file_of_words_may_have_another_ending_of_theirs(tmp_path: Path) -> None:
    own = make_task("own", {**KEYS, "kind": "token-classification", "text": "tokens",
                            "label": "tags", "train": "x.conll", "dev": "y.conll"})  # fmt: skip
    for name in ("g.bio", "g.txt"):
        (tmp_path / name).write_text("red lamp\nold kettle\n\nred lamp\n")
    (tmp_path / "p.csv").write_text(f"id,{own.prediction_header}\n1,lamp kettle\n4,lamp\n")
    assert score_predictions(tmp_path / "p.csv", tmp_path / "g.bio", [own])["scored"] == 2
    with pytest.raises(UserError, match=r"g.txt: its columns fit none .* for words the ending of"):
        score_predictions(tmp_path / "p.csv", tmp_path / "g.txt", [own])


def test_a_column_of_predictions_may_be_called_label(tmp_path: Path) -> None:
    """An --output has the names for people, the run's own predictions have numbers."""
    own = task(labels=2, display_names=["1", "0"], dev="may.csv", prediction_header="label")
    gold = write(tmp_path / "may.csv", [("red", "0"), ("old", "1")], has_ids=False)
    predicted = output(tmp_path / "o.csv", [("red", "1"), ("old", "0")], first=2)
    assert counts(score_predictions(predicted, gold, [own])) == (1.0, 2, 0, 0)
    other = make_task("other", {**KEYS, "train": "x.csv"})  # which has no such column
    found = score_predictions(predicted, gold, [own, other])
    assert found["task"] == "own"
    (tmp_path / "p.csv").write_text("id,label\n2,0\n3,1\n")
    assert counts(score_predictions(tmp_path / "p.csv", gold, [own])) == (1.0, 2, 0, 0)


def test_an_output_s_texts_are_those_of_the_gold_file(tmp_path: Path) -> None:
    own, gold = task(dev="may.csv"), write(tmp_path / "may.csv", MAY, has_ids=False)
    assert counts(score_predictions(output(tmp_path / "o.csv", MAY, 2), gold, [own]))[0] == 1.0
    for rows, first in ((MAY, 1), (MAY[::-1], 2)):  # as of a plain text; in another order
        wrong = output(tmp_path / "o.csv", rows, first)
        with pytest.raises(UserError, match=r"o.csv:\d: id '\d' has the text '.*', but another in"):
            score_predictions(wrong, gold, [own])


def test_both_texts_of_a_pair_are_compared(tmp_path: Path) -> None:
    keys = {"kind": "pair-classification", "text": ["a", "b"], "dev": "may.csv"}
    (tmp_path / "may.csv").write_text("a,b,queue\nred,old,lamp\n")
    for pair in ("old", "new"):
        (tmp_path / "o.csv").write_text(f"id,label,text,pair\n2,lamp,red,{pair}\n")
        if pair == "old":
            score_predictions(tmp_path / "o.csv", tmp_path / "may.csv", [task(**keys)])
        else:
            with pytest.raises(UserError, match="id '2' has the text 'new'"):
                score_predictions(tmp_path / "o.csv", tmp_path / "may.csv", [task(**keys)])


@pytest.mark.parametrize("delimiter", [";", ","])
@pytest.mark.parametrize("charset", ["cp1252", "utf-8"])
def test_a_gold_file_may_be_of_another_program(
    tmp_path: Path, delimiter: str, charset: str
) -> None:
    """As an --input may: with commas and in UTF-8, whatever the task's own files have."""
    rows = [("id", "text", "queue"), ("x", "caf\u00e9", "lamp"), ("y", "red", "kettle")]
    text = "".join(delimiter.join(row) + "\n" for row in rows)
    (tmp_path / "new.csv").write_bytes(text.encode(charset))
    (tmp_path / "p.csv").write_text("id,Predicted_queue\nx,lamp\ny,lamp\n")
    own = task(id="id", delimiter=";", charset="cp1252")
    found = score_predictions(tmp_path / "p.csv", tmp_path / "new.csv", [own])
    assert counts(found) == (0.5, 2, 0, 0)


def test_a_file_that_no_task_can_read_may_be_of_another_task_file(tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("id;text;queue\nx;red;lamp\n")
    (tmp_path / "p.csv").write_text("id,Predicted_queue\nx,lamp\n")
    with pytest.raises(UserError, match=r"new.csv:1: `;` between .*; .*--task-file"):
        score_predictions(tmp_path / "p.csv", tmp_path / "new.csv", [task()])


def many(row: str, last: str) -> str:
    return "".join(row.format(n) for n in range(20)) + last


@pytest.mark.parametrize("predicted", ["lamp", ""])  # of the row that cannot be used; "": none
@pytest.mark.parametrize(
    ("keys", "name", "text", "said"),
    [
        ({}, "g.csv", many("red {},lamp\n", "old,x\n"), "1 with another label ('x', line 22)"),
        ({}, "g.csv", many("red {},lamp\n", "old,\n"), "1 without a label (line 22)"),
        ({}, "g.csv", many("red {},lamp\n", ",lamp\n"), "1 with an empty text (line 22)"),
        (
            {"kind": "regression", "labels": None, "range": [0, 1]}, "g.csv",
            many("red {},.5\n", 'old,"0,5"\n'), "1 with another label ('0,5', line 22)",
        ),
        (
            {"kind": "multi-label"}, "g.csv", many("red {},lamp\n", "old,lamp;x\n"),
            "1 with another label ('lamp;x', line 22)",
        ),
        (
            {"kind": "token-classification", "text": "tokens", "label": "tags"}, "g.conll",
            many("red{} lamp\n\n", "old x\n"), "1 with another label ('x', line 41)",
        ),
        (
            {"kind": "token-classification", "text": "tokens", "label": "tags"}, "g.jsonl",
            many(
                '{{"tokens": ["red{}"], "tags": ["lamp"]}}\n',
                '{"tokens": ["old"], "tags": ["lamp", "lamp"]}\n',
            ),
            "1 with more or fewer tags than words (line 21)",
        ),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_used_are_told_of_and_not_scored(
    tmp_path: Path, capsys, keys: dict[str, object], name: str, text: str, said: str, predicted: str
) -> None:
    table = {k: v for k, v in {**KEYS, "train": "x.csv", "dev": name, **keys}.items() if v}
    own, gold = make_task("own", table), tmp_path / name
    gold.write_text("text,queue\n" * name.endswith(".csv") + text)
    lines = range(1, 41, 2) if name == "g.conll" else range(1, 21)
    numbers = [line + name.endswith(".csv") for line in lines]
    answer = "0.5" if own.is_regression else "lamp"
    rows = "".join(f"{n},{answer}\n" for n in numbers)
    rows += f"{numbers[-1] + (2 if name == 'g.conll' else 1)},{answer}\n" * bool(predicted)
    (tmp_path / "p.csv").write_text(f"id,{own.prediction_header}\n{rows}")
    found = score_predictions(tmp_path / "p.csv", gold, [own])
    assert (found["scored"], found["missing"], found["extra"]) == (20, 0, 0)
    assert capsys.readouterr().err == f"{gold}: not scored: {said}\n"


def test_unusable_rows_of_several_files_are_named_with_their_file(tmp_path: Path, capsys) -> None:
    rows = [(f"red {n}", "lamp") for n in range(20)]
    write(tmp_path / "may.csv", rows, has_ids=False)
    write(tmp_path / "june.csv", [*rows, ("old", "lmap")], has_ids=False)
    ids = [f"{file}:{line}" for file in (1, 2) for line in range(2, 23)]
    text = "".join(f"{id_},lamp\n" for id_ in ids if id_ != "1:22")
    (tmp_path / "p.csv").write_text(f"id,Predicted_queue\n{text}")
    found = score_predictions(tmp_path / "p.csv", tmp_path / "may.csv", [task()])
    assert counts(found) == (1.0, 40, 0, 0)
    assert f"('lmap', line {tmp_path / 'june.csv'}:22)" in capsys.readouterr().err


def test_a_row_without_a_text_is_told_of_once_where_an_output_has_ids(
    tmp_path: Path, capsys
) -> None:
    """Its task has none: they are read off the file's column id."""
    rows = [(f"red {n}", "lamp") for n in range(20)]
    gold = write(tmp_path / "may.csv", [*rows, ("", "lamp")])
    found = score_predictions(output(tmp_path / "o.csv", rows), gold, [task(dev="may.csv")])
    assert counts(found) == (1.0, 20, 0, 0)
    assert capsys.readouterr().err == f"{gold}: not scored: 1 with an empty text (line 22)\n"


@pytest.mark.parametrize("header", ["id,Predicted_Similarity", "id \t Predicted_Similarity "])
def test_the_right_spelling_of_the_course_s_header_is_read_too(tmp_path: Path, header: str) -> None:
    gold, predicted = tmp_path / "sts-dev.csv", tmp_path / "sts-dev-output.csv"
    gold.write_text("id\tsentence1\tsentence2\tsimilarity\na1\tx\ty\t4\nb2\tx\tz\t1\n")
    predicted.write_text(f"{header}\na1 , 4.25 \nb2 , 0.5 \n")
    found = score_predictions(predicted, gold, [TASKS["sts"]])
    assert (found["pearson"], found["scored"], found["missing"]) == (1.0, 2, 0)


def test_an_id_that_two_gold_rows_have_is_refused(tmp_path: Path) -> None:
    (tmp_path / "may.csv").write_text("id,text,queue\n1,red,lamp\n1,old,kettle\n")
    (tmp_path / "p.csv").write_text("id,Predicted_queue\n1,kettle\n")
    own = task(id="id", dev="may.csv")
    with pytest.raises(UserError, match=r"may.csv:3: id '1' is on line 2 already"):
        score_predictions(tmp_path / "p.csv", tmp_path / "may.csv", [own])


@pytest.mark.parametrize("name", ["gold.csv", "gold.jsonl"])
def test_a_task_without_a_header_claims_no_file_of_others(tmp_path: Path, name: str) -> None:
    """As the first in a task file, whose `columns` no file names."""
    plain = {**KEYS, "columns": ["label", "text"], "label": "label", "labels": ["a", "b"]}
    own, other = task(), make_task("plain", {**plain, "train": "plain.csv"})
    gold = write(tmp_path / name, MAY)
    if name == "gold.jsonl":
        rows = ({"id": str(i), "text": text, "queue": x} for i, (text, x) in enumerate(MAY, 1))
        gold.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert gold_task(gold, [other, own], ["id", "label", "text"]) == own
    (tmp_path / "bare.csv").write_text("a,red lamp\n")
    assert gold_task(tmp_path / "bare.csv", [other, own], ["id", "label", "text"]) == other


def test_an_output_with_ids_that_no_task_names_is_scored_by_them(tmp_path: Path) -> None:
    """Lines 2 to 5 of the gold file are not the ids 2 to 5 of predictions."""
    toml = '[q]\nkind = "classification"\ntext = "text"\nlabel = "label"\nlabels = ["a", "b"]\n'
    task = read_tasks(toml + 'train = "q.tsv"\n', "own.toml", None)["q"]
    gold, rows = tmp_path / "q-dev.tsv", [(i, "ab"[i % 2]) for i in range(6)]
    gold.write_text("id\ttext\tlabel\n" + "".join(f"{i}\tred\t{x}\n" for i, x in rows))
    (tmp_path / "p.csv").write_text("id,label,text\n" + "".join(f"{i},{x},red\n" for i, x in rows))
    found = score_predictions(tmp_path / "p.csv", gold, [task])
    assert (found["accuracy"], found["scored"], found["missing"]) == (1.0, 6, 0)
    # those of a run have the task's ids: the lines
    own = "".join(f"{i + 2},{x}\n" for i, x in rows)
    (tmp_path / "own.csv").write_text(f"id,{task.prediction_header}\n{own}")
    found = score_predictions(tmp_path / "own.csv", gold, [task])
    assert (found["accuracy"], found["scored"], found["missing"]) == (1.0, 6, 0)


@pytest.mark.parametrize(("name", "task"), [("sst-sentiment-dev", "sst"), ("my_cfimdb", "cfimdb")])
def test_a_course_s_gold_file_may_be_called_after_its_task(
    tmp_path: Path, capsys, name: str, task: str
) -> None:
    """SST and CFIMDB have the same columns and the same header of predictions."""
    gold, predicted = tmp_path / f"{name}.csv", tmp_path / "p.csv"
    gold.write_text("id\tsentence\tsentiment\n3928d0a5\tA film .\t1\n537e1e61\tSo good .\t0\n")
    predicted.write_text("id,Predicted_Sentiment\n3928d0a5\t1\n537e1e61\t0\n")
    assert evaluate.main(["--score", str(predicted), "--gold", str(gold)]) == 0
    assert f"task,{task}\naccuracy,1.0\n" in capsys.readouterr().out
