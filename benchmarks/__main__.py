"""Measure minbert beside the libraries: python -m benchmarks --data-dir data

It writes BENCHMARKS.md and benchmarks.json; a benchmark that is run again replaces its figures.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contest import DEVICE
from benchmarks.contestants import Places
from benchmarks.report import check_report, write_report
from benchmarks.runtimes import check_installed
from benchmarks.sets import GPU_SETS, SETS
from minbert import BertConfig, BertModel
from minbert.cli import arg, parse_arguments, run_script
from minbert.errors import UserError
from minbert.parsers import comma_list
from minbert.task.loading import check_files
from minbert.weights.resolve import resolve
from tasks import TASKS

ALL = SETS | GPU_SETS
NEED_LARGE = {"train_step_large", *GPU_SETS}
ENCODING = {"encode", "encode_one", "pairs", "pairs_one", "busy_encode_one"}
TOKENIZER_FILES = ("vocab.txt", "tokenizer.json", "tokenizer_config.json")
DEFAULT_MODEL = "all-MiniLM-L6-v2"
TRAINED = ("sst", "quora", "sts")


@dataclass(frozen=True)
class Args:
    """What to measure and where."""

    only: tuple[str, ...] = arg(
        (), f"of {', '.join(ALL)} (default: all with a GPU, else those for a CPU)", parse=comma_list
    )
    model: str = arg(DEFAULT_MODEL, "model name or directory")
    data_dir: str = arg("data", "directory with the tasks' files")
    output_dir: str = arg("checkpoints", "the tasks' ids are cached in it")
    turns: int = arg(
        5,
        "of every contestant, after one to warm up; whatever is said, memory_large has 1, scaling "
        "by rows 3, frozen at most 3 and time_to_score 10",
        low=1,
        high=1000,
    )
    results: str = arg("benchmarks", "BENCHMARKS.md and benchmarks.json go here")


def main(argv: list[str]) -> int:
    args = parse_arguments(Args, argv, __doc__)
    unknown = [name for name in args.only if name not in ALL]
    if unknown:
        raise UserError(f"--only {unknown[0]}: write some of {', '.join(ALL)}")
    if not Path(args.data_dir).is_dir():
        raise UserError(f"--data-dir {args.data_dir}: no such directory")
    chosen = args.only or (ALL if DEVICE.type == "cuda" else SETS)
    check_report(Path(args.results))  # before hours of work
    if DEVICE.type == "cpu" and ENCODING.intersection(chosen):
        check_installed()
    check_files([TASKS[name] for name in TRAINED], Path(args.data_dir), ("train", "dev"))
    model = resolve(args.model)
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "large"
        if NEED_LARGE.intersection(chosen):
            BertModel(BertConfig()).save_pretrained(large)
            for path in (model / name for name in TOKENIZER_FILES):
                if path.is_file():
                    shutil.copy(path, large)
        name = Path(args.model).name
        title = "MiniLM" if name == DEFAULT_MODEL else name
        data, cache = Path(args.data_dir).resolve(), Path(args.output_dir).resolve()
        # whole paths: some contestants work in another folder
        places = Places(str(model.resolve()), str(large), str(data), str(cache), args.turns, title)
        other = "" if name == DEFAULT_MODEL else f" --model {name}"
        for one in chosen:
            print(f"{one} ...", flush=True)
            section = ALL[one](places)
            words = f"--only {one} --turns {args.turns}{other} --data-dir DIR"
            write_report(Path(args.results), one, section, f"python -m benchmarks {words}")
            for row in section.rows:
                print("  " + "  ".join(row))
            for line in section.lines:
                print("  " + line)
    return 0


if __name__ == "__main__":
    run_script(main)
