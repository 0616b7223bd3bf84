"""A run that starts from another one: no row that was trained on is scored."""

import json
from pathlib import Path
from typing import Any

import pytest

import evaluate
import train_multitask
from minbert import UserError
from minbert.data.examples import read_examples
from minbert.task.dev_rows import DEV_ROWS, draw_dev_rows, write_dev_rows
from minbert.task.taskfile import make_task, task_file_text
from tests.conftest import cut, run
from tests.own_tasks import OWN, arguments, older_dev_row

ROWS = [(f"r{n}", f"cat {n} runs", ("walk", "rest")[n % 2]) for n in range(40)]
ONE = OWN.replace('dev = "intent.tsv"\ntest = "intent.tsv"\n', "dev = 0.25\n")


def write_rows(own: Path, rows: list[tuple[str, str, str]], with_ids: bool) -> None:
    """Write the task's training rows, and its table."""
    head, first = ("id\t" if with_ids else "") + "utterance\twhat\n", 0 if with_ids else 1
    lines = ["\t".join(row[first:]) + "\n" for row in rows]
    (own / "data/intent.tsv").write_text(head + "".join(lines))
    keys = 'id = "id"\n' if with_ids else ""
    (own / "own.toml").write_text(ONE.replace("dev = 0.25\n", f"dev = 0.25\n{keys}"))


def train(own: Path, name: str, *options: str) -> set[str]:
    """Train a run and return the texts of its dev rows."""
    argv = [*arguments(own, "--tasks", "intent"), "--name", name, "--steps", "2", *options]
    train_multitask.main(argv)
    drawn = json.loads((own / "runs" / name / DEV_ROWS).read_text())["intent"]
    places = {row.split(" ")[0] for row in drawn}
    lines = (own / "data/intent.tsv").read_text().splitlines()
    has_ids = lines[0].startswith("id")
    cells = [line.split("\t") for line in lines]
    return {
        row[1] if has_ids else row[0]
        for number, row in enumerate(cells, start=1)
        if (row[0] if has_ids else str(number)) in places
    }


@pytest.mark.parametrize("with_ids", [True, False])
@pytest.mark.parametrize("of", ["", "/best"])
def test_its_dev_rows_stay_dev_rows(own: Path, capsys, with_ids: bool, of: str) -> None:
    """Rows were added above them and some went; a new run draws others."""
    write_rows(own, ROWS, with_ids)
    first = train(own, "first")
    gone = next(row for row in ROWS if row[1] in first)
    added = [(f"n{n}", f"dog {n} sleeps", "rest") for n in range(9)]
    write_rows(own, [*added, *(row for row in ROWS if row != gone)], with_ids)
    capsys.readouterr()
    again = train(own, "again", "--model", str(own / "runs/first") + of)
    assert again == first - {gone[1]}
    said = (
        "intent: the dev set is the 9 rows with texts of the 10 dev rows of the run that this one"
    )
    assert said in capsys.readouterr().out
    assert not train(own, "new") <= first


def test_dev_rows_stay_dev_rows_over_a_run_of_another_task(own: Path) -> None:
    write_rows(own, ROWS, with_ids=True)
    first = train(own, "first")
    other = [*arguments(own, "--tasks", "topics"), "--name", "other", "--steps", "2"]
    train_multitask.main([*other, "--model", str(own / "runs/first")])
    write_rows(own, [*ROWS[5:], *ROWS[:5], ("n", "dog", "rest")], with_ids=True)
    assert train(own, "again", "--model", str(own / "runs/other")) == first


def test_dev_rows_that_a_run_was_trained_on_are_not_handed_on(own: Path) -> None:
    """One in between had a dev file of its own, and all rows to train on."""
    write_rows(own, ROWS, with_ids=True)
    train(own, "first")
    table = (own / "own.toml").read_text()
    (own / "own.toml").write_text(table.replace("dev = 0.25", 'dev = "intent.tsv"', 1))
    second = [*arguments(own, "--tasks", "intent"), "--name", "second", "--steps", "2"]
    train_multitask.main([*second, "--model", str(own / "runs/first")])
    assert not (own / "runs/second" / DEV_ROWS).exists()


def test_of_other_rows_a_share_is_drawn(own: Path, capsys) -> None:
    write_rows(own, ROWS, with_ids=True)
    train(own, "first")
    write_rows(own, [(id_, f"old {text}", label) for id_, text, label in ROWS], with_ids=True)
    capsys.readouterr()
    assert len(train(own, "again", "--model", str(own / "runs/first"))) == 10
    said = "intent: no text of the 10 dev rows of the run that this one starts from was found"
    assert said in capsys.readouterr().out


SINGLE = {"text": "a", "train": "own.jsonl", "dev": 0.25, "label": "y"}
PAIR = SINGLE | {"text": ["a", "b"]}


def texts_drawn(task_keys: dict[str, Any], place: Path, start: str, run: str) -> set[str]:
    """Draw dev rows for a run that starts from another one; return their texts."""
    tasks = draw_dev_rows({"own": make_task("own", task_keys)}, place, str(place / start))
    (place / run).mkdir()
    (place / run / "args.json").write_text("{}")
    write_dev_rows(place / run, tasks, str(place / start))
    examples, _ = read_examples(place / "own.jsonl", tasks["own"].columns, labelled=True)
    return {example.text for example in examples if example.id in tasks["own"].dev_ids}


def write_objects(place: Path, label_of: Any) -> None:
    rows = [{"n": f"n{n}", "a": f"cat {n}", "b": "dog", "y": label_of(n)} for n in range(40)]
    (place / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("is_older", [False, True])
@pytest.mark.parametrize(
    ("keys", "then", "now"),
    [
        (SINGLE | {"kind": "classification"}, "bo", "bdo"),
        (SINGLE | {"kind": "classification"}, "bo", "abo"),
        (SINGLE | {"kind": "classification"}, "bdo", "bo"),
        (PAIR | {"kind": "pair-classification"}, "bo", "ob"),
        (PAIR | {"kind": "pair-classification"}, "bo", "bdo"),
        (SINGLE | {"kind": "multi-label"}, "bo", "bdo"),
    ],
)
def test_dev_rows_stay_dev_rows_whatever_classes_there_are(
    tmp_path: Path, capsys, keys: dict[str, Any], then: str, now: str, is_older: bool
) -> None:
    """Their order is another one, too, and at last their rows have ids."""
    is_set = keys["kind"] == "multi-label"
    write_objects(tmp_path, lambda n: ["bo"[n % 2]] if is_set else "bo"[n % 2])
    first = texts_drawn(keys | {"labels": [*then]}, tmp_path, "none", "first")
    if is_older:
        task = make_task("own", keys | {"labels": [*then]})
        rows, _ = read_examples(tmp_path / "own.jsonl", task.columns, labelled=True)
        kept = {"own": [older_dev_row(row) for row in rows if row.text in first]}
        (tmp_path / "first" / DEV_ROWS).write_text(json.dumps(kept))
    with_ids = keys | {"labels": [*now], "id": "n"}
    assert texts_drawn(with_ids, tmp_path, "first", "at once") == first
    assert texts_drawn(keys | {"labels": [*now]}, tmp_path, "first", "second") == first
    assert texts_drawn(with_ids, tmp_path, "second", "third") == first
    assert "the dev set is the 10 rows with texts of the 10 dev rows" in capsys.readouterr().out


def test_all_copies_of_a_dev_text_are_dev_rows_whatever_their_labels(tmp_path: Path) -> None:
    keys = SINGLE | {"kind": "classification", "labels": ["b", "o"]}
    write_objects(tmp_path, lambda n: "bo"[n % 2])
    first = texts_drawn(keys, tmp_path, "none", "first")
    write_objects(tmp_path, lambda n: "ob"[n % 2])  # all are corrected
    lines = (tmp_path / "own.jsonl").read_text()
    (tmp_path / "own.jsonl").write_text(lines + lines.replace('"o"', '"b"'))
    tasks = draw_dev_rows({"own": make_task("own", keys)}, tmp_path, str(tmp_path / "first"))
    rows, _ = read_examples(tmp_path / "own.jsonl", tasks["own"].columns, labelled=True)
    dev = [row.text for row in rows if row.id in tasks["own"].dev_ids]
    assert sorted(dev) == sorted([*first] * 2)


@pytest.mark.parametrize("has_hashes", [True, False])
def test_older_runs_are_blamed_only_where_they_lack_hashes(
    tmp_path: Path, capsys, has_hashes: bool
) -> None:
    keys = SINGLE | {"kind": "classification", "labels": ["b", "o"]}
    write_objects(tmp_path, lambda n: "bo"[n % 2])
    texts_drawn(keys, tmp_path, "none", "first")
    if has_hashes:
        lines = (tmp_path / "own.jsonl").read_text()
        (tmp_path / "own.jsonl").write_text(lines.replace("cat", "old cat"))
    else:
        (tmp_path / "first" / DEV_ROWS).write_text('{"own": ["2", "3"]}')
    texts_drawn(keys, tmp_path, "first", "again")
    said = capsys.readouterr().out
    assert "was found" in said and ("older runs kept no hashes" in said) != has_hashes


@pytest.mark.parametrize("case", ["renamed", "dev file", "other file"])
def test_rows_that_the_start_was_trained_on_are_told_of(own: Path, capsys, case: str) -> None:
    """It had the rows as another task's, or a dev file beside them."""
    write_rows(own, ROWS, with_ids=True)
    table = (own / "own.toml").read_text()
    (own / "own.toml").write_text(
        table.replace("[intent]", "[asked]", 1)
        if case == "renamed"
        else table.replace("dev = 0.25", 'dev = "intent.tsv"', 1)
    )
    name = "asked" if case == "renamed" else "intent"
    first = [*arguments(own, "--tasks", name), "--name", "first", "--steps", "2"]
    train_multitask.main([*first, "--skip-predictions"])
    (own / "own.toml").write_text(table)
    if case == "other file":
        (own / "data/new.tsv").write_text((own / "data/intent.tsv").read_text())
        (own / "own.toml").write_text(table.replace('"intent.tsv"', '"new.tsv"', 1))
    capsys.readouterr()
    train(own, "again", "--model", str(own / "runs/first"))
    said = "intent: the run that this one starts from was trained on"
    assert (said in capsys.readouterr().out) == (case != "other file")


def test_a_start_or_teacher_that_is_not_finished_is_said(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut(world, 4, "--name", "first")
    first, said = str(world / "runs/first"), "runs/first is not finished: step 4 of 20"
    for number, more in enumerate((["--model", first], ["--teacher", f"sst={first}"])):
        capsys.readouterr()
        run(world, "--name", f"next-{number}", "--steps", "1", "--skip-predictions", *more)
        assert capsys.readouterr().out.count(said) == 1
    log = world / "runs/first/log.jsonl"
    changed = log.read_text().replace('"steps": 20', '"steps": "\\u001b[31mred"', 1)
    log.write_text(changed)
    run(world, "--name", "other", "--steps", "1", "--skip-predictions", "--model", first)
    said = capsys.readouterr().out
    assert "\x1b" not in said and "runs/first is not finished: step 4 of ?" in said
    train_multitask.main(["--resume", first])
    capsys.readouterr()
    run(world, "--name", "last", "--steps", "1", "--skip-predictions", "--model", f"{first}/best")
    assert "is not finished" not in capsys.readouterr().out


def test_no_warning_of_rows_that_the_start_was_not_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was trained on another task of its task file, on a corpus, or kept the dev rows."""
    keys = SINGLE | {"kind": "classification", "labels": ["b", "o"]}
    tasks, first = {"own": make_task("own", keys)}, tmp_path / "first"
    write_objects(tmp_path, lambda n: "bo"[n % 2])
    first.mkdir()
    (first / "tasks.toml").write_text(task_file_text(tasks.values()))
    for name, corpus, keeps in (
        ("own", [], False), ("other", [], False), ("own", ["a.txt"], False), ("own", [], True),
    ):  # fmt: skip
        arguments_ = {"data_dir": str(tmp_path), "tasks": [name], "corpus": corpus}
        (first / "args.json").write_text(json.dumps(arguments_))
        if keeps:
            write_dev_rows(first, draw_dev_rows(tasks, tmp_path, "none"), "none")
        capsys.readouterr()
        draw_dev_rows(tasks, tmp_path, str(first))
        warned = "kept no dev rows" in capsys.readouterr().out
        assert warned == (name == "own" and not corpus and not keeps)


def test_a_file_of_the_dev_rows_alone_is_scored(own: Path) -> None:
    """But not trained on."""
    file, drawn = own / "data/entails.jsonl", 'dev = 0.25\nid = "key"'
    (own / "own.toml").write_text(OWN.replace('dev = "entails.jsonl"\nid = "key"', drawn))
    train_multitask.main([*arguments(own), "--tasks", "entails"])
    run = own / "runs/own"
    kept = {row.split(" ")[0] for row in json.loads((run / "dev_rows.json").read_text())["entails"]}
    lines = [x for x in file.read_text().splitlines() if str(json.loads(x)["key"]) in kept]
    file.write_text("\n".join(lines) + "\n")
    assert evaluate.main(["--checkpoint", str(run), "--data-dir", str(own / "data")]) == 0
    with pytest.raises(UserError, match=r"entails.jsonl: no row beside the dev rows of entails"):
        train_multitask.main(["--resume", str(run)])
