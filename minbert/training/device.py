"""Which device and which precision: by capability, not by name."""

import platform
from pathlib import Path

import torch

from minbert.errors import UserError
from minbert.training import distributed

DEVICES, PRECISIONS = ("cpu", "cuda", "mps"), ("auto", "fp32", "bf16")


def choose_device(name: str) -> torch.device:
    """Return a device by name; auto: cuda if there is one, else cpu, never mps.

    Raises UserError for one that is not there, or that this process would have to share.
    """
    try:
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
        device = torch.device(chosen if name == "auto" else name)
    except (RuntimeError, TypeError):  # not a name of any device
        device = None
    if device is None or device.type not in DEVICES:
        raise UserError(f"--device {name}: write auto, {', '.join(DEVICES)}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"--device {name}: this machine has no CUDA device; write --device cpu (in place of "
            f"--use-gpu, too)"
        )
    last = torch.cuda.device_count() - 1
    if device.type == "cuda" and (device.index or 0) > max(0, last):
        raise UserError(f"--device {name}: this machine's GPUs end at cuda:{last}")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"--device {name}: this machine has no MPS device; write --device cpu")
    if device.type == "cuda" and device.index is not None and distributed.world_size() > 1:
        raise UserError(f"--device {name}: each process has a GPU of its own; write --device cuda")
    if device.type == "cuda" and distributed.world_size() > 1 and not distributed.has_own_gpu():
        raise UserError(
            f"more processes than GPUs: write --nproc-per-node {torch.cuda.device_count()}, or "
            f"--device cpu"
        )
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Return a precision by name; auto: bf16 where its products are fast, else fp32.

    bf16 is fast on CPUs with AMX or avx512_bf16 and recent GPUs. Raises UserError for another name.
    """
    if name not in PRECISIONS:
        raise UserError(f"precision {name!r}: write one of {', '.join(PRECISIONS)}")
    if name == "fp32":
        return torch.float32
    if name == "bf16":
        return torch.bfloat16
    if device.type == "cuda":  # older GPUs emulate it, slowly
        major, _ = torch.cuda.get_device_capability(device)
        return torch.bfloat16 if major >= 8 else torch.float32
    fast = torch.cpu._is_avx512_bf16_supported() or has_amx()
    return torch.bfloat16 if fast else torch.float32


def precision_name(dtype: torch.dtype) -> str:
    """Return what --precision calls a dtype of the products."""
    return {torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype]


def has_amx() -> bool:
    """Return whether the CPU has matrix units (AMX), which make products fast and nothing else."""
    return torch.cpu._is_amx_tile_supported()


def describe_machine(device: torch.device, about_cpu: str = "") -> str:
    """Return a GPU's name, or the processor's and how many threads there are.

    about_cpu: what stands after the processor's name.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cpu_model()}{about_cpu}, {torch.get_num_threads()} threads"


def cpu_model() -> str:
    """Return the processor's name: as Linux has it, else what Python knows."""
    info = Path("/proc/cpuinfo")
    lines = (
        info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    )
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
