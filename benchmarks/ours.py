"""minbert's contestants: the scripts' own steps, nothing taken out."""

import io
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pretrain_mlm
import train_multitask
from benchmarks.contest import DEVICE, Work
from minbert import AdamW, Batch, BertModel, BertTokenizer
from minbert.data.encoded import encode_examples
from minbert.data.examples import Example
from minbert.losses import unit
from minbert.model.pooling import pool
from minbert.training.arguments import parse_given
from minbert.training.optimizer import in_blocks, parameter_groups
from tasks.evaluation import predict
from tasks.options import resolve_arguments

Turn = Callable[[], Work]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def products(encoder: torch.nn.Module) -> int:
    """Multiplications a token in the encoder's layers: its matrices' elements."""
    layers = encoder.bert_layers.named_parameters()
    return sum(p.numel() for name, p in layers if p.ndim == 2)


def training(settings: dict[str, Any]) -> Turn:
    """`steps` steps of a script a turn. settings: script, arguments, steps."""
    folder = Path(tempfile.mkdtemp())
    script = {"train_multitask": train_multitask, "pretrain_mlm": pretrain_mlm}[settings["script"]]
    resolve = resolve_arguments if script is train_multitask else pretrain_mlm.resolve_arguments
    run = script.set_up(resolve(parse_given(script.Args, settings["arguments"], "")), folder)
    parameters = products(run.model.encoder)

    def turn() -> Work:
        examples, tokens, start = run.progress.examples, run.progress.tokens, run.state["step"]
        for step in range(start, start + settings["steps"]):
            script.train_step(run, step)
        run.records.flush()
        tokens = run.progress.tokens - tokens
        # forward 2, backward 4 floating-point operations for each of a product's elements
        return Work(run.progress.examples - examples, tokens, 6.0 * parameters * tokens)

    return turn


def encoding(settings: dict[str, Any]) -> Turn:
    """Texts -> normalised means; pairs -> a score. settings: model, texts, precision, pairs."""
    encoder = BertModel.from_pretrained(settings["model"]).to(DEVICE)
    encoder.for_inference(DTYPES[settings["precision"]])
    tokenizer = BertTokenizer.from_directory(Path(settings["model"]))
    head = torch.nn.Linear(encoder.config.hidden_size, 1).to(DEVICE)
    parameters = products(encoder)
    tokens = 0

    def encode(texts: list[Any]) -> np.ndarray:
        nonlocal tokens
        pairs = texts if settings["pairs"] else [(text, None) for text in texts]
        examples = [Example(str(i), *pair) for i, pair in enumerate(pairs)]
        split = encode_examples(examples, tokenizer, 256)
        tokens += len(split.ids)

        def forward(batch: Any) -> torch.Tensor:
            if settings["pairs"]:
                return head(encoder.encode_first(batch))
            return unit(pool(encoder.hidden_states(batch)[-1], batch, "mean"))

        return predict(forward, split, encoder.device).numpy()

    return encoding_turn(encode, settings, lambda: (tokens, parameters))


def encoding_turn(
    encode: Callable[[list[Any]], Any],
    settings: dict[str, Any],
    counted: Callable[[], tuple[int, int]] = lambda: (0, 0),
) -> Turn:
    """All texts at once, or one after another with the time of each."""
    texts = settings["texts"]

    def turn() -> Work:
        before, _ = counted()
        each = []
        for part in [[t] for t in texts] if settings.get("one_by_one") else [texts]:
            started = time.perf_counter()
            encode(part)
            each.append(time.perf_counter() - started)
        after, parameters = counted()
        return Work(
            len(texts), after - before, 2.0 * parameters * (after - before), each=tuple(each)
        )

    return turn


def frozen(settings: dict[str, Any]) -> Turn:
    """A whole frozen run of train_multitask.py, its evaluations too. settings: arguments."""

    def turn() -> Work:
        given = parse_given(train_multitask.Args, settings["arguments"], "")
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
            args = resolve_arguments(given)
            train_multitask.train(args, Path(folder))
        return Work(args.epochs * sum(args.limit.values()))

    return turn


def optimizer(settings: dict[str, Any]) -> Turn:
    """Updates of all of a model's parameters. settings: model, kind, steps."""
    torch.manual_seed(0)
    encoder = BertModel.from_pretrained(settings["model"]).to(DEVICE)
    for p in encoder.parameters():
        p.grad = torch.randn_like(p)
    groups = parameter_groups(encoder, 0.01)
    options = {"foreach": {"foreach": True}, "fused": {"fused": True}}.get(settings["kind"], {})
    made = AdamW if settings["kind"] == "ours" else torch.optim.AdamW
    adamw = made(groups, lr=1e-5, **options)

    def turn() -> Work:
        for _ in range(settings["steps"]):
            adamw.step()
        return Work(examples=settings["steps"])

    return turn


def one_pass(settings: dict[str, Any]) -> Turn:
    """One tensor operation over all of a model's parameters, block by block as AdamW does its own.

    settings: model, steps.
    """
    tensors = [p.detach() for p in BertModel.from_pretrained(settings["model"]).parameters()]

    def turn() -> Work:
        for _ in range(settings["steps"]):
            for block in in_blocks(*[tensors] * 4):
                torch._foreach_mul_(block[0], 1.0)
        return Work(examples=settings["steps"])

    return turn


def products_alone(settings: dict[str, Any]) -> Turn:
    """Nothing but the bf16 products of training steps: forward, and both of the backward pass.

    Of the last layer those of keys and values, which alone need every token. settings: model,
    tokens (of a step), steps.
    """
    encoder = BertModel.from_pretrained(settings["model"]).to(DEVICE)
    *layers, last = encoder.bert_layers
    needed = [m for layer in layers for m in layer.modules() if isinstance(m, torch.nn.Linear)]
    needed += [last.self_attention.key, last.self_attention.value]
    weights = [m.weight.detach().bfloat16() for m in needed]
    tokens = settings["tokens"]
    where = {"device": DEVICE, "dtype": torch.bfloat16}
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
    """The machine's rate: a large product of the type. settings: precision."""
    dtype = DTYPES[settings["precision"]]
    n = 4096 if DEVICE.type == "cpu" else 16384
    a, b = torch.randn(n, 1024).to(DEVICE, dtype), torch.randn(1024, n).to(DEVICE, dtype)

    def turn() -> Work:
        for _ in range(4):
            a @ b
        return Work(flops=4 * 2.0 * n * 1024 * n)

    return turn


def one_length(settings: dict[str, Any]) -> Turn:
    """Forward and backward of 4096 tokens in sequences of one length. settings: model, length."""
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
