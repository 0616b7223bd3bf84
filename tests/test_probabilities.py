"""Labels by name, probabilities of the classes, and files of both."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import evaluate
from minbert import MultitaskModel, UserError
from minbert.data.delimited import delimited_line, delimited_rows
from minbert.data.textfile import text_lines
from minbert.task.probabilities import class_probabilities
from minbert.task.taskfile import read_tasks
from tasks import TASKS
from tests.conftest import run

TEXT = "red cat runs"
KINDS = read_tasks(
    """
[topics]
kind = "multi-label"
train = "a.tsv"
dev = "a.tsv"
text = "text"
label = "topics"
labels = ["cats", "dogs", "colours"]

[entails]
kind = "pair-classification"
train = "a.tsv"
dev = "a.tsv"
text = ["a", "b"]
label = "answer"
labels = 3
""",
    "tasks",
    None,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.conftest import make_world

    world = make_world(tmp_path_factory.mktemp("probabilities"))
    run(world, "--name", "run", "--tasks", "sst,quora,sts", "--epochs", "1")
    run(
        world, "--name", "cosine", "--tasks", "quora", "--pair-encoding", "siamese", "--epochs", "1"
    )
    return world / "runs/run"


@pytest.fixture(scope="module")
def model(trained: Path) -> MultitaskModel:
    return MultitaskModel.load(trained, device="cpu")


def test_probabilities_are_softmax_sigmoid_and_one_a_label() -> None:
    rng = np.random.default_rng(0)
    many, three, one = rng.normal(0, 3, (7, 5)), rng.normal(0, 3, (7, 3)), rng.normal(0, 3, (7, 1))
    soft = torch.softmax(torch.from_numpy(many) / 2, 1).numpy()
    np.testing.assert_allclose(class_probabilities(TASKS["sst"], many, 2.0), soft, rtol=1e-12)
    yes = torch.sigmoid(torch.from_numpy(one)).numpy()
    both = np.concatenate([1 - yes, yes], axis=1)
    np.testing.assert_allclose(class_probabilities(TASKS["quora"], one), both, rtol=1e-12)
    each = torch.sigmoid(torch.from_numpy(three) / 0.5).numpy()
    topics = class_probabilities(KINDS["topics"], three, 0.5)
    np.testing.assert_allclose(topics, each, rtol=1e-12)
    assert class_probabilities(KINDS["topics"], three[:0]).shape == (0, 3)
    huge = class_probabilities(TASKS["sst"], np.array([[1e4, 0, 0, 0, -1e4]]))
    assert huge.tolist() == [[1, 0, 0, 0, 0]]


def test_a_set_has_what_is_likelier_than_not() -> None:
    outputs = np.array([[0.2, -0.2, 0.4], [-3, -2, -0.1]])
    assert KINDS["topics"].decode(outputs).tolist() == [0b101, 0]


def test_names_of_classes_for_people() -> None:
    assert TASKS["sst"].display_label(3) == "somewhat positive"
    assert [TASKS["cfimdb"].display_label(x) for x in (0, 1)] == ["negative", "positive"]
    assert (
        TASKS["quora"].display_label(1.0) == "duplicate"
        and TASKS["sts"].display_label(2.25) == "2.25"
    )
    assert (
        KINDS["topics"].display_label(5.0) == "cats;colours"
        and KINDS["topics"].display_label(0) == "-"
    )
    assert KINDS["entails"].display_label(2) == "2" and KINDS["entails"].display_classes == (
        "0",
        "1",
        "2",
    )
    assert TASKS["sst"].format_prediction(3) == "3"  # prediction files stay the course's


def test_predictions_are_labels_or_their_probabilities(model: MultitaskModel) -> None:
    texts = [TEXT, "old blue dog sleeps"]
    names = TASKS["sst"].display_classes
    rows = model.predict("sst", texts, probabilities=True)
    assert [[*row] for row in rows] == [[*names]] * 2
    assert all(sum(row.values()) == pytest.approx(1) for row in rows)
    assert model.predict("sst", texts) == [max(row, key=row.__getitem__) for row in rows]
    (pair,) = model.predict("quora", [(TEXT, TEXT)], probabilities=True, raw=True)
    logit = model.outputs("quora", [(TEXT, TEXT)])[0, 0]
    assert pair["duplicate"] == pytest.approx(1 / (1 + np.exp(-logit)))
    assert model.predict("quora", [(TEXT, TEXT)]) == [["different", "duplicate"][int(logit > 0)]]
    pairs = zip([TEXT], [TEXT], strict=True)
    assert model.predict("sts", pairs) == model.predict("sts", [(TEXT, TEXT)])
    assert float(model.predict("sts", [(TEXT, TEXT)])[0]) == pytest.approx(
        model.outputs("sts", [(TEXT, TEXT)])[0, 0]
    )


def test_scores_and_cosines_have_no_probabilities(model: MultitaskModel, trained: Path) -> None:
    with pytest.raises(UserError, match="STS has scores, not classes: no probabilities"):
        model.predict("sts", [(TEXT, TEXT)], probabilities=True)
    cosine = MultitaskModel.load(trained.parent / "cosine", device="cpu")
    with pytest.raises(UserError, match="Quora compares sentences by their cosine"):
        cosine.predict("quora", [(TEXT, TEXT)], probabilities=True)


def test_raw_is_of_probabilities(trained: Path, tmp_path: Path) -> None:
    command = ["--checkpoint", str(trained), "--text", TEXT, "--raw"]
    for more in ([], ["--task", "sst", "--output", str(tmp_path / "labels.txt")]):
        with pytest.raises(UserError, match="--raw changes probabilities: add --probabilities"):
            evaluate.main([*command, *more])


def test_on_the_screen_the_likeliest_class_comes_first(trained: Path, capsys) -> None:
    command = ["--checkpoint", str(trained), "--probabilities", "--json"]
    evaluate.main([*command, "--text", TEXT])
    first, *rows, line = capsys.readouterr().out.splitlines()
    shares = [float(row.split()[0]) for row in rows]
    found = json.loads(line)["probabilities"]["sst"]
    assert first.split(maxsplit=1) == ["SST", rows[0].split(maxsplit=1)[1]]
    assert shares == sorted(shares, reverse=True) and {*found} == {*TASKS["sst"].display_classes}
    evaluate.main([*command, "--pair", TEXT, TEXT])
    out = capsys.readouterr().out
    assert "duplicate\n" in out and "(STS has scores, not classes: no probabilities)" in out


@pytest.mark.parametrize("flags", [["--raw"], ["--probabilities"], ["--raw", "--probabilities"]])
@pytest.mark.parametrize(
    ("folder", "task", "why"),
    [("run", "sts", "STS has scores"), ("cosine", "quora", "Quora compares sentences by their")],
)
def test_tasks_without_probabilities_say_so_in_files_too(
    trained: Path, tmp_path: Path, capsys, folder: str, task: str, why: str, flags: list[str]
) -> None:
    command = ["--checkpoint", str(trained.parent / folder), "--task", task, *flags]
    command += ["--output", str(tmp_path / "out.csv")]
    evaluate.main([*command, "--pair", TEXT, TEXT])
    assert capsys.readouterr().out.count(f"({why}") == 1
    (tmp_path / "in.txt").write_text(f"{TEXT}\t{TEXT}\n")
    evaluate.main([*command, "--input", str(tmp_path / "in.txt")])
    assert capsys.readouterr().err.count(why) == 1


def read_back(path: Path) -> list[dict[str, str]]:
    """The rows of a file, as text."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [{k: str(v) for k, v in json.loads(line).items()} for line in text.splitlines()]
    return list(csv.DictReader(io.StringIO(text), delimiter="," if path.suffix == ".csv" else "\t"))


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl"])
def test_files_have_named_columns(
    trained: Path, model: MultitaskModel, tmp_path: Path, ending: str
) -> None:
    texts = ['a "red" cat, here', "old dog; runs", "=1+1\tthere"]
    rows = [{"id": f"k{i}", "sentence": text} for i, text in enumerate(texts)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / f"out{ending}"
    command = ["--checkpoint", str(trained), "--task", "sst", "--output", str(output)]
    evaluate.main([*command, "--input", str(tmp_path / "in.jsonl")])
    expected = model.answers("sst", texts)
    names = [f"probability_{name}" for name in TASKS["sst"].display_classes]
    for i, (row, answer) in enumerate(zip(read_back(output), expected, strict=True)):
        assert [*row] == ["id", "label", *names, "text"]
        assert (row["id"], row["label"], row["text"]) == (f"k{i}", answer.label, texts[i])
        shares = [float(row[name]) for name in names]
        np.testing.assert_allclose(shares, [*answer.probabilities.values()], atol=1e-6)
    evaluate.main([*command, "--text", texts[0]])
    (row,) = read_back(output)
    assert row["id"] == "1" and row["label"] == expected[0].label and row["text"] == texts[0]


@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_they_are_scored_as_prediction_files_are(
    trained: Path, world: Path, tmp_path: Path, ending: str, capsys
) -> None:
    gold, output = world / "data/quora-dev.csv", tmp_path / f"out{ending}"
    command = ["--checkpoint", str(trained), "--task", "quora", "--output", str(output)]
    evaluate.main([*command, "--input", str(gold)])
    places, scored = ["--gold", str(gold), "--task-file", str(trained / "tasks.toml")], []
    for file in (output, trained / "predictions/para-dev-output.csv"):
        capsys.readouterr()
        assert evaluate.main(["--score", str(file), *places]) == 0
        scored.append(capsys.readouterr().out)
    assert scored[0] == scored[1] and "scored,12" in scored[0]


def test_an_output_is_scored_whatever_its_texts_have(trained: Path, world: Path, capsys) -> None:
    """A comma in one of them does not make it a file of the course's form."""
    gold, output = world / "data/quora-dev.csv", world / "out.tsv"
    header, *rows = gold.read_text().splitlines()
    gold.write_text("\n".join([header, *(row.replace(" ", ", ", 1) for row in rows)]) + "\n")
    command = ["--checkpoint", str(trained), "--task", "quora", "--output", str(output)]
    evaluate.main([*command, "--input", str(gold)])
    capsys.readouterr()
    assert evaluate.main(["--score", str(output), "--gold", str(gold)]) == 0
    assert "scored,12" in capsys.readouterr().out


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl"])
def test_pandas_reads_them(trained: Path, tmp_path: Path, ending: str) -> None:
    pandas = pytest.importorskip("pandas")
    (tmp_path / "in.txt").write_text('red "cat"\told, dog\nblue cat\tnew dog\n')
    for task in ("quora", "sts"):
        output = tmp_path / f"{task}{ending}"
        command = ["--checkpoint", str(trained), "--task", task, "--output", str(output)]
        evaluate.main([*command, "--input", str(tmp_path / "in.txt")])
        if ending == ".jsonl":
            frame = pandas.read_json(output, lines=True)
        else:
            frame = pandas.read_csv(output, sep="\t" if ending == ".tsv" else ",")
        assert frame["id"].tolist() == [1, 2]
        assert frame["text"].tolist() == ['red "cat"', "blue cat"]
        assert frame["pair"].tolist() == ["old, dog", "new dog"]
        if task == "quora":
            total = frame["probability_different"] + frame["probability_duplicate"]
            np.testing.assert_allclose(total, 1, atol=2e-6)
        else:
            assert [*frame.columns] == ["id", "label", "text", "pair"]
            assert frame["label"].dtype == float


def test_a_pipe_s_probabilities_are_a_table(trained: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "in.txt").write_text("red cat\n\nblue dog\n")
    command = ["--checkpoint", str(trained), "--input", str(tmp_path / "in.txt"), "--probabilities"]
    evaluate.main([*command, "--task", "sst"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out), delimiter="\t"))
    assert [(row["id"], row["text"]) for row in rows] == [("1", "red cat"), ("3", "blue dog")]
    assert all(row["label"] in TASKS["sst"].display_classes for row in rows)
    (tmp_path / "in.txt").write_text("red cat\tblue dog\n")
    evaluate.main([*command, "--task", "sts"])
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "id\tlabel\ttext\tpair" and "has scores, not classes" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pair", "a", "b", "--output", "a.csv"], "add --task, one of quora, sts"),
        (["--text", "a", "--output", "a.txt"], "name a .csv, .tsv or .jsonl"),
    ],
)
def test_mistakes(trained: Path, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate.main(["--checkpoint", str(trained), *words])


def test_any_id_and_text_comes_back(tmp_path: Path) -> None:
    cells = ["a\rb", 'c"d', "e\nf", "g,h\ti", " j "]
    for delimiter, name in ((",", "a.csv"), ("\t", "a.tsv")):
        (tmp_path / name).write_text(
            delimited_line(list("vwxyz"), delimiter) + delimited_line(cells, delimiter), newline=""
        )
        lines = text_lines(tmp_path / name)
        assert list(delimited_rows(tmp_path / name, lines, delimiter, "csv"))[1] == (2, cells)


def test_raw_probabilities_of_a_file_are_raw(trained: Path, model, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text(TEXT + "\n")
    shares = []
    for raw, more in ((False, []), (True, ["--raw"])):
        output = tmp_path / "out.jsonl"
        command = ["--checkpoint", str(trained), "--task", "sst", "--output", str(output), *more]
        evaluate.main([*command, "--input", str(tmp_path / "in.txt")])
        (row,) = read_back(output)
        (expected,) = model.predict("sst", [TEXT], probabilities=True, raw=raw)
        shares.append([float(row[f"probability_{name}"]) for name in expected])
        np.testing.assert_allclose(shares[-1], [*expected.values()], atol=1e-6)
    assert np.abs(np.subtract(*shares)).max() > 1e-4
