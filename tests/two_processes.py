"""Gradients of a batch that two processes share: python -m tests.two_processes PORT

Prints a line for each kind of parallel model: its name, and how far its gradient is from that of
one process at most.
"""

import os
import sys
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DistributedDataParallel

from minbert import BertModel
from minbert.model.padded import pack
from tests.conftest import TINY
from tests.models import make_model

Call = Callable[[Tensor], tuple[Tensor, Tensor]]


def data_parallel(**options: bool) -> tuple[BertModel, Call]:
    model = make_model()
    model.word_embedding.sparse = options.pop("sparse", False)
    return model, DistributedDataParallel(model, **options)


def sharded(by_encode: bool) -> tuple[BertModel, Call]:
    model, mesh = make_model(), init_device_mesh("cpu", (2,))
    for layer in model.bert_layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    if not by_encode:
        return model, model
    register_fsdp_forward_method(model, "encode")
    return model, lambda ids: model.encode(pack(TINY, ids, None, None, None, None).batch)


KINDS: dict[str, Callable[[], tuple[nn.Module, Call]]] = {
    "plain": data_parallel,
    "static_graph": lambda: data_parallel(static_graph=True),
    "find_unused_parameters": lambda: data_parallel(find_unused_parameters=True),
    "sparse": lambda: data_parallel(sparse=True),
    "fsdp": lambda: sharded(by_encode=False),
    "fsdp_encode": lambda: sharded(by_encode=True),
}


def dense(gradient: Tensor) -> Tensor:
    whole = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
    return whole.to_dense() if whole.is_sparse else whole


def work(rank: int, port: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    ids = torch.randint(5, 200, (4, 9), generator=torch.Generator().manual_seed(0))
    alone = make_model()
    alone(ids)[1].square().mean().backward()
    for name, make in KINDS.items():
        model, call = make()
        call(ids[2 * rank : 2 * rank + 2])[1].square().mean().backward()
        pairs = zip(model.parameters(), alone.parameters(), strict=True)
        away = max((dense(p.grad) - q.grad).abs().max().item() for p, q in pairs)
        if rank == 0:
            print(name, away, flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.multiprocessing.spawn(work, (sys.argv[1],), nprocs=2)
