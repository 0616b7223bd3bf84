"""Show a run, or compare several, on one page: python -m minbert.report RUN... [--output FILE]

The page needs no network; the report.html in a run's folder is made the same way.
"""

from dataclasses import replace
from pathlib import Path

from minbert.cli import run_script
from minbert.errors import UserError
from minbert.report.files import read_runs, write_page

USAGE = "usage: python -m minbert.report RUN... [--output FILE]"


def main(argv: list[str]) -> int:
    output, folders = Path("report.html"), []
    words = iter(argv)
    for word in words:
        if word in ("-h", "--help"):
            print(f"{__doc__}\n{USAGE}")
            return 0
        if word == "--output":
            output = output_path(next(words, ""))
        elif word.startswith("--output="):
            output = output_path(word.partition("=")[2])
        elif word.startswith("-"):
            raise UserError(f"unknown argument {word!r}; {USAGE}")
        else:
            folders.append(Path(word))
    if not folders:
        raise UserError(USAGE)
    found = [(folder, run) for folder in folders for run in read_runs(folder)]
    runs = [run for _, run in found]
    if len({run.name for run in runs}) < len(runs):  # as of a/seed-11711 and b/seed-11711
        above = [folder.resolve().parent.name for folder, _ in found]
        runs = [replace(run, name=f"{n}/{run.name}") for n, run in zip(above, runs, strict=True)]
    write_page(runs, output)
    print(f"wrote {output}: {', '.join(run.name for run in runs)}")
    return 0


def output_path(name: str) -> Path:
    """Return the file that --output names. Raises UserError if it names none."""
    if not name or name.startswith("-"):
        raise UserError(f"--output needs the name of a file; {USAGE}")
    return Path(name)


if __name__ == "__main__":
    run_script(main)
