"""Runs as curves, scores and mistakes on one page: python -m minbert.report RUN... --output FILE

The page needs no network; the report.html in a run's folder is made the same way.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from minbert.cli import arg, parse_with_places, run_script
from minbert.errors import UserError
from minbert.report.files import read_runs, write_page
from minbert.run_files import check_stays

PLACES = "RUN..."  # are written without a flag


@dataclass(frozen=True)
class Args:
    """The options, beside PLACES."""

    output: str = arg("report.html", "the page to write")


def main(argv: list[str]) -> int:
    folders, args = parse_with_places(Args, argv, __doc__, PLACES)
    if not folders:
        raise UserError(f"write python -m minbert.report {PLACES}, and options")
    check_stays(Path(args.output), "--output")
    found = [(folder, run) for folder in map(Path, folders) for run in read_runs(folder)]
    runs = [run for _, run in found]
    if len({run.name for run in runs}) < len(runs):  # as of a/seed-11711 and b/seed-11711
        above = [folder.resolve().parent.name for folder, _ in found]
        runs = [replace(run, name=f"{n}/{run.name}") for n, run in zip(above, runs, strict=True)]
    write_page(runs, Path(args.output))
    print(f"wrote {args.output}: {', '.join(run.name for run in runs)}")
    return 0


if __name__ == "__main__":
    run_script(main)
