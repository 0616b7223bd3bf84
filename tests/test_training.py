"""train_multitask.py on a tiny encoder: exact resume, schedules, sampling, frozen baseline."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import pretrain_mlm
import train_multitask
from minbert import MultitaskModel, UserError
from minbert.data.sampler import ADAPTIVE, batch_rows, count_batches
from minbert.files import read_json_lines as read_log
from minbert.run import fine_tuning
from minbert.training import mixing
from minbert.training.mixing import Plan
from minbert.weights.pretrained import names_a_pooler
from tests.conftest import arguments, cut, killed_after, logged, run, weights
from tests.flags import Outcome, watched


@pytest.mark.parametrize("mode", ["parallel", "sequential", "shuffle", "adaptive"])
def test_stopped_and_resumed_is_bitwise_the_same(world: Path, mode: str) -> None:
    options = ["--batch-size", "adaptive"] if mode == "adaptive" else ["--mode", mode]
    run(world, *options, "--name", "whole")
    cut(world, 3, *options, "--name", "cut")
    args = ["--resume", str(world / "runs" / "cut"), "--output-dir", str(world / "runs")]
    train_multitask.main(args)
    for folder in ("last", "best"):
        one, other = weights(world / "runs/whole" / folder), weights(world / "runs/cut" / folder)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_sequential_run_prints_its_sub_epochs_and_what_each_stage_made_of_the_scores(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--tasks", "sts,sst", "--sub-epochs", "sst=1,sts=2", "--epochs", "1")
    run(world, "--mode", "sequential", *options, "--name", "run")
    lines = capsys.readouterr().out.splitlines()
    assert "sub-epochs: sts 2, sst 1" in lines
    steps = [line["task"] for line in logged(world / "runs/run", "step")]
    assert steps == sorted(steps, reverse=True) and {*steps} == {"sts", "sst"}
    stages = [line for line in lines if line.startswith("epoch 1 sst  ")]
    assert all(re.fullmatch(r"epoch 1 sst +-?\d\.\d{3} +\d\.\d{3}", line) for line in stages)
    assert len(stages) == 1


def test_memory_is_saved_from_a_checkpoint_on(world: Path) -> None:
    """Activations computed again are the same, dropout and all; parts draw their dropout anew."""
    run(world, "--name", "whole")
    for name, option in (("again", "--checkpoint-activations"), ("parts", "--accumulate=2")):
        cut(world, 9, "--name", name)
        train_multitask.main(["--resume", str(world / "runs" / name), option])
    one, again, parts = (weights(world / "runs" / n / "last") for n in ("whole", "again", "parts"))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not all(torch.equal(one[name], parts[name]) for name in one)


def test_frozen_leaves_the_encoder_alone(world: Path) -> None:
    """And does not run in its steps, whose rows it has read before them."""
    outcome = Outcome(world)
    with watched(outcome, fine_tuning, "collate"):
        run(world, "--fine-tune-mode", "last-linear-layer", "--name", "frozen")
    assert not outcome.calls["collate"]
    start = load_file(world / "model/model.safetensors")
    end = weights(world / "runs/frozen/last")
    assert all(torch.equal(start[name], end[name]) for name in start)


def test_predictions_cover_every_id(world: Path) -> None:
    run(world, "--name", "p")
    lines = (world / "runs/p/predictions/sts-test-output.csv").read_bytes().decode().split("\n")
    assert lines[0] == "id \t Predicted_Similiary "
    assert {line.split(" , ")[0] for line in lines[1:-1]} == {f"ttest-student{i}" for i in range(3)}


def test_single_keeps_a_checkpoint_a_task(world: Path) -> None:
    run(world, "--mode", "single", "--name", "alone")
    for task in ("sst", "sts"):
        saved = json.loads((world / "runs/alone" / task / "args.json").read_text())
        assert (
            saved["tasks"] == [task]
            and (world / "runs/alone" / task / "best/model.safetensors").is_file()
        )


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--batchsize", "4"], "did you mean --batch-size"),
        (["--mode", "paralel"], "invalid choice"),
        (["--tasks", "sst,foo"], "--tasks foo: unknown; there are sst, "),
        (["--lr", "5"], "write a number from 0 to 1"),
        (["--sub-epochs", "sst=2"], "goes with --mode sequential"),
        (["--mode", "sequential", "--patience", "2"], "not with --mode sequential"),
        (["--limit", "quora=5"], "not one of --tasks"),
        *(  # files first
            (["--data-dir", "nowhere", "--model", "/nowhere", *more], "no such file; fetch")
            for more in ([], ["--seeds", "2"], ["--mode", "single"], ["--dry-run"])
        ),
        (["--model", "/nowhere"], "not found"),
        (["--name", "a/b"], "--name a/b: a plain name; --output-dir says where runs are kept"),
        (["--name", ".."], r"--name \.\.: a plain name"),
        (["--dry-run", "--quiet"], "--dry-run --quiet prints nothing: add --json"),
        (["--accumulate", "9", "--batch-size", "8"], "--accumulate 9: at most --batch-size 8"),
    ],
)
def test_mistakes_are_one_line(world: Path, monkeypatch, extra: list[str], message: str) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=message) as error:
        run(world, *extra)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("batch_size", [8, ADAPTIVE])
def test_every_row_once_an_epoch_in_a_new_order(batch_size: int | str) -> None:
    rows = {"sst": 45, "quora": 333, "sts": 20}
    batches = count_batches(rows, batch_size)

    def epoch(task: str, number: int) -> list[int]:
        n, b = rows[task], batches[task]
        about = {"num_batches": b, "seed": 1, "task": task, "epoch": number}
        drawn = [batch_rows(n, batch_size, **about, batch=i) for i in range(b)]
        assert all(len(d) for d in drawn)
        return np.concatenate(drawn).tolist()

    for task, n in rows.items():
        assert sorted(epoch(task, 0)) == sorted(epoch(task, 1)) == list(range(n))
        assert epoch(task, 0) != epoch(task, 1) and epoch(task, 0) == epoch(task, 0)


def test_adaptive_sets_end_in_the_same_step() -> None:
    rows = {"sst": 8544, "quora": 141_505, "sts": 6040}
    batches = count_batches(rows, ADAPTIVE)
    assert len(set(batches.values())) == 1
    mean = sum(rows.values()) / sum(batches.values())
    assert mean == pytest.approx(32, rel=0.01)
    assert count_batches({"a": 5, "b": 9000}, ADAPTIVE) == {"a": 5, "b": 5}


def test_shuffle_draws_every_batch_once_an_epoch() -> None:
    plan = Plan("shuffle", {"sst": 7, "quora": 40, "sts": 3}, 2, {}, seed=3)
    assert plan.steps == 100

    def epoch(number: int) -> list[tuple[str, int]]:
        draws = [plan.draws(step)[0] for step in range(50 * number, 50 * number + 50)]
        assert {draw.epoch for draw in draws} == {number}
        return [(draw.task, draw.batch) for draw in draws]

    assert (
        sorted(epoch(0))
        == sorted(epoch(1))
        == sorted((task, i) for task, b in plan.batches.items() for i in range(b))
    )
    assert epoch(0) != epoch(1)
    other = Plan("shuffle", plan.batches, 2, {}, seed=4)
    assert [other.draws(s)[0] for s in range(50)] != [plan.draws(s)[0] for s in range(50)]


def test_parallel_and_sequential_see_the_same_batches() -> None:
    batches = {"sst": 267, "quora": 4423, "sts": 189}
    passes = mixing.resolve_sub_epochs(batches, {})
    assert passes == {"sst": 16, "quora": 1, "sts": 23}  # the paper's
    epoch = Plan("parallel", batches, epochs=1, sub_epochs={}).epoch_steps
    parallel = Counter(mixing.parallel_draw(batches, s).task for s in range(epoch))
    steps = mixing.sequential_steps(batches, passes)
    draws = [mixing.sequential_draw(batches, passes, s) for s in range(steps)]
    sequential = Counter(draw.task for draw in draws)
    for task, b in batches.items():
        assert 0 <= parallel[task] - sequential[task] < b  # up to the rounding of N_i
    assert [draw.task for draw in draws if draw.stage_end] == ["sst", "quora", "sts"]


def test_smaller_sets_cycle_with_new_passes() -> None:
    draws = [mixing.parallel_draw({"a": 5, "b": 2}, s) for s in range(20)]
    b = [(d.epoch, d.batch) for d in draws if d.task == "b"]
    assert b == [(i // 2, i % 2) for i in range(10)]


def test_patience_stops_after_evaluations_without_a_better_mean(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rate of 0 changes nothing: the first evaluation stays the best."""
    options = ["--lr", "0", "--eval-every", "2", "--patience", "3", "--skip-predictions"]
    run(world, "--name", "tired", *options, "--average", "0.3")
    assert "--average 0.3: stopped before those steps, so" in capsys.readouterr().out
    log = read_log(world / "runs" / "tired" / "log.jsonl")
    stages = [line["step"] for line in log if line["event"] == "dev"]
    assert stages == [0, 2, 4, 6, 8]
    assert log[-1]["event"] == "end" and log[-1]["step"] == 8 and log[-1]["best"]["step"] == 2
    run_again = ["--resume", str(world / "runs" / "tired")]
    assert train_multitask.main(run_again) == 0  # ended is ended
    assert read_log(world / "runs" / "tired" / "log.jsonl")[-1]["step"] == 8


def test_a_frozen_encoder_needs_a_pooler_of_its_own(world: Path) -> None:
    """A new one would stay as it was drawn, and heads would read that."""
    path = world / "model/model.safetensors"
    save_file({n: w for n, w in load_file(path).items() if "pooler" not in n}, path)
    words = ("--fine-tune-mode", "last-linear-layer", "--epochs", "1")
    with pytest.raises(UserError, match="no pooler, and last-linear-layer trains no new one"):
        run(world, *words, "--name", "cls")
    with pytest.raises(UserError, match="no pooler, and last-linear-layer"):
        run(world, *words, "--name", "several", "--seeds", "2")
    with pytest.raises(UserError, match="no pooler, and last-linear-layer"):
        run(world, *words, "--dry-run")
    mlm = [*arguments(world), "--name", "mlm", "--save-minutes", "0"]  # trains none either
    with killed_after(3, pretrain_mlm):
        pretrain_mlm.main(mlm)
    pretrain_mlm.main(["--resume", str(world / "runs/mlm")])
    assert not names_a_pooler(load_file(world / "runs/mlm/last/model.safetensors"))
    with pytest.raises(UserError, match="no pooler, and last-linear-layer"):
        run(world, *words, "--name", "after", "--model", str(world / "runs/mlm"))
    assert run(world, *words, "--name", "mean", "--pooling", "mean") == 0
    assert run(world, "--epochs", "1", "--name", "full") == 0


def test_no_text_has_more_tokens_than_the_model_has_positions(world: Path) -> None:
    """64, whatever --max-length says."""
    with (world / "data/ids-sst-train.csv").open("a") as file:
        file.write(f"99\tlong\t{'red ' * 100}\t0\n")
    options = ["--tasks", "sst", "--max-length", "512", "--epochs", "1", "--skip-predictions"]
    run(world, "--name", "run", *options)
    pretrain_mlm.main(arguments(world, "--name", "mlm", *options[:-1]))
    for script, name in ((train_multitask, "run"), (pretrain_mlm, "mlm")):
        again = ["--resume", str(world / "runs" / name), "--max-length", "512"]
        assert script.main(again) == 0, "it may be given as it was typed"
    model = MultitaskModel.load(world / "runs/run", device="cpu", max_length=512)
    assert model.max_length == 64 and model.predict("sst", ["red " * 100])


def test_a_dev_loss_of_no_item_is_not_there(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of words that are all cut off: it is not 0, nor makes it a score undefined."""
    nothing = np.zeros(0, dtype=np.int64)
    monkeypatch.setattr("minbert.task.evaluation.visible_items", lambda split: nothing)
    run(world, "--name", "run", "--tasks", "sst", "--epochs", "1", "--skip-predictions")
    before, after = logged(world / "runs/run", "dev")
    assert "loss" not in before["scores"]["sst"] and after["chosen_by"] == after["overall"] >= 0


def test_a_warm_up_that_is_longer_than_the_run_is_said(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--steps", "5", "--warmup", "20", "--skip-predictions"]
    for more in ([], ["--mode", "single", "--dry-run"]):
        run(world, *words, *more)
        said = "--warmup 20 is longer than the run, 5 steps: the rate ends at 25% of --lr\n"
        assert capsys.readouterr().out.count(said) == 1
