"""Sections -> BENCHMARKS.md; a section that is run again replaces its old self."""

import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks.contest import DEVICE, Outcome
from experiments.results import machine


@dataclass(frozen=True)
class Target:
    """`one` must do at least `factor` times what `other` does."""

    one: str
    other: str
    factor: float


@dataclass(frozen=True)
class Section:
    """What a benchmark found: a table, then its targets and what else was seen."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[str, ...] = ()


def compared(
    title: str,
    outcomes: dict[str, Outcome],
    of: str,
    targets: list[Target],
    lines: tuple[str, ...] = (),
    limits: dict[str, float] | None = None,
    unit: str = "",
) -> Section:
    """Rates `of` tokens or examples (called `unit`), as multiples of the last contestant's too.

    limits: the machine's rate of each precision in FLOP/s; each contestant's share of its own.
    """
    base = list(outcomes.values())[-1].rate(of)
    also = "examples" if of == "tokens" else "tokens"
    show_also = any(outcome.rate(also) for outcome in outcomes.values())
    rows = []
    for name, outcome in outcomes.items():
        rates = outcome.rates(of)
        cells = [f"{outcome.rate(of):,.1f}", f"{min(rates):,.1f} to {max(rates):,.1f}"]
        if show_also:
            cells.append(f"{outcome.rate(also):,.1f}")
        cells.append(f"{outcome.rate(of) / base:.2f}x")
        if limits:
            cells.append(f"{outcome.rate('flops') / limits[outcome.precision]:.0%}")
        rows.append((name, *cells, f"{outcome.peak_mib:,.0f}"))
    more = (f"{also}/s",) if show_also else ()
    share = ("of its limit",) if limits else ()
    head = ("", f"{unit or of}/s (median)", "lowest to highest", *more, "against the last", *share)
    said = tuple(judged(target, outcomes, of) for target in targets)
    if limits:
        rates = (f"{name} {rate / 1e12:.2f} TFLOP/s" for name, rate in limits.items())
        lines = (*lines, f"limits, a large matrix product of the type: {', '.join(rates)}")
    return Section(title, (*head, "peak MiB"), tuple(rows), (*said, *lines))


def judged(target: Target, outcomes: dict[str, Outcome], of: str) -> str:
    """One line: what was asked and what was seen."""
    seen = outcomes[target.one].rate(of) / outcomes[target.other].rate(of)
    names = f"{target.one} against {target.other}"
    return asked(names, f"{target.factor:g}x", f"{seen:.2f}x", seen >= target.factor)


def asked(what: str, wanted: str, seen: str, met: bool) -> str:
    return f"{what}: asked {wanted}, seen {seen}{'' if met else ' - NOT met'}"


def write_report(folder: Path, name: str, section: Section, command: str) -> None:
    """Into benchmarks.json under its name, and all of that again as BENCHMARKS.md."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "benchmarks.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    place = {"machine": machine(), "command": command, "versions": versions()}
    place["device"] = DEVICE.type
    known[name] = asdict(section) | place
    path.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    on_gpu = any(entry.get("device") == "cuda" for entry in known.values())
    parts = [HEAD + ("" if on_gpu else "GPU figures: open.\n")]
    parts += [markdown(entry) for entry in known.values()]
    (folder / "BENCHMARKS.md").write_text("\n".join(parts), encoding="utf-8")


HEAD = """# Benchmarks

Every contestant is a process of its own; they work in turn (A B A B ...), one at a time, and the
figures are medians over the turns. Read ratios, not seconds. Tokens are real ones, without padding.
A share of the limit counts 2 (encode) or 6 (train) x the layers' matrices x real tokens, also what
a program leaves out. minbert's processes have THP_MEM_ALLOC_ENABLE=1, as its scripts set it.
Generated, each section by the command below it; `make bench` runs all that need no GPU, except for
the comparison of quality.
"""


def markdown(entry: dict) -> str:
    """One section with its machine and command."""
    lines = [f"## {entry['title']}", "", "| " + " | ".join(entry["head"]) + " |"]
    lines.append("| --- " * len(entry["head"]) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in entry["rows"]]
    lines += ["", *(f"- {line}" for line in entry["lines"])]
    lines += ["", f"{entry['machine']}; {entry['versions']}; `{entry['command']}`", ""]
    return "\n".join(lines)


def versions() -> str:
    import sentence_transformers
    import transformers

    found = {"python": platform.python_version(), "torch": torch.__version__}
    found["transformers"] = transformers.__version__
    found["sentence-transformers"] = sentence_transformers.__version__
    return ", ".join(f"{name} {version}" for name, version in found.items())
