"""BENCHMARKS.md: a section for each benchmark, replaced when the benchmark is run again."""

import platform
import shutil
import subprocess
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.contest import DEVICE, Outcome
from minbert.errors import UserError
from minbert.files import check_writable, read_json, write_json, write_text
from minbert.report.tables import markdown_table
from minbert.training.device import describe_machine, has_amx

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Target:
    """A target: the rate of `one` is at least `factor` times that of `other`."""

    one: str
    other: str
    factor: float


@dataclass(frozen=True)
class Section:
    """A benchmark's result: a table, and lines below it about targets and other findings."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[str, ...] = ()


def compare_rates(
    title: str,
    outcomes: dict[str, Outcome],
    of: str,
    targets: list[Target],
    lines: tuple[str, ...] = (),
    limits: dict[str, float] | None = None,
    unit: str = "",
) -> Section:
    """Return a section that compares rates, also as multiples of the last contestant's.

    of: tokens or examples a second, which the table calls `unit`. limits: the machine's rate of
    each precision in FLOP/s, of which each contestant's share is listed.
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
            limit = limits.get(outcome.precision)  # none is measured of int8
            cells.append(f"{outcome.rate('flops') / limit:.0%}" if limit else "")
        rows.append((name, *cells, f"{outcome.peak_mib:,.0f}"))
    more = (f"{also}/s",) if show_also else ()
    share = ("of its limit",) if limits else ()
    head = ("", f"{unit or of}/s (median)", "lowest to highest", *more, "against the last", *share)
    verdicts = tuple(ratio_line(target, outcomes, of) for target in targets)
    if limits:
        rates = (f"{name} {rate / 1e12:.2f} TFLOP/s" for name, rate in limits.items())
        lines = (*lines, f"limits, a large matrix product of the type: {', '.join(rates)}")
    return Section(title, (*head, "peak MiB"), tuple(rows), (*verdicts, *lines))


def ratio_line(target: Target, outcomes: dict[str, Outcome], of: str) -> str:
    """Return the `target_line` of a ratio between two contestants' rates."""
    ratio = outcomes[target.one].rate(of) / outcomes[target.other].rate(of)
    names = f"{target.one} against {target.other}"
    return target_line(names, f"{target.factor:g}x", f"{ratio:.2f}x", ratio >= target.factor)


def target_line(what: str, wanted: str, seen: str, met: bool) -> str:
    """Return a line that says what was wanted, a ratio or a size, and whether it was met."""
    return f"{what}: asked {wanted}, seen {seen}{'' if met else ' - NOT met'}"


def check_report(folder: Path) -> None:
    """Raise UserError, before any measuring, if `write_report` would fail at the end.

    It would if benchmarks.json is damaged, if the folder cannot be written, or without a library
    whose version is written.
    """
    check_writable(folder, "--results")
    if (path := folder / "benchmarks.json").is_file():
        read_json(path)
    try:
        versions()
    except ImportError as error:
        raise UserError(f'{error}: install the libraries: pip install -e ".[bench]"') from error


def write_report(folder: Path, name: str, section: Section, command: str) -> None:
    """Put a section into benchmarks.json under its name, and write BENCHMARKS.md from that file."""
    path = folder / "benchmarks.json"
    known = read_json(path) if path.is_file() else {}
    units = "with AMX" if has_amx() else "without AMX"
    place = {
        "machine": describe_machine(DEVICE, f" {units}"),
        "command": command,
        "versions": versions(),
    }
    place |= {"device": DEVICE.type, "commit": commit()}
    known[name] = asdict(section) | place
    write_json(path, known)
    on_gpu = any(entry.get("device") == "cuda" for entry in known.values())
    parts = [HEAD + ("" if on_gpu else "GPU figures: open.\n")]
    parts += [markdown(entry) for entry in known.values()]
    write_text(folder / "BENCHMARKS.md", "\n".join(parts))


HEAD = """# Benchmarks

Every contestant is a process of its own; they work in turn (A B A B ...), one at a time, and the
rates are medians over the turns (`--turns` of them; 1 for the memory of a large model, 3 for
scaling by rows, at most 3 for the frozen baseline). Peaks are of whole processes, p50 and p99 of
the single calls of all turns, and the time to a score is a sum of up to 10 turns. Scaling by rows,
a large model's memory and the first step of start-up are measured alone. Read ratios, not seconds.
Tokens are real ones, without padding. `of its limit` is a share of the FLOP/s of a large matrix
product: a real token counts 2 (encode) or 6 (train) FLOPs for each weight of the layers' matrices,
also where a program skips that work. Training steps are a run's first, in which minbert's AdamW
computes nothing for words that no batch has had yet: later ones take longer. minbert's processes
get memory as its scripts do (minbert/memory.py), others as PyTorch gets it. Beside a busy core
minbert alone is tried in one thread, too, which may help others as well. `asked` is the project's
own target. Each section is generated by the command below it; `make bench` runs all that need no
GPU, except for the comparison of quality. Scores on Quora are of a model that was itself trained on
its duplicates.
"""


def markdown(entry: dict[str, Any]) -> str:
    """Return a section of benchmarks.json with its machine and command."""
    lines = [f"## {entry['title']}", "", markdown_table([entry["head"], *entry["rows"]])]
    lines += ["", *(f"- {line}" for line in entry["lines"])]
    measured = f"; commit {entry['commit']}" if entry.get("commit") else ""
    lines += ["", f"{entry['machine']}; {entry['versions']}{measured}; `{entry['command']}`", ""]
    return "\n".join(lines)


def commit() -> str:
    """Return what is measured: the commit, with a + if code was changed since; "" without git."""
    if shutil.which("git") is None:
        return ""

    def git(*words: str) -> str:
        found = subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True)
        return found.stdout.strip()

    head = git("rev-parse", "--short", "HEAD")
    return f"{head}+" if git("status", "--porcelain", ":/*.py") else head


def versions() -> str:
    """Return the versions of Python and of the libraries that are compared."""
    import sentence_transformers
    import transformers

    found = {"python": platform.python_version(), "torch": torch.__version__}
    found["transformers"] = transformers.__version__
    found["sentence-transformers"] = sentence_transformers.__version__
    for name in ("onnxruntime", "openvino"):
        with suppress(PackageNotFoundError):  # most benchmarks are without them
            found[name] = version(name)
    return ", ".join(f"{name} {version}" for name, version in found.items())
