"""How the C library hands out the memory of a CPU's tensors, and what to do if there is no more."""

import ctypes
import os
import re
import sys

# glibc's names and numbers (malloc.h)
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
LARGE = 4 << 20  # bytes; a block from here on is the system's again as soon as it is freed
KEPT = 256 << 20  # freed bytes of smaller blocks that stay with the process for its next ones
# what PyTorch says of a GPU, of a CPU, and of a library that it calls
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "Cannot allocate memory", "bad_alloc")


def tune_allocator() -> None:
    """Give large tensors huge pages, and the system its memory back when they are freed.

    With huge pages a step has a third fewer page faults; they took a fifth of its time once, and on
    another machine none that could be seen. PyTorch reads the variable at its first
    allocation: no module may make a tensor while it is imported. 0 turns it off. Blocks with huge
    pages begin at multiples of 2 MiB. Among small blocks they leave gaps that nothing fits into:
    with --accumulate, which keeps gradients while all else is freed, a run took 8.1 GiB instead of
    6.6. So each block from LARGE bytes on is mapped by itself. A user's MALLOC_... variables stand.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    chosen = any(name.startswith("MALLOC_") for name in os.environ)
    if sys.platform == "linux" and not chosen:
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):  # not every C library has it
            library.mallopt(MMAP_THRESHOLD, LARGE)
            library.mallopt(TRIM_THRESHOLD, KEPT)


def lack_of_memory(error: Exception) -> str:
    """Return a line about memory that could not be had, and what to do; "" for another error."""
    text = str(error)
    if not (isinstance(error, MemoryError) or any(lack in text for lack in OUT_OF_MEMORY)):
        return ""
    asked = re.search(r"allocate ([\d.]+ \w+)", text)
    where = f" when {asked[1]} were asked for" if asked else ""
    return (
        f"out of memory{where}: where texts are read, take a smaller --max-length; in training "
        "also a smaller --batch-size, or --checkpoint-activations, or for long texts --accumulate, "
        "which --resume takes, too"
    )
