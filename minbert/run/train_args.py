"""The arguments of train_multitask.py."""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minbert.cli import (
    args_of,
    flag_of,
    limit_by_task,
    number_by_task,
    number_or_by_task,
    word_by_task,
)  # fmt: skip
from minbert.data.sampler import ADAPTIVE
from minbert.errors import UserError
from minbert.model.heads import POOLINGS
from minbert.run.common_args import (
    check_task_names,
    check_tasks,
    data_arg,
    joined_names,
    limits_of,
    machine_arg,
    resolve_kernels,
    saving_arg,
    tasks_arg,
    training_arg,
)
from minbert.run.recipe_args import FROZEN, FROZEN_LR, RecipeArgs, beyond_arg, resolve_recipe
from minbert.task.loading import DataSource
from minbert.task.siamese import (
    BOTH,
    CROSS,
    ENCODINGS,
    IN_BATCH,
    PAIR_LOSSES,
    WHOLE_BATCH,
    check_pair_loss,
    usual_loss,
)  # fmt: skip
from minbert.task.task import Task
from minbert.training import distributed
from minbert.training.mixing import MODES

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
        raise argparse.ArgumentTypeError(f"{text!r}: write a number from 1, or adaptive")
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
        "the 2023 course's words for full-model and last-linear-layer",
        choices=["finetune", "pretrain"],
    )
    limit_dev: dict[str, int] = data_arg(
        None, "evaluate on so many rows, of all or by task", parse=limit_by_task
    )
    pair_encoding: dict[str, str] = siamese_arg(
        None,
        "cross (default), siamese, or both (the mean of two scores), for all pairs or sts=both",
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
        0, "of a linear map on the sentences' vectors; 0: no map", low=0, high=10**5
    )
    towers: str = siamese_arg(
        "shared",
        "one encoder for both sentences of siamese pairs, or two",
        choices=["shared", "separate"],
    )
    mnr_scale: float = siamese_arg(
        0.0, "factor of the cosines in mnr, mnr-full, simcse; 0: 1, 20, 20", low=0, high=1e4
    )
    epochs: int | dict[str, int] = training_arg(
        None, "global epochs (default: 5, frozen 10); of single tasks also sst=10,quora=5",
        parse=number_or_by_task, low=1, high=10**6,
    )  # fmt: skip
    lr: float = training_arg(
        None, "learning rate (default: 1e-5, frozen 1e-3)", parse=float, low=0, high=1
    )
    batch_size: int | str = training_arg(
        32, "rows in a batch; adaptive: each set its own", parse=batch_size
    )
    limit: dict[str, int] = data_arg(
        None, "train on so many rows, of all or by task: 160 or quora=16000", parse=limit_by_task
    )
    sub_epochs: dict[str, int] = tasks_arg(
        None, "passes in sequential mode: sst=16,quora=1,sts=23", parse=number_by_task
    )
    max_length: int = data_arg(
        512, "longest sequence in tokens; longer ones are cut", low=4, high=512
    )
    hidden_dropout_prob: float = training_arg(
        0.3, "dropout of the heads (the encoder keeps its own)", low=0, high=0.99
    )
    use_gpu: bool = machine_arg(False, "the same as --device cuda", parse=bool)
    eval_every: int = training_arg(
        0, "evaluate every so many steps too; 0: where epochs and stages end", low=0, high=10**9
    )
    patience: int = training_arg(
        0, "stop after so many evaluations without a better mean; 0: never", low=0, high=10**6
    )
    skip_predictions: bool = saving_arg(
        False, "write no prediction files at the end; evaluate.py can later", parse=bool
    )
    seeds: int = training_arg(
        1, "so many runs, from --seed on, with mean and spread", low=1, high=1000
    )

    @property
    def siamese_tasks(self) -> frozenset[str]:
        """The tasks whose pairs are read apart alone; those read both ways have a loss, too."""
        return frozenset(n for n in self.pair_loss if self.pair_encoding.get(n) != BOTH)

    def pooling_of(self, task: str) -> str:
        """Return what a task's head reads of a sentence."""
        if isinstance(self.pooling, str):
            return self.pooling
        return self.pooling.get(task, self.pooling.get("", Args.pooling))


def resolve_arguments(given: dict[str, Any], tasks: dict[str, Task]) -> Args:
    """Fill in the defaults that depend on other fields; one line for what does not go together.

    tasks: all that are known, by name.
    """
    args = Args(**given)
    check_tasks(args, tasks)
    args = resolve_synonyms(args, given)
    check_by_task(args)
    args = replace(args, **resolve_pairs(args, tasks))
    args = replace(args, **resolve_recipe(args))
    if isinstance(args.epochs, dict) and len(args.tasks) == 1:
        args = replace(args, epochs=args.epochs[args.tasks[0]])
    if args.batch_size != ADAPTIVE and args.accumulate > args.batch_size:
        raise UserError(f"--accumulate {args.accumulate}: at most --batch-size {args.batch_size}")
    frozen = args.fine_tune_mode == FROZEN
    return replace(
        args,
        epochs=args.epochs or (10 if frozen else 5),
        lr=(FROZEN_LR if frozen else 1e-5) if args.lr is None else args.lr,
        limit=limits_of(args.tasks, "limit", args.limit or {}),
        limit_dev=limits_of(args.tasks, "limit_dev", args.limit_dev or {}),
        sub_epochs=args.sub_epochs or {},
        pooling=resolve_pooling(args, tasks),
    )


def resolve_pooling(args: Args, tasks: dict[str, Task]) -> str | dict[str, str]:
    """Return what the heads of sentences and pairs read: all the same or, if they differ, by task.

    Raises UserError where it is said of a head of words, which would not heed it.
    """
    unheeded = [name for name in args.tasks if tasks[name].per_word]
    by_task = {name: args.pooling_of(name) for name in args.tasks if name not in unheeded}
    if isinstance(args.pooling, dict):
        unheeded = [name for name in unheeded if name in args.pooling]
    elif args.pooling == Args.pooling or by_task:
        unheeded = []  # beside words there are tasks that heed it
    if unheeded and not args.resume:  # a run that has begun so goes on
        raise UserError(f"--pooling: the head of {unheeded[0]} reads single words: leave it out")
    kinds = {*by_task.values()}
    if kinds <= {Args.pooling}:
        return Args.pooling
    of_all = len(kinds) == 1 and by_task.keys() == {*args.tasks}
    return kinds.pop() if of_all else by_task


def resolve_synonyms(args: Args, given: dict[str, Any]) -> Args:
    """Replace flags that say the same as another one in other words."""
    if args.option:
        meant = FROZEN if args.option == "pretrain" else "full-model"
        if given.get("fine_tune_mode", meant) != meant:
            raise UserError(f"--option {args.option} means --fine-tune-mode {meant}: write one")
        args = replace(args, fine_tune_mode=meant, option="")
    if args.use_gpu:
        if given.get("device", "cuda") != "cuda":
            raise UserError(f"--use-gpu and --device {args.device} contradict: write one")
        args = replace(args, device="cuda", use_gpu=False)
    return resolve_kernels(args, given)


def check_by_task(args: Args) -> None:
    """Raise UserError for a number of a task that is not trained, or of no use in the mode."""
    by_task = isinstance(args.epochs, dict)
    if by_task and (args.mode != "single" or {*args.tasks} - {*args.epochs}):
        raise UserError("--epochs by task goes with --mode single, and has each of its tasks")
    pooling_too = ["pooling"] * isinstance(args.pooling, dict)
    for field in ("sub_epochs", *["epochs"] * by_task, *pooling_too):
        check_task_names(args.tasks, field, getattr(args, field) or ())
    if args.sub_epochs and args.mode != "sequential":
        raise UserError(f"--sub-epochs goes with --mode sequential, not --mode {args.mode}")
    if args.patience and args.mode == "sequential":
        raise UserError("--patience would end before later tasks begin: not with --mode sequential")


def resolve_pairs(args: Args, tasks: dict[str, Task]) -> dict[str, dict[str, str]]:
    """Return pair_encoding and pair_loss of each siamese task; UserError for what does not fit.

    A flag is stronger than what a task file says of its task: a "cross" against that is kept.
    """
    pairs = [name for name in args.tasks if tasks[name].is_pair]
    encoding = spread_over(pairs, "pair_encoding", args.pair_encoding or {})
    encoding = {name: kind or tasks[name].encoding for name, kind in encoding.items()}
    chosen = spread_over(pairs, "pair_loss", args.pair_loss or {})
    for name, kind in encoding.items():
        if kind not in ("", *ENCODINGS):
            raise UserError(f"--pair-encoding {kind}: write one of {', '.join(ENCODINGS)}")
        if chosen[name] and kind in ("", CROSS):
            raise UserError(f"--pair-loss {chosen[name]} goes with --pair-encoding {name}=siamese")
    apart = {name: kind for name, kind in encoding.items() if kind not in ("", CROSS)}
    for name, kind in apart.items():
        if args.fine_tune_mode == FROZEN:
            raise UserError(f"--pair-encoding {kind} trains the encoder: not with {FROZEN}")
        chosen[name] = chosen[name] or tasks[name].pair_loss or usual_loss(tasks[name], kind)
        check_pair_loss(tasks[name], chosen[name], kind)
        if chosen[name] in WHOLE_BATCH and args.accumulate > 1:
            raise UserError(f"--accumulate {args.accumulate}: {chosen[name]} needs whole batches")
        if chosen[name] in WHOLE_BATCH and distributed.size() > 1:
            raise UserError(f"--pair-loss {chosen[name]} needs whole batches: use one process")
    siamese_args = ("embedding_size", "towers", "mnr_scale")
    given = [name for name in siamese_args if getattr(args, name) != getattr(Args, name)]
    if given and not apart and not args.resume:
        flag, value = flag_of(given[0]), getattr(args, given[0])
        raise UserError(f"{flag} {value} goes with --pair-encoding siamese of a pair task")
    if args.mnr_scale and not {*chosen.values()} & {*IN_BATCH} and not args.resume:
        losses = " or ".join(IN_BATCH)
        raise UserError(f"--mnr-scale {args.mnr_scale} goes with --pair-loss {losses}")
    # cross, the default, is kept where it is against what the task file says
    said = {n: kind for n, kind in encoding.items() if n in apart or (kind and tasks[n].encoding)}
    return {"pair_encoding": said, "pair_loss": {name: chosen[name] for name in apart}}


def spread_over(pairs: list[str], field: str, values: dict[str, str]) -> dict[str, str]:
    """Return a word for each pair task, out of words by task and one for all others ("")."""
    flag = flag_of(field)
    if stray := [name for name in values if name and name not in pairs]:
        raise UserError(f"{flag} {stray[0]}: not one of the pair tasks {','.join(pairs)}")
    if not pairs and values.get("", CROSS) != CROSS:
        raise UserError(f"{flag} {values['']}: no task of this run has pairs")
    return {name: values.get(name, values.get("", "")) for name in pairs}


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
        Path(args.data_dir), Path(args.output_dir) / ".ids", args.max_length,
        args.siamese_tasks, args.limit, args.limit_dev,
    )  # fmt: skip
