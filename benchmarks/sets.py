"""The benchmarks by name: each is a function of Places that returns a Section."""

import statistics
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.busy import busy_core
from benchmarks.contest import Contestant, Outcome, run_contest
from benchmarks.contestants import FAST_LOOP, PLAIN_LOOP, Places, ours, run_beside_limits, theirs
from benchmarks.encoding import encode
from benchmarks.large import memory_large
from benchmarks.report import Section, Target, compare_rates, target_line
from benchmarks.scaling import scaling
from benchmarks.start_up import first_step_seconds, seconds_in_turn
from benchmarks.to_score import time_to_score
from minbert.training.device import has_amx

# Targets of a step by batch size: its speed as a multiple of (b)'s, and its share of the bf16 rate.
# Batches of 16 and steps beside a busy core have only a memory target; steps of a bert-base-sized
# encoder have a share and, but for those of 16k tokens, a memory target.
ASKED = {32: (2.5, 0.35), 64: (2.5, 0.35)}
WITH_AMX = {32: (2.2, 0.25), 64: (2.5, 0.33)}
LARGE_SHARE = 0.5


def asked_of(batch_size: int) -> tuple[float, float]:
    """Return what is asked of MiniLM's step on this machine: against (b), and as a share."""
    return (WITH_AMX if has_amx() else ASKED)[batch_size]


def share_line(outcomes: dict[str, Outcome], limits: dict[str, float], wanted: float) -> str:
    """Return the `target_line` of the share of their products' rate that our steps reach."""
    precision = outcomes["minbert"].precision  # bf16, but for a CPU without units for it
    share = outcomes["minbert"].rate("flops") / limits[precision]
    what = f"share of the {precision} matrix rate"
    return target_line(what, f"{wanted:.0%}", f"{share:.0%}", share >= wanted)


def train_step(
    places: Places, batch_size: int = 32, large: bool = False, busy: bool = False
) -> Section:
    """Compare steps of parallel fine-tuning on SST, Quora and STS.

    busy: while another program keeps one core busy.
    """
    model = places.large if large else places.model
    options = ("--model", model, "--batch-size", str(batch_size), "--limit", "quora=16000")
    same: dict[str, Any] = {"model": model, "batch_size": batch_size}
    contestants = [
        ours("minbert", places, *options),
        ours("minbert fp32", places, *options, "--precision", "fp32"),
        theirs(FAST_LOOP, "plain_loop", places, fast=True, **same),
        theirs(PLAIN_LOOP, "plain_loop", places, **same),
    ]
    if busy:
        contestants.insert(1, ours("minbert --threads 1", places, *options, "--threads", "1"))
    with busy_core() if busy else nullcontext():
        outcomes, limits = run_beside_limits(contestants, places.turns)
    memory = outcomes["minbert"].peak_mib / outcomes[FAST_LOOP].peak_mib
    lines = [target_line("peak memory against (b)", "1x at most", f"{memory:.2f}x", memory <= 1)]
    targets = []
    if not busy and batch_size != 16:
        factor, wanted = (0.0, LARGE_SHARE) if large else asked_of(batch_size)
        lines.insert(0, share_line(outcomes, limits, wanted))
        if not large:
            targets = [Target("minbert", PLAIN_LOOP, 6), Target("minbert", FAST_LOOP, factor)]
    size = "bert-base-sized" if large else places.name
    name = f"Training step, {size}, batch {batch_size}{', one core busy' if busy else ''}"
    return compare_rates(name, outcomes, "tokens", targets, tuple(lines), limits)


def many_tokens(places: Places) -> Section:
    """Measure steps of 16k real tokens with a bert-base-sized encoder, which keep a GPU busy."""
    options = ("--model", places.large, "--batch-size", "576", "--limit", "quora=16000")
    outcomes, limits = run_beside_limits([ours("minbert", places, *options)], places.turns)
    line = share_line(outcomes, limits, LARGE_SHARE)
    name = "Training step, bert-base-sized, 16k tokens"
    return compare_rates(name, outcomes, "tokens", [], (line,), limits)


def step_parts(places: Places) -> Section:
    """Measure what limits a step: its matrix products alone, and the time of its other parts."""
    tokens, steps = 896, 6  # batches of 32 of the three tasks have so many tokens on average
    options = ("--batch-size", "32", "--limit", "quora=16000")
    same = {"model": places.model, "steps": steps}

    def part(name: str, function: str, **more: Any) -> Contestant:
        return Contestant(name, f"benchmarks.ours:{function}", same | more, ours=True)

    whole, other = ours("the whole step", places, *options), "(b)'s whole step"
    alone = f"its products alone, {tokens} tokens"
    contestants = [
        whole,
        part(alone, "products_alone", tokens=tokens, precision=whole.precision),
        part("AdamW alone, 600 words", "optimizer", kind="ours", words=600),
        theirs(other, "plain_loop", places, fast=True),
        replace(whole, name="profiled", factory="benchmarks.ours:profiled"),
    ]
    outcomes = run_contest(contestants, places.turns)
    profile = outcomes.pop("profiled")
    ms = {name: 1e3 * statistics.median(o.seconds) / steps for name, o in outcomes.items()}
    rows = [(name, f"{t:.0f}", f"{t / ms[whole.name]:.0%}") for name, t in ms.items()]
    for kind in profile.works[0].parts:
        share = statistics.median(
            work.parts[kind] / seconds
            for work, seconds in zip(profile.works, profile.seconds, strict=True)
        )
        rows.append((f"under a profiler: {kind}", "", f"{share:.0%}"))
    factor, _ = asked_of(32)
    rate, left = outcomes[alone].rate("flops") / 1e12, ms[other] / factor - ms[alone]
    lines = (
        f"the products alone ran at {rate:.2f} TFLOP/s: a step of nothing else would be "
        f"{ms[other] / ms[alone]:.1f}x (b); {factor:g}x leaves {left:.0f} ms for all the "
        f"rest, which takes {ms[whole.name] - ms[alone]:.0f} ms",
    )
    title = f"Where a training step's time goes, {places.name}, batch 32"
    return Section(title, ("", "ms", "share"), tuple(rows), lines)


def trainers(
    places: Places, task: str, name: str, siamese: bool = False, large: bool = False,
    batch_size: int = 32,
) -> Section:  # fmt: skip
    """Compare training on one task with the trainer that people would use for it, called `name`."""
    model = places.large if large else places.model
    options = ["--mode", "single", "--tasks", task, "--model", model]
    options += ["--batch-size", str(batch_size)]
    args: dict[str, Any] = {"tasks": (task,), "limit": {}}
    if siamese:
        options += ["--pair-encoding", "siamese", "--pair-loss", "cosine-mse", "--pooling", "mean"]
        args["pair_encoding"] = {task: "siamese"}
    function = "trainer" if task == "sst" else "sentence_trainer"
    same = {"model": model, "args": args, "cross": not siamese, "batch_size": batch_size}
    contestants = [
        ours("minbert", places, *options),
        theirs(f"{name}, bf16", function, places, module="trainers", fast=True, **same),
        theirs(name, function, places, module="trainers", **same),
    ]
    outcomes, limits = run_beside_limits(contestants, places.turns)
    targets = [Target("minbert", f"{name}, bf16", 4)] if large else []
    what = f"{task}{' siamese' if siamese else ''}, {'bert-base-sized' if large else places.name}"
    title = f"Training, {what}, batch {batch_size}"
    return compare_rates(title, outcomes, "examples", targets, (), limits)


def mlm_step(places: Places) -> Section:
    """Compare steps of masked-language-model pre-training on the sentences of SST and STS."""
    texts = {"args": {"tasks": ("sst", "sts"), "limit": {}}}
    contestants = [
        ours("minbert", places, "--tasks", "sst,sts", script="pretrain_mlm"),
        theirs("run_mlm-style, bf16 autocast, fused AdamW", "mlm_loop", places, fast=True, **texts),
        theirs("run_mlm-style loop, fp32", "mlm_loop", places, **texts),
    ]
    targets = [Target("minbert", contestants[-1].name, 3)]
    outcomes, limits = run_beside_limits(contestants, places.turns)
    return compare_rates("MLM step", outcomes, "tokens", targets, (), limits)


def frozen(places: Places) -> Section:
    """Compare ten epochs of training heads on a frozen encoder."""
    rows = 200
    limit = dict.fromkeys(("sst", "quora", "sts"), rows)
    written = ",".join(f"{task}={rows}" for task in limit)
    arguments = ["--model", places.model, "--data-dir", places.data_dir, "--limit", written]
    arguments += ["--limit-dev", "sst=100,quora=100,sts=100", "--skip-predictions"]
    arguments += ["--fine-tune-mode", "last-linear-layer", "--output-dir", places.cache]
    other = "BertModel in every epoch, fp32"
    contestants = [
        Contestant("minbert", "benchmarks.ours:frozen", {"arguments": arguments}, ours=True),
        theirs(other, "frozen_loop", places, args={"limit": limit}, epochs=10),
    ]
    turns = min(places.turns, 3)  # one of the other contestant takes a minute
    outcomes = run_contest(contestants, turns)
    return compare_rates(
        "Frozen baseline, 10 epochs", outcomes, "examples", [Target("minbert", other, 8)]
    )


def optimizer_step(places: Places) -> Section:
    """Compare AdamW updates of all of MiniLM's parameters."""
    contestants = [
        Contestant(
            name,
            "benchmarks.ours:optimizer",
            {"model": places.model, "kind": kind, "steps": 5},
            ours=kind in ("ours", "torch"),
        )
        for name, kind in {
            "minbert": "ours",
            "minbert --kernels torch": "torch",
            "torch default": "default",
            "torch foreach": "foreach",
            "torch fused": "fused",
        }.items()
    ]
    targets = [Target("minbert", "torch fused", 0.77)]
    outcomes = run_contest(contestants, places.turns)
    return compare_rates("Optimizer step", outcomes, "examples", targets, unit="steps")


def start_up(places: Places) -> Section:
    """Measure imports, and the time to the first step of a run whose ids are cached."""
    load = f"import minbert; minbert.BertModel.from_pretrained({places.model!r})"
    torch_s, ours_s, load_s = seconds_in_turn(
        ("import torch", "import minbert", load), places.turns
    )
    arguments = ["--model", places.model, "--data-dir", places.data_dir]
    arguments += ["--limit-dev", "sst=32,quora=32,sts=32"]
    cache = Path(places.cache)
    first_step_seconds(arguments, cache)  # fills the cache of ids
    seconds = statistics.median(first_step_seconds(arguments, cache) for _ in range(places.turns))
    rows = (
        ("import torch", f"{torch_s:.2f} s"),
        ("import minbert", f"{ours_s:.2f} s"),
        ("import minbert, load weights", f"{load_s:.2f} s"),
        ("first step of train_multitask.py", f"{seconds:.2f} s"),
    )
    lines = (
        target_line("import", "1.5x at most", f"{ours_s / torch_s:.2f}x", ours_s <= 1.5 * torch_s),
        target_line("first step", "3 s at most", f"{seconds:.2f} s", seconds <= 3),
        "The first step comes after an evaluation of 3 x 32 rows; on all dev rows add their time. "
        "On a GPU it is the first that is logged, the 16th.",
    )
    return Section("Start-up", ("", "median"), rows, lines)


HF_TRAINER = "transformers Trainer"
CROSS_TRAINER = "sentence-transformers CrossEncoderTrainer"
SIAMESE_TRAINER = "sentence-transformers SentenceTransformerTrainer"
SETS: dict[str, Callable[[Places], Section]] = {
    "train_step": train_step,
    "train_step_16": partial(train_step, batch_size=16),
    "train_step_64": partial(train_step, batch_size=64),
    "train_step_large": partial(train_step, large=True),
    "memory_large": memory_large,
    "step_parts": step_parts,
    "time_to_score": time_to_score,
    "train_sst": partial(trainers, task="sst", name=HF_TRAINER),
    "train_sts": partial(trainers, task="sts", name=CROSS_TRAINER),
    "train_sts_siamese": partial(trainers, task="sts", name=SIAMESE_TRAINER, siamese=True),
    "train_sst_64": partial(trainers, task="sst", name=HF_TRAINER, batch_size=64),
    "train_sts_64": partial(trainers, task="sts", name=CROSS_TRAINER, batch_size=64),
    "mlm_step": mlm_step,
    "frozen": frozen,
    "encode": encode,
    "encode_one": partial(encode, one_by_one=True),
    "pairs": partial(encode, pairs=True),
    "pairs_one": partial(encode, pairs=True, one_by_one=True),
    "busy_encode_one": partial(encode, one_by_one=True, busy=True),
    "busy_train_step": partial(train_step, busy=True),
    "optimizer_step": optimizer_step,
    "start_up": start_up,
    "scaling": scaling,
}
# Benchmarks whose targets are for a GPU: on a CPU they take long and tell little.
GPU_SETS: dict[str, Callable[[Places], Section]] = {
    "gpu_trainer": partial(trainers, task="sst", name=HF_TRAINER, large=True),
    "gpu_16k": many_tokens,
}
