"""What the scripts do with the parts: losses' use, selection, masking, clipping, calibration."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pretrain_mlm
import train_multitask
from experiments.recipes import tables
from minbert import AdamW, BertModel, BertTokenizer, MultitaskModel
from minbert.cli import parse_given
from minbert.data.masking import Masking, mask_batch
from minbert.files import read_json_lines
from minbert.run import train_args
from minbert.task import siamese
from minbert.tensors import load_tensors
from tasks import TASKS
from tests.conftest import arguments, run, weights
from tests.flags import Outcome, watched

# the paper's figures: table, row, then its columns
PAPER = {
    ("1", "without pre-training"): (0.524, 0.863),
    ("1", "with pre-training"): (0.515, 0.870),
    ("2", "vanilla BERT"): (0.889, 0.869),
    ("2", "siamese cosine-mse"): (0.762,),
    ("2", "siamese contrastive"): (0.748, 0.760),
    ("2", "siamese mnr"): (0.474,),
    ("3", "baseline"): (0.408, 0.736, 0.540),
    ("3", "single task"): (0.533, 0.889, 0.874),
    ("3", "sequential"): (0.387, 0.863, 0.879),
    ("3", "parallel"): (0.505, 0.877, 0.863),
    ("3", "pre-training + sequential"): (0.394, 0.821, 0.876),
    ("3", "pre-training + parallel"): (0.505, 0.873, 0.870),
}
# of the full budget: the runs that --epochs and --lr are given to
FULL = {
    "single-sst-5": 5, "single-sts-5": 5, "mlm-sst": 50, "mlm-sts": 50, "single-sst-5-mlm": 5,
    "single-quora-10": 10, "single-sts-10": 10, "baseline": 10, "single-sst-10": 10,
    "single-quora-5": 5, "mlm-all": 2, "sequential": 5, "parallel": 5, "sequential-mlm": 3,
    "parallel-mlm": 3, "shuffle": 5, "adaptive": 5, "single-sts-10-cosine-mse": 10,
    "single-quora-10-contrastive": 10, "single-quora-10-mnr": 10,
}  # fmt: skip


def pair_loss_calls(world: Path, loss: str, task: str) -> list[tuple[tuple, dict[str, Any]]]:
    """Return what a short siamese run gives to a loss, at every step."""
    outcome, function = Outcome(world), loss.replace("-", "_")
    with watched(outcome, siamese.losses, function):
        run(world, "--tasks", task, "--pair-encoding", "siamese", "--pair-loss", loss)
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


@pytest.mark.parametrize(("loss", "scale"), [("mnr", 1), ("mnr-full", 20)])
def test_in_batch_losses_have_the_scale_of_their_source(
    world: Path, loss: str, scale: float
) -> None:
    assert {args[-1] for args, _ in pair_loss_calls(world, loss, "quora")} == {scale}


def test_thresholds_are_calibrated_on_training_pairs(world: Path) -> None:
    outcome = Outcome(world)
    with watched(outcome, train_multitask, "calibrate"):
        run(world, "--tasks", "quora", "--pair-encoding", "siamese", "--epochs", "1")
    sizes = {len(args[2]) for args, _ in outcome.seen["calibrate"]}
    assert sizes == {40} and outcome.calls["calibrate"] == 2  # of 40 and 12 rows


def test_pre_training_never_sees_the_held_out_rows(world: Path) -> None:
    outcome = Outcome(world)
    extra = ("--held-out", "4", "--epochs", "2", "--batch-size", "8")
    with watched(outcome, pretrain_mlm, "mask_batch"):
        pretrain_mlm.main([*arguments(world, *extra), "--tasks", "sst,sts"])
    trained, assessed = set(), set()
    for (batch, _, _, epoch), _ in outcome.seen["mask_batch"]:
        (assessed if epoch == pretrain_mlm.HELD_OUT_EPOCH else trained).update(batch.rows)
    assert len(trained) == 76 and len(assessed) == 4 and not trained & assessed


@pytest.mark.parametrize("script", [train_multitask, pretrain_mlm])
def test_gradients_are_clipped_to_norm_1(world: Path, monkeypatch, script: Any) -> None:
    """By default, and by what AdamW is given."""
    norms, step = [], AdamW.step

    def step_and_measure(self: AdamW, closure: Any = None, scale: Any = 1.0) -> Any:
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        dense = [g.to_dense() if g.is_sparse else g for g in gradients if g is not None]
        norms.append(float(scale) * float(torch.nn.utils.get_total_norm(dense)))
        return step(self, closure, scale)

    monkeypatch.setattr(AdamW, "step", step_and_measure)
    script.main(arguments(world, "--epochs", "2", "--lr", "1e-3"))
    assert max(norms) == pytest.approx(1.0, abs=1e-3) and min(norms) > 0


def test_best_is_the_step_with_the_highest_mean(world: Path, monkeypatch) -> None:
    means = iter([0.9, 0.2, 0.6, 0.4])  # before training, which is no step of it, and 3 epochs
    monkeypatch.setattr(train_multitask, "overall", lambda *_: (next(means), 0.0))
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


def test_best_of_pre_training_is_the_step_with_the_lowest_loss(world: Path, monkeypatch) -> None:
    losses = iter([0.1, 5.0, 3.0, 4.0])

    def scores(_: Any) -> tuple[dict[str, float], int]:
        loss = next(losses)
        return {"accuracy": 0.0, "perplexity": 1.0, "loss": loss}, 1

    monkeypatch.setattr(pretrain_mlm, "held_out_scores", scores)
    outcome = Outcome(world)
    with watched(outcome, pretrain_mlm, "save"):
        pretrain_mlm.main([*arguments(world, "--epochs", "3"), "--name", "m"])
    written = [args[0].state.step for args, _ in outcome.seen["save"] if args[1] == "best"]
    last = load_tensors(world / "runs/m/last/model.safetensors")
    best = load_tensors(world / "runs/m/best/model.safetensors")
    assert len(written) == 2 and any(not best[n].equal(t) for n, t in last.items())


def test_masks_spare_the_frame_and_random_tokens_are_of_all_kinds(world: Path) -> None:
    tokenizer = BertTokenizer.from_directory(world / "model")
    masking = Masking.of(tokenizer, 0.15, False)
    assert {tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id} <= set(masking.special.tolist())
    assert masking.mask_id == tokenizer.mask_id
    from tests.test_mlm import PLAIN, make_batch

    batch = make_batch(400, 62)
    masked = mask_batch(batch, PLAIN, 3, 0)
    now = masked.batch.ids[masked.places]
    other = now[(now != PLAIN.mask_id) & (now != masked.targets)]
    assert len(other) > 250 and len(other.unique()) > 0.7 * len(other)
    assert len(np.unique(np.sort(masked.places.numpy()) % 62)) == 60  # neither end of a row


@pytest.mark.parametrize(
    ("words", "epochs", "lr"), [("", 5, 1e-5), ("--fine-tune-mode last-linear-layer", 10, 1e-3)]
)
def test_epochs_and_rate_are_the_paper_s(words: str, epochs: int, lr: float) -> None:
    given = parse_given(train_args.Args, words.split(), "")
    args = train_args.resolve_arguments(given, TASKS)
    assert (args.epochs, args.lr) == (epochs, lr)


def test_the_full_budget_and_the_paper_s_figures() -> None:
    found = tables("full", 3072)
    for (table, label), figures in PAPER.items():
        (row,) = [row for row in found[table].rows if row.label == label]
        said = [cell.paper for cell in row.cells.values() if cell.paper is not None]
        assert tuple(said) == figures, label
    rows = sum(len(row.cells) > 0 for table in found.values() for row in table.rows if not row.ours)
    assert rows == len(PAPER)
    jobs = {job.name: job.arguments for table in found.values() for job in table.jobs}
    for name, epochs in FULL.items():
        words = list(jobs[name])
        assert words[words.index("--epochs") + 1] == str(epochs), name
        rate = words[words.index("--lr") + 1] if "--lr" in words else None
        assert rate == (None if name == "baseline" else "1e-5"), name


def test_the_dropout_of_a_step_is_its_own(world: Path, monkeypatch) -> None:
    """With rate 0 and the same rows two steps differ by their dropout alone."""
    monkeypatch.setattr(train_multitask, "batch_rows", lambda *_: np.arange(8))
    for seed in ("1", "2"):
        flags = ("--lr", "0", "--epochs", "1", "--seed", seed, "--name", seed)
        run(world, *flags, "--tasks", "sst", "--skip-predictions")
    folders = [world / "runs" / seed / "log.jsonl" for seed in ("1", "2")]
    losses = [line["loss"] for f in folders for line in read_json_lines(f) if "loss" in line]
    assert len(losses) == 10 == len(set(losses))


def test_the_weight_of_a_task_counts(world: Path) -> None:
    outcome, (task, weight) = Outcome(world), ("sst", 3.0)
    heavy = {**TASKS, task: replace(TASKS[task], weight=weight)}
    seen = []
    for tasks in (TASKS, heavy):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train_multitask, "TASKS", tasks)
            with watched(outcome, train_multitask, "clip_scale"):
                run(world, "--name", str(len(seen)), "--epochs", "1", "--clip", "0", "--lr", "0")
        log = read_json_lines(world / "runs" / str(len(seen)) / "log.jsonl")
        seen.append([line["loss"] for line in log if line.get("task") == task])
    assert seen[1] == pytest.approx([weight * loss for loss in seen[0]])


@pytest.mark.parametrize("frozen", [False, True])
def test_accumulated_parts_count_by_their_rows(world: Path, frozen: bool) -> None:
    """Batches of 7 in 3 parts of unlike size end where whole batches end; the encoder trains."""
    ends = []
    kind = ("--fine-tune-mode", "last-linear-layer") if frozen else ()
    for parts in ("1", "3"):
        flags = ("--batch-size", "7", "--accumulate", parts, "--hidden-dropout-prob", "0")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("minbert.model.layers.Dropout.forward", lambda self, x: x)
            patch.setattr("minbert.model.encoder.add_norm", lambda x, f, norm, _: norm(x + f))
            run(world, "--name", parts, *flags, *kind, "--lr", "1e-3", "--skip-predictions")
        ends.append(weights(world / "runs" / parts / "last"))
    for name, tensor in ends[0].items():
        torch.testing.assert_close(ends[1][name], tensor, atol=2e-5, rtol=0)


@pytest.mark.parametrize("script", [train_multitask, pretrain_mlm])
def test_the_rate_of_the_log_is_the_optimizer_s(world: Path, monkeypatch, script: Any) -> None:
    used, step = [], AdamW.step

    def step_and_keep(self: AdamW, closure: Any = None, scale: Any = 1.0) -> Any:
        used.append({group["lr"] for group in self.param_groups})
        return step(self, closure, scale)

    monkeypatch.setattr(AdamW, "step", step_and_keep)
    script.main([*arguments(world, "--schedule", "cosine", "--warmup", "2"), "--name", "r"])
    log = read_json_lines(world / "runs/r/log.jsonl")
    assert used == [{line["lr"]} for line in log if line["event"] == "step"]
    assert len(set(map(max, used))) > 5


def test_patience_starts_anew_with_a_better_mean(world: Path, monkeypatch) -> None:
    means = iter([0.9, 0.5, 0.4, 0.6, 0.5, 0.4, 0.9])
    monkeypatch.setattr(train_multitask, "overall", lambda *_: (next(means), 0.0))
    run(world, "--name", "r", "--epochs", "6", "--patience", "2", "--skip-predictions")
    log = read_json_lines(world / "runs/r/log.jsonl")
    assert [line["step"] for line in log if line["event"] == "dev"][-1] == 50  # of 60


@pytest.mark.parametrize("script", [train_multitask, pretrain_mlm])
def test_dropout_is_for_training_alone(world: Path, monkeypatch, script: Any) -> None:
    modes, forward = [], BertModel.embed

    def embed(self: BertModel, *inputs: Any) -> torch.Tensor:
        modes.append((self.training, torch.is_grad_enabled()))
        return forward(self, *inputs)

    monkeypatch.setattr(BertModel, "embed", embed)
    script.main([*arguments(world, "--epochs", "1"), "--name", "r"])
    steps = sum(line["event"] == "step" for line in read_json_lines(world / "runs/r/log.jsonl"))
    assert modes.count((True, True)) == steps
    assert set(modes) == {(True, True), (False, False)}


def test_the_held_out_texts_are_masked_alike_every_time(world: Path) -> None:
    pretrain_mlm.main([*arguments(world, "--lr", "0", "--epochs", "3"), "--name", "r"])
    log = read_json_lines(world / "runs/r/log.jsonl")
    assert len({line["loss"] for line in log if line["event"] == "held-out"}) == 1
    assert len({line["loss"] for line in log if line["event"] == "step"}) > 3


def test_parts_of_pre_training_count_by_their_guesses(world: Path, monkeypatch) -> None:
    monkeypatch.setattr("minbert.model.layers.Dropout.forward", lambda self, x: x)
    monkeypatch.setattr("minbert.model.encoder.add_norm", lambda x, f, norm, _: norm(x + f))
    ends = []
    for parts in ("1", "3"):
        flags = ("--batch-size", "7", "--accumulate", parts, "--lr", "1e-3", "--name", parts)
        pretrain_mlm.main(arguments(world, *flags))
        ends.append(load_tensors(world / "runs" / parts / "last/model.safetensors"))
    for name, tensor in ends[0].items():
        torch.testing.assert_close(ends[1][name], tensor, atol=2e-5, rtol=0)


def test_each_of_several_seeds_is_a_run_of_that_seed(world: Path) -> None:
    flags = ("--epochs", "1", "--lr", "1e-3", "--skip-predictions")
    run(world, *flags, "--name", "both", "--seed", "3", "--seeds", "2")
    run(world, *flags, "--name", "alone", "--seed", "4")
    several, alone = (weights(world / "runs" / f / "last") for f in ("both/seed-4", "alone"))
    assert all(several[name].equal(tensor) for name, tensor in alone.items())


def test_predictions_are_those_of_the_best_step(world: Path, monkeypatch) -> None:
    means = iter([0.0, 0.9, 0.1])
    monkeypatch.setattr(train_multitask, "overall", lambda *_: (next(means), 0.0))
    run(world, "--name", "r", "--epochs", "2", "--lr", "5e-3")
    model = MultitaskModel.load(world / "runs/r", device="cpu")
    rows = read_json_lines(world / "runs/r/predictions/sts-dev-logits.jsonl")
    pairs = [line.split("\t")[2:4] for line in (world / "data/sts-dev.csv").open()][1:]
    expected = model.outputs("sts", [tuple(pair) for pair in pairs])
    np.testing.assert_allclose([row["logits"] for row in rows], expected, atol=1e-4)
    last = load_tensors(world / "runs/r/last/heads.safetensors")
    assert not last["sts.bias"].equal(model.network.heads["sts"].bias)
