"""What this machine has, and what runs fastest on it: python -m minbert.doctor

It reads settings and files, times two matrix products and downloads nothing.
"""

import os
import platform
import shlex
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from minbert.cli import arg, parse_arguments, run_script
from minbert.data.conll import CONLL
from minbert.data.tables import TABLES, file_ending
from minbert.errors import UserError
from minbert.task.course import COURSE_TASKS
from minbert.task.taskfile import read_tasks
from minbert.training.device import (
    choose_device,
    choose_precision,
    cpu_model,
    has_amx,
    precision_name,
)
from minbert.weights.resolve import ALIASES, find_locally

LIBRARIES = ("torch", "numpy", "scipy", "tokenizers", "safetensors", "tqdm")
OPTIONAL = (
    "huggingface_hub", "pyarrow", "matplotlib", "transformers", "sentence-transformers",
    "onnx", "onnxscript", "onnxruntime", "tensorboard",
)  # fmt: skip
# Environment variables that decide where weights are looked for.
HUB = ("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT")
ENDINGS = (*TABLES, *CONLL, ".txt")  # of the files of tasks, as people call them
SIZE = 1024  # rows and columns of the matrices whose product is timed
SECONDS = 0.5  # for each precision: a CPU without bf16 units takes two seconds a product


@dataclass(frozen=True)
class Args:
    """The one argument: where the data is."""

    data_dir: str = arg("data", "directory with the tasks' files")


def versions(names: tuple[str, ...]) -> str:
    """Return the installed versions; a dash stands for a package that is not installed."""
    parts = []
    for name in names:
        try:
            parts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            parts.append(f"{name} -")
    return ", ".join(parts)


def rate(dtype: torch.dtype, device: torch.device) -> float:
    """Measure the product of two square matrices: the best rate of one to five, in TFLOP/s."""
    a, b = (torch.randn(SIZE, SIZE, device=device).to(dtype) for _ in range(2))
    seconds = []
    while len(seconds) < 2 or (len(seconds) < 6 and sum(seconds) < SECONDS):
        started = time.perf_counter()
        (a @ b)[0, 0].item()  # .item() waits until a GPU is done
        seconds.append(time.perf_counter() - started)
    return 2 * SIZE**3 / min(seconds[1:]) / 1e12


def memory() -> str:
    """Return the size of the machine's memory; Windows does not tell it: a question mark."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return "? GiB"
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"


def gpu() -> str:
    """Return the GPU's name and memory."""
    if not torch.cuda.is_available():
        return "none"
    total = torch.cuda.get_device_properties(0).total_memory
    return f"{torch.cuda.get_device_name()}, {total / 2**30:.0f} GiB"


def data_lines(folder: Path) -> list[str]:
    """List the files of tasks that a folder has, and the course's that are missing.

    These are offered for download unless the folder has files of other tasks alone.
    """
    files = sorted(path.name for path in folder.glob("*") if file_ending(path) in ENDINGS)
    lines = [f"data     {folder}: {', '.join(files) or 'no files'}"]
    tasks = list(read_tasks(COURSE_TASKS, "the course's tasks", None).values())
    missing = {
        t.name: [name for names in t.files.values() for name in names if name not in files]
        for t in tasks
    }
    of_course = any(name in files for t in tasks for names in t.files.values() for name in names)
    others = [name for name in files if file_ending(Path(name)) != ".txt"]  # which may be a README
    if any(missing.values()) and (of_course or not others):
        names = ",".join(task for task, lacking in missing.items() if lacking)
        fetch = f"python -m tasks.download --to {shlex.quote(str(folder))} --tasks {names}"
        listed = ", ".join(file for lacking in missing.values() for file in lacking)
        lines.append(f"missing  {listed}: `{fetch}`")
    return lines


def main(argv: list[str]) -> int:
    args = parse_arguments(Args, argv, __doc__)
    device = choose_device("auto")
    print(f"python   {platform.python_version()} on {platform.system()} {platform.machine()}")
    print(f"packages {versions(LIBRARIES)}")
    print(f"optional {versions(OPTIONAL)}")
    features = {
        "amx_bf16": has_amx(),
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
    }
    units = ", ".join(name for name, has in features.items() if has) or "no bf16 units"
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads used"
    print(f"cpu      {cpu_model()}, {cores}, {units}, {memory()} of memory")
    print(f"gpu      {gpu()}")
    rates = {name: rate(getattr(torch, name), device) for name in ("float32", "bfloat16")}
    products = ", ".join(f"{name} {value:.2f} TFLOP/s" for name, value in rates.items())
    print(f"products {products} on {device}")
    for name in ALIASES:
        print(f"weights  {name}: {where_weights_are(name)}")
    hub = ", ".join(f"{name}={os.environ[name]}" for name in HUB if name in os.environ)
    print(f"hub      {hub or 'none set of ' + ', '.join(HUB)}")
    print("\n".join(data_lines(Path(args.data_dir))))
    auto = precision_name(choose_precision("auto", device))
    best = "bf16" if rates["bfloat16"] > rates["float32"] else "fp32"
    advice = "" if best == auto else f"; here --precision {best} is faster"
    print(f"fastest  --device {device.type} --precision {auto}, which is what auto takes{advice}")
    return 0


def where_weights_are(name: str) -> str:
    """Return a model's directory on this machine, or why there is none that can be used."""
    try:
        found = find_locally(name)
    except UserError as error:  # what a damaged download says for itself
        return str(error)
    return str(found or "not here; --model downloads it where there is a hub")


if __name__ == "__main__":
    run_script(main)
