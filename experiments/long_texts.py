"""What to read of long texts: python -m experiments.long_texts --model all-MiniLM-L6-v2 --seeds 3

Trains on CFIMDB, whose reviews have about 250 tokens, with each way to bring a text to 128 of them.
Prints the plan, then runs it, as experiments.one_model does; writes a table of RESULTS.md.
"""

from pathlib import Path

from experiments.ablation import AblationRow
from experiments.jobs import Job
from experiments.jobs import JobArgs as Args
from experiments.markdown import LONG_TEXTS
from experiments.run_ablation import run_ablation
from minbert.cli import parse_arguments, run_script
from minbert.data.long_texts import LONG
from minbert.files import write_text
from minbert.task.taskfile import make_task, task_file_text
from tasks import cfimdb

TITLE = "Table 6: what is read of long texts, CFIMDB at 128 tokens"
MAX_LENGTH = 128
ARGUMENTS = (
    "--mode", "single", "--tasks", "cfimdb", "--max-length", str(MAX_LENGTH), "--epochs", "2",
    "--lr", "1e-4", "--schedule", "linear", "--warmup", "0.1",
)  # fmt: skip
NOTE = (
    "The task files that the commands name are written by the command above with `--plan`. Where\n"
    "a run's record has the predictions of its best step alone, its last step has no interval.\n"
    "Minutes are means over the machines above, by which rows cannot be compared."
)


def table_6(root: Path) -> list[AblationRow]:
    """Return the rows of the table; each has its task file in `root`."""
    rows = []
    for way in LONG:
        words = (*ARGUMENTS, "--task-file", str(task_file(root, way)))
        rows.append(AblationRow(way, {"cfimdb": (Job(way, words),)}))
    return rows


def task_file(root: Path, way: str) -> Path:
    """Return where the task file of a way to read long texts is."""
    return root / f"{way}.toml"


def main(argv: list[str]) -> int:
    """Write the task files, print the plan, run it, write what it came to."""
    args = parse_arguments(Args, argv, __doc__)
    root = Path(args.output_dir) / f"long-texts-{Path(args.model).name}"
    for way in LONG:
        task = make_task("cfimdb", {**cfimdb.TABLE, "long": way})
        write_text(task_file(root, way), task_file_text([task]))
    run_ablation(TITLE, "experiments.long_texts", LONG_TEXTS, table_6(root), root, args, note=NOTE)
    return 0


if __name__ == "__main__":
    run_script(main)
