"""The libraries' trainers, used as their own examples use them."""

import atexit
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.contest import DEVICE, Work
from benchmarks.others import LR, training_splits
from benchmarks.ours import Turn, products
from minbert.data.examples import read_examples
from minbert.run.resolve_args import resolve_arguments
from tasks import TASKS

Make = Callable[[list[transformers.TrainerCallback], dict[str, Any]], transformers.Trainer]


class Stopwatch(transformers.TrainerCallback):
    """The time from a trainer's first step to its last, without its set-up."""

    seconds = 0.0

    def on_step_begin(
        self, args: transformers.TrainingArguments, state: transformers.TrainerState,
        control: transformers.TrainerControl, **kwargs: Any,
    ) -> None:  # fmt: skip
        """Start at the first step."""
        if state.global_step == 0:
            self.started = time.perf_counter()

    def on_step_end(
        self, args: transformers.TrainingArguments, state: transformers.TrainerState,
        control: transformers.TrainerControl, **kwargs: Any,
    ) -> None:  # fmt: skip
        """Measure the time so far."""
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self.started


def trainer_turn(make: Make, layers: torch.nn.Module, settings: dict[str, Any]) -> Turn:
    """Return a turn that makes a trainer and calls its `train()`.

    make: takes callbacks and options. A trainer does not tell which rows it uses: each one counts
    as the mean tokens of the set.
    """
    args = resolve_arguments(settings["args"], TASKS)
    (split,) = training_splits(args).values()
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    options = dict(
        output_dir=folder.name, per_device_train_batch_size=settings["batch_size"],
        max_steps=settings["steps"], learning_rate=LR, report_to="none", save_strategy="no",
        logging_strategy="no", disable_tqdm=True, use_cpu=DEVICE.type == "cpu",
        bf16=settings["fast"],
    )  # fmt: skip

    def turn() -> Work:
        watch = Stopwatch()
        make([watch], options).train()
        examples = settings["steps"] * settings["batch_size"]
        tokens = round(examples * split.lengths.mean())
        return Work(examples, tokens, 6.0 * products(layers) * tokens, watch.seconds)

    return turn


def trainer(settings: dict[str, Any]) -> Turn:
    """Set up transformers' Trainer on SST. settings: as benchmarks.others.plain_loop's."""
    args = resolve_arguments(settings["args"], TASKS)
    split = training_splits(args)["sst"]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        args.model, num_labels=5
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    rows = [
        {"input_ids": split.ids[a:b].tolist(), "labels": int(label)}
        for a, b, label in zip(split.offsets, split.offsets[1:], split.labels, strict=False)
    ]

    def make(
        callbacks: list[transformers.TrainerCallback], options: dict[str, Any]
    ) -> transformers.Trainer:
        return transformers.Trainer(
            model, transformers.TrainingArguments(**options), train_dataset=rows,
            data_collator=transformers.DataCollatorWithPadding(tokenizer), callbacks=callbacks,
        )  # fmt: skip

    return trainer_turn(make, model.base_model.encoder, settings)


def sentence_trainer(settings: dict[str, Any]) -> Turn:
    """Set up a trainer of sentence-transformers on STS. settings: as trainer's, and `cross`.

    cross: its CrossEncoder, else its siamese SentenceTransformer.
    """
    import datasets
    import sentence_transformers as st
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
    from sentence_transformers.losses import CosineSimilarityLoss

    args = resolve_arguments(settings["args"], TASKS)
    files = TASKS["sts"].paths("train", Path(args.data_dir))
    examples, _ = read_examples(files, TASKS["sts"].columns, labelled=True)
    columns = {
        "sentence1": [e.text for e in examples],
        "sentence2": [e.pair for e in examples],
        "label": [(e.label or 0.0) / 5 for e in examples],
    }
    rows = datasets.Dataset.from_dict(columns)
    if settings["cross"]:
        model = st.CrossEncoder(args.model, num_labels=1, device=str(DEVICE))
        layers = model.model.base_model.encoder
        loss = BinaryCrossEntropyLoss(model)
        trainer_type, options_type = st.CrossEncoderTrainer, st.CrossEncoderTrainingArguments
    else:
        model = st.SentenceTransformer(args.model, device=str(DEVICE))
        layers = model[0].auto_model.encoder
        loss = CosineSimilarityLoss(model)
        trainer_type = st.SentenceTransformerTrainer
        options_type = st.SentenceTransformerTrainingArguments

    def make(
        callbacks: list[transformers.TrainerCallback], options: dict[str, Any]
    ) -> transformers.Trainer:
        return trainer_type(model, options_type(**options), rows, loss=loss, callbacks=callbacks)

    return trainer_turn(make, layers, settings)
