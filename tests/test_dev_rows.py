"""A task without a dev file: some training rows are its dev set, the same ones ever after."""

import json
import re
from pathlib import Path

import pytest

import evaluate
import pretrain_mlm
import train_multitask
from minbert import UserError
from minbert.data.examples import read_examples
from minbert.data.tokenizer import BertTokenizer
from minbert.task.loading import DataSource, distinct_sentences, load_task
from minbert.task.taskfile import read_task_file, tasks_of_run
from tests.own_tasks import OWN, arguments, older_dev_row

ONE = OWN.replace('dev = "intent.tsv"\ntest = "intent.tsv"\n', "dev = 0.25\n")


def rows(folder: Path, name: str = "intent") -> list[str]:
    return [row.split(" ")[0] for row in json.loads((folder / "dev_rows.json").read_text())[name]]


@pytest.fixture
def run(own: Path) -> Path:
    (own / "own.toml").write_text(ONE)
    train_multitask.main([*arguments(own), "--tasks", "intent"])
    return own / "runs/own"


def test_a_run_draws_of_every_class(own: Path) -> None:
    """Of thirty, of eight, and of the two rows of the rarest."""
    labels = ["walk"] * 30 + ["rest"] * 8 + ["none of it"] * 2
    lines = [f"cat {row}\t{label}\n" for row, label in enumerate(labels)]
    (own / "data/intent.tsv").write_text("utterance\twhat\n" + "".join(lines))
    (own / "own.toml").write_text(ONE.replace("dev = 0.25", "dev = 0.1"))
    train_multitask.main([*arguments(own), "--tasks", "intent"])
    drawn = [labels[int(line) - 2] for line in rows(own / "runs/own")]  # line 1 is the header
    assert [drawn.count(label) for label in ("walk", "rest", "none of it")] == [3, 1, 1]


def test_rows_without_ids_are_not_others_on_the_same_lines(own: Path, run: Path) -> None:
    """A row inserted at the top moves all others, and trained rows onto the lines of dev rows."""
    file = own / "data/intent.tsv"
    head, *lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([head, "new cat\twalk\n", *lines]))
    argv = ["--checkpoint", str(run), "--data-dir", str(own / "data")]
    message = r"intent.tsv: \d of the 4 dev rows of intent are not on the lines"
    with pytest.raises(UserError, match=message):
        evaluate.main(argv)
    gold = ["--gold", str(file), "--task-file", str(run / "tasks.toml")]
    with pytest.raises(UserError, match=message):
        evaluate.main(["--score", str(run / "predictions/intent-dev-output.csv"), *gold])
    file.write_text("".join([head, *lines]))
    kept = json.loads((run / "dev_rows.json").read_text())
    before = {"intent": [row.split(" ")[0] for row in kept["intent"]]}
    (run / "dev_rows.json").write_text(json.dumps(before))  # as an older run wrote it
    assert evaluate.main(argv) == 0


def test_rows_with_ids_are_not_others_with_the_same_ids(own: Path) -> None:
    """A file that was numbered anew; a label that was corrected is no other row."""
    file, drawn = own / "data/entails.jsonl", 'dev = 0.25\nid = "key"'
    (own / "own.toml").write_text(OWN.replace('dev = "entails.jsonl"\nid = "key"', drawn))
    train_multitask.main([*arguments(own), "--tasks", "entails"])
    run, lines = own / "runs/own", [json.loads(line) for line in file.read_text().splitlines()]
    argv = ["--checkpoint", str(run), "--data-dir", str(own / "data")]
    for line in lines:
        line["answer"] = 2
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert evaluate.main(argv) == 0
    keys = [line["key"] for line in lines]
    for line, key in zip(lines, [*keys[1:], keys[0]], strict=True):
        line["key"] = key
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match=r"\d of the \d dev rows of entails are gone or have an"):
        evaluate.main(argv)
    kept = json.loads((run / "dev_rows.json").read_text())
    before = {"entails": [row.rpartition(" ")[0] for row in kept["entails"]]}
    (run / "dev_rows.json").write_text(json.dumps(before))  # as an older run wrote it
    assert evaluate.main(argv) == 0


@pytest.mark.parametrize("is_older", [False, True])
def test_rows_without_ids_are_the_same_with_corrected_labels(
    own: Path, run: Path, is_older: bool
) -> None:
    file, columns = own / "data/intent.tsv", tasks_of_run(run, ["intent"])["intent"].columns
    if is_older:
        kept = [
            older_dev_row(e) for e in read_examples(file, columns, True)[0] if e.id in rows(run)
        ]
        (run / "dev_rows.json").write_text(json.dumps({"intent": kept}))
    file.write_text(file.read_text().replace("\trest", "\twalk"))
    assert evaluate.main(["--checkpoint", str(run), "--data-dir", str(own / "data")]) == 0


def test_the_same_rows_for_training_evaluation_scores_and_report(
    own: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dev = rows(run)
    assert len(dev) == 4
    places = ["--checkpoint", str(run), "--data-dir", str(own / "data"), "--output", str(own / "p")]
    assert evaluate.main(places) == 0
    said = "intent: no dev file: 4 of these rows are its dev set"
    assert said in capsys.readouterr().out
    for folder in (run / "predictions", own / "p"):
        lines = (folder / "intent-dev-output.csv").read_text().splitlines()[1:]
        assert sorted(line.split(",")[0] for line in lines) == dev
    gold = ["--gold", str(own / "data/intent.tsv"), "--task-file", str(run / "tasks.toml")]
    assert evaluate.main(["--score", str(own / "p/intent-dev-output.csv"), *gold]) == 0
    worst = json.loads((run / "findings.json").read_text())["intent"]["worst"]
    assert worst and {row["id"] for row in worst} <= {*dev}
    card = (run / "README.md").read_text()
    assert "| intent.tsv | 12 |" in card and "| intent.tsv, a part of it: dev | 4 |" in card


def test_training_has_the_other_rows_alone(own: Path, run: Path) -> None:
    task = tasks_of_run(run, ["intent"])["intent"]
    tokenizer = BertTokenizer.from_directory(own / "model")
    source = DataSource(own / "data", None, 32)
    train, dev = (
        load_task(task, name, tokenizer, source).id_strings() for name in ("train", "dev")
    )
    assert sorted(dev) == rows(run) and not {*train} & {*dev} and len(train) + len(dev) == 16


def test_pre_training_does_not_read_them_either(own: Path, run: Path) -> None:
    task = tasks_of_run(run, ["intent"])["intent"]
    examples, _ = read_examples(own / "data/intent.tsv", task.columns, True)
    others = {example.text for example in examples if example.id not in rows(run)}
    assert {*distinct_sentences([task], own / "data", {})[0]} == others


def test_another_seed_and_pre_training_have_the_same_rows(
    own: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--tasks", "intent", "--name"]
    train_multitask.main([*arguments(own), *more, "again", "--seed", "3", "--limit", "intent=8"])
    capsys.readouterr()
    pretrain_mlm.main([*arguments(own), *more, "mlm", "--held-out", "0"])
    assert "intent: no dev file: 4 of these rows are its dev set" in capsys.readouterr().out
    assert rows(own / "runs/again") == rows(own / "runs/mlm") == rows(run)


def test_several_runs_and_runs_of_single_tasks_keep_theirs(own: Path) -> None:
    (own / "own.toml").write_text(ONE.replace('dev = "topics.jsonl"\n', ""))  # a tenth, by default
    options = ["--mode", "single", "--tasks", "intent,topics", "--seeds", "2"]
    train_multitask.main([*arguments(own), *options])
    whole = own / "runs/own"
    for seed in ("seed-11711", "seed-11712"):
        for task in ("intent", "topics"):
            assert rows(whole / seed / task, task) == rows(whole, task)
    assert len(rows(whole, "topics")) == 2
    assert train_multitask.main(["--resume", str(whole)]) == 0


def test_rows_that_came_later_are_not_scored_and_rows_that_went_are_missed(
    own: Path, run: Path
) -> None:
    file, dev = own / "data/intent.tsv", rows(run)
    whole = file.read_text()
    file.write_text(whole + "red cat\twalk\n" * 40)
    argv = ["--checkpoint", str(run)]
    evaluate.main(argv)
    lines = (run / "predictions/intent-dev-output.csv").read_text().splitlines()[1:]
    assert sorted(line.split(",")[0] for line in lines) == dev
    file.write_text("".join(whole.splitlines(keepends=True)[:4]))
    with pytest.raises(UserError, match=r"of the run's 4 dev rows of intent are not in it"):
        evaluate.main(argv)


def test_what_the_run_keeps_counts(own: Path, run: Path, capsys) -> None:
    path = run / "dev_rows.json"
    path.write_text('{"intent": ["2", "3"]}')
    evaluate.main(["--checkpoint", str(run), "--data-dir", str(own / "data")])
    assert len((run / "predictions/intent-dev-output.csv").read_text().splitlines()) == 3
    assert "dev_rows.json: not what the run wrote" in capsys.readouterr().err
    for text, message in (
        ('{"intent": []}', "intent is missing"), ("[]", "not of the type"), ("{", "dev_rows.json"),
        (None, "gone; put it back"),
    ):  # fmt: skip
        path.write_text(text) if text else path.unlink()
        with pytest.raises(UserError, match=message):
            evaluate.main(["--checkpoint", str(run), "--text", "red cat"])


@pytest.mark.parametrize(
    ("dev", "message"),
    [
        ("dev = 1.5", r"dev = 1.5: a share of train is between 0 and 1"),
        ("dev = true", r"dev = True: write a file"),
        ("dev = []", r"dev = \[\]: write a file"),
        ('dev = ["a.tsv", "a.tsv"]', r"dev: 'a.tsv' is there twice"),
    ],
)
def test_mistakes(own: Path, dev: str, message: str) -> None:
    (own / "own.toml").write_text(ONE.replace("dev = 0.25", dev))
    with pytest.raises(UserError, match=message):
        read_task_file(own / "own.toml", own / "data")


def test_a_tenth_is_the_default(own: Path) -> None:
    (own / "own.toml").write_text(ONE.replace("dev = 0.25", ""))
    assert read_task_file(own / "own.toml", own / "data")["intent"].dev_share == 0.1


def test_one_row_is_too_few(own: Path) -> None:
    (own / "own.toml").write_text(ONE)
    (own / "data/intent.tsv").write_text("utterance\twhat\na\twalk\n")
    with pytest.raises(UserError, match=r"intent.tsv: too few texts to take dev rows of intent"):
        train_multitask.main([*arguments(own), "--tasks", "intent"])
    assert not (own / "runs").exists()


def test_several_files_are_read_one_after_the_other(own: Path) -> None:
    data = own / "data"
    head, *lines = (data / "intent.tsv").read_text().splitlines(keepends=True)
    (data / "one.tsv").write_text(head + "".join(lines[:10]))
    (data / "two.tsv").write_text(head + "".join(lines[10:]))
    (own / "own.toml").write_text(ONE.replace('"intent.tsv"', '["one.tsv", "two.tsv"]'))
    train_multitask.main([*arguments(own), "--tasks", "intent"])
    run = own / "runs/own"
    found = re.findall(r"\| (\w+\.tsv)[^|]*\| (\d*) \|", (run / "README.md").read_text())
    assert found == [("one.tsv", "12"), ("two.tsv", ""), ("one.tsv", "4"), ("two.tsv", "")]
    assert all(re.fullmatch(r"1:([2-9]|10|11)|2:[2-7]", id_) for id_ in rows(run))
    gold = ["--gold", str(data / "two.tsv"), "--task-file", str(run / "tasks.toml")]
    assert evaluate.main(["--score", str(run / "predictions/intent-dev-output.csv"), *gold]) == 0
    (data / "two.tsv").write_text(head + "".join(lines[9:]))
    with pytest.raises(UserError, match=r"one.tsv and 1 more: \d of the 4 dev rows"):
        train_multitask.main(["--resume", str(run)])


def test_an_id_of_two_files_is_named(own: Path) -> None:
    data = own / "data"
    line = (data / "entails.jsonl").read_text().splitlines()[3]
    (data / "more.jsonl").write_text(line.replace("k3", "k99") + "\n" + line + "\n")
    both = 'train = ["entails.jsonl", "more.jsonl"]'
    (own / "own.toml").write_text(OWN.replace('train = "entails.jsonl"', both))
    message = r"more.jsonl:2: id 'k3' is on line 4 of .*entails.jsonl already"
    with pytest.raises(UserError, match=message):
        train_multitask.main([*arguments(own), "--tasks", "entails"])


def test_dev_rows_that_are_trained_on_are_told_of(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A task whose dev file is its training file."""
    (own / "own.toml").write_text(OWN)
    train_multitask.main([*arguments(own), "--tasks", "intent"])
    said = capsys.readouterr().out
    assert "intent: 16 of 16 dev rows are, as the model reads them, training rows too, " in said
    assert "| 16 (16 as in train) |" in (own / "runs/own/README.md").read_text()


def test_rows_of_the_same_text_are_all_drawn_or_none(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each text or pair is there twice, one of them with another label."""
    lines = (own / "data/intent.tsv").read_text().splitlines(keepends=True)
    (own / "data/intent.tsv").write_text("".join([*lines, *lines[1:-1], "a walk\tsleep\n"]))
    pairs = (own / "data/entails.jsonl").read_text().splitlines(keepends=True)
    again = [line.replace('"key": "', '"key": "again-') for line in pairs]
    (own / "data/entails.jsonl").write_text("".join(pairs + again))
    (own / "own.toml").write_text(ONE.replace('dev = "entails.jsonl"\n', ""))
    train_multitask.main([*arguments(own), "--tasks", "intent,entails"])
    assert "training rows too" not in capsys.readouterr().out
    run = own / "runs/own"
    tasks = tasks_of_run(run, ["intent", "entails"])
    for name in ("intent", "entails"):
        task = tasks[name]
        examples, _ = read_examples(task.paths("train", own / "data"), task.columns, True)
        drawn = [e for e in examples if e.id in task.dev_ids]
        assert len(drawn) == len(rows(run, name)) > len({(e.text, e.pair) for e in drawn}) > 1
        others = {(e.text, e.pair) for e in examples if e.id not in task.dev_ids}
        assert others and not others & {(e.text, e.pair) for e in drawn}
