"""What the arguments of train_multitask.py come to, and which of them do not go together."""

from dataclasses import replace
from typing import Any

from minbert.cli import flag_of
from minbert.data.sampler import ADAPTIVE
from minbert.errors import UserError
from minbert.run.common_args import (
    LARGEST_SEED,
    check_accumulate,
    check_task_names,
    check_tasks,
    limits_of,
    resolve_kernels,
)
from minbert.run.train_args import FROZEN, FROZEN_LR, Args
from minbert.task.siamese import (
    CROSS,
    ENCODINGS,
    IN_BATCH,
    WHOLE_BATCH,
    check_pair_loss,
    default_pair_loss,
)
from minbert.task.task import Tasks
from minbert.training import distributed

FROZEN_MODE = f"--fine-tune-mode {FROZEN}"


def resolve_arguments(given: dict[str, Any], tasks: Tasks) -> Args:
    """Fill in the defaults that depend on other fields.

    tasks: all that are known, by name. Raises UserError for what does not go together.
    """
    args = Args(**given)
    check_tasks(args, tasks)
    args = resolve_synonyms(args, given)
    check_by_task(args)
    args = replace(args, **resolve_pairs(args, tasks))
    args = replace(args, **resolve_recipe(args))
    if isinstance(args.epochs, dict) and len(args.tasks) == 1:
        args = replace(args, epochs=args.epochs[args.tasks[0]])
    check_accumulate(args.accumulate, args.batch_size)
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


def resolve_pooling(args: Args, tasks: Tasks) -> str | dict[str, str]:
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
    for field in ("sub_epochs", "epochs", "pooling"):
        if isinstance(names := getattr(args, field), dict):
            check_task_names(args.tasks, field, names)
    if args.sub_epochs and args.mode != "sequential":
        raise UserError(f"--sub-epochs goes with --mode sequential, not --mode {args.mode}")
    if args.patience and args.mode == "sequential" and len(args.tasks) > 1:
        raise UserError("--patience would end before later tasks begin: not with --mode sequential")


def resolve_pairs(args: Args, tasks: Tasks) -> dict[str, dict[str, str]]:
    """Return pair_encoding and pair_loss of each siamese task; UserError for what does not fit.

    A flag overrides what a task file says of its task; a "cross" that does so is in the result.
    """
    pairs = [name for name in args.tasks if tasks[name].is_pair]
    typed = spread_over(pairs, "pair_encoding", args.pair_encoding or {})
    encoding = {name: kind or tasks[name].pair_encoding for name, kind in typed.items()}
    chosen = spread_over(pairs, "pair_loss", args.pair_loss or {})
    for name, kind in encoding.items():
        if kind not in ("", *ENCODINGS):
            raise UserError(f"--pair-encoding {kind}: write one of {', '.join(ENCODINGS)}")
        if chosen[name] and kind in ("", CROSS):
            mend = f"; if it is for other tasks, write --pair-loss TASK={chosen[name]}"
            hint = mend if len(pairs) > 1 and name not in args.pair_loss else ""
            what = f"--pair-loss {chosen[name]} goes with --pair-encoding {name}=siamese"
            raise UserError(what + hint)
    apart = {name: kind for name, kind in encoding.items() if kind not in ("", CROSS)}
    for name, kind in apart.items():
        if args.fine_tune_mode == FROZEN:
            what = f"--pair-encoding {kind}" if typed[name] else f"encoding = {kind!r} of {name}"
            raise UserError(f"{what} trains the encoder: not with {FROZEN_MODE}")
        said = (
            f"--pair-loss {chosen[name]}" if chosen[name] else f"loss = {tasks[name].pair_loss!r}"
        )
        chosen[name] = chosen[name] or tasks[name].pair_loss or default_pair_loss(tasks[name], kind)
        check_pair_loss(tasks[name], chosen[name], kind, said)
        if chosen[name] in WHOLE_BATCH and args.accumulate > 1:
            raise UserError(f"--accumulate {args.accumulate}: {chosen[name]} needs whole batches")
        if chosen[name] in WHOLE_BATCH and distributed.world_size() > 1:
            raise UserError(f"{name}: {chosen[name]} needs whole batches: use one process")
    siamese_args = ("embedding_size", "towers", "mnr_scale")
    given = [name for name in siamese_args if getattr(args, name) != getattr(Args, name)]
    if given and not apart and not args.resume:
        flag, value = flag_of(given[0]), getattr(args, given[0])
        raise UserError(f"{flag} {value} goes with --pair-encoding siamese of a pair task")
    if args.mnr_scale and not {*chosen.values()} & {*IN_BATCH} and not args.resume:
        losses = " or ".join(IN_BATCH)
        raise UserError(f"--mnr-scale {args.mnr_scale} goes with --pair-loss {losses}")
    # cross, the default, is kept only where it overrides the task file
    kept = {
        n: kind for n, kind in encoding.items() if n in apart or (kind and tasks[n].pair_encoding)
    }
    return {"pair_encoding": kept, "pair_loss": {name: chosen[name] for name in apart}}


def spread_over(pairs: list[str], field: str, values: dict[str, str]) -> dict[str, str]:
    """Return each pair task's word in `values`: that of its name or, without it, of the key ""."""
    flag = flag_of(field)
    stray = next((name for name in values if name and name not in pairs), "")
    if stray and pairs:
        raise UserError(f"{flag} {stray}: not one of the pair tasks {','.join(pairs)}")
    if stray or (not pairs and values.get("", CROSS) != CROSS):
        raise UserError(f"{flag} {stray or values['']}: no task of this run has pairs")
    return {name: values.get(name, values.get("", "")) for name in pairs}


def resolve_recipe(args: Args) -> dict[str, Any]:
    """Return the by-task arguments spread out; UserError for what does not go together.

    args: with resolved pairs.
    """
    for field in ("task_weight", "r_drop", "teacher", "best_by"):
        check_task_names(args.tasks, field, getattr(args, field) or ())
    best_by = args.best_by or {}
    if best_by and not any(best_by.values()):
        raise UserError("--best-by: give at least one task a weight above 0")
    if best_by and args.is_one_by_one:
        raise UserError("--best-by weighs the tasks of one run; --mode single has a run for each")
    teacher = args.teacher or {}
    of_all = "" in teacher
    if of_all:
        teacher = dict.fromkeys(args.tasks, teacher[""]) | teacher
        teacher.pop("")
    for name in args.siamese_tasks:
        if name in teacher:
            mend = "; name the others, as --teacher TASK=RUN" if of_all and args.tasks[1:] else ""
            raise UserError(f"--teacher {name}: not of a siamese task{mend}")
        if name in (args.r_drop or {}):
            raise UserError(f"--r-drop {name}: not of a siamese task")
    if not args.resume:  # a run that has begun so goes on
        check_combinations(args)
    by_task = {"task_weight": args.task_weight or {}, "r_drop": args.r_drop or {}}
    return {**by_task, "teacher": teacher, "best_by": best_by}


def check_combinations(args: Args) -> None:
    """Raise UserError for an argument that beside the others would do nothing, or harm."""
    mode, combine = f"not --mode {args.mode}", args.combine != "sum"
    annealed, joint = args.mode == "annealed", args.mode == "joint"
    power = args.sampling_power is not None
    starts = args.anneal_from != Args.anneal_from
    anneals = args.anneal_to != Args.anneal_to
    frozen, siamese = args.fine_tune_mode == FROZEN, args.siamese_tasks == {*args.tasks}
    last_seed = args.seed + args.seeds - 1
    encoder = f"is of the encoder's training: not with {FROZEN_MODE}"
    others = "leaves siamese heads as they are, and all tasks are siamese"
    for is_wrong, why in (
        (power and not annealed, f"--sampling-power goes with --mode annealed, {mode}"),
        (starts and not annealed, f"--anneal-from goes with --mode annealed, {mode}"),
        (starts and power, "--sampling-power holds what --anneal-from changes: write one"),
        (anneals and not annealed, f"--anneal-to goes with --mode annealed, {mode}"),
        (anneals and power, "--sampling-power holds what --anneal-to changes: write one"),
        (annealed and args.batch_size == ADAPTIVE,
         "--mode annealed draws by numbers of batches, which --batch-size adaptive makes equal"),
        ((args.mode == "single" or len(args.tasks) == 1) and args.batch_size == ADAPTIVE,
         "--batch-size adaptive gives several sets as many batches: with --mode single, or one "
         "task, a run has one set"),
        (combine and not joint, f"--combine {args.combine} goes with --mode joint, {mode}"),
        (combine and len(args.tasks) == 1, f"--combine {args.combine}: there is one task alone"),
        (combine and frozen, f"--combine {args.combine} {encoder}"),
        (frozen and any((args.r_drop or {}).values()) and not args.hidden_dropout_prob,
         f"--r-drop compares two dropouts: with {FROZEN_MODE} and --hidden-dropout-prob 0 there is "
         f"none"),
        (args.reinit_layers and frozen, f"--reinit-layers {encoder}"),
        (args.layer_decay != 1 and frozen, f"--layer-decay {encoder}"),
        (args.checkpoint_activations and frozen, f"--checkpoint-activations {encoder}"),
        (args.heads_first and siamese, f"--heads-first {others}"),
        (args.heads_first and frozen,
         f"--heads-first: {FROZEN_MODE} trains the heads alone anyway"),
        (args.pool_layers and siamese, f"--pool-layers {others}"),
        (siamese and args.hidden_dropout_prob not in (0, Args.hidden_dropout_prob),
         f"--hidden-dropout-prob {others}"),
        (args.steps and args.mode == "sequential" and len(args.tasks) > 1,
         f"--steps would end before the later tasks are trained: {mode}"),
        (last_seed > LARGEST_SEED,
         f"--seeds {args.seeds}: ends with seed {last_seed}, the largest is {LARGEST_SEED}: lower "
         f"--seed {args.seed}"),
    ):  # fmt: skip
        if is_wrong:
            raise UserError(why)
