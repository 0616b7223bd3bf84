"""What this machine has, and what runs fastest on it: python -m minbert.doctor

Looks, measures two matrix products, downloads nothing.
"""

import os
import platform
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from minbert.cli import arg, parse_arguments, run_script
from minbert.task.course import COURSE_TASKS
from minbert.task.taskfile import read_tasks
from minbert.training.device import choose_device, choose_precision, cpu_model
from minbert.weights.resolve import ALIASES, found_locally

LIBRARIES = ("torch", "numpy", "scipy", "tokenizers", "safetensors", "tqdm")
OPTIONAL = (
    "huggingface_hub", "pyarrow", "matplotlib", "transformers", "sentence-transformers",
    "onnx", "onnxscript", "onnxruntime", "tensorboard",
)  # fmt: skip
HUB = ("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT")  # where weights are looked for
SIZE = 1024  # of the matrices


@dataclass(frozen=True)
class Args:
    """Where to look."""

    data_dir: str = arg("data", "directory with the tasks' files")


def versions(names: tuple[str, ...]) -> str:
    """name version, or name and a dash where it is not installed."""
    parts = []
    for name in names:
        try:
            parts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            parts.append(f"{name} -")
    return ", ".join(parts)


def rate(dtype: torch.dtype, device: torch.device) -> float:
    """TFLOP/s of a product of two square matrices, the best of five."""
    a, b = (torch.randn(SIZE, SIZE, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        (a @ b)[0, 0].item()  # waits for a GPU too
        seconds.append(time.perf_counter() - started)
    return 2 * SIZE**3 / min(seconds[1:]) / 1e12


def memory() -> str:
    """Of the machine; a question mark where the system does not say (Windows)."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return "? GiB"
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"


def gpu() -> str:
    if not torch.cuda.is_available():
        return "none"
    total = torch.cuda.get_device_properties(0).total_memory
    return f"{torch.cuda.get_device_name()}, {total / 2**30:.0f} GiB"


def data_lines(folder: Path) -> list[str]:
    """The tasks' files that are there, and those that are not with what fetches them."""
    there = sorted(path.name for path in folder.glob("*.csv"))
    lines = [f"data     {folder}: {', '.join(there) or 'no files'}"]
    tasks = read_tasks(COURSE_TASKS, "the course's tasks", None).values()
    without = {t.name: [f for f in t.files.values() if f not in there] for t in tasks}
    if missing := [file for files in without.values() for file in files]:
        names = ",".join(name for name, files in without.items() if files)
        fetch = f"python -m tasks.download --to {folder} --tasks {names}"
        lines.append(f"missing  {', '.join(missing)}: `{fetch}`")
    return lines


def main(argv: list[str]) -> int:
    args = parse_arguments(Args, argv, __doc__.split("\n")[0])
    device = choose_device("auto")
    print(f"python   {platform.python_version()} on {platform.system()} {platform.machine()}")
    print(f"packages {versions(LIBRARIES)}")
    print(f"optional {versions(OPTIONAL)}")
    features = {
        "amx_bf16": torch.cpu._is_amx_tile_supported(),
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
    }
    there = ", ".join(name for name, has in features.items() if has) or "no bf16 units"
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads used"
    print(f"cpu      {cpu_model()}, {cores}, {there}, {memory()} of memory")
    print(f"gpu      {gpu()}")
    rates = {name: rate(getattr(torch, name), device) for name in ("float32", "bfloat16")}
    shown = ", ".join(f"{name} {value:.2f} TFLOP/s" for name, value in rates.items())
    print(f"products {shown} on {device}")
    for name in ALIASES:
        found = found_locally(name)
        print(f"weights  {name}: {found or 'not here; --model downloads it where there is a hub'}")
    hub = ", ".join(f"{name}={os.environ[name]}" for name in HUB if name in os.environ)
    print(f"hub      {hub or 'none set of ' + ', '.join(HUB)}")
    print("\n".join(data_lines(Path(args.data_dir))))
    auto = "bf16" if choose_precision("auto", device) == torch.bfloat16 else "fp32"
    best = "bf16" if rates["bfloat16"] > rates["float32"] else "fp32"
    advice = "" if best == auto else f"; here --precision {best} is faster"
    print(f"fastest  --device {device.type} --precision {auto}, which is what auto takes{advice}")
    return 0


if __name__ == "__main__":
    run_script(main)
