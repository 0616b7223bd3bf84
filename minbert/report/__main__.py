"""Runs as curves, scores and mistakes on one page: python -m minbert.report RUN... --output FILE

The page needs no network; the report.html in a run's folder is made the same way.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from minbert.cli import arg, parse_with_positionals, run_script
from minbert.errors import UserError
from minbert.report.files import read_runs, write_page
from minbert.report.runs import LoggedRun
from minbert.run_files import check_not_replaced

POSITIONALS = "RUN..."  # the arguments that are written without a flag


@dataclass(frozen=True)
class Args:
    """The options, beside POSITIONALS."""

    output: str = arg("report.html", "the page to write")


def distinct(found: list[tuple[Path, LoggedRun]]) -> list[LoggedRun]:
    """Return the runs; if names are equal, all get as many parent folders as tell them apart.

    As a/seed-11711 and b/seed-11711. found: each run with the folder that was named.
    """
    names, folders = [run.name for _, run in found], [folder.resolve() for folder, _ in found]
    several = len({*zip(folders, names, strict=True)})  # a run may be named twice
    for level in range(min(len(folder.parents) for folder in folders)):
        if len({*names}) == several:
            break
        names = [f"{p.parents[level].name}/{n}" for p, n in zip(folders, names, strict=True)]
    return [replace(run, name=name) for (_, run), name in zip(found, names, strict=True)]


def main(argv: list[str]) -> int:
    folders, args = parse_with_positionals(Args, argv, __doc__, POSITIONALS)
    if not folders:
        raise UserError(f"write python -m minbert.report {POSITIONALS}, and options")
    check_not_replaced(Path(args.output), "--output")
    found = [(folder, run) for folder in map(Path, folders) for run in read_runs(folder)]
    runs = distinct(found)
    write_page(runs, Path(args.output))
    print(f"wrote {args.output}: {', '.join(run.name for run in runs)}")
    return 0


if __name__ == "__main__":
    run_script(main)
