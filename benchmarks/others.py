"""Training loops and encoders of the libraries, used as their own examples use them."""

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.trainer_pt_utils import get_length_grouped_indices

from benchmarks.contest import DEVICE, Work
from benchmarks.ours import Turn, encoding_turn, products
from minbert import BertTokenizer
from minbert.data.encoded import EncodedSplit, Splits, limit_rows
from minbert.data.sampler import batch_rows, count_batches
from minbert.run.resolve_args import resolve_arguments
from minbert.run.train_args import Args, data_source
from minbert.task.loading import distinct_sentences, load_task
from tasks import TASKS

DROPOUT, LR, CLIP = 0.3, 5e-5, 1.0


def padded(split: EncodedSplit, rows: np.ndarray) -> dict[str, torch.Tensor]:
    """Return rows as (B, T) tensors, padded to the longest of them."""
    lengths = split.lengths_of(rows)
    ids = np.zeros((len(rows), lengths.max()), dtype=np.int64)
    mask, segments = np.zeros_like(ids), np.zeros_like(ids)
    for place, row in enumerate(rows):
        n = lengths[place]
        ids[place, :n] = split.ids[split.offsets[row] : split.offsets[row + 1]]
        mask[place, :n] = 1
        segments[place, split.segment_starts[row] : n] = 1
    arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}
    return {name: torch.from_numpy(array).to(DEVICE) for name, array in arrays.items()}


def training_splits(args: Args) -> Splits:
    """Return the rows that minbert trains on with these arguments, by task."""
    tokenizer = BertTokenizer.from_directory(Path(args.model))
    source = data_source(args)
    splits = {name: load_task(TASKS[name], "train", tokenizer, source) for name in args.tasks}
    return {name: limit_rows(split, args.limit.get(name)) for name, split in splits.items()}


def batches_of(split: EncodedSplit, task: str, size: int, grouped: bool) -> Iterator[np.ndarray]:
    """Yield batches without end: of random rows, or of rows grouped by length by transformers."""
    for epoch in itertools.count():
        count = count_batches({task: len(split)}, size)[task]
        if grouped:
            generator = torch.Generator().manual_seed(epoch)
            lengths = split.lengths.tolist()
            order = np.array(get_length_grouped_indices(lengths, size, generator=generator))
            # batches in random order, or the longest would come first
            places = np.random.default_rng(epoch).permutation(count)
            yield from (order[p * size : (p + 1) * size] for p in places)
        else:
            yield from (
                batch_rows(
                    len(split), size, num_batches=count, seed=0, task=task, epoch=epoch, batch=b
                )
                for b in range(count)
            )


class PlainLoop:
    """transformers' BertModel in a loop over the tasks.

    settings: args (arguments of train_multitask.py), batch_size, fast. fast: bf16 autocast, rows
    grouped by length and fused AdamW; else fp32, random batches and AdamW's default.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        torch.manual_seed(0)
        self.fast, size = settings["fast"], settings["batch_size"]
        args = resolve_arguments(settings["args"], TASKS)
        self.splits = training_splits(args)
        self.encoder = transformers.BertModel.from_pretrained(args.model).to(DEVICE)
        width = self.encoder.config.hidden_size
        heads = {name: torch.nn.Linear(width, TASKS[name].outputs) for name in self.splits}
        self.heads = torch.nn.ModuleDict(heads).to(DEVICE)
        self.parameters = [*self.encoder.parameters(), *self.heads.parameters()]
        options = {"fused": True} if self.fast else {}
        self.adamw = torch.optim.AdamW(self.parameters, lr=LR, **options)
        self.streams = {
            name: batches_of(split, name, size, grouped=self.fast)
            for name, split in self.splits.items()
        }
        self.names = itertools.cycle(self.splits)

    def forward(self, name: str, split: EncodedSplit, rows: np.ndarray) -> torch.Tensor:
        """Return the outputs (S, outputs) of these rows, with dropout in training mode."""
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=self.fast):
            pooled = self.encoder(**padded(split, rows)).pooler_output
            pooled = torch.nn.functional.dropout(pooled, DROPOUT, self.encoder.training)
            return self.heads[name](pooled).float()

    def train(self, steps: int) -> Work:
        """Train so many steps, on the tasks in turn."""
        self.encoder.train()
        examples = tokens = 0
        for _ in range(steps):
            name = next(self.names)
            split, rows = self.splits[name], next(self.streams[name])
            out = self.forward(name, split, rows)
            labels = torch.from_numpy(split.labels[rows]).to(DEVICE)
            TASKS[name].loss(out, labels).backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, CLIP)
            self.adamw.step()
            self.adamw.zero_grad()
            examples += len(rows)
            tokens += int(split.lengths_of(rows).sum())
        return Work(examples, tokens, 6.0 * products(self.encoder.encoder) * tokens)


def plain_loop(settings: dict[str, Any]) -> Turn:
    """Set up a PlainLoop. settings: as PlainLoop's, and the steps of a turn."""
    return partial(PlainLoop(settings).train, settings["steps"])


def mlm_loop(settings: dict[str, Any]) -> Turn:
    """Set up a loop as in run_mlm.py on the tasks' sentences. settings: as plain_loop's."""
    torch.manual_seed(0)
    fast, size = settings["fast"], settings["batch_size"]
    args = resolve_arguments(settings["args"], TASKS)
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    tasks = [TASKS[name] for name in args.tasks]
    sentences, _ = distinct_sentences(tasks, Path(args.data_dir), args.limit)
    ids = tokenizer(sentences, truncation=True, max_length=args.max_length)["input_ids"]
    model = transformers.BertForMaskedLM.from_pretrained(args.model).to(DEVICE).train()
    collator = transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    adamw = torch.optim.AdamW(model.parameters(), lr=LR, **({"fused": True} if fast else {}))
    rng = np.random.default_rng(0)

    def turn() -> Work:
        tokens = 0
        for _ in range(settings["steps"]):
            rows = rng.choice(len(ids), size, replace=False)
            batch = collator([{"input_ids": ids[r]} for r in rows]).to(DEVICE)
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=fast):
                loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            adamw.step()
            adamw.zero_grad()
            tokens += sum(len(ids[r]) for r in rows)
        flops = 6.0 * products(model.bert.encoder) * tokens
        return Work(settings["steps"] * size, tokens, flops)

    return turn


def frozen_loop(settings: dict[str, Any]) -> Turn:
    """Set up heads on a frozen BertModel in fp32, which runs again in every epoch.

    settings: args, and the epochs of a turn.
    """
    args = resolve_arguments(settings["args"], TASKS)
    splits = training_splits(args)
    encoder = transformers.BertModel.from_pretrained(args.model).to(DEVICE).eval()
    width, size = encoder.config.hidden_size, 32
    heads = torch.nn.ModuleDict({n: torch.nn.Linear(width, TASKS[n].outputs) for n in splits})
    adamw = torch.optim.AdamW(heads.to(DEVICE).parameters(), lr=1e-3)

    def turn() -> Work:
        examples = 0
        for _ in range(settings["epochs"]):
            for name, split in splits.items():
                order = np.random.default_rng(0).permutation(len(split))
                for start in range(0, len(split), size):
                    rows = order[start : start + size]
                    with torch.no_grad():
                        pooled = encoder(**padded(split, rows)).pooler_output
                    labels = torch.from_numpy(split.labels[rows]).to(DEVICE)
                    TASKS[name].loss(heads[name](pooled), labels).backward()
                    adamw.step()
                    adamw.zero_grad()
                    examples += len(rows)
        return Work(examples)

    return turn


def sentence_encoding(settings: dict[str, Any]) -> Turn:
    """Set up SentenceTransformer.encode, or CrossEncoder.predict for pairs.

    settings: as benchmarks.ours.encoding's.
    """
    import sentence_transformers as st

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[settings["precision"]]
    options = dict(device=str(DEVICE), model_kwargs={"dtype": dtype})
    if settings["pairs"]:
        model: Any = st.CrossEncoder(settings["model"], num_labels=1, **options)
        layers = model.model.base_model.encoder
        encode = partial(model.predict, show_progress_bar=False)
    else:
        model = st.SentenceTransformer(settings["model"], **options)
        layers = model[0].auto_model.encoder
        encode = partial(model.encode, show_progress_bar=False, normalize_embeddings=True)
    return encoding_turn(encode, settings, products(layers))
