"""Texts of more than --max-length tokens: which of them are read, and one prediction a row."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import evaluate
import train_multitask
from experiments.estimate import estimate
from minbert import BertTokenizer, MultitaskModel, UserError
from minbert.data.encoded import (
    EncodedSplit,
    encode_examples,
    limit_rows,
    one_row_per_sequence,
    take,
)
from minbert.data.examples import Example
from minbert.data.id_cache import load_split
from minbert.data.long_texts import parts_of, shorten
from minbert.export import Args, describe_quantized
from minbert.export import main as export
from minbert.model.multitask import load_multitask
from minbert.run.teachers import load_teacher_outputs
from minbert.task.evaluation import mean_by_row
from minbert.task.loading import count_trained_on
from minbert.task.taskfile import read_task_file
from tests.conftest import WORDS, killed_after
from tests.own_tasks import OWN, arguments
from tests.test_teachers import outputs_of

LONGEST = 8  # tokens: six words between [CLS] and [SEP]
IDS = list(range(20))


@pytest.mark.parametrize(
    ("count", "most", "long", "expected"),
    [
        (20, 6, "head", [IDS[:6]]),
        (20, 6, "tail", [IDS[14:]]),
        (20, 8, "head+tail", [[0, 1, *IDS[14:]]]),  # a quarter: 128 of 510
        (6, 6, "head+tail", [IDS[:6]]),
        (6, 6, "windows", [IDS[:6]]),
        (7, 6, "windows", [IDS[:6], IDS[1:7]]),
        (12, 6, "windows", [IDS[:6], IDS[3:9], IDS[6:12]]),
        (14, 6, "windows", [IDS[:6], IDS[3:9], IDS[6:12], IDS[8:14]]),
        (3, 2, "windows", [[0, 1], [1, 2]]),
    ],
)
def test_what_is_read(count: int, most: int, long: str, expected: list[list[int]]) -> None:
    assert parts_of(IDS[:count], most, long) == expected


def test_head_and_tail_of_the_paper() -> None:
    (part,) = parts_of(range(1000), 510, "head+tail")
    assert part == [*range(128), *range(1000 - 382, 1000)]


def test_a_text_of_millions_keeps_what_is_read() -> None:
    text = "a" * 50 + "b" * 900 + "c" * 50
    assert shorten(text, 100, "windows").strip() == "a" * 50 + "b" * 50
    assert shorten(text, 100, "tail").strip() == "b" * 50 + "c" * 50
    assert shorten(text, 100, "head+tail") == "a" * 50 + " " + "c" * 50
    assert shorten(text, 1000, "tail") == text


@pytest.fixture
def tokenizer(world: Path) -> BertTokenizer:
    return BertTokenizer.from_directory(world / "model")


def examples(*counts: int) -> list[Example]:
    """Return rows of so many words each, with their place as label."""
    rng = np.random.default_rng(0)
    texts = (" ".join(rng.choice(WORDS, count)) for count in counts)
    return [Example(f"r{i}", text, label=float(i)) for i, text in enumerate(texts)]


def test_windows_are_sequences_of_a_row(tokenizer: BertTokenizer) -> None:
    split = encode_examples(examples(4, 12, 7), tokenizer, LONGEST, long="windows")
    assert len(split) == 3 and split.labels.tolist() == [0, 1, 2]
    assert split.owners.tolist() == [0, 1, 1, 1, 2, 2] and split.lengths.tolist() == [6] + [8] * 5
    single = one_row_per_sequence(split)
    assert len(single) == 6 and single.labels.tolist() == [0, 1, 1, 1, 2, 2]
    assert single.id_strings() == ["r0", "r1", "r1", "r1", "r2", "r2"]
    taken = take(split, np.array([2, 1]))
    assert taken.id_strings() == ["r2", "r1"] and taken.owners.tolist() == [0, 0, 1, 1, 1]
    assert taken.ids[:8].tolist() == split.ids[split.offsets[4] : split.offsets[5]].tolist()
    assert len(limit_rows(split, 2)) == 2


def test_short_texts_are_the_same_in_all_ways(tokenizer: BertTokenizer) -> None:
    splits = [
        encode_examples(examples(4, 6, 1), tokenizer, LONGEST, long=long)
        for long in ("head", "tail", "head+tail", "windows")
    ]
    for split in splits[1:]:
        for name, value in vars(split).items():
            assert np.array_equal(value, getattr(splits[0], name)), name


def test_outputs_are_averaged_by_row() -> None:
    outputs = torch.tensor([[1.0, 0.0], [2.0, 4.0], [4.0, 8.0], [0.0, 1.0]])
    owners = np.array([0, 1, 1, 2], dtype=np.int32)
    assert mean_by_row(outputs, owners).tolist() == [[1, 0], [3, 6], [0, 1]]


def task_file(own: Path, long: str) -> Path:
    """Write rows of 3 to 18 words, and a task that reads them so."""
    rng = np.random.default_rng(2)
    names = ["walk", "rest", "none of it"]
    rows = [f"{' '.join(rng.choice(WORDS, 3 + i))}\t{names[i % 3]}" for i in range(16)]
    (own / "data/intent.tsv").write_text("\n".join(["utterance\twhat", *rows]) + "\n")
    label = 'label = "what"'
    (own / "own.toml").write_text(OWN.replace(label, f'{label}\nlong = "{long}"', 1))
    return own / "own.toml"


def train(own: Path, long: str, name: str, *more: str) -> Path:
    task_file(own, long)
    options = ["--tasks", "intent", "--max-length", str(LONGEST), "--precision", "fp32"]
    train_multitask.main([*arguments(own, *options, *more), "--name", name])
    return own / "runs" / name


def logits(run: Path) -> np.ndarray:
    lines = (run / "predictions/intent-dev-logits.jsonl").read_text().splitlines()
    return np.array([json.loads(line)["logits"] for line in lines])


def test_a_cache_of_ids_is_of_one_way(own: Path, tokenizer: BertTokenizer) -> None:
    path = own / "data/intent.tsv"
    columns = read_task_file(task_file(own, "tail"), None)["intent"].columns
    where = (path, columns, True, tokenizer, LONGEST, own / "ids")
    head, tail, windows = (load_split(*where, long=w) for w in ("head", "tail", "windows"))
    assert not np.array_equal(head.ids, tail.ids) and len(windows.lengths) > len(windows) == 16
    again = load_split(*where, long="windows")  # from the cache
    assert again.owners.tolist() == windows.owners.tolist()


@pytest.mark.parametrize("long", ["tail", "head+tail", "windows"])
def test_a_run_reads_texts_the_same_way_wherever_it_is_used(
    own: Path, long: str, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(own, long, "long", "--lr", "1e-2")
    assert "may be cut" not in capsys.readouterr().out
    found = logits(run)
    card = (run / "README.md").read_text()
    assert "| intent.tsv | 16 |" in card  # rows, not windows
    evaluate.main(["--checkpoint", str(run), "--data-dir", str(own / "data")])
    np.testing.assert_allclose(logits(run), found, atol=2e-6)
    model = MultitaskModel.load(run, device="cpu")
    lines = (own / "data/intent.tsv").read_text().splitlines()[1:]
    texts = [line.split("\t")[0] for line in lines]
    np.testing.assert_allclose(model.outputs("intent", texts), found, atol=2e-6)
    model.tasks["intent"] = replace(model.tasks["intent"], long="head")
    difference = np.abs(model.outputs("intent", texts) - found).max(1)
    assert difference[:4].max() < 2e-6 < difference[4:].min()  # four are not too long
    (own / "in.txt").write_text("\n".join(texts) + "\n")
    argv = ["--checkpoint", str(run), "--task", "intent", "--input", str(own / "in.txt")]
    evaluate.main([*argv, "--output", str(own / "out")])
    assert len((own / "out").read_text().splitlines()) == 16
    capsys.readouterr()
    export([str(run), str(own / "export"), "--task", "intent"])
    assert f"long = {long!r} is not exported" in capsys.readouterr().out
    network, directory = load_multitask(run)
    (own / "model.onnx").write_bytes(bytes(4))
    compared = []
    monkeypatch.setattr("minbert.export.agreement", lambda *seen: compared.append(seen[2]))
    args = Args(to="onnx", task="intent", quantize="int8")
    describe_quantized(network, args, directory, own / "model.onnx")
    columns = model.tasks["intent"].columns
    first = load_split(own / "data/intent.tsv", columns, True, model.tokenizer, LONGEST, None)
    assert np.array_equal(compared[0].ids, first.ids)  # their first tokens


def test_every_window_is_trained_on(own: Path) -> None:
    """Rows of 3 to 18 words: four are not too long, the others are 42 full sequences."""
    run = train(own, "windows", "long")
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert sum(line["tokens"] for line in log if line["event"] == "step") == 5 + 6 + 7 + 8 + 42 * 8


def test_a_frozen_encoder_s_mean_is_that_of_its_windows(own: Path) -> None:
    """Features are averaged, logits otherwise: the scores of both are the same."""
    run = train(own, "windows", "frozen", "--fine-tune-mode", "last-linear-layer")
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    last = [line for line in log if line["event"] == "dev"][-1]["scores"]["intent"]
    model = MultitaskModel.load(run / "last", device="cpu")
    lines = (own / "data/intent.tsv").read_text().splitlines()[1:]
    outputs = model.outputs("intent", [line.split("\t")[0] for line in lines])
    labels = torch.arange(16) % 3
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(outputs), labels)
    assert float(loss) == pytest.approx(last["loss"], abs=1e-5)


def test_limits_and_teachers_count_rows(own: Path) -> None:
    teacher = train(own, "head", "teacher")
    more = ("--teacher", f"intent={teacher}", "--limit", "intent=10", "--limit-dev", "intent=5")
    run = train(own, "windows", "taught", *more)
    assert len(logits(run)) == 5 and "| intent.tsv | 10 |" in (run / "README.md").read_text()
    (kept,) = (own / "runs/.teachers").glob("*.npy")
    assert np.load(kept).shape == (10, 3)


def test_windows_are_taught_what_the_teacher_says_of_their_row(tmp_path: Path) -> None:
    np.save(tmp_path / "own.npy", [[1.0], [2.0]])
    split = EncodedSplit(
        np.array([b"a", b"b"]), np.zeros(2), np.zeros(9, np.int32), np.array([0, 3, 6, 9]),
        np.full(3, 9), owners=np.array([0, 0, 1]),
    )  # fmt: skip
    outputs = load_teacher_outputs({"own": tmp_path / "own.npy"}, {"own": split})
    assert outputs["own"].tolist() == [[1.0], [1.0], [2.0]]
    np.save(tmp_path / "own.npy", [[1.0], [2.0], [3.0]])
    with pytest.raises(UserError, match=r"3 outputs, where 2 are needed; remove .*own.npy"):
        load_teacher_outputs({"own": tmp_path / "own.npy"}, {"own": split})


def test_stopped_and_resumed_is_the_same(own: Path) -> None:
    train(own, "windows", "whole")
    with killed_after(3):
        train(own, "windows", "cut", "--save-minutes", "0")
    assert train_multitask.main(["--resume", str(own / "runs/cut")]) == 0
    one, other = (load_file(own / f"runs/{n}/last/model.safetensors") for n in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'label = "what"',
            'label = "what"\nlong = "middle"',
            r"long = 'middle': write one of head, ",
        ),
        (
            "weight = 0.5",
            'long = "tail"',
            "'long' is not a key of pair-.*; it is a key of classification, regression, multi",
        ),
    ],
)
def test_mistakes(own: Path, old: str, new: str, message: str) -> None:
    (own / "own.toml").write_text(OWN.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        read_task_file(own / "own.toml", own / "data")


def test_rows_of_several_windows_are_compared_whole(world: Path) -> None:
    """With training rows: a text that is the beginning of one is another text."""
    tokenizer = BertTokenizer.from_directory(world / "model")

    def split(*texts: str) -> EncodedSplit:
        rows = [Example(str(i), text, label=0.0) for i, text in enumerate(texts)]
        return encode_examples(rows, tokenizer, 5, long="windows")

    short, long = "red cat", "red cat runs old dog sleeps"
    train = split(long, "old dog")
    assert len(train.owners) > 2
    assert count_trained_on(split(short, long, long + " here", "old dog"), train) == 2


def test_a_teacher_reads_long_texts_as_it_was_trained_to(own: Path) -> None:
    teacher = train(own, "tail", "teacher", "--lr", "1e-2")
    run = train(own, "head", "taught", "--teacher", f"intent={teacher}")
    lines = (own / "data/intent.tsv").read_text().splitlines()[1:]
    model = MultitaskModel.load(teacher, device="cpu")
    expected = model.outputs("intent", [line.split("\t")[0] for line in lines])
    np.testing.assert_allclose(np.load(outputs_of(run, "intent")), expected, atol=1e-5)


def test_a_plan_reads_the_task_file(world: Path) -> None:
    """What is read of long texts makes other steps: every window is trained on."""
    steps = {}
    for long in ("head", "windows"):
        (world / "own.toml").write_text(
            '[own]\nkind = "classification"\ntrain = "ids-sst-train.csv"\n'
            'dev = "ids-sst-dev.csv"\ntext = "sentence"\nlabel = "sentiment"\nlabels = 5\n'
            f'long = "{long}"\n'
        )
        places = ["--model", str(world / "model"), "--data-dir", str(world / "data")]
        places += ["--output-dir", str(world / "ids"), "--max-length", "6", "--batch-size", "8"]
        found = estimate("train_multitask", [*places, "--task-file", str(world / "own.toml")])
        steps[long] = found.steps
    assert steps["head"] == 25 < steps["windows"]


def test_a_dry_run_has_the_mean_tokens_of_rows_not_of_windows(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(own, "windows", "dry", "--dry-run")
    assert "intent: 16 and 16, 22.6," in capsys.readouterr().out  # 362 tokens in 16 rows
