"""The contestants that several benchmarks share."""

from dataclasses import dataclass
from typing import Any

from benchmarks.contest import DEVICE, Contestant, Outcome, run_contest
from minbert.training.device import choose_precision, precision_name

# Names of the contestants `plain_loop`, without `fast` and with it.
PLAIN_LOOP = "(a) transformers loop, fp32, random batches"
FAST_LOOP = "(b) bf16 autocast, grouped, fused AdamW"
LIMITS = [
    Contestant(f"{p} limit", "benchmarks.ours:matrix_limit", {"precision": p}, precision=p)
    for p in ("bf16", "fp32")
]


@dataclass(frozen=True)
class Places:
    """Models, data and settings that the benchmarks run with."""

    model: str  # a directory with weights, usually MiniLM's
    large: str  # a directory with a bert-base-sized encoder of random weights
    data_dir: str
    cache: str  # a directory that ids are cached in
    turns: int
    name: str = "MiniLM"  # of `model`, in titles


def ours(name: str, places: Places, *options: str, script: str = "train_multitask") -> Contestant:
    """Return minbert as a contestant: a turn is six steps of a script, two for each task.

    options: more words of the script's command line.
    """
    fixed = ["--data-dir", places.data_dir, "--output-dir", places.cache, "--lr", "5e-5"]
    model = [] if "--model" in options else ["--model", places.model]
    settings = {"script": script, "arguments": [*fixed, *model, *options], "steps": 6}
    precision = "fp32" if "fp32" in options else "auto"
    computed = precision_name(choose_precision(precision, DEVICE))
    return Contestant(name, "benchmarks.ours:training", settings, ours=True, precision=computed)


def theirs(
    name: str, function: str, places: Places, module: str = "others", **settings: Any
) -> Contestant:
    """Return a library's loop or trainer as a contestant; settings: changes of the usual ones."""
    args = {"data_dir": places.data_dir, "output_dir": places.cache, "limit": {"quora": 16000}}
    args["model"] = settings.pop("model", places.model)
    args |= settings.pop("args", {})
    base = {"args": args, "batch_size": 32, "steps": 6, "fast": False}
    settings = base | settings
    precision = "bf16" if settings["fast"] else "fp32"
    return Contestant(name, f"benchmarks.{module}:{function}", settings, precision=precision)


def run_beside_limits(
    contestants: list[Contestant], turns: int
) -> tuple[dict[str, Outcome], dict[str, float]]:
    """Return the contestants' outcomes, and the machine's rate of each precision in FLOP/s.

    The rates are measured between the contestants' turns.
    """
    outcomes = run_contest([*contestants, *LIMITS], turns)
    return outcomes, {c.precision: outcomes.pop(c.name).rate("flops") for c in LIMITS}
