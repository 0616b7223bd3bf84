"""A run of fine-tuning: what it works with, and how it is made ready."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minbert.batch import to_device
from minbert.config import BertConfig
from minbert.data.collate import collate
from minbert.data.encoded import Splits, one_row_per_sequence
from minbert.data.items import gold_of, item_labels, items_of, visible_items
from minbert.data.sampler import batch_rows, count_batches
from minbert.data.tokenizer import BertTokenizer
from minbert.errors import DAMAGED, UserError
from minbert.manifest import sha256_of, unchanged
from minbert.model.encoder import BertModel
from minbert.model.layers import set_kernels
from minbert.model.multitask import (
    MultitaskNetwork,
    load_multitask,
    save_multitask,
    say_what_is_left_out,
)
from minbert.model.parameter_groups import parameter_groups
from minbert.run import rundir
from minbert.run.beginning import Run, begin, recover_last
from minbert.run.heads_first import train_heads
from minbert.run.resumed import check_begun
from minbert.run.teachers import load_teacher_outputs, make_teacher_outputs, teacher_files
from minbert.run.train_args import FROZEN, Args, data_source
from minbert.task.balance import with_class_weights
from minbert.task.classes import describe_rare_classes, label_summary
from minbert.task.evaluation import encode_features
from minbert.task.heads import check_head, head_config
from minbert.task.kinds import in_unit
from minbert.task.loading import (
    DataSource,
    check_files,
    check_segments,
    count_left_out,
    load_tests,
    load_train_and_dev,
    training_files,
)
from minbert.task.siamese import BOTH, PairData, describe_pairs
from minbert.task.task import Task, Tasks
from minbert.training import distributed
from minbert.training.averaging import averaged_steps
from minbert.training.device import choose_device, choose_precision
from minbert.training.mixing import Plan, TaskBatch, resolve_sub_epochs
from minbert.training.optimizer import AdamW
from minbert.weights.pretrained import names_a_pooler, read_tensors
from minbert.weights.resolve import hash_of_model, resolve


@dataclass(frozen=True)
class FineTuning(Run):
    """A fine-tuning run: its model, data and plan, beside what all runs have."""

    model: MultitaskNetwork
    args: Args
    tasks: Tasks
    train_splits: Splits
    train_sequences: Splits  # the same, but every window of a long text is a row of its own
    dev_splits: Splits
    test_splits: Splits  # of tasks with a test file, unless no predictions are asked for
    # what heads read of train and dev if the encoder is frozen: computed once, not once an epoch
    features: dict[str, dict[str, Tensor]] | None
    pairs: dict[str, PairData]  # the training sets of tasks whose pairs are read apart
    teachers: dict[str, Tensor]  # their outputs (I, C) on the training sets that have one
    plan: Plan
    # tasks whose undefined metric has been printed once
    reported_undefined: set[str] = field(default_factory=set)

    @property
    def averaged_steps(self) -> int:
        """How many steps the weights' mean is over by now; 0: there is none."""
        return averaged_steps(self.state.step, self.steps, self.args.average)

    def is_over(self) -> bool:
        """Return whether the last step is done, or --patience evaluations were without a gain."""
        out_of_patience = 0 < self.args.patience <= self.state.since_best
        return super().is_over() or out_of_patience

    def stage_after(self, step: int) -> str | None:
        """Name what ends after so many steps, and is evaluated; None if nothing does.

        It is the plan's stage, or --eval-every steps.
        """
        due = self.args.eval_every and step % self.args.eval_every == 0
        return self.plan.stage_after(step) or (f"step {step}" if due else None)

    def rows_of(self, draw: TaskBatch) -> np.ndarray:
        """Return the rows of a task's training set that a batch has."""
        return batch_rows(
            len(self.train_sequences[draw.task]), self.args.batch_size,
            num_batches=self.plan.batches[draw.task], seed=self.args.seed, task=draw.task,
            epoch=draw.epoch, batch=draw.batch,
        )  # fmt: skip

    def forward(self, task: str, rows: np.ndarray) -> tuple[Tensor, Tensor, np.ndarray]:
        """Return a head's outputs (I, C) on training rows, their labels (I,) and the item numbers.

        Items are rows or words. A frozen encoder does not run: its features are ready.
        """
        split, device = self.train_sequences[task], self.model.encoder.device
        if self.features is None:
            batch = collate(split, rows).to(device)
            return self.model(task, batch), batch.labels, np.array(batch.items, dtype=np.int64)
        items, _ = items_of(split, rows)
        labels = to_device(torch.from_numpy(item_labels(split)[items]), device)
        features = to_device(self.features["train"][task][torch.from_numpy(items)], device)
        return self.model.heads[task](features), labels, items

    def write(self, folder: Path) -> None:
        """Write model, heads and tokenizer."""
        save_multitask(self.model, folder)
        most = self.model.encoder.config.max_position_embeddings
        self.tokenizer.save(folder, min(self.args.max_length, most))


def set_up(args: Args, folder: Path, tasks: Tasks) -> FineTuning:
    """Make a run ready to train: from --model, or from last/ if the folder has one."""
    check_files(list(tasks.values()), Path(args.data_dir), ("train", "dev"))
    last = recover_last(folder)
    directory = last or resolve(args.model)
    tokenizer, source = prepare_reading(args, list(tasks.values()), directory)
    model = load_last(args, tasks, last) if last else new_model(args, tasks, directory)
    start = "" if last else hash_of_model(directory)
    prepare_model(model, args)
    # one of the oldest runs goes on with its loss, whose unit is 1 for every range
    tasks = {name: in_unit(task, model.heads[name].config.unit) for name, task in tasks.items()}
    known = list(tasks.values())
    files = training_files(known, source.data_dir)
    with unchanged(files) as hashes:
        teacher_paths = teacher_files(args, folder, tasks)
        train_splits, dev_splits = load_train_and_dev(known, tokenizer, source)
    check_begun(folder, files, hashes)  # before more work is done
    test_splits = {} if args.skip_predictions else load_tests(known, tokenizer, source)
    warn_of_rare_classes(tasks, train_splits)
    sequences = {name: one_row_per_sequence(split) for name, split in train_splits.items()}
    tasks = weight_classes(tasks, sequences, model.device)
    started = time.monotonic()
    features = frozen_features(model, args, sequences, dev_splits)
    pairs = make_pairs(args, tasks, sequences)
    make_teacher_outputs(args, tasks, teacher_paths)
    teachers = load_teacher_outputs(teacher_paths, train_splits)
    if args.heads_first and not last:
        train_heads(model, tasks, sequences, args)
    prepared_s = round(time.monotonic() - started, 2)  # features, teachers, heads first

    rows = {name: len(split) for name, split in sequences.items()}
    plan = make_plan(args, count_batches(rows, args.batch_size))
    groups = parameter_groups(model, args.weight_decay, args.layer_decay)
    optimizer = AdamW(groups, lr=args.lr, correct_bias=args.correct_bias, kernels=args.kernels)
    files |= {f"{name} teacher": path for name, path in teacher_paths.items()}
    hashes |= {f"{name} teacher": sha256_of(path) for name, path in teacher_paths.items()}
    begun = begin(
        folder, args, tokenizer=tokenizer, model=model, optimizer=optimizer, steps=plan.steps,
        last=last, files=files, hashes=hashes, passes=plan.passes(), prepared_s=prepared_s,
        start=start, tasks=args.tasks, tasks_with_best=args.tasks if args.save_task_best else (),
        left_out=count_left_out({"train": train_splits, "dev": dev_splits, "test": test_splits}),
    )  # fmt: skip
    if not last:
        begun.log.write("labels", tasks=count_labels(tasks, train_splits))
    args = rundir.save_arguments(folder, args, tasks)
    return FineTuning(
        **vars(begun), args=args, tasks=tasks, train_splits=train_splits, train_sequences=sequences,
        dev_splits=dev_splits, test_splits=test_splits, features=features, pairs=pairs,
        teachers=teachers, plan=plan,
    )  # fmt: skip


def frozen_features(
    model: MultitaskNetwork, args: Args, train: Splits, dev: Splits
) -> dict[str, dict[str, Tensor]] | None:
    """Return what the heads read of both splits, by split and task; None if the encoder trains."""
    if args.fine_tune_mode != FROZEN:
        return None
    return {"train": encode_features(model, train), "dev": encode_features(model, dev)}


def prepare_reading(
    args: Args, tasks: list[Task], directory: Path
) -> tuple[BertTokenizer, DataSource]:
    """Return a model's tokenizer, and where the data is and how long texts the model can read.

    Raises UserError for a model to start from that lacks what the run needs: words, segments,
    layers, a pooler.
    """
    config = BertConfig.from_file(directory / "config.json")
    longest = min(args.max_length, config.max_position_embeddings)
    source = replace(data_source(args), max_length=longest)
    if args.fine_tune_mode == FROZEN and any(
        not task.per_word and args.pooling_of(task.name) == "cls" for task in tasks
    ):
        tensors, path = read_tensors(directory)
        if not names_a_pooler(tensors):
            raise UserError(f"{path}: no pooler, and {FROZEN} trains no new one: --pooling mean")
    tokenizer = BertTokenizer.from_directory(directory)
    tokenizer.check_fits(config.vocab_size)
    check_segments(tasks, source, config.type_vocab_size)
    most = config.num_hidden_layers
    for flag, layer in (
        ("reinit", args.reinit_layers), ("pool", max(args.pool_layers, default=0)),
    ):  # fmt: skip
        if layer > most:
            raise UserError(f"--{flag}-layers {layer}: this model has {most} layers")
    return tokenizer, source


def warn_of_rare_classes(tasks: Tasks, splits: Splits) -> None:
    """Print which classes have few training rows, if any."""
    for name, task in tasks.items():
        if warning := describe_rare_classes(task, gold_of(splits[name])):
            print(warning)


def weight_classes(tasks: Tasks, sequences: Splits, device: torch.device) -> Tasks:
    """Return the tasks with the class weights that their training labels give."""
    labels = {n: item_labels(split)[visible_items(split)] for n, split in sequences.items()}
    return {n: with_class_weights(task, labels[n], device) for n, task in tasks.items()}


def count_labels(tasks: Tasks, splits: Splits) -> dict[str, dict[str, Any]]:
    """Return every task's `label_summary`, by task."""
    return {name: label_summary(task, gold_of(splits[name])) for name, task in tasks.items()}


def make_pairs(args: Args, tasks: Tasks, splits: Splits) -> dict[str, PairData]:
    """Return the siamese tasks' training pairs; say which cosines are to be high."""
    for name, loss in args.pair_loss.items():
        if line := describe_pairs(tasks[name], loss):
            print(line)
    return {n: PairData.of(tasks[n], splits[n], loss) for n, loss in args.pair_loss.items()}


def load_last(args: Args, tasks: Tasks, directory: Path) -> MultitaskNetwork:
    """Load the model of a run that goes on. Raises UserError for heads that are not its tasks'."""
    model = load_multitask(directory, args.hidden_dropout_prob)[0]
    for name, task in tasks.items():
        if name not in model.heads:
            raise UserError(f"{directory}: no head of {name}, a task of the run; {DAMAGED}")
        check_head(task, model.heads[name].config, directory)
    return model


def new_model(args: Args, tasks: Tasks, directory: Path) -> MultitaskNetwork:
    """Load the encoder of a directory and give it new heads, drawn by --seed."""
    torch.manual_seed(args.seed)
    encoder = BertModel.from_pretrained(directory)
    say_what_is_left_out(directory)
    if args.reinit_layers:
        encoder.reinitialize(args.reinit_layers)
    heads = {
        name: head_config(
            task, args.pair_loss.get(name), args.pooling_of(name), args.embedding_size,
            args.pool_layers, both=args.pair_encoding.get(name) == BOTH,
        )
        for name, task in tasks.items()
    }  # fmt: skip
    return MultitaskNetwork(encoder, heads, args.hidden_dropout_prob, args.towers == "separate")


def prepare_model(model: MultitaskNetwork, args: Args) -> None:
    """Put a model on --device, and set what its training computes with and keeps in memory."""
    device = choose_device(args.device)
    dtype = choose_precision(args.precision, device)
    set_kernels(model.to(device), args.kernels)
    # joint mode keeps the gradients of each task as one dense vector (TaskGradients)
    dense = args.kernels == "written-out" or args.mode == "joint"
    # a batch sees a few hundred words of the word embedding
    sparse = distributed.allows_sparse_gradients(device) and not dense
    for encoder in model.encoders:
        encoder.compute_dtype, encoder.word_embedding.sparse = dtype, sparse
        encoder.checkpoint_activations = args.checkpoint_activations
    if args.fine_tune_mode == FROZEN:
        model.encoder.requires_grad_(False)


def make_plan(args: Args, batches: dict[str, int]) -> Plan:
    """Return the plan of a run's batches; `batches`: how many a pass over each task's set has."""
    powers = (args.anneal_from, args.anneal_to)
    if args.sampling_power is not None:
        powers = (args.sampling_power, args.sampling_power)
    sub_epochs = resolve_sub_epochs(batches, args.sub_epochs)
    return Plan(args.mode, batches, args.epochs, sub_epochs, args.seed, powers, args.steps)
