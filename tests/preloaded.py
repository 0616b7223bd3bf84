"""What the fork server imports once, so that a command costs no imports; it starts no thread."""

import pyarrow
import torch
import torch._dynamo  # else the first backward pass of every child imports it
from pyarrow import parquet

import evaluate
import minbert.export
import minbert.report.__main__
import pretrain_mlm
import train_multitask
from tests import forked
from tests.torture import probe

torch.set_num_threads(1)
pyarrow.set_cpu_count(1)

__all__ = [
    "evaluate", "forked", "minbert", "parquet", "pretrain_mlm", "probe", "train_multitask",
]  # fmt: skip
