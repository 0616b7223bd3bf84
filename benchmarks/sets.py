"""Who meets whom: each benchmark is a function of Places that returns a Section."""

import random
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contest import Contestant, Outcome, hold
from benchmarks.contestants import A, B, Places, hold_beside_limits, ours, theirs
from benchmarks.large import memory_large
from benchmarks.report import Section, Target, asked, compared
from benchmarks.scaling import scaling
from benchmarks.start_up import first_step_seconds, seconds_in_turn
from benchmarks.to_score import time_to_score
from minbert.data.examples import read_examples
from tasks import TASKS


def train_step(places: Places, batch_size: int = 32, large: bool = False) -> Section:
    """Parallel fine-tuning on SST, Quora and STS."""
    model = places.large if large else places.model
    options = ("--model", model, "--batch-size", str(batch_size), "--limit", "quora=16000")
    same: dict[str, Any] = {"model": model, "batch_size": batch_size}
    contestants = [
        ours("minbert", places, *options),
        ours("minbert fp32", places, *options, "--precision", "fp32"),
        theirs(B, "plain_loop", places, fast=True, **same),
        theirs(A, "plain_loop", places, **same),
    ]
    outcomes, limits = hold_beside_limits(contestants, places.turns)
    share = outcomes["minbert"].rate("flops") / limits["bf16"]
    wanted = 0.50 if large else 0.35
    memory = outcomes["minbert"].peak_mib / outcomes[B].peak_mib
    lines = (
        asked("share of the bf16 matrix rate", f"{wanted:.0%}", f"{share:.0%}", share >= wanted),
        asked("peak memory against (b)", "1x at most", f"{memory:.2f}x", memory <= 1),
    )
    targets = [] if large else [Target("minbert", A, 6), Target("minbert", B, 2.5)]
    name = f"Training step, {'bert-base-sized' if large else 'MiniLM'}, batch {batch_size}"
    return compared(name, outcomes, "tokens", targets, lines, limits)


def many_tokens(places: Places) -> Section:
    """16k real tokens a step of a bert-base-sized encoder: what a GPU is for."""
    options = ("--model", places.large, "--batch-size", "576", "--limit", "quora=16000")
    outcomes, limits = hold_beside_limits([ours("minbert", places, *options)], places.turns)
    share = outcomes["minbert"].rate("flops") / limits["bf16"]
    line = asked("share of the bf16 matrix rate", "50%", f"{share:.0%}", share >= 0.5)
    name = "Training step, bert-base-sized, 16k tokens"
    return compared(name, outcomes, "tokens", [], (line,), limits)


def step_parts(places: Places) -> Section:
    """Why a step is not faster: its products by themselves, and where the rest of its time goes."""
    tokens, steps = 896, 6  # what batches of 32 of the three tasks have on average
    options = ("--batch-size", "32", "--limit", "quora=16000")
    same = {"model": places.model, "steps": steps}

    def part(name: str, function: str, **more: Any) -> Contestant:
        return Contestant(name, f"benchmarks.ours:{function}", same | more, ours=True)

    whole, other = ours("the whole step", places, *options), "(b)'s whole step"
    alone = f"its products alone, {tokens} tokens"
    contestants = [
        whole,
        part(alone, "products_alone", tokens=tokens),
        part("AdamW alone", "optimizer", kind="ours", words=600),
        theirs(other, "plain_loop", places, fast=True),
        replace(whole, name="profiled", factory="benchmarks.ours:profiled"),
    ]
    outcomes = hold(contestants, places.turns)
    profile = outcomes.pop("profiled")
    ms = {name: 1e3 * statistics.median(o.seconds) / steps for name, o in outcomes.items()}
    rows = [(name, f"{t:.0f}", f"{t / ms[whole.name]:.0%}") for name, t in ms.items()]
    for kind in profile.works[0].parts:
        share = statistics.median(
            work.parts[kind] / seconds
            for work, seconds in zip(profile.works, profile.seconds, strict=True)
        )
        rows.append((f"under a profiler: {kind}", "", f"{share:.0%}"))
    rate, left = outcomes[alone].rate("flops") / 1e12, ms[other] / 2.5 - ms[alone]
    lines = (
        f"the products alone ran at {rate:.2f} TFLOP/s: a step of nothing else would be "
        f"{ms[other] / ms[alone]:.1f}x (b); 2.5x leaves {left:.0f} ms for all the rest, which "
        f"takes {ms[whole.name] - ms[alone]:.0f} ms",
    )
    return Section(
        "Where a training step's time goes, MiniLM, batch 32", ("", "ms", "share"), tuple(rows),
        lines,
    )  # fmt: skip


def trainers(
    places: Places, task: str, name: str, siamese: bool = False, large: bool = False
) -> Section:
    """One task, against the trainer that people would use for it, called `name`."""
    model = places.large if large else places.model
    options = ["--mode", "single", "--tasks", task, "--model", model]
    where: dict[str, Any] = {"tasks": (task,), "limit": {}}
    if siamese:
        options += ["--pair-encoding", "siamese", "--pair-loss", "cosine-mse", "--pooling", "mean"]
        where["pair_encoding"] = {task: "siamese"}
    function = "trainer" if task == "sst" else "sentence_trainer"
    same = {"model": model, "where": where, "cross": not siamese}
    contestants = [
        ours("minbert", places, *options),
        theirs(f"{name}, bf16", function, places, fast=True, **same),
        theirs(name, function, places, **same),
    ]
    outcomes, limits = hold_beside_limits(contestants, places.turns)
    targets = [Target("minbert", f"{name}, bf16", 4)] if large else []
    what = f"{task}{' siamese' if siamese else ''}, {'bert-base-sized' if large else 'MiniLM'}"
    return compared(f"Training, {what}, batch 32", outcomes, "examples", targets, (), limits)


def mlm_step(places: Places) -> Section:
    """Masked-language-model pre-training on the sentences of SST and STS."""
    where = {"where": {"tasks": ("sst", "sts"), "limit": {}}}
    contestants = [
        ours("minbert", places, "--tasks", "sst,sts", script="pretrain_mlm"),
        theirs("run_mlm-style, bf16 autocast, fused AdamW", "mlm_loop", places, fast=True, **where),
        theirs("run_mlm-style loop, fp32", "mlm_loop", places, **where),
    ]
    targets = [Target("minbert", contestants[-1].name, 3)]
    outcomes, limits = hold_beside_limits(contestants, places.turns)
    return compared("MLM step", outcomes, "tokens", targets, (), limits)


def frozen(places: Places) -> Section:
    """Ten epochs of heads on a frozen encoder."""
    rows = 200
    limit = dict.fromkeys(("sst", "quora", "sts"), rows)
    written = ",".join(f"{task}={rows}" for task in limit)
    arguments = ["--model", places.model, "--data-dir", places.data_dir, "--limit", written]
    arguments += ["--limit-dev", "sst=100,quora=100,sts=100", "--skip-predictions"]
    arguments += ["--fine-tune-mode", "last-linear-layer", "--output-dir", places.cache]
    other = "BertModel in every epoch, fp32"
    contestants = [
        Contestant("minbert", "benchmarks.ours:frozen", {"arguments": arguments}, ours=True),
        theirs(other, "frozen_loop", places, where={"limit": limit}, epochs=10),
    ]
    outcomes = hold(contestants, min(places.turns, 3))  # one takes the other side a minute
    return compared(
        "Frozen baseline, 10 epochs", outcomes, "examples", [Target("minbert", other, 8)]
    )


def encode(places: Places, pairs: bool = False, one_by_one: bool = False) -> Section:
    """Sentences to vectors, or pairs to a score."""
    task = TASKS["quora"]
    rows, _ = read_examples(Path(places.data_dir) / task.files["dev"], task.columns, labelled=True)
    chosen = random.Random(0).sample(rows, 100 if one_by_one else 1000)
    texts: list[Any] = [(e.text, e.pair) if pairs else e.text for e in chosen]
    settings = {"model": places.model, "texts": texts, "pairs": pairs, "one_by_one": one_by_one}

    def contestant(name: str, factory: str, precision: str) -> Contestant:
        mine = factory.startswith("benchmarks.ours")
        return Contestant(name, factory, settings | {"precision": precision}, mine, precision)

    mine, other = "benchmarks.ours:encoding", "benchmarks.others:sentence_encoding"
    contestants = [
        contestant("minbert bf16", mine, "bf16"),
        contestant("minbert fp32", mine, "fp32"),
        contestant("sentence-transformers bf16", other, "bf16"),
        contestant("sentence-transformers fp32", other, "fp32"),
    ]
    outcomes, limits = hold_beside_limits(contestants, places.turns)
    line = f"bf16 products are {limits['bf16'] / limits['fp32']:.1f}x fp32 ones on this machine"
    targets = [
        Target("minbert fp32", "sentence-transformers fp32", 1.3),
        Target("minbert bf16", "sentence-transformers fp32", 4),
        Target("minbert bf16", "sentence-transformers bf16", 1.7),
    ]
    what = "Pairs" if pairs else "Sentences"
    if one_by_one:
        name = f"{what}, one at a time"
        return compared(name, outcomes, "examples", [], latencies(outcomes), limits)
    asked_of = [] if pairs else targets
    return compared(f"{what}, 1000 at once", outcomes, "examples", asked_of, (line,), limits)


def latencies(outcomes: dict[str, Outcome]) -> tuple[str, ...]:
    """Milliseconds of a call: half are faster than p50, one in a hundred slower than p99."""
    lines = []
    for name, outcome in outcomes.items():
        calls = outcome.calls
        p50, p99 = (1e3 * calls[int(share * (len(calls) - 1))] for share in (0.5, 0.99))
        lines.append(f"{name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    return tuple(lines)


def optimizer_step(places: Places) -> Section:
    """AdamW on all of MiniLM's parameters."""
    contestants = [
        Contestant(
            name,
            "benchmarks.ours:optimizer",
            {"model": places.model, "kind": kind, "steps": 5},
            ours=kind in ("ours", "written out"),
        )
        for name, kind in {
            "minbert": "ours",
            "minbert, written out": "written out",
            "torch default": "default",
            "torch foreach": "foreach",
            "torch fused": "fused",
        }.items()
    ]
    targets = [Target("minbert", "torch fused", 0.77)]
    outcomes = hold(contestants, places.turns)
    return compared("Optimizer step", outcomes, "examples", targets, unit="steps")


def start_up(places: Places) -> Section:
    """Imports, and the first step of a run whose ids are cached."""
    load = f"import minbert; minbert.BertModel.from_pretrained({places.model!r})"
    torch_s, ours_s, load_s = seconds_in_turn(
        ("import torch", "import minbert", load), places.turns
    )
    arguments = ["--model", places.model, "--data-dir", places.data_dir]
    arguments += ["--limit-dev", "sst=32,quora=32,sts=32"]
    cache = Path(places.cache)
    first_step_seconds(arguments, cache)  # makes the cache of ids
    seconds = statistics.median(first_step_seconds(arguments, cache) for _ in range(places.turns))
    rows = (
        ("import torch", f"{torch_s:.2f} s"),
        ("import minbert", f"{ours_s:.2f} s"),
        ("import minbert, load weights", f"{load_s:.2f} s"),
        ("first step of train_multitask.py", f"{seconds:.2f} s"),
    )
    lines = (
        asked("import", "1.5x at most", f"{ours_s / torch_s:.2f}x", ours_s <= 1.5 * torch_s),
        asked("first step", "3 s at most", f"{seconds:.2f} s", seconds <= 3),
        "The first step comes after an evaluation of 3 x 32 rows; on all dev rows add their time.",
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
    "mlm_step": mlm_step,
    "frozen": frozen,
    "encode": encode,
    "encode_one": partial(encode, one_by_one=True),
    "pairs": partial(encode, pairs=True),
    "pairs_one": partial(encode, pairs=True, one_by_one=True),
    "optimizer_step": optimizer_step,
    "start_up": start_up,
    "scaling": scaling,
}
# Their targets are a GPU's: on a CPU they take long and say little.
GPU_SETS: dict[str, Callable[[Places], Section]] = {
    "gpu_trainer": partial(trainers, task="sst", name=HF_TRAINER, large=True),
    "gpu_16k": many_tokens,
}
