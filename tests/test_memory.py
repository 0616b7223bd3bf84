"""How memory is handed out: large blocks go back, small ones stay."""

import subprocess
import sys

import pytest

# Prints how many bytes are mapped for large blocks, before and after a torch.empty of 8 MiB. The
# block before it is what glibc would learn from to keep blocks of that size among the small ones.
SCRIPT = """
import ctypes
{tune}
import torch
names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]
info = ctypes.CDLL(None).mallinfo2
info.restype = Info
del (before := [torch.empty(24 << 20, dtype=torch.uint8)])[0]
start = info().hblkhd
held = torch.empty(8 << 20, dtype=torch.uint8)
print(info().hblkhd - start)
"""
TUNE = "from minbert.memory import tune_allocator; tune_allocator()"


def mapped(tune: str, **environment: str) -> int:
    """Return the bytes that a new tensor of 8 MiB took of the system, in a process of its own."""
    script = SCRIPT.format(tune=tune)
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True,
        env={"THP_MEM_ALLOC_ENABLE": "1"} | environment,
    )  # fmt: skip
    if "mallinfo2" in result.stderr:
        pytest.skip("this C library does not tell what it maps")
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


def test_large_tensors_are_blocks_of_their_own() -> None:
    assert mapped(TUNE) >= 8 << 20


def test_the_user_s_own_choice_stands() -> None:
    assert mapped(TUNE, MALLOC_MMAP_THRESHOLD_="33554432") == 0
