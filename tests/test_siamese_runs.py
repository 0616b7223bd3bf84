"""Runs of siamese tasks: every loss, towers, thresholds, stopped and resumed."""

import json
from dataclasses import replace
from itertools import islice, pairwise, permutations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import evaluate
import train_multitask
from minbert import BertModel, MultitaskModel, UserError
from minbert.data.collate import collate
from minbert.data.encoded import encode_examples
from minbert.data.examples import Example
from minbert.model.multitask import load_multitask
from minbert.run import scoring
from minbert.task import evaluation, siamese
from tests.conftest import TINY, WORDS, cut, logged, run, weights
from tests.flags import Outcome, watched
from tests.test_siamese import MNR, ONE_EPOCH


@pytest.mark.parametrize(
    "loss", ["contrastive", "cosine-mse", "cosent", "softmax", "mnr", "mnr-full", "simcse"]
)
def test_every_loss_trains_and_its_run_is_scored(world: Path, capsys, loss: str) -> None:
    options = ["--tasks", "quora,sst", "--pair-encoding", "siamese", "--pair-loss", loss]
    run(world, *options, *ONE_EPOCH, "--name", "s", "--embedding-size", "6")
    last = weights(world / "runs/s/last")
    assert last["quora.map.weight"].shape == (6, 32)
    first_layer = "encoder.layer.0.output.dense.weight"
    model = BertModel.from_pretrained(world / "model")
    assert not torch.equal(last[first_layer], model.bert_layers[0].out_dense.weight)
    said = "quora: cosines of pairs labelled" in capsys.readouterr().out
    assert said == (loss != "softmax")
    job = ["--checkpoint", str(world / "runs/s"), "--data-dir", str(world / "data"), "--json"]
    evaluate.main(job)
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    log = [json.loads(line) for line in (world / "runs/s/log.jsonl").read_text().splitlines()]
    trained = [line for line in log if line["event"] == "dev"][-1]["scores"]["quora"]
    assert report["scores"]["quora"]["accuracy"]["value"] == pytest.approx(trained["accuracy"])


@pytest.mark.parametrize("more", [[], ["--pair-loss", "simcse"]])
def test_separate_towers_part_and_are_saved(world: Path, capsys, more: list[str]) -> None:
    options = ["--tasks", "quora,sts", "--pair-encoding", "siamese", "--towers", "separate", *more]
    run(world, *options, *ONE_EPOCH, "--name", "two")
    model, _ = load_multitask(world / "runs/two")
    start = BertModel.from_pretrained(world / "model")
    first, second, begun = (
        encoder.bert_layers[0].out_dense.weight for encoder in (*model.encoders, start)
    )
    assert not torch.equal(first, second)
    assert not torch.equal(first, begun) and not torch.equal(second, begun)
    capsys.readouterr()
    job = ["--checkpoint", str(world / "runs/two"), "--data-dir", str(world / "data"), "--json"]
    evaluate.main(job)
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    log = [json.loads(line) for line in (world / "runs/two/log.jsonl").read_text().splitlines()]
    trained = [line for line in log if line["event"] == "dev"][-1]["scores"]["sts"]["pearson"]
    assert report["scores"]["sts"]["pearson"]["value"] == pytest.approx(trained, abs=1e-6)


def test_a_task_alone_without_pairs_has_one_tower(world: Path) -> None:
    options = ["--mode", "single", "--pair-encoding", "siamese", "--towers", "separate"]
    run(world, *options, *ONE_EPOCH, "--name", "alone")
    towers = {
        task: (world / f"runs/alone/{task}/last/second.safetensors").is_file()
        for task in ("sst", "sts")
    }
    assert towers == {"sst": False, "sts": True}
    cards = [(world / f"runs/alone/{task}/README.md").read_text() for task in towers]
    assert ["minbert.export" in card for card in cards] == [True, False]


def test_a_batch_without_two_pairs_has_no_loss(world: Path, capsys) -> None:
    """It is counted, and the report is drawn without it."""
    run(world, *MNR, *ONE_EPOCH, "--name", "small", "--batch-size", "3", "--skip-predictions")
    folder = world / "runs/small"
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in log if line["event"] == "step"]
    skipped = json.loads((folder / "last/state.json").read_text())["skipped"]
    assert losses.count(None) == skipped > 0
    said = f"batches without two pairs to tell apart, skipped: {skipped}\n"
    assert said in capsys.readouterr().out
    assert all(loss > 0 for loss in losses if loss is not None)
    assert "training loss" in (folder / "report.html").read_text()


@pytest.mark.parametrize("how", ["siamese mnr-full", "siamese softmax", "both softmax"])
def test_siamese_evaluation_changes_nothing_and_resuming_is_bitwise(world: Path, how: str) -> None:
    encoding, loss = how.split()
    options = ["--tasks", "quora,sts", "--pair-encoding", encoding]
    options += ["--pair-loss", f"quora={loss}", "--epochs", "2"]
    run(world, *options, "--name", "whole")
    cut(world, 6, *options, "--name", "cut", "--eval-every", "3")
    train_multitask.main(["--resume", str(world / "runs/cut")])
    a, b = (weights(world / "runs" / name / "last") for name in ("whole", "cut"))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_speeds_are_the_better_of_two_of_each_encoding(world: Path, monkeypatch, capsys) -> None:
    run(world, "--name", "r", "--tasks", "quora", "--pair-encoding", "siamese", *ONE_EPOCH)
    clock, sizes = iter([0, 4, 0, 2, 0, 3, 0, 1]), []  # cross, siamese, and both again
    monkeypatch.setattr(scoring, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(scoring, "compute_outputs", lambda _, rows, *__: sizes.append(len(rows)))
    capsys.readouterr()
    evaluate.main(["--checkpoint", str(world / "runs/r"), "--json"])
    *said, line = capsys.readouterr().out.splitlines()
    assert sum("quora-dev.csv" in text for text in said) == 1
    found = json.loads(line)["pairs_per_s"]["quora"]
    cross, siamese = sizes[:2]
    assert cross < siamese and sizes == [cross, siamese] * 2  # each pair, each distinct sentence
    assert found == {"cross": cross / 3, "siamese": cross}


def test_more_evaluations_leave_the_weights_as_they_are(world: Path) -> None:
    """Each calibrates another threshold."""
    options = ["--tasks", "quora", "--pair-encoding", "siamese", "--pair-loss", "contrastive"]
    options += ["--epochs", "4", "--lr", "1e-2", "--skip-predictions"]
    run(world, *options, "--name", "seldom")
    run(world, *options, "--name", "often", "--eval-every", "3")
    a, b = (weights(world / "runs" / name / "last") for name in ("seldom", "often"))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_threshold_is_set_on_some_of_many_training_pairs(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On all 40 here; of more than THRESHOLD_ROWS an evaluation would take too long."""
    outcome, options = Outcome(world), ["--pair-encoding", "siamese", "--steps", "1"]
    with watched(outcome, evaluation, "best_threshold"):
        run(world, "--tasks", "quora", *options)
        monkeypatch.setattr(evaluation, "THRESHOLD_ROWS", 30)
        run(world, "--tasks", "quora", *options)
    assert [len(scores) for (scores, _), _ in outcome.seen["best_threshold"]] == [40] * 2 + [30] * 2


def test_a_classifier_has_no_threshold(world: Path) -> None:
    """It would move its probabilities, which the loss has learned."""
    for loss, has_one in (("softmax", False), ("contrastive", True)):
        options = ["--pair-encoding", "siamese", "--pair-loss", loss, "--name", loss, *ONE_EPOCH]
        run(world, "--tasks", "quora", *options)
        model = MultitaskModel.load(world / "runs" / loss, device="cpu")
        assert bool(model.network.heads["quora"].threshold != 0) == has_one


def test_second_sentences_have_the_second_tower(world: Path) -> None:
    """In training, which changes it, and in the scores of pairs."""
    options = ["--tasks", "sts", "--pair-encoding", "siamese", "--towers", "separate"]
    run(world, *options, *ONE_EPOCH, "--name", "two", "--skip-predictions")
    model = MultitaskModel.load(world / "runs/two", device="cpu")
    start = BertModel.from_pretrained(world / "model").bert_layers[0].out_dense.weight
    u, v = (
        F.normalize(encoder.hidden_states(batch)[-1].mean(0), dim=0)
        for encoder, batch in zip(model.network.encoders, batches_of(model), strict=True)
    )
    for encoder in model.network.encoders:
        assert not torch.equal(encoder.bert_layers[0].out_dense.weight, start)
    pair = ("red cat runs", "old dog sleeps")
    found = model.outputs("sts", [pair[::-1], pair])[1, 0]
    assert found == pytest.approx(5 * (u @ v).item(), abs=1e-4)


def batches_of(model):

    return [
        collate(encode_examples([Example("1", text)], model.tokenizer, 32), np.array([0]))
        for text in ("red cat runs", "old dog sleeps")
    ]


def test_a_half_is_one_of_the_cosine_itself(world: Path, capsys) -> None:
    """Outputs are cosines less the calibrated threshold: accuracy_at_0.5 is not of them."""
    dev = world / "data/quora-dev.csv"
    dev.write_text("".join(dev.read_text().splitlines(keepends=True)[:8]))  # 4 of 0, 3 of 1
    run(world, "--name", "r", "--tasks", "quora", "--pair-encoding", "siamese", *ONE_EPOCH)
    model = MultitaskModel.load(world / "runs/r/last", device="cpu")
    rows = [line.split("\t")[2:] for line in dev.read_text().splitlines()[1:]]
    threshold = float(model.network.heads["quora"].threshold)
    cosines = model.outputs("quora", [(a, b) for a, b, _ in rows])[:, 0] + threshold
    expected = np.mean((cosines > 0.5) == [label == "1.0" for *_, label in rows])
    trained = logged(world / "runs/r", "dev")[-1]["scores"]["quora"]
    assert trained["accuracy_at_0.5"] == pytest.approx(expected)
    job = ["--checkpoint", str(world / "runs/r/last"), "--data-dir", str(world / "data"), "--json"]
    capsys.readouterr()
    evaluate.main([*job, "--output", str(world / "out")])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["scores"]["quora"]
    assert found["accuracy_at_0.5"]["value"] == pytest.approx(expected)


def test_pairs_that_a_loss_does_not_rank_take_none_from_it(world: Path) -> None:
    """A pair of l = 0 shares a sentence with one of l = 1; a third of the rows each."""
    path = world / "data/quora-train.csv"
    pairs = ["red cat\tblue cat\t0.0", "red cat\told cat\t1.0", "old dog\tnew dog\t1.0"]
    rows = [f"{i}\tq{i}\t{pairs[i % 3]}" for i in range(40)]
    path.write_text("\n".join([path.read_text().splitlines()[0], *rows]) + "\n")
    sizes = {}
    for loss, function in (
        ("mnr", "mnr"), ("mnr-full", "mnr_full"), ("mnr-full", "contrastive"), ("simcse", "simcse"),
    ):  # fmt: skip
        outcome = Outcome(world)
        with watched(outcome, siamese.losses, function):
            run(world, "--tasks", "quora", "--pair-encoding", "siamese", "--pair-loss", loss)
        sizes[function] = [len(args[0]) for args, _ in outcome.seen[function]]
    assert {*sizes["mnr"]} == {2} and len(sizes["mnr"]) >= 8  # of 10 steps
    assert {*sizes["contrastive"]} == {8}  # all of a batch
    assert max(sizes["mnr_full"]) == 2 and max(sizes["simcse"]) == 5  # distinct sentences


def test_paraphrases_by_way_of_rows_outside_the_batch_are_no_negatives(world: Path) -> None:
    """All pairs have label 1 and make one chain: all sentences are in one group."""
    path = world / "data/quora-train.csv"
    chain = [" ".join(words) for words in islice(permutations(WORDS, 3), 41)]
    rows = [f"{i}\tq{i}\t{one}\t{other}\t1.0" for i, (one, other) in enumerate(pairwise(chain))]
    path.write_text("\n".join([path.read_text().splitlines()[0], *rows]) + "\n")
    outcome = Outcome(world)
    with watched(outcome, siamese.losses, "mnr_full"):
        run(world, "--tasks", "quora", "--pair-encoding", "siamese", "--pair-loss", "mnr-full")
    groups = [args[3] for args, _ in outcome.seen["mnr_full"]]
    assert max(map(len, groups)) > 3 and len(torch.cat(groups).unique()) == 1


@pytest.mark.parametrize(("towers", "forwards"), [("shared", 1), ("separate", 2)])
def test_a_batch_of_pairs_is_one_forward_a_tower(world: Path, towers: str, forwards: int) -> None:
    outcome = Outcome(world)
    with watched(outcome, siamese, "collate_sentences"):
        options = ("--pair-encoding", "siamese", "--towers", towers, "--name", "run")
        run(world, "--tasks", "quora", *options)
    assert outcome.calls["collate_sentences"] == forwards * len(logged(world / "runs/run", "step"))


def test_a_batch_without_label_1_is_told_apart_all_the_same(world: Path) -> None:
    path = world / "data/quora-train.csv"
    rows = [f"{i}\tq{i}\tred cat {i}\told dog {i}\t{float(i < 2)}" for i in range(40)]
    path.write_text("\n".join([path.read_text().splitlines()[0], *rows]) + "\n")
    options = ("--pair-encoding", "siamese", "--pair-loss", "mnr-full", "--name", "run")
    run(world, "--tasks", "quora", *options)
    assert all(line["loss"] is not None for line in logged(world / "runs/run", "step"))


def test_pairs_need_two_segments(world: Path) -> None:
    BertModel(replace(TINY, type_vocab_size=1)).save_pretrained(world / "model")
    assert json.loads((world / "model/config.json").read_text())["type_vocab_size"] == 1
    with pytest.raises(UserError, match="sts: this model has one segment"):
        run(world, "--name", "run")
    assert not (world / "runs/run/last").exists()
    assert run(world, "--name", "run", "--pair-encoding", "siamese", "--epochs", "1") == 0
    assert evaluate.main(["--checkpoint", str(world / "runs/run")]) == 0
