"""minbert's contestants: steps of the scripts themselves, and parts of them."""

import atexit
import io
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch

import train_multitask
from benchmarks.contest import DEVICE, Work
from experiments.estimate import SCRIPTS, resolved
from minbert import AdamW, Batch, BertModel, BertTokenizer
from minbert.data.encoded import EncodedSplit, encode_examples
from minbert.data.examples import Example
from minbert.losses import normalized
from minbert.model.heads import pool_tokens
from minbert.task.evaluation import compute_outputs
from minbert.training.threads import set_threads

Turn = Callable[[], Work]
Text = str | tuple[str, str]  # a sentence or a pair
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def products(layers: torch.nn.Module) -> int:
    """Return the multiplications for a token in an encoder's layers: its matrices' elements."""
    return sum(p.numel() for p in layers.parameters() if p.ndim == 2)


def training(settings: dict[str, Any]) -> Turn:
    """Set up steps of a script. settings: script, arguments, and the steps of a turn."""
    folder = tempfile.TemporaryDirectory()
    script = SCRIPTS[settings["script"]]
    args, tasks = resolved(settings["script"], settings["arguments"])
    set_threads(args.threads)
    run = script.set_up(args, Path(folder.name), {name: tasks[name] for name in args.tasks})
    atexit.register(folder.cleanup)
    parameters = products(run.model.encoder.bert_layers)

    def turn() -> Work:
        examples, tokens, start = run.progress.examples, run.progress.tokens, run.state.step
        for step in range(start, start + settings["steps"]):
            script.train_step(run, step)
        run.records.flush()
        tokens = run.progress.tokens - tokens
        # a matrix element and a token: 2 floating-point operations forward, 4 backward
        return Work(run.progress.examples - examples, tokens, 6.0 * parameters * tokens)

    return turn


# Kinds of PyTorch's operations, by the beginnings of their names; the first kind that fits counts.
OPERATIONS = {
    "matrix products": ("aten::mm", "aten::addmm"),
    "products of attention": ("aten::bmm", "aten::baddbmm"),
    "copies and casts": ("aten::copy_", "aten::fill_", "aten::cat"),
    "random bits": ("aten::random_",),
    "GELU": ("aten::gelu",),
    "softmax": ("aten::_softmax",),
    "gathering and scattering of rows": ("aten::index", "aten::scatter", "aten::gather"),
    "sums and means": ("aten::sum", "aten::mean", "aten::addmv", "aten::linalg_vector_norm"),
    "arithmetic of AdamW, layer norm and dropout": (
        "aten::_foreach", "aten::add", "aten::sub", "aten::mul", "aten::div", "aten::sqrt",
        "aten::rsqrt", "aten::square", "aten::pow", "aten::clamp", "aten::ge_",
    ),
}  # fmt: skip


def profiled(settings: dict[str, Any]) -> Turn:
    """Set up steps of train_multitask.py under a profiler, timed by kind of operation.

    What remains of a turn's time is other operations and Python. settings: as training's.
    """
    turn = training(settings)

    def profiled_turn() -> Work:
        with torch.profiler.profile() as profile:
            started = time.perf_counter()
            turn()
            seconds = time.perf_counter() - started
        parts = dict.fromkeys(OPERATIONS, 0.0)
        for event in profile.key_averages():
            fitting = (kind for kind, names in OPERATIONS.items() if event.key.startswith(names))
            if kind := next(fitting, None):
                parts[kind] += event.self_cpu_time_total / 1e6
        return Work(seconds=seconds, parts=parts)  # without the time of the profiler's evaluation

    return profiled_turn


def encoding(settings: dict[str, Any]) -> Turn:
    """Set up encoding: of texts to means of length 1, of pairs to a score.

    settings: model, texts, precision, pairs, one_by_one for single calls; threads, if not all.
    """
    set_threads(settings.get("threads", 0))
    encoder = BertModel.from_pretrained(settings["model"]).to(DEVICE)
    encoder.for_inference(DTYPES[settings["precision"]])
    tokenizer = BertTokenizer.from_directory(Path(settings["model"]))
    head = torch.nn.Linear(encoder.config.hidden_size, 1).to(DEVICE)

    def forward(batch: Batch) -> torch.Tensor:
        if settings["pairs"]:
            return head(encoder.pooled_output(batch))
        return normalized(pool_tokens(encoder.hidden_states(batch)[-1], batch, "mean"))

    def encode(texts: list[Text]) -> np.ndarray:
        return compute_outputs(forward, tokenize(texts, tokenizer), encoder.device).numpy()

    return encoding_turn(encode, settings, products(encoder.bert_layers))


def tokenize(texts: list[Text], tokenizer: BertTokenizer) -> EncodedSplit:
    """Return sentences or pairs as ids, at most 256 each."""
    pairs = [text if isinstance(text, tuple) else (text, None) for text in texts]
    return encode_examples([Example(str(i), *p) for i, p in enumerate(pairs)], tokenizer, 256)


def encoding_turn(
    encode: Callable[[list[Text]], np.ndarray], settings: dict[str, Any], parameters: int
) -> Turn:
    """Return a turn that encodes all texts at once, or one by one with the time of each.

    parameters: the multiplications for a token.
    """
    texts = settings["texts"]
    tokens = len(tokenize(texts, BertTokenizer.from_directory(Path(settings["model"]))).ids)

    def turn() -> Work:
        each, vectors = [], []
        for part in [[t] for t in texts] if settings.get("one_by_one") else [texts]:
            started = time.perf_counter()
            vectors.append(encode(part))
            each.append(time.perf_counter() - started)
        flops = 2.0 * parameters * tokens
        return Work(len(texts), tokens, flops, each=tuple(each), vectors=np.concatenate(vectors))

    return turn


def frozen(settings: dict[str, Any]) -> Turn:
    """Set up whole runs of train_multitask.py with a frozen encoder. settings: arguments."""

    def turn() -> Work:
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
            args, tasks = resolved("train_multitask", settings["arguments"])
            train_multitask.train(args, Path(folder), {name: tasks[name] for name in args.tasks})
        return Work(args.epochs * sum(args.limit.values()))

    return turn


def optimizer(settings: dict[str, Any]) -> Turn:
    """Set up updates of all of a model's parameters by an AdamW, without weight decay.

    settings: model, kind, steps; words: how many rows the word embedding's sparse gradient has,
    without which it is dense.
    """
    torch.manual_seed(0)
    encoder = BertModel.from_pretrained(settings["model"]).to(DEVICE)
    for p in encoder.parameters():
        p.grad = torch.randn_like(p)
    table = encoder.word_embedding.weight
    if words := settings.get("words"):
        places = torch.randperm(len(table), device=DEVICE)[:words].sort().values
        values = torch.randn(words, table.shape[1], device=DEVICE)
        table.grad = torch.sparse_coo_tensor(
            places[None], values, table.shape, is_coalesced=True, check_invariants=False
        )
    made, options = {
        "ours": (AdamW, {}),
        "torch": (AdamW, {"kernels": "torch"}),
        "default": (torch.optim.AdamW, {"weight_decay": 0.0}),
        "foreach": (torch.optim.AdamW, {"weight_decay": 0.0, "foreach": True}),
        "fused": (torch.optim.AdamW, {"weight_decay": 0.0, "fused": True}),
    }[settings["kind"]]
    adamw = made(encoder.parameters(), lr=1e-5, **options)

    def turn() -> Work:
        for _ in range(settings["steps"]):
            adamw.step()
        return Work(examples=settings["steps"])

    return turn


def products_alone(settings: dict[str, Any]) -> Turn:
    """Set up the matrix products of training steps alone: one forward, two backward.

    Of the last layer only keys and values need all tokens; its other products are left out.
    settings: model, tokens (of a step), steps, precision.
    """
    encoder = BertModel.from_pretrained(settings["model"]).to(DEVICE)
    dtype = DTYPES[settings["precision"]]
    *layers, last = encoder.bert_layers
    needed = [m for layer in layers for m in layer.modules() if isinstance(m, torch.nn.Linear)]
    needed += [last.self_attention.key, last.self_attention.value]
    weights = [m.weight.detach().to(dtype) for m in needed]
    tokens = settings["tokens"]
    where = {"device": DEVICE, "dtype": dtype}
    inputs = {w.shape[1]: torch.randn(tokens, w.shape[1], **where) for w in weights}
    gradients = {w.shape[0]: torch.randn(tokens, w.shape[0], **where) for w in weights}

    def turn() -> Work:
        for _ in range(settings["steps"]):
            for w in weights:
                x, g = inputs[w.shape[1]], gradients[w.shape[0]]
                _ = x @ w.T, g @ w, g.T @ x
        flops = 6.0 * tokens * sum(w.numel() for w in weights) * settings["steps"]
        return Work(settings["steps"], tokens * settings["steps"], flops)

    return turn


def matrix_limit(settings: dict[str, Any]) -> Turn:
    """Set up a large matrix product, whose rate is the machine's limit. settings: precision."""
    dtype = DTYPES[settings["precision"]]
    n = 4096 if DEVICE.type == "cpu" else 16384
    a, b = torch.randn(n, 1024).to(DEVICE, dtype), torch.randn(1024, n).to(DEVICE, dtype)

    def turn() -> Work:
        for _ in range(4):
            a @ b
        return Work(flops=4 * 2.0 * n * 1024 * n)

    return turn


def one_length(settings: dict[str, Any]) -> Turn:
    """Set up forward and backward passes of 4096 tokens in sequences of one length.

    settings: model, length.
    """
    encoder = BertModel.from_pretrained(settings["model"]).to(DEVICE).train()
    encoder.compute_dtype = torch.bfloat16
    length = settings["length"]
    n = 4096 // length
    positions = torch.arange(length).repeat(n)
    batch = Batch(positions + 1000, positions, torch.zeros_like(positions), (length,) * n)
    batch = batch.to(DEVICE)

    def turn() -> Work:
        encoder.hidden_states(batch)[-1].sum().backward()
        encoder.zero_grad()
        return Work(n, n * length)

    return turn
