"""What recipes are made of: each ingredient does what its paper says, in a run and by itself."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import train_multitask
from experiments.estimate import resolved
from minbert import BertModel, UserError
from minbert.model.parameter_groups import parameter_groups
from minbert.tensors import load_tensors
from minbert.training.averaging import add_to_average, averaged, averaged_steps, put_back
from tests.conftest import TINY, cut, logged, run, weights
from tests.processes import assert_same_run
from tests.test_teachers import teach

WEIGHTED = ("--task-weight", "sst=2")


def test_a_joint_step_has_a_batch_of_every_task(world: Path, no_dropout: None) -> None:
    """Its gradient is the sum of the tasks' own."""
    common = ["--hidden-dropout-prob", "0", "--steps", "1", "--clip", "0", "--no-correct-bias"]
    run(world, "--name", "run", "--mode", "joint", *common)
    lines = logged(world / "runs/run", "step")
    assert [line["task"] for line in lines] == ["sst", "sts"] and {x["step"] for x in lines} == {1}
    assert list(lines[0]["cosines"]) == ["sst sts"] and "cosines" not in lines[1]
    page = (world / "runs/run/report.html").read_text()
    assert "sst sts: cosine of gradients" in page
    share = "100%" if lines[0]["cosines"]["sst sts"] < 0 else "0%"
    assert f'<th scope="row">run</th><td>{share}</td>' in page
    # the first moments of the first step are its gradients, times 1 - b1
    moments = load_tensors(world / "runs/run/last/optimizer.safetensors")
    key = "exp_avg/encoder.bert_layers.0.self_attention.query.weight"
    alone = []
    for other in ("sst", "sts"):
        options = ["--name", f"without-{other}", "--task-weight", f"{other}=0"]
        run(world, "--mode", "joint", *common, *options)
        path = world / f"runs/without-{other}/last/optimizer.safetensors"
        alone.append(load_tensors(path)[key])
    torch.testing.assert_close(moments[key], sum(alone), rtol=1e-4, atol=1e-8)


def test_the_mean_of_the_weights_is_that_of_the_last_steps(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, step = [], train_multitask.train_step

    def train_step(run, number):
        step(run, number)
        seen.append({n: p.detach().clone() for n, p in run.model.named_parameters()})
        if number == run.steps - 1:
            kept = {n: p.detach().clone() for n, p in run.model.named_parameters()}
            with averaged(run.optimizer):
                for name, p in run.model.named_parameters():
                    expected = torch.stack([w[name] for w in seen[-8:]]).mean(0)
                    torch.testing.assert_close(p.detach(), expected, rtol=1e-5, atol=1e-6)
            assert all(torch.equal(p, kept[n]) for n, p in run.model.named_parameters())

    monkeypatch.setattr(train_multitask, "train_step", train_step)
    run(world, "--name", "run", "--average", "0.4", "--lr", "1e-3")
    assert len(seen) == 20 and averaged_steps(20, 20, 0.4) == 8 and averaged_steps(12, 20, 0.4) == 0
    assert averaged_steps(40, 40, 0.01) == 1
    assert [line["step"] for line in logged(world / "runs/run", "mean-dev")] == [20]


def test_the_mean_of_many_steps_loses_no_small_change() -> None:
    p = nn.Parameter(torch.empty(100))
    optimizer = torch.optim.SGD([p], lr=1.0)
    weights = 1 + torch.linspace(0, 1e-3, 5000)[:, None] * torch.linspace(0.5, 1, 100)
    for count, now in enumerate(weights, 1):
        p.data.copy_(now)
        add_to_average(optimizer, count)
    with averaged(optimizer):
        expected = weights.double().mean(0).float()
        torch.testing.assert_close(p.detach(), expected, rtol=0, atol=1e-7)
    p.data.fill_(2.0)
    put_back(optimizer)  # as Ctrl-C does, later: there is nothing to put back
    assert (p == 2).all()


def test_ctrl_c_while_the_mean_is_put_in_leaves_the_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    p = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([p], lr=1.0)
    optimizer.state[p]["mean"] = torch.zeros(2)
    copy = torch._foreach_copy_

    def interrupted(*tensors: list[torch.Tensor]) -> None:
        copy(*tensors)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "_foreach_copy_", interrupted)
    with pytest.raises(KeyboardInterrupt), averaged(optimizer):
        pass
    assert p.tolist() == [1.0, 1.0]


def test_best_is_the_better_one_of_the_weights_and_their_mean(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    means = iter([0.0, 0.6, 0.5])
    monkeypatch.setattr(train_multitask, "weighted_mean", lambda *_: next(means))
    run(world, "--name", "run", "--epochs", "1", "--average", "0.5", "--lr", "1e-3")
    state = json.loads((world / "runs/run/last/state.json").read_text())
    assert state["best"]["is_mean"] and state["best"]["chosen_by"] == 0.6
    page = (world / "runs/run/report.html").read_text()
    assert "mean of the last steps" in page
    assert '<th scope="row">epoch 1, mean of the weights</th>' in page
    assert "best/ holds the mean of the weights up to step 10\n" in capsys.readouterr().out
    card = (world / "runs/run/README.md").read_text()
    assert "`best/` holds the mean of the weights up to step 10" in card
    best, last = (weights(world / "runs/run" / name) for name in ("best", "last"))
    assert any(not torch.equal(best[name], last[name]) for name in best)


def test_last_has_the_threshold_of_its_own_weights(world: Path) -> None:
    """And not that of the mean, for which it is set, too."""
    pairs = ["--tasks", "quora", "--pair-encoding", "siamese", "--pooling", "mean"]
    run(world, "--name", "run", *pairs, "--average", "0.9", "--lr", "1e-2")
    lines = [logged(world / "runs/run", event)[-1] for event in ("dev", "mean-dev")]
    own, of_mean = (line["scores"]["quora"]["threshold"] for line in lines)
    saved = float(weights(world / "runs/run/last")["quora.threshold"])
    assert saved == pytest.approx(own) and saved != pytest.approx(of_mean)


def test_the_paper_s_recipe_is_the_defaults() -> None:
    recipe = Path(__file__).parents[1] / "recipes/paper.toml"
    known, given = (
        resolved("train_multitask", ["--data-dir", "data", *words])[0]
        for words in ([], ["--config", str(recipe)])
    )
    assert given == known


def test_the_card_has_the_command_of_the_recipe(world: Path) -> None:
    words = "--no-correct-bias --pool-layers 1,2 --r-drop sst=0.5 --mode annealed"
    run(world, "--name", "run", "--epochs", "1", *words.split())
    card = (world / "runs/run/README.md").read_text()
    (line,) = [x for x in card.splitlines() if x.startswith("    python train_multitask.py")]
    for part in ("--no-correct-bias", "--pool-layers 1,2", "--r-drop sst=0.5", "--mode annealed"):
        assert part in line
    assert "minbert.export" not in card  # whose formats have no such heads


def test_r_drop_counts_by_its_weight(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the first step, whose weights and dropouts are those of every run."""
    seen: list[float] = []
    original = train_multitask.r_drop_loss

    def watched(*words) -> torch.Tensor:
        found = original(*words)
        seen.append(found.item())
        return found

    monkeypatch.setattr(train_multitask, "r_drop_loss", watched)
    losses = []
    for weight in (1, 1001):  # random outputs are all alike, and so they hardly disagree
        run(world, "--name", f"by-{weight}", "--tasks", "sst", "--r-drop", f"sst={weight}")
        losses.append(logged(world / f"runs/by-{weight}", "step")[0]["loss"])
    assert seen[0] > 0
    assert losses[1] - losses[0] == pytest.approx(1000 * seen[0], rel=1e-3)
    seen.clear()  # by nothing: without the time of a second reading
    run(world, "--name", "by-0", "--tasks", "sst", "--steps", "1", "--r-drop", "sst=0")
    assert not seen


def test_every_parameter_is_claimed_once(tiny: BertModel) -> None:
    groups = parameter_groups(tiny, 0.1)
    claimed = [id(p) for group in groups for p in group["params"]]
    assert sorted(claimed) == sorted(id(p) for p in tiny.parameters())
    plain = {
        id(p) for name, p in tiny.named_parameters() if "norm" in name or name.endswith("bias")
    }
    assert plain == {id(p) for p in groups[1]["params"]} and groups[1]["weight_decay"] == 0


def test_rates_fall_with_the_depth() -> None:
    model = nn.Sequential(BertModel(TINY))
    model.heads = nn.ModuleDict({"embedding_quality": nn.Linear(2, 2)})  # a task's own name
    groups = parameter_groups(model, 0.1, 0.5)
    rates = {id(p): group["rate"] for group in groups for p in group["params"]}
    found = {name: rates[id(p)] for name, p in model.named_parameters()}
    assert found["0.pooler_dense.weight"] == found["0.bert_layers.1.out_dense.weight"] == 1
    assert found["heads.embedding_quality.weight"] == 1
    assert found["0.bert_layers.0.out_dense.bias"] == 0.5
    assert found["0.word_embedding.weight"] == found["0.embed_layer_norm.bias"] == 0.25
    assert len(groups) == 6


def test_top_layers_start_anew(world: Path) -> None:
    run(world, "--name", "run", "--reinit-layers", "1", "--epochs", "1", "--lr", "0")
    before = BertModel.from_pretrained(world / "model").state_dict()
    after = BertModel.from_pretrained(world / "runs/run/last").state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    matrices = {n for n in before if n.startswith(("bert_layers.1", "pooler")) and "weight" in n}
    assert changed == {name for name in matrices if "norm" not in name}
    with pytest.raises(UserError, match="--reinit-layers 3: this model has 2 layers"):
        run(world, "--reinit-layers", "3")


@pytest.mark.parametrize(
    "extra",
    [
        ["--mode", "annealed", "--pooling", "mean", "--heads-first", "1", "--r-drop", "sst=1"],
        ["--mode", "annealed", "--average", "0.9", "--schedule", "linear", "--warmup", "0.1"],
        ["--mode", "joint", "--combine", "pcgrad", "--heads-first", "2", "--r-drop", "sst=1"],
        ["--layer-decay", "0.5", "--reinit-layers", "1", "--no-correct-bias", "--average", "0.5"],
        ["--mode", "annealed", "--sampling-power", "0.5", "--pool-layers", "1,2", *WEIGHTED],
    ],
)
def test_a_stopped_recipe_goes_on_to_the_same_bits(world: Path, extra: list[str]) -> None:
    options = [*extra, *teach(world), "--steps", "12"]
    run(world, "--name", "whole", *options)
    cut(world, 7, "--name", "cut", *options)
    train_multitask.main(["--resume", str(world / "runs/cut")])
    assert_same_run(world, "whole", "cut")


def test_what_does_not_go_together_is_refused(world: Path) -> None:
    for words, message in (
        ("--sampling-power 0.5", "--sampling-power goes with --mode annealed"),
        (
            "--option pretrain --tasks sst --r-drop sst=1 --hidden-dropout-prob 0",
            "--r-drop compares two dropouts",
        ),
        ("--anneal-from 2", "--anneal-from goes with --mode annealed"),
        ("--mode annealed --anneal-from 2 --sampling-power 1", "holds what --anneal-from changes"),
        ("--anneal-to 0.5", "--anneal-to goes with --mode annealed"),
        ("--mode annealed --anneal-to 0.5 --sampling-power 1", "holds what --anneal-to changes"),
        ("--mode annealed --batch-size adaptive", "--batch-size adaptive makes equal"),
        ("--mode single --batch-size adaptive", "or one task, a run has one set"),
        ("--batch-size adaptive --tasks sst", "or one task, a run has one set"),
        ("--combine pcgrad", "--combine pcgrad goes with --mode joint"),
        ("--mode joint --combine pcgrad --tasks sst", "pcgrad: there is one task alone"),
        ("--mode joint --combine pcgrad --option pretrain", "pcgrad is of the encoder's training"),
        ("--reinit-layers 1 --option pretrain", "--reinit-layers is of the encoder's training"),
        ("--layer-decay 0.9 --option pretrain", "--layer-decay is of the encoder's training"),
        ("--checkpoint-activations --option pretrain", "activations is of the encoder's training"),
        ("--tasks sts --pool-layers 1 --pair-encoding siamese", "--pool-layers leaves siamese"),
        ("--mode sequential --steps 5", "--steps would end before the later tasks"),
        ("--tasks sts --heads-first 1 --pair-encoding siamese", "all tasks are siamese"),
        ("--heads-first 1 --option pretrain", "last-linear-layer trains the heads alone anyway"),
        ("--tasks sts --embedding-size 8", "--embedding-size 8 goes with --pair-encoding siamese"),
        ("--tasks sst --mnr-scale 5", "--mnr-scale 5.0 goes with --pair-encoding siamese"),
        (
            "--tasks quora --pair-encoding siamese --mnr-scale 5",
            "goes with --pair-loss mnr or mnr-",
        ),
        ("--pooling quora=mean", "--pooling quora: not one of --tasks sst,sts"),
        (
            "--tasks sts --pair-encoding siamese --hidden-dropout-prob 0.1",
            "--hidden-dropout-prob leaves siamese heads as they are",
        ),
        ("--pooling sst=middle", "'middle': write one of cls, mean, max"),
        ("--task-weight mine=2", "--task-weight mine: not one of --tasks"),
        ("--r-drop sts=1 --pair-encoding siamese", "--r-drop sts: not of a siamese task"),
        ("--best-by quora", "--best-by quora: not one of --tasks"),
        ("--best-by sst=0", "--best-by: give at least one task a weight above 0"),
        ("--best-by sst --mode single", "--best-by weighs the tasks of one run"),
        ("--best-by sst=much", "'sst=much': write numbers from 0 by task"),
        ("--task-weight sst=-1", "'sst=-1': write numbers from 0 by task"),
        ("--seed 4294967294 --seeds 3", "--seeds 3: ends with seed 4294967296, the largest is"),
    ):
        with pytest.raises(UserError, match=message):
            run(world, *words.split())


def test_both_readings_are_learned_from(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is the mean of theirs, and their disagreement by its weight."""
    seen: dict[str, list[float]] = {"soft_loss": [], "r_drop_loss": []}

    def watch(name: str) -> None:
        original = getattr(train_multitask, name)

        def watched(*words) -> torch.Tensor:
            found = original(*words)
            seen[name].append(found.item())
            return found

        monkeypatch.setattr(train_multitask, name, watched)

    for name in seen:
        watch(name)
    run(world, "--name", "run", "--tasks", "sst", "--r-drop", "sst=2", "--steps", "1")
    (one, other), (apart,) = seen.values()
    (line,) = logged(world / "runs/run", "step")
    assert one != other and line["loss"] == pytest.approx((one + other) / 2 + 2 * apart, rel=1e-5)


def test_frozen_parameters_are_in_no_group() -> None:
    model = BertModel(TINY)
    model.word_embedding.requires_grad_(False)
    grouped = [p for group in parameter_groups(model, 0.1) for p in group["params"]]
    assert len(grouped) == len(list(model.parameters())) - 1
