"""Several runs in one command, one for each task or seed, and tables of their scores."""

import shlex
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from minbert.data.encoded import Splits
from minbert.errors import UserError
from minbert.files import remove_unfinished
from minbert.manifest import has_all_files, sha256_of
from minbert.metrics import summarize_seeds
from minbert.report.files import REPORT
from minbert.run import rundir
from minbert.run.beginning import describe_finished
from minbert.run.checkpoint import (
    Scores,
    TrainState,
    check_scores,
    read_state,
    task_best_folder,
)
from minbert.run.fine_tuning import prepare_reading
from minbert.run.finish import finish_several
from minbert.run.resumed import check_begun
from minbert.run.runlog import is_finished
from minbert.run.teachers import load_teacher_outputs, make_teacher_outputs, teacher_files
from minbert.run.train_args import FROZEN, Args
from minbert.run_files import FINDINGS, STATE, runs_of
from minbert.task.loading import check_files, load_tests, load_train_and_dev, training_files
from minbert.task.siamese import IN_BATCH, PairData
from minbert.task.task import Task, Tasks
from minbert.training import distributed
from minbert.weights.pretrained import read_tensors
from minbert.weights.resolve import hash_of_model, resolve

Train = Callable[[Args, Path, Tasks], TrainState]  # trains one run
# arguments that are dicts by task, of which a run has those of its own tasks
BY_TASK = (
    "limit", "limit_dev", "pair_encoding", "pair_loss", "task_weight", "teacher", "r_drop"
)  # fmt: skip


def train_several(args: Args, folder: Path, tasks: Tasks, train: Train) -> list[list[TrainState]]:
    """Train the runs of a command that has several; return the states by seed."""
    with rundir.alone_in(folder, resumed=bool(args.resume)):
        if distributed.rank() == 0:
            remove_unfinished(folder)
        if args.resume:
            check_siblings(args, folder, tasks)
        else:  # of a resumed command both were done before its args.json was written
            splits = checked_training_rows(args, tasks)
            prepare_teachers(args, folder, tasks, splits)
        args = rundir.save_arguments(folder, args, tasks)
        distributed.barrier()  # the others look for args.json: it leads to the teachers' outputs

        def train_next(one: Args, its_folder: Path, its_tasks: Tasks) -> TrainState:
            check_siblings(args, folder, tasks)  # others trained for hours before this one
            return train(one, its_folder, its_tasks)

        by_seed = train_seeds(args, folder, tasks, train_next)
        finish_several(folder, args, list(tasks.values()), list(map(best_scores, by_seed)))
    return by_seed


def checked_training_rows(args: Args, tasks: Tasks) -> Splits:
    """Return the tasks' training rows.

    Raises UserError for a mistake in any of a command's runs, before the first of them trains.
    """
    known = list(tasks.values())
    check_files(known, Path(args.data_dir), ("train", "dev"))  # before a model is downloaded
    directory = resolve(args.model)
    read_tensors(directory)  # they are missing or damaged for all runs
    tokenizer, source = prepare_reading(args, known, directory)
    splits, _ = load_train_and_dev(known, tokenizer, source)
    if not args.skip_predictions:
        load_tests(known, tokenizer, source)
    for name, loss in args.pair_loss.items():
        PairData.of(tasks[name], splits[name], loss)
    return splits


def prepare_teachers(args: Args, folder: Path, tasks: Tasks, splits: Splits) -> None:
    """Write the teachers' outputs, for all runs. Raises UserError for one that does not fit."""
    paths = teacher_files(args, folder, tasks)
    make_teacher_outputs(args, tasks, paths)
    load_teacher_outputs(paths, splits)


def check_siblings(args: Args, folder: Path, tasks: Tasks) -> None:
    """Raise UserError if runs of a command began with other data or another model than now.

    Those that have yet to begin would otherwise have little in common with their siblings. Also for
    a missing file, unless all runs that need it are finished.
    """
    data_dir, now = Path(args.data_dir), {}
    runs, begun = runs_of(folder, vars(args)), []
    for run in runs:
        its_tasks = [tasks[run.name]] if args.is_one_by_one else list(tasks.values())
        if not is_finished(run):
            check_files(its_tasks, data_dir, ("train", "dev"))
        files = {n: f for n, f in training_files(its_tasks, data_dir).items() if f.is_file()}
        now |= {name: sha256_of(path) for name, path in files.items() if name not in now}
        if state := check_begun(run, files, {name: now[name] for name in files}):
            begun.append(state)
    starts = {state.start for state in begun if state.start}
    if starts and len(begun) < len(runs) and starts != {hash_of_model(resolve(args.model))}:
        raise UserError(
            f"--model {args.model}: not what the runs of {folder} began from, and "
            f"{len(runs) - len(begun)} of {len(runs)} have yet to begin: put it back, or start anew"
        )


def train_seed(args: Args, folder: Path, tasks: Tasks, train: Train) -> list[TrainState]:
    """Train the runs of one seed: one, or one for each task from the same start.

    A run that was stopped continues.
    """
    if not args.is_one_by_one:
        return [finished_state(args, folder) or train(args, folder, tasks)]
    states = []
    for name in args.tasks:
        print(f"\n{tasks[name].title} alone")
        one, its_folder = replace(args, **arguments_of_task(args, name)), folder / name
        states.append(
            finished_state(one, its_folder) or train(one, its_folder, {name: tasks[name]})
        )
    return states


def finished_state(args: Args, folder: Path) -> TrainState | None:
    """Return the state of one of several runs if it is finished, None if it is to be trained.

    Process 0 decides, so that all do the same.
    """
    state = None
    if distributed.rank() == 0 and args.resume and is_finished(folder):
        bests = map(task_best_folder, args.tasks) if args.save_task_best else ()
        is_whole = all(has_all_files(folder / name) for name in ("last", "best", *bests))
        left = [*folder.glob("*.new"), *folder.glob(".*.old")]  # by a kill: `train` tidies it up
        is_predicted = args.skip_predictions or (folder / FINDINGS).is_file()
        if is_whole and is_predicted and not left and (folder / REPORT).is_file():
            state = read_state(folder / "last")[0]
            check_scores(state, args.tasks, folder / "last" / STATE)
    state = distributed.all_gather(state)[0]
    if state:
        print(describe_finished(folder, state))
    return state


def arguments_of_task(args: Args, name: str) -> dict[str, Any]:
    """Return the arguments of one task's run that differ from those of a command for all tasks.

    An argument that does nothing for this task's kind of head gets its default.
    """
    own = {f: {k: v for k, v in getattr(args, f).items() if k == name} for f in BY_TASK}
    loss, unused = args.pair_loss.get(name), []
    unused += ["towers", "embedding_size"] * (loss is None)
    unused += ["mnr_scale"] * (loss not in IN_BATCH)
    of_other_heads = ["heads_first", "pool_layers", "hidden_dropout_prob"]
    unused += of_other_heads * (name in args.siamese_tasks)
    own |= {field: getattr(Args, field) for field in unused}
    epochs = args.epochs[name] if isinstance(args.epochs, dict) else args.epochs
    return {"tasks": (name,), "epochs": epochs, "pooling": args.pooling_of(name), **own}


def train_seeds(args: Args, folder: Path, tasks: Tasks, train: Train) -> list[list[TrainState]]:
    """Train the runs of all seeds, each in its own folder; return the states by seed."""
    if args.seeds == 1:
        return [train_seed(args, folder, tasks, train)]
    by_seed = []
    for seed in range(args.seed, args.seed + args.seeds):
        print(f"\nseed {seed}")
        one = replace(args, seed=seed, seeds=1)
        by_seed.append(train_seed(one, folder / f"seed-{seed}", tasks, train))
    return by_seed


def best_scores(states: list[TrainState]) -> Scores:
    """Return each task's score at the best step, of one run or of one run for each task."""
    return {n: score for state in states if state.best for n, score in state.best.scores.items()}


def closing_text(
    args: Args, folder: Path, tasks: list[Task], by_seed: list[list[TrainState]]
) -> str:
    """Return the text that a command ends with: its runs' scores, and what to type next.

    by_seed: the states of each seed's runs.
    """
    trained = args.mode + (" (frozen)" if args.fine_tune_mode == FROZEN else "")
    before = {name: score for state in by_seed[0] for name, score in state.before.items()}
    rows = {"before training": before, trained: best_scores(by_seed[0])}
    seed = f", seed {args.seed}" if args.seeds > 1 else ""
    parts = [
        f"\nDev scores of the best step on {args.data_dir} ({args.model}, {folder}){seed}",
        results_table(tasks, rows),
    ]
    if args.seeds > 1:
        parts.append(seeds_table(tasks, list(map(best_scores, by_seed))))
    run = runs_of(folder, vars(args))[0]
    flags = f"--checkpoint {shlex.quote(str(run))} --data-dir {shlex.quote(args.data_dir)}"
    parts.append(f"next: python evaluate.py {flags}")
    return "\n\n".join(parts)


def results_table(tasks: list[Task], rows: dict[str, Scores]) -> str:
    """Return a table with a column for each task, as the paper's Table 3; no score is a dash."""
    first = max(len(name) for name in rows)
    widths = [max(9, len(task.title) + 2, len(task.main_metric) + 1) for task in tasks]

    def line(name: str, cells: Iterable[str]) -> str:
        return name.ljust(first) + "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))

    lines = [line("", (task.title for task in tasks))]
    for name, scores in rows.items():
        cells = (f"{scores[t.name]:.3f}" if t.name in scores else "-" for t in tasks)
        lines.append(line(name, cells))
    lines.append(line("", (task.main_metric for task in tasks)))
    return "\n".join(lines)


def seeds_table(tasks: list[Task], by_seed: list[Scores]) -> str:
    """Return a table of each task's score over the seeds: mean, spread, lowest and highest."""
    lines = [f"over {len(by_seed)} seeds   mean   spread   lowest to highest"]
    summary = summarize_seeds(by_seed)
    for task in tasks:
        s = summary[task.name]
        ends = f"{s['lowest']:.3f} to {s['highest']:.3f}"
        lines.append(f"{task.title:<13}{s['mean']:7.3f}  {s['spread']:7.4f}   {ends}")
    return "\n".join(lines)
