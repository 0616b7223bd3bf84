"""What a run would be: its data, steps, time and memory, from a few steps that are thrown away."""

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from minbert.data.encoded import EncodedSplit
from minbert.data.sampler import shuffled

WARM_UP, MEASURED = 2, 6  # steps


def seconds_a_step(train_step: Callable[[int], None], finish: Callable[[], None]) -> float:
    """Mean of a few steps, after some to warm up. finish waits until the device has done them."""
    for step in range(WARM_UP):
        train_step(step)
    finish()
    started = time.monotonic()
    for step in range(WARM_UP, WARM_UP + MEASURED):
        train_step(step)
    finish()
    return (time.monotonic() - started) / MEASURED


def padded_share(split: EncodedSplit, batch_size: int) -> float:
    """Tokens of random batches padded to their longest, over real tokens: what packing saves."""
    lengths = split.lengths[shuffled(len(split), 0, "", 0)]
    batches = np.array_split(lengths, max(1, len(lengths) // batch_size))
    return sum(len(b) * int(b.max()) for b in batches) / int(lengths.sum())


def peak_gib(device: torch.device) -> float:
    """The largest size so far: of the GPU's tensors, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def described(
    args: Any, train: dict[str, EncodedSplit], dev: dict[str, EncodedSplit], steps: int,
    seconds: float | None, device: torch.device,
) -> str:  # fmt: skip
    """Lines for people. seconds: of a step; None if steps cost nothing beside the encoding."""
    lines = ["arguments:"]
    lines += [f"  {name}: {value}" for name, value in asdict(args).items() if value not in ("", {})]
    lines.append("data (rows to train and evaluate on, mean tokens, what padding would add):")
    size = args.batch_size if isinstance(args.batch_size, int) else 32
    for name, split in train.items():
        more = padded_share(split, size) - 1
        mean = float(split.lengths.mean())
        lines.append(f"  {name}: {len(split):,} and {len(dev[name]):,}, {mean:.1f}, {more:+.0%}")
    if seconds is None:
        lines.append(f"steps: {steps:,}, of the heads alone: the encoder reads every row once")
    else:
        minutes = steps * seconds / 60
        lines.append(
            f"steps: {steps:,} of {seconds:.3f} s: {minutes:.1f} minutes, evaluation apart"
        )
    lines.append(f"memory: {peak_gib(device):.2f} GiB after {WARM_UP + MEASURED} steps")
    return "\n".join(lines)
