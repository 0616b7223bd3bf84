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

from minbert.training.arguments import arg, parse_arguments, run_script
from minbert.training.device import choose_device, choose_precision
from minbert.weights.resolve import ALIASES, found_locally

LIBRARIES = ("torch", "numpy", "scipy", "tokenizers", "safetensors", "tqdm")
OPTIONAL = ("huggingface_hub", "pyarrow", "matplotlib", "transformers", "sentence-transformers")
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
    print(f"cpu      {os.cpu_count()} cores, {torch.get_num_threads()} threads used, {there}")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    print(f"gpu      {gpu}")
    rates = {name: rate(getattr(torch, name), device) for name in ("float32", "bfloat16")}
    shown = ", ".join(f"{name} {value:.2f} TFLOP/s" for name, value in rates.items())
    print(f"products {shown} on {device}")
    for name in ALIASES:
        found = found_locally(name)
        print(f"weights  {name}: {found or 'not here; --model downloads it where there is a hub'}")
    files = sorted(Path(args.data_dir).glob("*.csv"))
    listed = ", ".join(path.name for path in files) or "no files; `python -m tasks.download`"
    print(f"data     {args.data_dir}: {listed}")
    auto = "bf16" if choose_precision("auto", device) == torch.bfloat16 else "fp32"
    best = "bf16" if rates["bfloat16"] > rates["float32"] else "fp32"
    advice = "" if best == auto else f"; here --precision {best} is faster"
    print(f"fastest  --device {device.type} --precision {auto}, which is what auto takes{advice}")
    return 0


if __name__ == "__main__":
    run_script(main)
