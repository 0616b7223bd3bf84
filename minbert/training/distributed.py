"""Several processes, one batch: what torchrun started works as one (data parallelism).

Every process holds the whole model and draws the same batch; each takes its share of the rows, the
gradients are added up, and all make the same update. The first process alone writes files. Without
torchrun everything here does nothing.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from minbert.errors import UserError
from minbert.printable import nowhere

T = TypeVar("T")
# What torchrun sets beside WORLD_SIZE.
TORCHRUN_VARIABLES = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
ALONE: ContextVar[bool] = ContextVar("ALONE", default=False)
TIMEOUT = timedelta(hours=6)  # for the first process's reading and encoding of all files


@contextmanager
def process_group() -> Iterator[None]:
    """Connect the processes that torchrun started; without torchrun do nothing.

    Only the first one prints on stdout. Raises UserError when another one ends before its time.
    """
    if "WORLD_SIZE" not in os.environ:
        yield
        return
    if missing := [name for name in TORCHRUN_VARIABLES if name not in os.environ]:
        raise UserError(
            f"WORLD_SIZE is set, {missing[0]} is not: start several processes with torchrun, or "
            f"unset WORLD_SIZE for one"
        )
    if has_own_gpu():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
                                timeout=TIMEOUT)  # fmt: skip
        if rank() > 0:
            sys.stdout = nowhere()  # for as long as the process lives
        yield
    except RuntimeError as error:  # torch.distributed's errors are of this class, too
        if not tells_of_lost_process(error):
            raise
        if not dist.is_initialized():
            reason = str(error).splitlines()[0].rpartition("message: ")[2]
            place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            hint = "; set MASTER_PORT to a free port" if "in use" in reason else ""
            raise UserError(f"the processes cannot connect at {place}: {reason}{hint}") from error
        what = f"another process ended ({str(error)[:80]}); what it said, if anything, is above"
        if "timed out" in str(error).lower():
            what = f"another process did not answer for {TIMEOUT}"
        raise UserError(f"process {rank()} of {world_size()}: {what}") from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def alone() -> Iterator[None]:
    """Let this process work by itself, also in a program whose own processes are connected.

    Such a program gives each process other texts, or calls only one of them.
    """
    token = ALONE.set(True)
    try:
        yield
    finally:
        ALONE.reset(token)


def tells_of_lost_process(error: BaseException | None) -> bool:
    """Return whether an error says that a connection to another process is gone."""
    signs = ("Connection", "gloo", "NCCL", "timed out", "Timed out")
    return isinstance(error, dist.DistNetworkError) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)
    )


def rank() -> int:
    """Return this process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() and not ALONE.get() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() and not ALONE.get() else 1


def has_own_gpu() -> bool:
    """Return whether this process has a GPU that no other one uses, which NCCL requires."""
    return int(os.environ.get("LOCAL_RANK", "0")) < torch.cuda.device_count()


def shard(items: Sequence[T]) -> Sequence[T]:
    """Return this process's share; those of all processes together are all items, each once."""
    return items[rank() :: world_size()]


@contextmanager
def first_before_others() -> Iterator[None]:
    """Let the first process through alone, then the others, who find its files; then all go on."""
    if rank() > 0:
        barrier()
    yield
    if rank() == 0:
        barrier()
    barrier()


def barrier() -> None:
    """Wait until all processes are here."""
    if world_size() > 1:
        dist.barrier()


def own_seed(seed: int, step: int) -> int:
    """Return a seed that differs for every step and process.

    So dropout depends on the numbers of processes and micro-batches. Nothing else in a step depends
    on them, except the order in which terms are added.
    """
    return mixed_seed(seed, step, rank())


def mixed_seed(*numbers: int) -> int:
    """Return a seed that differs wherever one of these numbers does."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def micro_batches(
    rows: np.ndarray, parts: int, counts: np.ndarray | None = None
) -> list[tuple[np.ndarray, float]]:
    """Split this process's rows of a batch into at most `parts`, each with its weight in the mean.

    counts: how many terms of the batch's mean loss each row has, (len(rows),); None: one each. A
    process that has none left takes part with a row of weight zero.
    """
    counts = np.ones(len(rows), dtype=np.int64) if counts is None else counts
    local = shard(np.arange(len(rows)))
    if len(local) == 0:
        return [(rows[:1], 0.0)]
    cut, total = np.array_split(local, min(parts, len(local))), max(1, int(counts.sum()))
    return [(rows[part], int(counts[part].sum()) / total) for part in cut]


def all_gather(value: T) -> list[T]:
    """Return every process's value to all of them, by rank."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def all_reduce_sum(value: float) -> float:
    """Return the sum of all processes' values."""
    if world_size() == 1:
        return value
    return all_reduce_sums(torch.tensor([value], dtype=torch.float64, device="cpu"))[0]


def all_reduce_sums(values: Tensor) -> list[float]:
    """Return the sum of all processes' (n,) tensors, entry by entry; waits for the device."""
    box = values.cpu().double()  # in this order: MPS has no doubles
    if world_size() > 1:
        dist.all_reduce(box)
    return box.tolist()


def any_rank(flag: bool) -> bool:
    """Return whether the flag is set in one process or more."""
    return all_reduce_sum(float(flag)) > 0


def sum_gradients(parameters: Iterable[Tensor]) -> None:
    """Sum each gradient over the processes; all have gradients of the same parameters.

    They are added up as one dense vector: a sparse gradient has other rows in every process.
    """
    if world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:  # heads that compare by cosine may have no parameters
        return
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    parts = flat.split([g.numel() for g in gradients])
    torch._foreach_copy_(gradients, [p.view_as(g) for p, g in zip(parts, gradients, strict=True)])


def allows_sparse_gradients(device: torch.device) -> bool:
    """Return whether the word embedding's gradient may be sparse: the rows of a batch alone.

    Only in one process (see `sum_gradients`), and on a CPU, where writing a gradient for every
    word of the vocabulary would take longer than most of the step.
    """
    return world_size() == 1 and device.type == "cpu"
