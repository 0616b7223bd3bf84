"""Heads that are trained before the encoder is (LP-FT, Kumar et al., 2022)."""

import torch

from minbert.batch import to_device
from minbert.data.encoded import Splits
from minbert.data.items import item_labels, items_of
from minbert.data.sampler import batch_rows, count_batches
from minbert.model.multitask import MultitaskNetwork
from minbert.progress import progress
from minbert.run.train_args import FROZEN_LR, Args
from minbert.task.evaluation import encode_features
from minbert.task.task import Tasks
from minbert.training import distributed
from minbert.training.optimizer import AdamW


def train_heads(model: MultitaskNetwork, tasks: Tasks, splits: Splits, args: Args) -> None:
    """Train every head for --heads-first passes over its set, before the encoder is trained.

    The encoder's outputs are computed once; siamese heads, which compare two of them, are left as
    they are. All processes do the same, and take the first one's result.
    """
    device = model.encoder.device
    for name, task in tasks.items():
        head, split = model.heads[name], splits[name]
        if head.config.siamese:
            continue
        features = to_device(encode_features(model, {name: split})[name], device)
        labels = to_device(torch.from_numpy(item_labels(split)), device)
        optimizer = AdamW(
            head.parameters(), lr=FROZEN_LR, correct_bias=args.correct_bias, kernels=args.kernels
        )
        batches = count_batches({name: len(split)}, args.batch_size)[name]
        head.train()
        for step in progress(range(args.heads_first * batches), f"{name}: head"):
            torch.manual_seed(distributed.mixed_seed(args.seed, step))
            epoch, batch = divmod(step, batches)
            rows = batch_rows(
                len(split), args.batch_size, num_batches=batches, seed=args.seed, task=name,
                epoch=epoch, batch=batch,
            )  # fmt: skip
            items = torch.from_numpy(items_of(split, rows)[0]).to(device)
            if len(items) == 0:  # not a word in them that the model can read
                continue
            task.loss(head(features[items]), labels[items]).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        print(f"{name}: head trained first, {args.heads_first * batches} steps", flush=True)
    # from the CPU: another process would open the GPU that a tensor came from
    trained = {name: w.cpu() for name, w in model.heads.state_dict().items()}
    model.heads.load_state_dict(distributed.all_gather(trained)[0])
