"""How memory is handed out: large blocks go back, small ones stay; and when there is no more."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from minbert import BertTokenizer
from minbert.cli import run_script
from minbert.data.tokenizer import CHARACTERS_PER_TOKEN, LONGEST
from minbert.data.vocabulary import SPECIAL

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


# Says whether a tensor of 64 MiB has huge pages, by /proc/self/smaps: hg stands for them.
HUGE = """
{begin}
import torch
held = torch.ones(64 << 18)
flags, start, end = "", 0, 0
for line in open("/proc/self/smaps"):
    if "-" in (place := line.split()[0]):
        start, end = (int(number, 16) for number in place.split("-"))
    elif line.startswith("VmFlags") and start <= held.data_ptr() < end:
        flags = line
print(" hg" in flags)
"""
SCRIPTS = "evaluate, pretrain_mlm, train_multitask, minbert.export, experiments.one_model"


def has_huge_pages(begin: str) -> bool:
    unset = {name: x for name, x in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    script = HUGE.format(begin=begin)
    ran = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, env=unset)
    return ran.stdout == b"True\n"


def test_scripts_have_huge_pages_for_large_tensors() -> None:
    """Which they do not have if a module makes a tensor while it is imported."""
    if not has_huge_pages("import os; os.environ['THP_MEM_ALLOC_ENABLE'] = '1'"):
        pytest.skip("this system gives no huge pages, or does not tell of them")
    assert has_huge_pages(f"import {SCRIPTS}\n{TUNE}")


def test_a_lack_of_memory_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Of PyTorch's own error on a CPU, the words of a GPU's, and Python's."""

    def too_large(argv: list[str]) -> int:
        return len(torch.empty(1 << 50, dtype=torch.uint8))

    def on_a_gpu(argv: list[str]) -> int:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")

    def in_python(argv: list[str]) -> int:
        raise MemoryError

    asked = {too_large: " when 1125899906842624 bytes", on_a_gpu: " when 2.00 GiB", in_python: ""}
    for main, amount in asked.items():
        with pytest.raises(SystemExit) as end:
            run_script(main)
        said = capsys.readouterr().err
        assert end.value.code == 2 and said.count("\n") == 1
        assert said.startswith(f"error: out of memory{amount}") and "--batch-size" in said


def test_another_fault_of_pytorch_is_no_lack_of_memory() -> None:
    def main(argv: list[str]) -> int:
        return int((torch.zeros(2) @ torch.zeros(3)).item())

    with pytest.raises(RuntimeError, match="size"):
        run_script(main)


class Recorder:
    """A tokenizer that records the texts that each of its calls is given."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.given: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.tokenizer, name)
        if not name.startswith("encode"):
            return method

        def record(texts: Any, **options: Any) -> Any:
            self.given.append(texts)
            return method(texts, **options)

        return record


def test_no_more_of_a_text_is_tokenized_than_may_be_read(tmp_path: Path) -> None:
    """A line of 80 MB would take 10 GB: of texts, of pairs, of words and of spans."""
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, "a"]) + "\n")
    tokenizer = BertTokenizer.from_directory(tmp_path)
    recorder = tokenizer.tokenizer = Recorder(tokenizer.tokenizer)
    length = 5
    most = length * CHARACTERS_PER_TOKEN
    text = "a " * most
    cut = text[:most]
    tokenizer.encode_batch([text, "a"], None, length)
    tokenizer.encode_batch([text, "a"], ["a", text], length)
    tokenizer.encode_words([[text, "a"], ["a"] * (most + 1)], length)
    tokenizer.word_spans("a" * (LONGEST * CHARACTERS_PER_TOKEN + 1))
    texts, pairs, words, span = recorder.given
    assert texts == [cut, "a"] and pairs == [(cut, "a"), ("a", cut)]
    assert words == [[cut, "a"], ["a"] * most]
    assert len(span) == LONGEST * CHARACTERS_PER_TOKEN
