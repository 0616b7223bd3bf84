"""How the C library hands out the memory of a CPU's tensors."""

import ctypes
import os
import sys

# glibc's names and numbers (malloc.h)
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
LARGE = 4 << 20  # bytes; a block from here on is the system's again as soon as it is freed
KEPT = 256 << 20  # freed bytes of smaller blocks that stay with the process for its next ones


def tune_allocator() -> None:
    """Give large tensors huge pages, and the system its memory back when they are freed.

    Without huge pages a step spends a fifth of its time on page faults. PyTorch reads the variable
    at its first allocation; 0 turns it off. Such blocks begin at multiples of 2 MiB, and among the
    small ones they leave gaps that nothing fits into: with --accumulate, whose gradients stay
    while all else comes and goes, 8.1 GiB where 6.6 are enough. So each gets pages of its own.
    A user's MALLOC_... variables stand.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    chosen = any(name.startswith("MALLOC_") for name in os.environ)
    if sys.platform == "linux" and not chosen:
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):  # not every C library has it
            library.mallopt(MMAP_THRESHOLD, LARGE)
            library.mallopt(TRIM_THRESHOLD, KEPT)
