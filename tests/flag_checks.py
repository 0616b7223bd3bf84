"""The checks of every flag of the three scripts: python -m tests.flag_checks lists them."""

import torch

import evaluate
import minbert.inference
import minbert.model.encoder
import minbert.model.layers
import minbert.run.fine_tuning
import minbert.run.heads_first
import minbert.run.keeper
import minbert.run.pre_training
import minbert.run.scoring
import minbert.training.gradients
import pretrain_mlm
import train_multitask
from minbert import losses
from minbert.cli import run_script
from minbert.training.device import choose_precision, precision_name
from tests.evaluate_checks import EVALUATE
from tests.flags import (
    Row,
    confusion_rows,
    defaults,
    draws_otherwise,
    encoder_is_untouched,
    heads,
    last_json,
    near,
    refused,
    rows,
    uses_one_thread,
)

SCRIPTS = {"train_multitask": train_multitask, "pretrain_mlm": pretrain_mlm, "evaluate": evaluate}

# functions whose calls are counted while a script runs
IN_BOTH = [
    (torch, "set_num_threads"),
    (minbert.model.encoder, "checkpoint"),
    (minbert.run.keeper, "save_checkpoint"),
    (minbert.model.derived.kernels, "layer_norm"),
    (minbert.model.derived.kernels, "adamw"),
    (minbert.model.derived, "attend"),
]
WATCH = {
    "train_multitask": [
        *IN_BOTH,
        *((train_multitask, name) for name in ("batch_loss", "clip_scale", "r_drop_loss")),
        (minbert.run.fine_tuning, "parameter_groups"),
        (minbert.run.heads_first, "batch_rows"),
        (minbert.training.gradients.TaskGradients, "put"),
        *((losses, name) for name in ("mnr", "cosent")),
    ],
    "pretrain_mlm": [
        *IN_BOTH,
        *((pretrain_mlm, name) for name in ("mask_batch", "clip_scale")),
        (minbert.run.pre_training, "parameter_groups"),
    ],
    "evaluate": [
        (torch, "set_num_threads"),
        (minbert.model.encoder.BertModel, "for_inference"),
        (minbert.inference, "class_probabilities"),
        (minbert.run.scoring, "load_task"),
    ],
}

# the precision that `auto` does not choose on this machine
AUTO = precision_name(choose_precision("auto", torch.device("cpu")))
OTHER = "fp32" if AUTO == "bf16" else "bf16"

COMMON: dict[str, Row] = {
    "model": ("--model other", lambda run, base: run.differs(base)),
    "data_dir": ("--data-dir fewer", lambda run, base: len(run.steps) < len(base.steps)),
    "output_dir": ("--output-dir runs", lambda run, base: run.folder.parent.name == "runs"),
    "name": ("--name mine", lambda run, base: run.folder.name == "mine"),
    "resume": ("--resume nothing", refused("nothing")),
    "task_file": ("--task-file own.toml", refused("own.toml")),
    "checkpoint_activations": (
        "--checkpoint-activations",
        lambda run, base: run.calls["checkpoint"] > 0 == base.calls["checkpoint"],
    ),
    "weight_decay": (
        "--weight-decay 0.5",
        lambda run, base: run.seen["parameter_groups"][0][0][1] == 0.5 and run.differs(base),
    ),
    "warmup": (
        "--warmup 4",
        lambda run, base: near(run.rates[:5], [2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3]),
    ),
    "schedule": (
        "--schedule linear",
        lambda run, base: near(run.rates, [1e-3 * (1 - i / 20) for i in range(20)]),
    ),
    "clip": (
        "--clip 1e-3",
        lambda run, base: run.seen["clip_scale"][0][0][1] == 1e-3 and run.differs(base),
    ),
    "precision": (f"--precision {OTHER}", lambda run, base: f", {OTHER} on cpu" in run.out),
    "kernels": (
        "--kernels torch",
        lambda run, base: all(run.calls[f] > 0 == base.calls[f] for f in ("layer_norm", "adamw")),
    ),
    "written_out": (
        "--written-out",
        lambda run, base: run.calls["attend"] < base.calls["attend"] / 2,  # predictions apart
    ),
    "device": ("--device cuda:99", refused("cuda:99")),
    "threads": ("--threads 1", uses_one_thread),
    "seed": ("--seed 5", draws_otherwise),
    "save_minutes": (
        "--save-minutes 0",
        lambda run, base: run.calls["save_checkpoint"] > 20 > base.calls["save_checkpoint"],
    ),
    "dry_run": (
        "--dry-run",
        lambda run, base: (
            "steps: 20," in run.out and not list(run.place.glob("checkpoints/*/last"))
        ),
    ),
    "tensorboard": (
        "--tensorboard",
        lambda run, base: len(list(run.folder.glob("tensorboard/events*"))) == 1,
    ),
    "quiet": ("--quiet", lambda run, base: run.out == "" and len(run.steps) == 20),
    "json": ("--json", lambda run, base: last_json(run)["run"].endswith(run.folder.name)),
    "epochs": ("--epochs 1", lambda run, base: len(run.steps) == 10 and len(base.steps) == 20),
    "lr": ("--lr 2e-3", lambda run, base: run.rates == [2e-3] * 20),
    "config": ("--config mine.toml", lambda run, base: near(run.rates[:3], [2.5e-4, 5e-4, 7.5e-4])),
}

RECIPE: dict[str, Row] = {
    "steps": ("--steps 7", lambda run, base: len(run.steps) == 7),
    "anneal_from": ("--mode annealed --anneal-from 4", lambda run, base: len(run.steps) == 14),
    "anneal_to": ("--mode annealed --anneal-to 1", lambda run, base: len(run.steps) == 16),
    "sampling_power": (
        "--mode annealed --sampling-power 0",
        lambda run, base: len(run.steps) == 20,
    ),
    "combine": (
        "--mode joint --combine pcgrad",
        lambda run, base: run.seen["put"][0][0][1] == "pcgrad",
    ),
    "task_weight": (
        "--task-weight sst=0,sts=0",
        lambda run, base: encoder_is_untouched(run) and all(s["loss"] for s in run.steps),
    ),
    "teacher": ("--teacher sst=nobody", refused("nobody")),
    "average": ("--average 0.5", lambda run, base: len(run.events("mean-dev")) == 1),
    "heads_first": (  # two passes over five batches and over three
        "--heads-first 2",
        lambda run, base: run.calls["batch_rows"] == 16,
    ),
    "r_drop": (
        "--r-drop sst=1",
        lambda run, base: run.calls["r_drop_loss"] == 10 and run.differs(base),
    ),
    "layer_decay": (
        "--layer-decay 0.5",
        lambda run, base: run.seen["parameter_groups"][0][0][2] == 0.5 and run.differs(base),
    ),
    "reinit_layers": ("--reinit-layers 1", lambda run, base: run.differs(base)),
    "pool_layers": (
        "--pool-layers 1,2",
        lambda run, base: heads(run)["sst"]["layers"] == [1, 2] and run.differs(base),
    ),
    "best_by": (
        "--best-by sts=1",
        lambda run, base: near(
            [run.events("end")[0]["best"]["chosen_by"]],
            [max(line["scores"]["sts"]["pearson"] for line in run.events("dev")[1:])],
        ),
    ),
    "save_task_best": (
        "--save-task-best",
        lambda run, base: (
            {path.name for path in run.folder.glob("best*")} == {"best", "best-sst", "best-sts"}
        ),
    ),
    "correct_bias": ("--no-correct-bias", lambda run, base: run.differs(base)),
}

TRAIN: dict[str, Row] = (
    COMMON
    | RECIPE
    | {
        "tasks": ("--tasks sst", lambda run, base: {s["task"] for s in run.steps} == {"sst"}),
        "accumulate": (
            "--accumulate 2",
            lambda run, base: run.calls["batch_loss"] == 2 * base.calls["batch_loss"] == 40,
        ),
        "mode": ("--mode sequential", lambda run, base: run.steps[1]["task"] == "sst"),
        "fine_tune_mode": (
            "--fine-tune-mode last-linear-layer",
            lambda run, base: base.differs(run) and encoder_is_untouched(run),
        ),
        "option": ("--option pretrain", lambda run, base: encoder_is_untouched(run)),
        "limit_dev": ("--limit-dev sst=5", lambda run, base: confusion_rows(run) == 5),
        "pair_encoding": (
            "--pair-encoding siamese",
            lambda run, base: heads(run)["sts"]["siamese"] and not heads(base)["sts"]["siamese"],
        ),
        "pair_loss": (
            "--pair-encoding siamese --pair-loss cosent",
            lambda run, base: run.calls["cosent"] == 10,
        ),
        "pooling": (
            "--pooling mean,sst=max",
            lambda run, base: (
                {n: h["pooling"] for n, h in heads(run).items()} == {"sst": "max", "sts": "mean"}
            ),
        ),
        "embedding_size": (
            "--pair-encoding siamese --embedding-size 24",
            lambda run, base: run.weights["sts.map.weight"].shape == (24, 32),
        ),
        "towers": (
            "--pair-encoding siamese --towers separate",
            lambda run, base: (run.folder / "last/second.safetensors").is_file(),
        ),
        "mnr_scale": (
            "--tasks quora --pair-encoding siamese --pair-loss mnr --mnr-scale 7",
            lambda run, base: all(args[2] == 7 for args, _ in run.seen["mnr"]),
        ),
        "batch_size": (
            "--batch-size 4",
            lambda run, base: len(run.steps) == 40 and run.differs(base),
        ),
        "limit": ("--limit sst=8", lambda run, base: len(run.steps) < len(base.steps)),
        "sub_epochs": (
            "--mode sequential --epochs 1 --sub-epochs sst=2,sts=1",
            lambda run, base: [s["task"] for s in run.steps] == ["sst"] * 10 + ["sts"] * 3,
        ),
        "max_length": (
            "--max-length 5",
            lambda run, base: all(s["tokens"] <= 8 * 5 for s in run.steps),
        ),
        "hidden_dropout_prob": ("--hidden-dropout-prob 0", lambda run, base: run.differs(base)),
        "use_gpu": ("--use-gpu", refused("--use-gpu and --device cpu contradict")),
        "eval_every": (
            "--eval-every 3",
            lambda run, base: {3, 6, 9} <= {line["step"] for line in run.events("dev")},
        ),
        "patience": (
            "--epochs 9 --lr 0 --patience 2",
            lambda run, base: len(run.steps) == 30,  # the first epoch is the best, two do not gain
        ),
        "skip_predictions": (
            "--skip-predictions",
            lambda run, base: (
                not (run.folder / "predictions").exists() and (base.folder / "predictions").is_dir()
            ),
        ),
        "seeds": ("--seeds 2", lambda run, base: "over 2 seeds" in run.out),
    }
)

MLM: dict[str, Row] = COMMON | {
    "tasks": ("--tasks sst", lambda run, base: 0 < rows(run) < rows(base)),
    "corpus": ("--corpus corpus.txt", lambda run, base: rows(run) == 38),
    "limit": ("--limit sst=20", lambda run, base: rows(run) == 57 < rows(base)),
    "accumulate": (
        "--accumulate 2",
        lambda run, base: run.calls["mask_batch"] - base.calls["mask_batch"] == 20,
    ),
    "batch_size": ("--batch-size 4", lambda run, base: len(run.steps) == 38),
    "max_length": ("--max-length 5", lambda run, base: rows(run) > 1.5 * rows(base)),
    "mask_rate": (
        "--mask-rate 0.9",
        lambda run, base: (
            run.events("held-out")[0]["tokens"] > 2 * base.events("held-out")[0]["tokens"]
        ),
    ),
    "whole_word": (
        "--whole-word",
        lambda run, base: run.seen["mask_batch"][0][0][1].whole_word,
    ),
    "keep": (
        "--keep best",
        lambda run, base: (run.folder / "best").is_dir() and not (base.folder / "best").exists(),
    ),
    "held_out": ("--held-out 2", lambda run, base: rows(run) == rows(base) + 2),
}

CHECKS = {"train_multitask": TRAIN, "pretrain_mlm": MLM, "evaluate": EVALUATE}


def main(argv: list[str]) -> int:
    """List every flag with its default and its test."""
    for script, checks in CHECKS.items():
        known = defaults(SCRIPTS[script].Args)
        for name in checks:
            flag = "--" + name.replace("_", "-")
            test = f"tests/test_flags.py::test_a_flag_counts[{script}-{name}]"
            print(f"{script:16} {flag:24} {known.get(name, '')!s:22.22} {test}")
    return 0


if __name__ == "__main__":
    run_script(main)
