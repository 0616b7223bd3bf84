"""What the scripts do with the parts: losses' use, selection, clipping, calibration, dropout."""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pretrain_mlm
import train_multitask
from minbert import AdamW, BertModel, MultitaskModel
from minbert.cli import parse_given
from minbert.files import read_json_lines
from minbert.run import fine_tuning
from minbert.run.resolve_args import resolve_arguments
from minbert.run.train_args import Args
from minbert.task import siamese
from minbert.tensors import load_tensors
from tasks import TASKS
from tests.conftest import arguments, logged, run, weights
from tests.flags import Outcome, watched


def pair_loss_calls(
    world: Path, loss: str, task: str, *options: str
) -> list[tuple[tuple, dict[str, Any]]]:
    """Return what a short siamese run gives to a loss, at every step."""
    outcome, function = Outcome(world), loss.replace("-", "_")
    with watched(outcome, siamese.losses, function):
        words = ["--tasks", task, "--pair-encoding", "siamese", "--pair-loss", loss]
        run(world, "--skip-predictions", *words, *options)
    return outcome.seen[function]


def test_cosine_mse_has_the_paper_s_factor_of_5(world: Path) -> None:
    calls = pair_loss_calls(world, "cosine-mse", "sts")
    assert all(args[3] == 5 for args, _ in calls)
    assert max(float(args[2].max()) for args, _ in calls) > 1  # against labels from 0 to 5


@pytest.mark.parametrize(("task", "largest"), [("sts", 1.9 / 5), ("quora", 1)])
def test_contrastive_labels_are_from_0_to_1(world: Path, task: str, largest: float) -> None:
    """Those of STS over 5; the largest one of the 20 rows is 1.9."""
    labels = torch.cat([args[2] for args, _ in pair_loss_calls(world, "contrastive", task)])
    assert labels.min() == 0 and float(labels.max()) == pytest.approx(largest)


def test_simcse_reads_a_sentence_under_two_dropouts(world: Path) -> None:
    calls = pair_loss_calls(world, "simcse", "sts")
    assert calls and not any(torch.equal(args[0], args[1]) for args, _ in calls)


def test_the_groups_that_are_ranked_are_of_the_batch_s_rows(world: Path) -> None:
    """Both sentences of a pair are in one group if its label is 1."""
    calls = pair_loss_calls(world, "mnr-full", "quora")
    assert calls
    for (_, _, labels, groups, _), _ in calls:
        assert ((groups[:, 0] == groups[:, 1]) == (labels == 1)).all()


def test_ranking_with_all_negatives_also_tells_labelled_pairs_apart(world: Path) -> None:
    """What it logs is the sum of both losses, of every batch as it is."""
    found: list[float] = []
    functions = (siamese.losses.mnr_full, siamese.losses.contrastive)

    def kept(function):
        def call(*args):
            loss = function(*args)
            found.append(float(loss.detach()))
            return loss

        return call

    with pytest.MonkeyPatch.context() as patch:
        for function in functions:
            patch.setattr(siamese.losses, function.__name__, kept(function))
        options = ("--tasks", "quora", "--pair-encoding", "siamese", "--pair-loss", "mnr-full")
        run(world, *options, "--name", "run")
    logged_losses = [line["loss"] for line in logged(world / "runs/run", "step")]
    assert len(found) == 2 * len(logged_losses) and min(found) >= 0
    sums = [a + b for a, b in zip(found[::2], found[1::2], strict=True)]
    assert logged_losses == pytest.approx(sums)


@pytest.mark.parametrize(("loss", "scale"), [("mnr", 1), ("mnr-full", 20), ("simcse", 20)])
def test_in_batch_losses_have_the_scale_of_their_source(
    world: Path, loss: str, scale: float
) -> None:
    """Or the one that is asked for."""
    assert {args[-1] for args, _ in pair_loss_calls(world, loss, "quora")} == {scale}
    asked = pair_loss_calls(world, loss, "quora", "--mnr-scale", "7", "--name", "asked")
    assert {args[-1] for args, _ in asked} == {7}


def test_thresholds_are_calibrated_on_training_pairs(world: Path) -> None:
    outcome = Outcome(world)
    with watched(outcome, train_multitask, "set_threshold"):
        run(world, "--tasks", "quora", "--pair-encoding", "siamese", "--epochs", "1")
    sizes = {len(args[2]) for args, _ in outcome.seen["set_threshold"]}
    assert sizes == {40} and outcome.calls["set_threshold"] == 2  # of 40 and 12 rows


def spied_steps(monkeypatch: pytest.MonkeyPatch, look: Callable[[AdamW, float], None]) -> None:
    """Let `look` see the optimizer and the gradients' scale before every step."""
    step = AdamW.step

    def looked_at(self: AdamW, closure: Any = None, scale: Any = 1.0) -> Any:
        look(self, float(scale))
        return step(self, closure, scale)

    monkeypatch.setattr(AdamW, "step", looked_at)


@pytest.mark.parametrize("script", [train_multitask, pretrain_mlm])
def test_gradients_are_clipped_to_norm_1(world: Path, monkeypatch, script: Any) -> None:
    """By default, and by what AdamW is given."""
    norms = []

    def look(optimizer: AdamW, scale: float) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        dense = [g.to_dense() if g.is_sparse else g for g in gradients if g is not None]
        norms.append(scale * float(torch.nn.utils.get_total_norm(dense)))

    spied_steps(monkeypatch, look)
    script.main(arguments(world, "--epochs", "2", "--lr", "1e-3"))
    assert max(norms) == pytest.approx(1.0, abs=1e-3) and min(norms) > 0


def test_a_model_without_a_score_is_no_best(world: Path, monkeypatch, capsys) -> None:
    """Equal predictions have no correlation: 0 would be more than what another step had."""
    scores, score_tasks = iter([0.1, math.nan, -0.3, math.nan]), train_multitask.score_tasks

    def scored(*about: Any) -> dict[str, dict[str, float]]:
        found = score_tasks(*about)
        found["sts"]["pearson"] = next(scores)
        return found

    monkeypatch.setattr(train_multitask, "score_tasks", scored)
    run(world, "--name", "r", "--tasks", "sts", "--epochs", "3", "--skip-predictions")
    state = json.loads((world / "runs/r/last/state.json").read_text())
    assert state["best"]["chosen_by"] == -0.3 and state["task_best"]["sts"]["score"] == -0.3
    assert capsys.readouterr().out.count("sts: pearson not defined") == 1


def test_best_is_the_step_with_the_highest_mean(world: Path, monkeypatch) -> None:
    means = iter([0.9, 0.2, 0.6, 0.4])  # before training, which is no step of it, and 3 epochs
    monkeypatch.setattr(train_multitask, "weighted_mean", lambda *_: next(means))
    kept: list[dict[str, torch.Tensor]] = []
    evaluate = train_multitask.evaluate

    def evaluate_and_keep(script_run: Any, stage: str) -> None:
        evaluate(script_run, stage)
        kept.append({n: t.clone() for n, t in script_run.model.heads.state_dict().items()})

    monkeypatch.setattr(train_multitask, "evaluate", evaluate_and_keep)
    run(world, "--name", "r", "--epochs", "3", "--skip-predictions")
    best = load_tensors(world / "runs/r/best/heads.safetensors")
    assert [all(best[n].equal(t) for n, t in heads.items()) for heads in kept] == [
        False, False, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "epochs", "lr"), [("", 5, 1e-5), ("--fine-tune-mode last-linear-layer", 10, 1e-3)]
)
def test_epochs_and_rate_are_the_paper_s(words: str, epochs: int, lr: float) -> None:
    given = parse_given(Args, words.split(), "")
    args = resolve_arguments(given, TASKS)
    assert (args.epochs, args.lr) == (epochs, lr)


def test_the_dropout_of_a_step_is_its_own(world: Path, monkeypatch) -> None:
    """With rate 0 and the same rows two steps differ by their dropout alone."""
    monkeypatch.setattr(fine_tuning, "batch_rows", lambda *_, **__: np.arange(8))
    for seed in ("1", "2"):
        flags = ("--lr", "0", "--epochs", "1", "--seed", seed, "--name", seed)
        run(world, *flags, "--tasks", "sst", "--skip-predictions")
    steps = [line for seed in ("1", "2") for line in logged(world / "runs" / seed, "step")]
    losses = [line["loss"] for line in steps]
    assert len(losses) == 10 == len(set(losses))


def test_the_weight_of_a_task_counts(world: Path, monkeypatch) -> None:
    """The gradient is that many times as long; the loss that is shown is the task's own."""
    heavy = {**TASKS, "sst": replace(TASKS["sst"], weight=3.0)}
    losses, lengths, clip_scale = [], [], train_multitask.clip_scale

    def seen(parameters: Iterable[torch.Tensor], max_norm: float) -> float:
        lengths.append(1 / clip_scale(parameters, 1e-9))
        return 1.0

    monkeypatch.setattr(train_multitask, "clip_scale", seen)
    given = ["--task-weight", "sst=2"]  # in place of its own
    for name, tasks, words in (("plain", TASKS, []), ("heavy", heavy, []), ("given", heavy, given)):
        monkeypatch.setattr(train_multitask, "TASKS", tasks)
        run(world, "--name", name, "--epochs", "1", "--lr", "0", *words)
        steps = logged(world / "runs" / name, "step")
        losses.append([line["loss"] for line in steps])
    assert losses[0] == losses[1] == losses[2]
    plain, *others = np.reshape(lengths, (3, len(steps)))
    of_sst = np.array([line["task"] == "sst" for line in steps])
    for weight, weighted in zip((3, 2), others, strict=True):
        np.testing.assert_allclose(weighted, np.where(of_sst, weight, 1) * plain, rtol=1e-3)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.usefixtures("no_dropout")
def test_accumulated_parts_count_by_their_rows(world: Path, frozen: bool) -> None:
    """Batches of 7 in 3 parts of unlike size end where whole batches end; the encoder trains."""
    ends = []
    kind = ("--fine-tune-mode", "last-linear-layer") if frozen else ()
    for parts in ("1", "3"):
        flags = ("--batch-size", "7", "--accumulate", parts, "--lr", "1e-3", "--name", parts)
        run(world, *flags, *kind, "--skip-predictions")
        ends.append(weights(world / "runs" / parts / "last"))
    torch.testing.assert_close(ends[1], ends[0], atol=2e-5, rtol=0)


@pytest.mark.parametrize("script", [train_multitask, pretrain_mlm])
def test_the_rate_of_the_log_is_the_optimizer_s(world: Path, monkeypatch, script: Any) -> None:
    used = []
    spied_steps(monkeypatch, lambda o, _: used.append({group["lr"] for group in o.param_groups}))
    script.main([*arguments(world, "--schedule", "cosine", "--warmup", "2"), "--name", "r"])
    assert used == [{line["lr"]} for line in logged(world / "runs/r", "step")]
    assert len(set(map(max, used))) > 5


def test_patience_starts_anew_with_a_better_mean(world: Path, monkeypatch) -> None:
    means = iter([0.9, 0.5, 0.4, 0.6, 0.5, 0.4, 0.9])
    monkeypatch.setattr(train_multitask, "weighted_mean", lambda *_: next(means))
    run(world, "--name", "r", "--epochs", "6", "--patience", "2", "--skip-predictions")
    evaluations = logged(world / "runs/r", "dev")
    assert evaluations[-1]["step"] == 50  # of 60
    assert [line["chosen_by"] for line in evaluations] == [0.9, 0.5, 0.4, 0.6, 0.5, 0.4]


@pytest.mark.parametrize("script", [train_multitask, pretrain_mlm])
def test_dropout_is_for_training_alone(world: Path, monkeypatch, script: Any) -> None:
    modes, forward = [], BertModel.embed

    def embed(self: BertModel, *inputs: Any) -> torch.Tensor:
        modes.append((self.training, torch.is_grad_enabled()))
        return forward(self, *inputs)

    monkeypatch.setattr(BertModel, "embed", embed)
    script.main([*arguments(world, "--epochs", "1"), "--name", "r"])
    assert modes.count((True, True)) == len(logged(world / "runs/r", "step"))
    assert set(modes) == {(True, True), (False, False)}


def test_predictions_are_those_of_the_best_step(world: Path, monkeypatch) -> None:
    means = iter([0.0, 0.9, 0.1])
    monkeypatch.setattr(train_multitask, "weighted_mean", lambda *_: next(means))
    run(world, "--name", "r", "--epochs", "2", "--lr", "5e-3")
    model = MultitaskModel.load(world / "runs/r", device="cpu")
    rows = read_json_lines(world / "runs/r/predictions/sts-dev-logits.jsonl")
    pairs = [line.split("\t")[2:4] for line in (world / "data/sts-dev.csv").open()][1:]
    expected = model.outputs("sts", [tuple(pair) for pair in pairs])
    np.testing.assert_allclose([row["logits"] for row in rows], expected, atol=1e-4)
    last = load_tensors(world / "runs/r/last/heads.safetensors")
    assert not last["sts.bias"].equal(model.network.heads["sts"].bias)


def test_no_sentence_of_a_batch_is_a_negative_of_itself(world: Path) -> None:
    """Of three pairs that come again and again a batch of mnr has each once."""
    path = world / "data/quora-train.csv"
    pairs = ["red cat\tblue cat", "old dog\tnew dog", "fast\tslowly here"]
    rows = [f"{i}\tq{i}\t{pairs[i % 3]}\t1.0" for i in range(40)]
    path.write_text("\n".join([path.read_text().splitlines()[0], *rows]) + "\n")
    calls = pair_loss_calls(world, "mnr", "quora")
    assert calls and all(2 <= len(args[0]) <= 3 for args, _ in calls)


@pytest.mark.usefixtures("no_dropout")
def test_simcse_compares_a_sentence_with_itself(world: Path) -> None:
    """Under two dropouts, without which both embeddings are the same."""
    calls = pair_loss_calls(world, "simcse", "sts")
    assert calls
    for (u, v, *_), _ in calls:
        torch.testing.assert_close(u, v)
