"""The README.md of a run: what it says is what the run's other files say."""

import hashlib
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

import pretrain_mlm
import train_multitask
from minbert.cli import parse_given
from minbert.files import read_json_lines as read_log
from minbert.report.card import command_line, exports
from minbert.run.mlm_args import Args as MlmArgs
from minbert.run.resolve_args import resolve_arguments
from minbert.run.several import arguments_of_task
from minbert.run.train_args import Args
from minbert.training import distributed
from tasks import TASKS
from tests.conftest import arguments, run


def test_the_card_of_a_run(world: Path) -> None:
    run(world, "--name", "one", "--limit", "sst=20")
    folder = world / "runs" / "one"
    text = (folder / "README.md").read_text()
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    best = log[-1]["best"]
    assert f"holds step {best['step']}," in text
    for title, name in (("SST", "sst"), ("STS", "sts")):
        value, low, high = re.search(
            rf"\| {title} \| \w+ \| (\S+) \| (\S+) to (\S+) \|", text
        ).groups()
        assert float(low) <= float(value) <= float(high)
        assert abs(float(value) - best["scores"][name]) < 6e-4
    train = world / "data" / "ids-sst-train.csv"
    digest = hashlib.sha256(train.read_bytes()).hexdigest()
    assert f"| ids-sst-train.csv | 20 | `{digest}` |" in text
    assert "torch 2." in text and f"starting from\n`{world / 'model'}`" in text


def test_a_name_is_no_html_and_no_shell_command(world: Path) -> None:
    name = "<b>x `id`;$HOME"
    run(world, "--name", name, "--epochs", "1", "--skip-predictions")
    text = (world / "runs" / name / "README.md").read_text()
    assert text.startswith("# &lt;b&gt;x `id`;$HOME\n")
    command = re.search(r"^    (python evaluate.py .*)$", text, re.M).group(1)
    assert shlex.split(command)[3] == str(world / "runs" / name)


def test_the_card_says_how_it_came_to_be(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(world, "--name", "pairs", "--tasks", "sts", "--pair-encoding", "siamese")
    text = (world / "runs/pairs/README.md").read_text()
    assert "--to sentence-transformers --task sts\n" in text and "--to transformers" not in text
    assert re.search(r"^\| pair_loss \| `.*cosine-mse.*` \|$", text, re.M) and "minbert 0." in text
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    args = resolve_arguments(parse_given(Args, arguments(world), ""), TASKS)
    assert command_line(args).startswith("torchrun --nproc-per-node 2 train_multitask.py ")
    monkeypatch.setattr(distributed, "world_size", lambda: 8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    start = "torchrun --nnodes 2 --nproc-per-node 4 train_multitask.py "
    assert command_line(args).startswith(start)
    assert exports(Path("run"), args)[0].endswith("--to transformers --task sst")
    towers = replace(args, towers="separate", pair_loss={"sts": "cosine-mse"})
    (alone,) = exports(Path("run"), towers)
    assert alone.endswith("--task sst")


def test_the_folder_of_several_runs_says_what_they_came_to(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(world, "--name", "all", "--seeds", "2", "--mode", "single", "--json")
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    folder = world / "runs/all"
    kept = json.loads((folder / "scores.json").read_text())
    assert kept["scores"] == line["scores"] and len(kept["scores"]) == 2
    mean = kept["over_seeds"]["sst"]["mean"]
    assert mean == pytest.approx(sum(scores["sst"] for scores in kept["scores"]) / 2)
    card = (folder / "README.md").read_text()
    for title, task, metric in (("SST", "sst", "accuracy"), ("STS", "sts", "pearson")):
        s = kept["over_seeds"][task]
        ends = f"{s['spread']:.4f} | {s['lowest']:.3f} to {s['highest']:.3f} |"
        assert f"| {title} | {metric} | {s['mean']:.3f} | {ends}" in card
    assert "the scores of 2 seeds one by" in card
    page = (folder / "report.html").read_text()
    assert all(f"seed-{seed}/{task}" in page for seed in (11711, 11712) for task in ("sst", "sts"))


def test_tasks_beside_a_file_of_others_are_said() -> None:
    """The file that the run keeps has all tasks that were known: it would train them all."""
    assert "--tasks" not in command_line(Args())
    line = command_line(Args(task_file="checkpoints/run/tasks.toml"))
    assert "--tasks sst,quora,sts --task-file checkpoints/run/tasks.toml" in line


def test_the_card_of_pre_training(world: Path) -> None:
    pretrain_mlm.main([*arguments(world, "--name", "mlm"), "--held-out", "2"])
    folder = world / "runs/mlm"
    text, log = (folder / "README.md").read_text(), read_log(folder / "log.jsonl")
    last = [line for line in log if line["event"] == "held-out"][-1]
    for name in ("loss", "accuracy"):
        shown = float(re.search(rf"\| {name} \| (\S+) \|", text).group(1))
        assert shown == pytest.approx(last[name], abs=6e-4)
    assert f"step {last['step']}" in text
    assert "ids-sst-train.csv" in text and "pretrain_mlm.py --model" in text
    assert "on 78 rows, beside 2 held out, starting from" in text


def test_the_command_makes_the_same_arguments(world: Path) -> None:
    options = ["--mode", "sequential", "--sub-epochs", "sst=2", "--pair-encoding", "siamese"]
    options += ["--warmup", "0.1", "--skip-predictions", "--limit", "sst=9,sts=8"]
    given = parse_given(Args, arguments(world, *options), "")
    args = resolve_arguments(given, TASKS)
    words = shlex.split(command_line(args))
    assert words[:2] == ["python", "train_multitask.py"]
    again = resolve_arguments(parse_given(Args, words[2:], ""), TASKS)
    different = {k for k, v in vars(args).items() if getattr(again, k) != v}
    assert different == {"output_dir"}


def test_without_predictions_there_are_no_intervals(world: Path) -> None:
    train_multitask.main(arguments(world, "--name", "two", "--skip-predictions"))
    folder = world / "runs" / "two"
    assert not (folder / "predictions").exists()
    assert re.search(r"\| SST \| accuracy \| \S+ \| - \|", (folder / "README.md").read_text())


def test_the_command_of_several_corpora_is_one_that_works() -> None:
    args = MlmArgs(corpus=("a b.txt", "c,d.txt"), name="m")
    words = shlex.split(command_line(args))
    given = parse_given(MlmArgs, words[2:], "")
    assert given["corpus"] == args.corpus


@pytest.mark.parametrize(
    "options",
    [
        ["--towers", "separate", "--pair-encoding", "siamese"],
        ["--embedding-size", "8", "--pair-encoding", "siamese"],
        ["--heads-first", "1", "--pair-encoding", "siamese"],
        ["--pool-layers", "1", "--pair-encoding", "siamese"],
        ["--hidden-dropout-prob", "0.1", "--pair-encoding", "siamese"],
        ["--limit", "sst=9,sts=8", "--limit-dev", "sst=9,sts=6"],
        ["--task-weight", "sst=2,sts=3", "--r-drop", "sst=1,sts=1"],
    ],
)
def test_the_card_of_one_task_s_run_has_a_command_that_works(
    world: Path, options: list[str]
) -> None:
    """Of arguments for all tasks it has those that its task has a use for."""
    single = ["--mode", "single", "--name", "all", "--epochs", "1", "--skip-predictions"]
    train_multitask.main(arguments(world, *single, *options))
    assert "the scores of 1 seed one by one" in (world / "runs/all/README.md").read_text()
    for task in ("sst", "sts"):
        text = (world / "runs/all" / task / "README.md").read_text()
        words = shlex.split(re.search(r"^    python train_multitask.py (.*)$", text, re.M).group(1))
        again = resolve_arguments(parse_given(Args, words, ""), TASKS)
        assert again.tasks == (task,)


def test_a_task_alone_keeps_the_scale_of_its_own_loss() -> None:
    words = "--mode single --tasks quora,sts --pair-encoding siamese --pair-loss quora=mnr"
    args = resolve_arguments(parse_given(Args, [*words.split(), "--mnr-scale", "7"], ""), TASKS)
    found = {t: arguments_of_task(args, t).get("mnr_scale", args.mnr_scale) for t in args.tasks}
    assert found == {"quora": 7, "sts": 0}
