"""The arguments of train_multitask.py."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from minbert.cli import args_of
from minbert.data.id_cache import CACHE
from minbert.data.sampler import ADAPTIVE
from minbert.data.tokenizer import LONGEST, SHORTEST
from minbert.model.heads import POOLINGS
from minbert.model.multitask import HEAD_DROPOUT
from minbert.parsers import limit_by_task, number_by_task, number_or_by_task, word_by_task
from minbert.run.common_args import (
    data_arg,
    joined_names,
    machine_arg,
    saving_arg,
    tasks_arg,
    training_arg,
)
from minbert.run.recipe_args import RecipeArgs, beyond_arg
from minbert.run_files import is_one_by_one
from minbert.task.loading import DataSource
from minbert.task.siamese import BOTH, PAIR_LOSSES
from minbert.training.mixing import MODES

FROZEN = "last-linear-layer"  # --fine-tune-mode: the heads alone
FROZEN_LR = 1e-3  # the default --lr then, and that of --heads-first
LOSSES = ", ".join(PAIR_LOSSES)
siamese_arg = args_of("siamese pairs")


def pooling_by_task(text: str) -> str | dict[str, str]:
    """Parse what all heads read (mean), or those of some tasks (sst=mean,quora=cls)."""
    words = word_by_task(text)
    if unknown := [word for word in words.values() if word not in POOLINGS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r}: write one of {', '.join(POOLINGS)}")
    return words[""] if words.keys() == {""} else words


def batch_size(text: str) -> int | str:
    """Read a batch size: a number, or "adaptive"."""
    if text == ADAPTIVE:
        return text
    if not text.isdecimal() or not 1 <= int(text) <= 10**6:
        raise argparse.ArgumentTypeError(f"{text!r}: write a number from 1 to {10**6}, or adaptive")
    return int(text)


@dataclass(frozen=True)
class Args(RecipeArgs):
    """The arguments of fine-tuning alone."""

    script = "train_multitask.py"

    mode: str = tasks_arg("parallel", "how tasks alternate", choices=MODES)
    fine_tune_mode: str = training_arg(
        "full-model", "what is trained", choices=["full-model", FROZEN]
    )
    option: str = training_arg(
        "",
        "names of the 2023 course: finetune is full-model, pretrain last-linear-layer",
        choices=["finetune", "pretrain"],
        same_as="fine_tune_mode",
    )
    limit_dev: dict[str, int] = data_arg(
        None, "evaluate on so many rows of each task, or by task as --limit", parse=limit_by_task
    )
    pair_encoding: dict[str, str] = siamese_arg(
        None,
        "cross, siamese, or both (the mean of two scores), for all pairs or sts=both (default: "
        "the task file's, else cross)",
        parse=word_by_task,
    )
    pair_loss: dict[str, str] = siamese_arg(
        None,
        "of siamese pairs, for all or by task (default: the task file's, else cosine-mse for "
        f"scores; contrastive for a yes or no, softmax if read both ways): {LOSSES}",
        parse=word_by_task,
    )
    pooling: str | dict[str, str] = beyond_arg(
        "cls",
        "what heads of sentences read: BERT's pooler (cls), or the mean or max of all tokens; for "
        "all or sts=mean",
        parse=pooling_by_task,
    )
    embedding_size: int = siamese_arg(
        0, "output size of a linear map on sentence vectors; 0: no map", low=0, high=10**5
    )
    towers: str = siamese_arg(
        "shared",
        "one encoder for both sentences of siamese pairs, or two",
        choices=["shared", "separate"],
    )
    mnr_scale: float = siamese_arg(
        0.0,
        "factor of the cosines in mnr, mnr-full, simcse; 0: 1 for mnr, 20 for the others",
        low=0,
        high=1e4,
    )
    epochs: int | dict[str, int] = training_arg(
        None, "global epochs (default: 5, last-linear-layer 10); --mode single: also sst=10,sts=5",
        parse=number_or_by_task, low=1, high=10**6,
    )  # fmt: skip
    lr: float = training_arg(
        None,
        "learning rate (default: 1e-5, last-linear-layer 1e-3)",
        parse=float,
        low=0,
        high=1,
    )
    batch_size: int | str = training_arg(
        32, "rows in a batch; adaptive: each set its own", parse=batch_size
    )
    limit: dict[str, int] = data_arg(
        None,
        "train on so many rows of each task: 160 or, by task, quora=16000",
        parse=limit_by_task,
    )
    sub_epochs: dict[str, int] = tasks_arg(
        None,
        "passes in sequential mode, as sst=16,quora=1 (default: so many as fit into one over the "
        "largest set)",
        parse=number_by_task,
    )
    max_length: int = data_arg(
        512, "longest sequence in tokens; longer ones are cut", low=SHORTEST, high=LONGEST
    )
    hidden_dropout_prob: float = training_arg(
        HEAD_DROPOUT, "dropout of the heads (the encoder keeps its own)", low=0, high=0.99
    )
    use_gpu: bool = machine_arg(False, "the same as --device cuda", parse=bool, same_as="device")
    eval_every: int = training_arg(
        0,
        "evaluate every so many steps too; 0: only before training and where epochs, stages and "
        "the run end",
        low=0,
        high=10**9,
    )
    patience: int = training_arg(
        0, "stop after so many evaluations without a new best/; 0: never", low=0, high=10**6
    )
    skip_predictions: bool = saving_arg(
        False, "write no predictions, findings or temperatures at the end", parse=bool
    )
    seeds: int = training_arg(
        1, "number of runs, with seeds from --seed on; prints mean and spread", low=1, high=1000
    )

    @property
    def siamese_tasks(self) -> frozenset[str]:
        """The tasks whose pairs are read apart; not those that are read together as well."""
        return frozenset(n for n in self.pair_loss if self.pair_encoding.get(n) != BOTH)

    @property
    def is_one_by_one(self) -> bool:
        """Whether every task is trained alone, in a folder of its own."""
        return is_one_by_one(vars(self))

    @property
    def is_several(self) -> bool:
        """Whether the command is more than one run: its folder holds theirs."""
        return self.seeds > 1 or self.is_one_by_one

    def pooling_of(self, task: str) -> str:
        """Return what a task's head reads of a sentence."""
        if isinstance(self.pooling, str):
            return self.pooling
        return self.pooling.get(task, self.pooling.get("", Args.pooling))


def default_name(args: Args) -> str:
    """Return what a run is called unless --name says otherwise: mode, tasks, what is unusual."""
    unusual = {
        "frozen": args.fine_tune_mode == FROZEN, "siamese": args.siamese_tasks,
        "both": args.pair_loss.keys() - args.siamese_tasks,
        "pcgrad": args.combine == "pcgrad", "taught": args.teacher, "averaged": args.average,
    }  # fmt: skip
    words = [word for word, is_so in unusual.items() if is_so]
    return "-".join((args.mode, joined_names(args.tasks), *words))


def data_source(args: Args) -> DataSource:
    """Return where the arguments say that the data is, and how much of it to take."""
    return DataSource(
        Path(args.data_dir), Path(args.output_dir) / CACHE, args.max_length,
        args.siamese_tasks, args.limit, args.limit_dev,
    )  # fmt: skip
