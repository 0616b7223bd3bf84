"""How memory grows with the rows of a training file, and time with the length of sequences."""

import csv
import itertools
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.contest import Contestant, run_contest
from benchmarks.contestants import Places, ours
from benchmarks.report import Section
from tasks import TASKS


def scaling(places: Places) -> Section:
    """Measure speed and memory by rows of the training file and by length of the sequences."""
    rows = []
    for size in (8000, 16000, 32000, 64000, 128000):
        with tempfile.TemporaryDirectory() as folder:
            name = TASKS["quora"].files["train"][0]
            copied = shorten(Path(places.data_dir), Path(folder), name, size)
            one = ours("minbert", replace(places, data_dir=folder))
            outcome = run_contest([one], 3)["minbert"]
        cells = (f"{outcome.rate('tokens'):,.0f}", f"{outcome.peak_mib:,.0f}")
        rows.append((f"{copied:,} rows of Quora", *cells))
    several = [
        Contestant(
            str(length),
            "benchmarks.ours:one_length",
            {"model": places.model, "length": length},
            ours=True,
        )
        for length in (16, 32, 64, 128, 256, 512)
    ]
    for name, outcome in run_contest(several, places.turns).items():
        cells = (f"{outcome.rate('tokens'):,.0f}", f"{outcome.peak_mib:,.0f}")
        rows.append((f"4096 tokens in sequences of {name}", *cells))
    return Section("Scaling", ("", "tokens/s", "peak MiB"), tuple(rows))


def shorten(data: Path, folder: Path, name: str, rows: int) -> int:
    """Fill a folder with links to the data's files and a copy of one file's first rows.

    Returns how many rows that file has then.
    """
    for path in data.resolve().glob("*.csv"):
        if path.name != name:
            (folder / path.name).symlink_to(path)
    with (data / name).open(newline="") as source, (folder / name).open("w", newline="") as target:
        reader, writer = csv.reader(source, delimiter="\t"), csv.writer(target, delimiter="\t")
        writer.writerow(next(reader))
        return sum(writer.writerow(row) > 0 for row in itertools.islice(reader, rows))
