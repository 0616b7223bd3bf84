"""What pretrain_mlm.py does with its parts: held-out rows, masks, selection, accumulation."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import pretrain_mlm
import train_multitask
from minbert import BertTokenizer, UserError
from minbert.data.masking import Masking, mask_batch
from minbert.files import read_json
from minbert.model.mlm import load_mlm
from minbert.run import dry_run, fine_tuning
from minbert.tensors import load_tensors
from minbert.weights.resolve import resolve
from tests.conftest import arguments, logged
from tests.flags import Outcome, watched
from tests.test_mlm import PLAIN, make_batch


def test_pre_training_never_sees_the_held_out_rows(world: Path) -> None:
    outcome = Outcome(world)
    extra = ("--held-out", "4", "--epochs", "2", "--batch-size", "8")
    with watched(outcome, pretrain_mlm, "mask_batch"):
        pretrain_mlm.main([*arguments(world, *extra), "--tasks", "sst,sts"])
    trained, assessed = set(), set()
    for (batch, _, _, epoch), _ in outcome.seen["mask_batch"]:
        (assessed if epoch == pretrain_mlm.HELD_OUT_EPOCH else trained).update(batch.rows)
    assert len(trained) == 76 and len(assessed) == 4 and not trained & assessed


def test_best_of_pre_training_is_the_step_with_the_lowest_loss(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what the script says at its end is of that step."""
    losses = iter([0.1, 5.0, 3.0, 4.0])  # before training, which is no step of it, and 3 epochs
    kept: list[torch.Tensor] = []

    def scores(script_run: Any) -> tuple[dict[str, float], int]:
        kept.append(script_run.model.encoder.bert_layers[0].out_dense.weight.detach().clone())
        return {"accuracy": 0.0, "perplexity": 1.0, "loss": next(losses)}, 1

    monkeypatch.setattr(pretrain_mlm, "held_out_scores", scores)
    argv = [*arguments(world, "--epochs", "3"), "--name", "m", "--keep", "best", "--json"]
    pretrain_mlm.main(argv)
    out = capsys.readouterr().out
    assert json.loads(out.splitlines()[-1])["held_out"]["loss"] == 3.0
    step = read_json(world / "runs/m/last/state.json")["best"]["step"]
    assert f"\nbest/, step {step} " in out
    model, _ = load_mlm(world / "runs/m/best")
    best = model.encoder.bert_layers[0].out_dense.weight
    assert [best.equal(weight) for weight in kept] == [False, False, True, False]


def test_the_last_epoch_is_what_pre_training_keeps(world: Path) -> None:
    """As in the paper; and without held-out rows all are trained on."""
    argv = arguments(world, "--epochs", "2", "--lr", "1e-2", "--name", "m", "--held-out", "0")
    assert pretrain_mlm.main(argv) == 0
    assert not (world / "runs/m/best").exists()
    (start,) = logged(world / "runs/m", "start")
    assert start["rows"] == 80 and not logged(world / "runs/m", "held-out")
    assert resolve(world / "runs/m") == world / "runs/m/last"
    assert "`last/` holds step 20" in (world / "runs/m/README.md").read_text()
    with pytest.raises(UserError, match="--keep best chooses by the held-out rows"):
        pretrain_mlm.main([*arguments(world), "--held-out", "0", "--keep", "best"])


def test_masks_spare_the_frame_and_random_tokens_are_of_all_kinds(world: Path) -> None:
    tokenizer = BertTokenizer.from_directory(world / "model")
    masking = Masking.of(tokenizer, 0.15, False)
    assert {tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id} <= set(masking.special.tolist())
    assert masking.mask_id == tokenizer.mask_id
    batch = make_batch(400, 62)
    masked = mask_batch(batch, PLAIN, 3, 0)
    now = masked.batch.ids[masked.indices]
    other = now[(now != PLAIN.mask_id) & (now != masked.targets)]
    assert len(other) > 250 and len(other.unique()) > 0.7 * len(other)
    assert len(np.unique(np.sort(masked.indices.numpy()) % 62)) == 60  # neither end of a row


def test_the_held_out_texts_are_masked_alike_every_time(world: Path) -> None:
    pretrain_mlm.main([*arguments(world, "--lr", "0", "--epochs", "3"), "--name", "r"])
    assert len({line["loss"] for line in logged(world / "runs/r", "held-out")}) == 1
    assert len({line["loss"] for line in logged(world / "runs/r", "step")}) > 3


@pytest.mark.usefixtures("no_dropout")
def test_parts_of_pre_training_count_by_their_guesses(world: Path) -> None:
    ends = []
    for parts in ("1", "3"):
        flags = ("--batch-size", "7", "--accumulate", parts, "--lr", "1e-3", "--name", parts)
        pretrain_mlm.main(arguments(world, *flags))
        ends.append(load_tensors(world / "runs" / parts / "last/model.safetensors"))
    torch.testing.assert_close(ends[1], ends[0], atol=2e-5, rtol=0)


def test_a_batch_with_nothing_to_guess_has_no_loss(world: Path) -> None:
    (world / "text.txt").write_text("red\n" * 24)
    words = ("--corpus", str(world / "text.txt"), "--mask-rate", "0.05", "--batch-size", "2")
    base = arguments(world)[: arguments(world).index("--tasks")]
    pretrain_mlm.main([*base, *words, "--held-out", "0", "--epochs", "1", "--name", "m"])
    losses = [line["loss"] for line in logged(world / "runs/m", "step")]
    assert None in losses and 0 not in losses


def test_pre_training_names_the_rows_it_leaves_out_and_the_tasks_to_go_on_with(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"old cat number {i}\t{'ab'[i % 2]}\n" for i in range(40))
    (world / "data/own.tsv").write_text("text\tlabel\nred cat\t\n" + rows)
    (world / "own.toml").write_text(
        '[own]\nkind = "classification"\ntrain = "own.tsv"\ntext = "text"\nlabel = "label"\n'
        'labels = ["a", "b"]\n'
    )
    base = arguments(world)[: arguments(world).index("--tasks")]
    own = ["--task-file", str(world / "own.toml"), "--epochs", "1", "--held-out", "0"]
    pretrain_mlm.main([*base, *own, "--name", "own"])
    out = capsys.readouterr().out
    assert "own.tsv: left out: 1 " in out
    assert out.rstrip().endswith(f"--task-file {world / 'own.toml'} --tasks own")
    pretrain_mlm.main([*base, "--tasks", "sts", "--epochs", "1", "--name", "sts"])
    assert capsys.readouterr().out.rstrip().endswith("--tasks sts")


@pytest.mark.parametrize(
    ("script", "module"), [(train_multitask, fine_tuning), (pretrain_mlm, pretrain_mlm)]
)
def test_every_pass_has_an_order_of_its_own(
    world: Path, monkeypatch: pytest.MonkeyPatch, script: Any, module: Any
) -> None:
    drawn, batch_rows = [], module.batch_rows

    def watched(*sizes: Any, **about: Any) -> np.ndarray:
        drawn.append(batch_rows(*sizes, **about))
        return drawn[-1]

    monkeypatch.setattr(module, "batch_rows", watched)
    script.main(arguments(world, "--name", "r", "--tasks", "sst", "--epochs", "2"))
    half = len(drawn) // 2
    one, other = np.concatenate(drawn[:half]), np.concatenate(drawn[half:])
    assert sorted(one) == sorted(other) and one.tolist() != other.tolist()


def test_every_epoch_has_masks_of_its_own_by_the_run_s_seed(world: Path, monkeypatch) -> None:
    drawn, mask_batch = [], pretrain_mlm.mask_batch

    def watched(*about: Any) -> Any:
        drawn.append(about[2:])
        return mask_batch(*about)

    monkeypatch.setattr(pretrain_mlm, "mask_batch", watched)
    pretrain_mlm.main(arguments(world, "--name", "r", "--seed", "7", "--held-out", "2"))
    assert {*drawn} == {(7, 0), (7, 1), (0, pretrain_mlm.HELD_OUT_EPOCH)}


def test_the_dropout_of_a_step_of_pre_training_is_its_own(world: Path, monkeypatch) -> None:
    """With rate 0, the same rows and the same masks two steps differ by their dropout alone."""
    monkeypatch.setattr(pretrain_mlm, "batch_rows", lambda *_, **__: np.arange(8))
    masked = pretrain_mlm.masked_rows
    monkeypatch.setattr(pretrain_mlm, "masked_rows", lambda run, rows, *_: masked(run, rows, 1, 1))
    pretrain_mlm.main(arguments(world, "--name", "r", "--lr", "0", "--mask-rate", "0.5"))
    losses = [line["loss"] for line in logged(world / "runs/r", "step")]
    assert len({*losses}) == len(losses) > 5


def test_a_dry_run_of_pre_training_says_how_many_minutes(world: Path, monkeypatch, capsys) -> None:
    """Of steps of 3 seconds."""
    monkeypatch.setattr(dry_run, "seconds_per_step", lambda *_: 3.0)
    pretrain_mlm.main(arguments(world, "--dry-run", "--json", "--quiet"))
    found = json.loads(capsys.readouterr().out)
    assert found["minutes"] == pytest.approx(found["steps"] / 20)


def test_a_dry_run_s_times_are_means_of_what_it_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of steps without the two that warm up; of all rows by those of the dev sets."""
    now = [0.0]

    def spend(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(dry_run, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(dry_run, "encode_features", lambda *_: spend(6))
    train, dev = ({"sst": SimpleNamespace(lengths=range(n))} for n in (36, 12))
    run = SimpleNamespace(
        records=SimpleNamespace(flush=lambda: None), model=None, train_sequences=train,
        dev_splits=dev,
    )  # fmt: skip
    step = lambda _, number: spend(100 if number < 2 else 3)  # noqa: E731
    assert dry_run.seconds_per_step(run, step, range(8)) == 3
    assert dry_run.features_seconds(run) == 24


def test_the_held_out_rows_are_the_same_for_every_seed(world: Path) -> None:
    outcome = Outcome(world)
    with watched(outcome, pretrain_mlm, "mask_batch"):
        for seed in ("1", "2"):
            words = ("--name", seed, "--seed", seed, "--epochs", "1")
            pretrain_mlm.main(arguments(world, *words))
    calls = [args for args, _ in outcome.seen["mask_batch"]]
    last = pretrain_mlm.HELD_OUT_EPOCH
    assert len({tuple(batch.rows) for batch, _, _, epoch in calls if epoch == last}) == 1
