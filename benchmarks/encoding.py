"""The speed of encoding sentences and pairs, beside the programs that people use for it."""

import random
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import runtimes
from benchmarks.busy import busy_core
from benchmarks.contest import DEVICE, Contestant, Outcome
from benchmarks.contestants import Places, run_beside_limits
from benchmarks.ours import Text
from benchmarks.report import Section, Target, compare_rates, target_line
from minbert.data.examples import read_examples
from minbert.errors import UserError
from tasks import TASKS

ST, ORT, OV = "sentence-transformers", "onnxruntime", "OpenVINO"
# program -> how a contestant of it is set up, and its precisions
PROGRAMS = {
    "minbert": ("benchmarks.ours:encoding", ("bf16", "fp32")),
    OV: ("benchmarks.runtimes:encoding", ("int8", "bf16", "fp32")),
    ORT: ("benchmarks.runtimes:encoding", ("int8", "fp32")),
    ST: ("benchmarks.others:sentence_encoding", ("bf16", "fp32")),
}
REFERENCE = "minbert fp32"
OTHER_NUMBERS = "int8 changes what is computed: single sentences have the cosines"
MANY = [
    Target("minbert bf16", f"{OV} int8", 1.5),
    Target("minbert bf16", f"{ORT} int8", 2),
    Target("minbert bf16", f"{ST} bf16", 2.5),
    Target("minbert bf16", f"{ST} fp32", 4),
    Target(REFERENCE, f"{OV} fp32", 1),
    Target(REFERENCE, f"{ST} fp32", 1.3),
]
ONE = [Target(REFERENCE, f"{ORT} fp32", 1)]
BUSY_MS = 10  # asked of one sentence while another program keeps one core busy


def encode(
    places: Places, pairs: bool = False, one_by_one: bool = False, busy: bool = False
) -> Section:
    """Compare encoding of sentences to vectors, or of pairs to a score.

    busy: while another program keeps one core busy.
    """
    task = TASKS["quora"]
    rows, _ = read_examples(task.paths("dev", Path(places.data_dir)), task.columns, labelled=True)
    number = 100 if one_by_one else 1000
    if len(rows) < number:
        found = f"{len(rows):,} dev rows of Quora"
        raise UserError(f"--data-dir {places.data_dir}: {found}, {number:,} are needed")
    chosen = random.Random(0).sample(rows, number)
    texts: list[Text] = [(e.text, e.pair) if pairs else e.text for e in chosen]
    settings = {"model": places.model, "texts": texts, "pairs": pairs, "one_by_one": one_by_one}
    with tempfile.TemporaryDirectory() as folder, busy_core() if busy else nullcontext():
        if DEVICE.type == "cpu":
            runtimes.export(places.model, Path(folder))
        contestants = contestants_of(settings | {"exported": folder}, busy)
        outcomes, limits = run_beside_limits(contestants, places.turns)
    what = ("Pairs" if pairs else "Sentences") + (", one core busy" if busy else "")
    near = (OTHER_NUMBERS,) if pairs else cosines(outcomes)
    if one_by_one:
        asked = () if pairs else (latency_line(outcomes, busy),)
        name, lines = f"{what}, one at a time", (*asked, *latencies(outcomes), *near)
        targets = [] if busy or pairs else possible(ONE, outcomes)
        return compare_rates(name, outcomes, "examples", targets, lines, limits)
    line = f"bf16 products are {limits['bf16'] / limits['fp32']:.1f}x fp32 ones on this machine"
    name, targets = f"{what}, 1000 at once", [] if pairs else possible(MANY, outcomes)
    return compare_rates(name, outcomes, "examples", targets, (line, *near), limits)


def contestants_of(settings: dict[str, Any], busy: bool) -> list[Contestant]:
    """Return every program in every precision; busy: also minbert in one thread.

    On a GPU OpenVINO and onnxruntime are left out: they are installed for CPUs.
    """
    contestants = [
        Contestant(
            f"{name} {precision}", factory, settings | {"precision": precision, "program": name},
            ours=name == "minbert", precision=precision,
        )
        for name, (factory, precisions) in PROGRAMS.items()
        if DEVICE.type == "cpu" or name not in (OV, ORT)
        for precision in precisions
    ]  # fmt: skip
    if busy:
        ours = contestants[0]
        alone = {"name": f"{ours.name}, 1 thread", "settings": ours.settings | {"threads": 1}}
        contestants.insert(0, replace(ours, **alone))
    return contestants


def possible(targets: list[Target], outcomes: dict[str, Outcome]) -> list[Target]:
    """Return the targets whose `other` contestant takes part."""
    return [target for target in targets if target.other in outcomes]


def cosines(outcomes: dict[str, Outcome]) -> tuple[str, ...]:
    """Return a line for each contestant: how near its vectors are to ours in fp32."""
    vectors = {name: outcome.works[-1].vectors for name, outcome in outcomes.items()}
    units = {n: v / np.linalg.norm(v, axis=1, keepdims=True) for n, v in vectors.items()}
    exact = units.pop(REFERENCE)
    near = {name: np.sum(unit * exact, axis=1) for name, unit in units.items()}
    return tuple(
        f"{name}: cosine to {REFERENCE} {values.mean():.4f}, at least {values.min():.4f}"
        for name, values in near.items()
    )


def percentiles(outcome: Outcome) -> tuple[float, float]:
    """Return the median and the 99th percentile of a contestant's calls, in milliseconds."""
    calls = outcome.calls
    p50, p99 = (1e3 * calls[int(share * (len(calls) - 1))] for share in (0.5, 0.99))
    return p50, p99


def latencies(outcomes: dict[str, Outcome]) -> tuple[str, ...]:
    """Return a line for each contestant with its `percentiles`."""
    found = {name: percentiles(outcome) for name, outcome in outcomes.items()}
    return tuple(
        f"{name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms" for name, (p50, p99) in found.items()
    )


def latency_line(outcomes: dict[str, Outcome], busy: bool) -> str:
    """Return the `target_line` of single sentences: with a core busy of p50, else of p99."""
    if busy:
        p50, _ = percentiles(outcomes["minbert bf16"])
        return target_line("minbert bf16: p50", f"{BUSY_MS} ms", f"{p50:.1f} ms", p50 <= BUSY_MS)
    p50, p99 = percentiles(outcomes[REFERENCE])
    ratio = p99 / p50
    return target_line(f"{REFERENCE}: p99 against p50", "2x at most", f"{ratio:.2f}x", ratio <= 2)
