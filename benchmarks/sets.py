"""Who meets whom: each benchmark is a function of Places that returns a Section."""

import random
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contest import Contestant, Outcome, hold
from benchmarks.contestants import LIMITS, A, B, Places, ours, theirs
from benchmarks.large import memory_large
from benchmarks.report import Section, Target, asked, compared
from benchmarks.start_up import first_step_seconds, import_seconds
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
    outcomes = hold([*contestants, *LIMITS], places.turns)
    limits = {c.name: outcomes.pop(c.name).rate("flops") for c in LIMITS}
    share = outcomes["minbert"].rate("flops") / limits["bf16 limit"]
    wanted = 0.50 if large else 0.35
    memory = outcomes["minbert"].peak_mib / outcomes[B].peak_mib
    # what a program would do that spends no time on anything but the products of real tokens
    flops_a_token = outcomes["minbert"].rate("flops") / outcomes["minbert"].rate("tokens")
    ceiling = limits["bf16 limit"] / flops_a_token
    ceilings = (f"{ceiling / outcomes[name].rate('tokens'):.1f}x {name[:3]}" for name in (A, B))
    lines = (
        asked("share of the bf16 matrix rate", f"{wanted:.0%}", f"{share:.0%}", share >= wanted),
        asked("peak memory against (b)", "1x at most", f"{memory:.2f}x", memory <= 1),
        ", ".join(f"{name} {rate / 1e12:.2f} TFLOP/s" for name, rate in limits.items()),
        "the share counts 6 x layers' parameters x real tokens, also what the last layer skips",
        f"at the full bf16 rate, with nothing beside these products: {' and '.join(ceilings)}",
    )
    targets = [] if large else [Target("minbert", A, 6), Target("minbert", B, 2.5)]
    name = f"Training step, {'bert-base-sized' if large else 'MiniLM'}, batch {batch_size}"
    return compared(name, outcomes, "tokens", targets, lines)


def step_parts(places: Places) -> Section:
    """Why a step is not faster: its products by themselves, at the machine's rate for them."""
    tokens, steps = 896, 6  # what batches of 32 of the three tasks have on average
    options = ("--batch-size", "32", "--limit", "quora=16000")
    same = {"model": places.model, "steps": steps}
    contestants = [
        ours("the whole step", places, *options),
        Contestant(
            f"its products alone, {tokens} tokens",
            "benchmarks.ours:products_alone",
            same | {"tokens": tokens},
            ours=True,
        ),
        Contestant("AdamW alone", "benchmarks.ours:optimizer", same | {"kind": "ours"}, ours=True),
        theirs("(b)'s whole step", "plain_loop", places, fast=True),
    ]
    outcomes = hold(contestants, places.turns)
    whole, *_, other = ms = [1e3 * statistics.median(o.seconds) / steps for o in outcomes.values()]
    rows = [(name, f"{t:.0f}", f"{t / whole:.0%}") for name, t in zip(outcomes, ms, strict=True)]
    rate = outcomes[contestants[1].name].rate("flops") / 1e12
    lines = (
        f"the products ran at {rate:.2f} TFLOP/s: a step of nothing else would be "
        f"{other / ms[1]:.1f}x (b)",
    )
    return Section(
        "Where a training step's time goes, MiniLM, batch 32", ("", "ms", "share"), tuple(rows),
        lines,
    )  # fmt: skip


def trainers(places: Places, task: str) -> Section:
    """One task, against the trainer that people would use for it."""
    siamese = ("--pair-encoding", "siamese", "--pair-loss", "cosine-mse", "--pooling", "mean")
    single = ("--mode", "single", "--tasks", task.split()[0])
    name, function, more = {
        "sst": ("transformers Trainer", "trainer", {}),
        "sts": ("sentence-transformers CrossEncoderTrainer", "sentence_trainer", {"cross": True}),
        "sts siamese": (
            "sentence-transformers SentenceTransformerTrainer",
            "sentence_trainer",
            {"cross": False},
        ),
    }[task]
    where = {"tasks": (task.split()[0],), "limit": {}}
    contestants = [
        ours("minbert", places, *single, *(siamese if "siamese" in task else ())),
        theirs(f"{name}, bf16", function, places, fast=True, where=where, **more),
        theirs(name, function, places, where=where, **more),
    ]
    return compared(f"Training, {task}", hold(contestants, places.turns), "examples", [])


def mlm_step(places: Places) -> Section:
    """Masked-language-model pre-training on the sentences of SST and STS."""
    where = {"where": {"tasks": ("sst", "sts"), "limit": {}}}
    contestants = [
        ours("minbert", places, "--tasks", "sst,sts", script="pretrain_mlm"),
        theirs("run_mlm-style, bf16 autocast, fused AdamW", "mlm_loop", places, fast=True, **where),
        theirs("run_mlm-style loop, fp32", "mlm_loop", places, **where),
    ]
    targets = [Target("minbert", contestants[-1].name, 3)]
    return compared("MLM step", hold(contestants, places.turns), "tokens", targets)


def frozen(places: Places) -> Section:
    """Ten epochs of heads on a frozen encoder."""
    limits = "sst=300,quora=300,sts=300"
    arguments = ["--model", places.model, "--data-dir", places.data_dir, "--limit", limits]
    arguments += ["--limit-dev", "sst=100,quora=100,sts=100", "--skip-predictions"]
    arguments += ["--fine-tune-mode", "last-linear-layer", "--output-dir", places.cache]
    limit = dict.fromkeys(("sst", "quora", "sts"), 300)
    other = "BertModel in every epoch, fp32"
    contestants = [
        Contestant("minbert", "benchmarks.ours:frozen", {"arguments": arguments}, ours=True),
        theirs(other, "frozen_loop", places, where={"limit": limit}, epochs=10),
    ]
    outcomes = hold(contestants, 1)
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
        return Contestant(name, factory, settings | {"precision": precision}, "ours" in factory)

    mine, other = "benchmarks.ours:encoding", "benchmarks.others:sentence_encoding"
    contestants = [
        contestant("minbert bf16", mine, "bf16"),
        contestant("minbert fp32", mine, "fp32"),
        contestant("sentence-transformers bf16", other, "bf16"),
        contestant("sentence-transformers fp32", other, "fp32"),
    ]
    outcomes = hold([*contestants, *LIMITS], places.turns)
    limits = [outcomes.pop(c.name).rate("flops") for c in LIMITS]
    line = f"this machine's bf16 products are {limits[0] / limits[1]:.1f}x its fp32 ones"
    targets = [
        Target("minbert fp32", "sentence-transformers fp32", 1.3),
        Target("minbert bf16", "sentence-transformers fp32", 4),
        Target("minbert bf16", "sentence-transformers bf16", 1.7),
    ]
    what = "Pairs" if pairs else "Sentences"
    if one_by_one:
        return compared(f"{what}, one at a time", outcomes, "examples", [], latencies(outcomes))
    asked_of = [] if pairs else targets
    return compared(f"{what}, 1000 at once", outcomes, "examples", asked_of, (line,))


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
            ours=kind == "ours",
        )
        for name, kind in {
            "minbert": "ours",
            "torch default": "default",
            "torch foreach": "foreach",
            "torch fused": "fused",
        }.items()
    ]
    single = {"model": places.model, "steps": 5}
    contestants.append(Contestant("one pass", "benchmarks.ours:one_pass", single, ours=True))
    outcomes = hold(contestants, places.turns)
    ours_ms, pass_ms = (1e3 / outcomes[name].rate("examples") for name in ("minbert", "one pass"))
    del outcomes["one pass"]
    line = (
        f"minbert's equations are 8 tensor operations on blocks in the cache, {ours_ms:.0f} ms in "
        f"all; one by itself, from memory, takes {pass_ms:.1f} ms. The fused kernel needs one pass"
    )
    targets = [Target("minbert", "torch fused", 0.77)]
    return compared("Optimizer step", outcomes, "examples", targets, (line,))


def start_up(places: Places) -> Section:
    """Imports, and the first step of a run whose ids are cached."""
    torch_s = import_seconds("torch", places.turns)
    ours_s = import_seconds("minbert", places.turns)
    arguments = ["--model", places.model, "--data-dir", places.data_dir]
    arguments += ["--limit-dev", "sst=32,quora=32,sts=32"]
    cache = Path(places.cache)
    first_step_seconds(arguments, cache)  # makes the cache of ids
    seconds = statistics.median(first_step_seconds(arguments, cache) for _ in range(places.turns))
    rows = (
        ("import torch", f"{torch_s:.2f} s"),
        ("import minbert", f"{ours_s:.2f} s"),
        ("first step of train_multitask.py", f"{seconds:.2f} s"),
    )
    lines = (
        asked("import", "1.5x at most", f"{ours_s / torch_s:.2f}x", ours_s <= 1.5 * torch_s),
        asked("first step", "3 s at most", f"{seconds:.2f} s", seconds <= 3),
        "The first step comes after an evaluation of 3 x 32 rows; on all dev rows add their time.",
    )
    return Section("Start-up", ("", "median"), rows, lines)


def scaling(places: Places) -> Section:
    """Memory over rows, time over lengths."""
    sizes = (8000, 16000, 32000, 64000, 128000)
    rows = []
    for size in sizes:
        one = ours("minbert", places, "--limit", f"quora={size}")
        outcome = hold([one], 1)["minbert"]
        cells = (f"{outcome.rate('tokens'):,.0f}", f"{outcome.peak_mib:,.0f}")
        rows.append((f"{size:,} rows of Quora", *cells))
    several = [
        Contestant(
            str(length),
            "benchmarks.ours:one_length",
            {"model": places.model, "length": length},
            True,
        )
        for length in (16, 32, 64, 128, 256, 512)
    ]
    for name, outcome in hold(several, places.turns).items():
        cells = (f"{outcome.rate('tokens'):,.0f}", f"{outcome.peak_mib:,.0f}")
        rows.append((f"4096 tokens in sequences of {name}", *cells))
    return Section("Scaling", ("", "tokens/s", "peak MiB"), tuple(rows))


SETS: dict[str, Callable[[Places], Section]] = {
    "train_step": train_step,
    "train_step_16": partial(train_step, batch_size=16),
    "train_step_64": partial(train_step, batch_size=64),
    "train_step_large": partial(train_step, large=True),
    "memory_large": memory_large,
    "step_parts": step_parts,
    "time_to_score": time_to_score,
    "train_sst": partial(trainers, task="sst"),
    "train_sts": partial(trainers, task="sts"),
    "train_sts_siamese": partial(trainers, task="sts siamese"),
    "mlm_step": mlm_step,
    "frozen": frozen,
    "encode": encode,
    "encode_one": partial(encode, one_by_one=True),
    "pairs": partial(encode, pairs=True),
    "optimizer_step": optimizer_step,
    "start_up": start_up,
    "scaling": scaling,
}
