"""A run with a task that labels words beside others: scored, predicted with, exported, reported."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import transformers

import evaluate
import train_multitask
from minbert import MultitaskModel, UserError
from minbert.export import main as export
from minbert.files import read_json_lines
from minbert.task.answers import Entity
from tasks import sample
from tests.conftest import logged, make_world
from tests.word_world import TAGS, add_pets, assert_same_words, gold, train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world with one run, which nothing changes."""
    world = add_pets(make_world(tmp_path_factory.mktemp("trained")))
    train(world, "one", "--lr", "3e-3", "--epochs", "6")
    return world


def test_words_are_trained_beside_sentences_and_scored_as_seqeval_does(trained: Path) -> None:
    seqeval = pytest.importorskip("seqeval.metrics")
    found = trained / "runs/one"
    rows = (found / "predictions/pets-dev-output.csv").read_text().splitlines()
    sentences = gold(trained / "data/pets-dev.conll")
    predicted = [row.split(",")[1].split(" ") for row in rows[1:]]
    assert rows[0] == "id,Predicted_tags" and len(predicted) == len(sentences) == 12
    tags = [[tag for _, tag in sentence] for sentence in sentences]
    best = logged(found, "end")[-1]["best"]
    scores = next(x for x in logged(found, "dev") if x["step"] == best["step"])["scores"]["pets"]
    assert list(scores) == ["f1", "precision", "recall", "accuracy", "loss"]
    assert scores["f1"] == pytest.approx(seqeval.f1_score(tags, predicted))
    assert scores["precision"] == pytest.approx(seqeval.precision_score(tags, predicted))
    assert scores["accuracy"] == pytest.approx(seqeval.accuracy_score(tags, predicted))
    assert best["scores"]["pets"] == scores["f1"]
    assert 0 < scores["f1"] < 1 and "pets" in (found / "README.md").read_text()


def test_a_file_of_tags_is_scored_again(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = logged(trained / "runs/one", "end")[-1]["best"]["scores"]["pets"]
    places = ["--gold", str(trained / "data/pets-dev.conll")]
    places += ["--task-file", str(trained / "runs/one/tasks.toml"), "--json"]
    predictions = trained / "runs/one/predictions/pets-dev-output.csv"
    assert evaluate.main(["--score", str(predictions), *places]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["f1"] == pytest.approx(best) and report["scored"] == 12
    short = trained / "short.csv"
    short.write_text(predictions.read_text().replace("\n1,", "\n1,O "))
    with pytest.raises(UserError, match=r"id '1' has \d+ tags, .*pets-dev.conll has \d+"):
        evaluate.main(["--score", str(short), *places])
    short.write_text("id,x\n1,B-CAT\n")
    with pytest.raises(UserError, match=r"short.csv:2: .*expected one of O, B-PET"):
        evaluate.main(["--score", str(short), *places])


def test_words_without_tags_get_theirs(trained: Path) -> None:
    rows = (trained / "runs/one/predictions/pets-test-output.csv").read_text().splitlines()[1:]
    words = gold(trained / "data/pets-test.conll")
    assert [len(row.split(",")[1].split(" ")) for row in rows] == [len(s) for s in words]
    model = MultitaskModel.load(trained / "runs/one", "cpu")
    given = [[word for (word,) in sentence] for sentence in words]
    assert model.predict("pets", given) == [row.split(",")[1] for row in rows]
    arrays = [np.array(s) for s in given]  # as tables of other programs have them
    assert model.predict("pets", arrays) == model.predict("pets", given)
    logits = read_json_lines(trained / "runs/one/predictions/pets-test-logits.jsonl")
    outputs = model.outputs("pets", given)
    for row, own, sentence in zip(logits, outputs, given, strict=True):
        unread = [word == "\x07" for word in sentence]
        assert [x is None for x in row["logits"]] == unread == np.isnan(own).all(1).tolist()
        read = [x for x in row["logits"] if x is not None]
        np.testing.assert_allclose(
            np.array(read).reshape(-1, 4), own[~np.isnan(own[:, 0])], atol=1e-5
        )


def test_entities_are_places_in_the_text(trained: Path) -> None:
    model = MultitaskModel.load(trained / "runs/one", "cpu")
    texts = ["\tred  cat, 😀 sleeps   here!", "dog", "old old\u00a0new cafe\u0301 cat"]
    for text, found in zip(texts, model.entities("pets", texts), strict=True):
        words = model.tokenizer.word_spans(text)
        tags = model.predict("pets", [text])[0].split(" ")
        assert len(tags) == len(words)
        assert tags == model.predict("pets", [[text[a:b] for a, b in words]])[0].split(" ")
        begun = [place for place, tag in enumerate(tags) if tag.startswith("B-")]
        assert {e.start for e in found} >= {words[place][0] for place in begun}
        for entity in found:
            assert text[entity.start : entity.end] == entity.text.strip() != ""
            assert isinstance(entity, Entity) and entity.type in ("PET", "HUE")
    assert sum(map(len, model.entities("pets", texts)))  # some are found, or nothing was tested
    with pytest.raises(UserError, match="sst: it labels texts, not their words"):
        model.entities("sst", texts)
    with pytest.raises(UserError, match="give a list of texts, not of words"):
        model.entities("pets", [["red", "cat"]])
    with pytest.raises(UserError, match="text 2: word 1 is empty"):
        model.predict("pets", [["red"], [""]])
    with pytest.raises(UserError, match="text 1: no words"):
        model.predict("pets", [[]])
    assert model.predict("pets", []) == [] and model.entities("pets", []) == []
    assert model.predict("pets", ["\x07"]) == [""]


def test_a_pair_is_no_list_of_two_words(trained: Path) -> None:
    run = trained / "runs/one"
    message = "text 1: expected a sentence or a list of words, found a tuple, which is a pair"
    pair = ["--checkpoint", str(run), "--pair", "red cat", "old dog"]
    with pytest.raises(UserError, match="pets reads single sentences: use --text"):
        evaluate.main([*pair, "--task", "pets"])
    model = MultitaskModel.load(run, "cpu")
    for ask in (model.predict, model.outputs, model.entities):
        with pytest.raises(UserError, match=message):
            ask("pets", [("red cat", "old dog")])


def test_the_command_line_shows_entities(
    trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = MultitaskModel.load(trained / "runs/one", "cpu")
    text = "red cat sleeps here and old blue dog runs"
    expected = model.entities("pets", [text])[0]
    start = ["--checkpoint", str(trained / "runs/one")]
    evaluate.main([*start, "--text", text, "--json"])
    *lines, report = capsys.readouterr().out.splitlines()
    shown = next(line for line in lines if line.startswith("pets"))
    assert all(f"{e.text} [{e.type} {e.start}:{e.end}]" in shown for e in expected) and expected
    assert json.loads(report)["predictions"]["pets"] == [vars(e) for e in expected]
    (tmp_path / "texts.txt").write_text(f"{text}\n\ndog\n")
    evaluate.main([*start, "--task", "pets", "--input", str(tmp_path / "texts.txt")])
    first, second = capsys.readouterr().out.splitlines()
    found, _, line = first.partition("\t")
    assert json.loads(found) == [vars(e) for e in expected] and line == text
    assert second.endswith("\tdog")
    evaluate.main([*start, "--task", "pets", "--input", str(trained / "data/pets-dev.conll")])
    header, *rows = capsys.readouterr().out.splitlines()
    assert header == "Predicted_tags\ttokens" and len(rows) == 12
    predictions = (trained / "runs/one/predictions/pets-dev-output.csv").read_text().splitlines()
    assert [r.split("\t")[0] for r in rows] == [p.split(",")[1] for p in predictions[1:]]


def test_pooling_is_not_of_words(trained: Path) -> None:
    """Their heads read single words: said where it would do nothing, for others taken."""
    for tasks, pooling in (
        ("pets", "mean"),
        ("sst,pets", "pets=mean"),
        ("sst,pets", "mean,pets=max"),
    ):
        with pytest.raises(UserError, match="--pooling: the head of pets reads single words"):
            train(trained, "no", "--tasks", tasks, "--pooling", pooling)
    train(trained, "pooled", "--tasks", "sst,pets", "--pooling", "mean,sst=max", "--steps", "1")
    train_multitask.main(["--resume", str(trained / "runs/pooled")])
    assert MultitaskModel.load(trained / "runs/pooled").network.heads["sst"].config.pooling == "max"


@pytest.mark.parametrize(
    ("folder", "options"),
    [
        ("by-task", ["--pooling", "sst=mean", "--tasks", "pets,sst"]),
        ("with-default", ["--pooling", "mean,sst=max"]),
        ("alone", ["--pooling", "mean", "--mode", "single"]),
    ],
)
def test_a_run_of_words_beside_pooled_sentences_can_be_made_again(
    trained: Path, folder: str, options: list[str]
) -> None:
    """By its card's command; and it goes on when its flags are typed again."""
    words = ["--tasks", "sst,pets", *options, "--steps", "1", "--skip-predictions"]
    run = train(trained, folder, *words)
    for card in run.rglob("README.md"):
        line = re.search(r"^    python train_multitask.py (.*)$", card.read_text(), re.M)
        assert train_multitask.main([*shlex.split(line[1]), "--dry-run"]) == 0
    train_multitask.main(["--resume", str(run), *options])


SENTENCES = [["red", "cat", "sleeps"], ["dog"], ["old", "cats!", "blue", "here"]]


def test_the_model_is_the_same_in_transformers(trained: Path, tmp_path: Path) -> None:
    ours = MultitaskModel.load(trained / "runs/one", "cpu").outputs("pets", SENTENCES)
    export([str(trained / "runs/one"), str(tmp_path / "out"), "--task", "pets"])
    model = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "out").eval()
    assert model.config.id2label == dict(enumerate(TAGS)) and model.bert.pooler is None
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    inputs = tokenizer(SENTENCES, is_split_into_words=True, padding=True, return_tensors="pt")
    with torch.no_grad():
        assert_same_words(model(**inputs).logits.numpy(), inputs, ours, 1e-5)
    with pytest.raises(UserError, match="pets labels words: export it --to transformers"):
        to = ["--to", "sentence-transformers", "--task", "pets"]
        export([str(trained / "runs/one"), str(tmp_path / "no"), *to])


@pytest.mark.thorough
def test_the_model_is_the_same_in_onnx(trained: Path, tmp_path: Path) -> None:
    ours = MultitaskModel.load(trained / "runs/one", "cpu").outputs("pets", SENTENCES)
    export([str(trained / "runs/one"), str(tmp_path / "onnx"), "--to", "onnx", "--task", "pets"])
    session = onnxruntime.InferenceSession(tmp_path / "onnx/model.onnx")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "onnx")
    inputs = tokenizer(SENTENCES, is_split_into_words=True, padding=True, return_tensors="np")
    (logits,) = session.run(None, {name: x.astype(np.int64) for name, x in inputs.items()})
    assert_same_words(logits, inputs, ours, 1e-5)


def test_the_report_has_types_and_the_worst_sentences(trained: Path) -> None:
    found = json.loads((trained / "runs/one/findings.json").read_text())["pets"]
    assert found["names"] == ["PET", "HUE", "(none)"] and found["confusion"][2][2] == 0
    seqeval = pytest.importorskip("seqeval.metrics.sequence_labeling")
    sentences = gold(trained / "data/pets-dev.conll")
    entities = seqeval.get_entities([[tag for _, tag in sentence] for sentence in sentences])
    for row, kind in enumerate(("PET", "HUE")):
        assert sum(found["confusion"][row]) == sum(kind == e[0] for e in entities)
    worst = found["worst"]
    assert [w["mistakes"] for w in worst] == sorted((w["mistakes"] for w in worst), reverse=True)
    texts = {" ".join(word for word, _ in sentence) for sentence in sentences}
    assert {w["texts"][0] for w in worst} <= texts and worst[0]["mistakes"] > 0
    golds = set()
    for sentence in sentences:
        words, tags = map(list, zip(*sentence, strict=True))
        spans = [f"{' '.join(words[a : b + 1])} [{k}]" for k, a, b in seqeval.get_entities(tags)]
        golds.add((" ".join(words), ", ".join(spans) or "(none)"))
    assert {(w["texts"][0], w["gold"]) for w in worst} <= golds
    page = (trained / "runs/one/report.html").read_text()
    assert "one: most mistakes" in page and "(none)" in page and worst[0]["gold"] in page


@pytest.mark.slow
def test_the_sample_s_slots_beside_two_tasks_of_sentences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seqeval = pytest.importorskip("seqeval.metrics")
    place, found = tmp_path / "sample", tmp_path / "runs/own"
    monkeypatch.setattr(sample, "ROWS", {"train": 300, "dev": 100, "test-student": 8})
    sample.write_sample(place)
    options = ["--task-file", str(place / "tasks.toml"), "--data-dir", str(place)]
    options += ["--epochs", "1", "--model", "all-MiniLM-L6-v2", "--lr", "3e-4"]
    options += ["--precision", "fp32"]
    options += ["--output-dir", str(tmp_path / "runs"), "--name", "own", "--device", "cpu"]
    train_multitask.main(options)
    score = logged(found, "end")[-1]["best"]["scores"]["slots"]
    rows = (found / "predictions/slots-dev-output.csv").read_text().splitlines()[1:]
    predicted = [row.split(",")[1].split(" ") for row in rows]
    sentences = gold(place / "slots-dev.conll")
    tags = [[tag for _, tag in sentence] for sentence in sentences]
    assert score == pytest.approx(seqeval.f1_score(tags, predicted), abs=1e-12) and score > 0.8
    export([str(found), str(tmp_path / "out"), "--task", "slots"])
    model = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "out").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    words = [[word for word, _ in sentence] for sentence in sentences[:40]]
    inputs = tokenizer(words, is_split_into_words=True, padding=True, return_tensors="pt")
    with torch.no_grad():
        theirs = model(**inputs).logits.numpy()
    ours = MultitaskModel.load(found, "cpu").outputs("slots", words)
    assert_same_words(theirs, inputs, ours, 1e-5)
