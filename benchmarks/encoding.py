"""The speed of encoding sentences and pairs, beside sentence-transformers."""

import random
from pathlib import Path

from benchmarks.contest import Contestant, Outcome
from benchmarks.contestants import Places, hold_beside_limits
from benchmarks.ours import Text
from benchmarks.report import Section, Target, compared
from minbert.data.examples import read_examples
from tasks import TASKS

OURS, OTHERS = "benchmarks.ours:encoding", "benchmarks.others:sentence_encoding"
TARGETS = [
    Target("minbert fp32", "sentence-transformers fp32", 1.3),
    Target("minbert bf16", "sentence-transformers fp32", 4),
    Target("minbert bf16", "sentence-transformers bf16", 1.7),
]


def encode(places: Places, pairs: bool = False, one_by_one: bool = False) -> Section:
    """Compare encoding of sentences to vectors, or of pairs to a score."""
    task = TASKS["quora"]
    rows, _ = read_examples(task.paths("dev", Path(places.data_dir)), task.columns, labelled=True)
    chosen = random.Random(0).sample(rows, 100 if one_by_one else 1000)
    texts: list[Text] = [(e.text, e.pair) if pairs else e.text for e in chosen]
    settings = {"model": places.model, "texts": texts, "pairs": pairs, "one_by_one": one_by_one}

    def contestant(name: str, factory: str, precision: str) -> Contestant:
        is_ours = factory == OURS
        return Contestant(name, factory, settings | {"precision": precision}, is_ours, precision)

    contestants = [
        contestant("minbert bf16", OURS, "bf16"),
        contestant("minbert fp32", OURS, "fp32"),
        contestant("sentence-transformers bf16", OTHERS, "bf16"),
        contestant("sentence-transformers fp32", OTHERS, "fp32"),
    ]
    outcomes, limits = hold_beside_limits(contestants, places.turns)
    line = f"bf16 products are {limits['bf16'] / limits['fp32']:.1f}x fp32 ones on this machine"
    what = "Pairs" if pairs else "Sentences"
    if one_by_one:
        name = f"{what}, one at a time"
        return compared(name, outcomes, "examples", [], latencies(outcomes), limits)
    targets = [] if pairs else TARGETS
    return compared(f"{what}, 1000 at once", outcomes, "examples", targets, (line,), limits)


def latencies(outcomes: dict[str, Outcome]) -> tuple[str, ...]:
    """Return a line for each contestant with the median and the 99th percentile of its calls."""
    lines = []
    for name, outcome in outcomes.items():
        calls = outcome.calls
        p50, p99 = (1e3 * calls[int(share * (len(calls) - 1))] for share in (0.5, 0.99))
        lines.append(f"{name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    return tuple(lines)
