"""Fine-tune one shared BERT on several tasks (paper, section 3.3).

python train_multitask.py --mode parallel --model all-MiniLM-L6-v2 --data-dir data
"""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minbert.data.collate import collate
from minbert.data.encoded import EncodedSplit
from minbert.data.sampler import batch_rows, count_batches
from minbert.data.tokenizer import BertTokenizer
from minbert.errors import UserError
from minbert.metrics import overall
from minbert.model.encoder import BertModel
from minbert.model.multitask import MultitaskModel
from minbert.training import rundir
from minbert.training.arguments import parse_given, run_script
from minbert.training.checkpoint import (
    atomic_directory,
    is_whole,
    load_training_state,
    save_training_state,
)
from minbert.training.device import choose_device, choose_precision
from minbert.training.interrupt import Interrupt
from minbert.training.mixing import Plan, sub_epochs
from minbert.training.optimizer import AdamW, parameter_groups
from minbert.training.runlog import Progress, RunLog
from minbert.training.schedule import learning_rate
from minbert.weights.multitask import load_multitask, save_multitask
from minbert.weights.resolve import resolve
from tasks import TASKS, Task
from tasks.evaluation import encode_features, predict_task, score_tasks
from tasks.loading import load_task, load_train_and_dev
from tasks.options import FREE_ON_RESUME, FROZEN, Args, resolve_arguments
from tasks.predictions import write_predictions
from tasks.tables import forgetting_table, results_table


@dataclass(frozen=True)
class Run:
    """What one run works with. Parameters, optimizer, `state` and the log change; the rest does
    not.
    """

    args: Args
    folder: Path
    tasks: list[Task]
    tokenizer: BertTokenizer
    model: MultitaskModel
    train: dict[str, EncodedSplit]
    dev: dict[str, EncodedSplit]
    # pooled outputs of whole splits if the encoder is frozen: computed once, not once an epoch
    train_features: dict[str, Tensor] | None
    dev_features: dict[str, Tensor] | None
    plan: Plan
    optimizer: AdamW
    state: dict[str, Any]  # numbers and text, saved with last/
    log: RunLog
    progress: Progress


def set_up(args: Args, folder: Path) -> Run:
    """From --model, or from last/ if the folder has one."""
    going_on = is_whole(folder / "last")
    directory = folder / "last" if going_on else resolve(args.model)
    tasks = [TASKS[name] for name in args.tasks]
    tokenizer = BertTokenizer.from_directory(directory)
    device = choose_device(args.device)
    torch.manual_seed(args.seed)
    if going_on:
        model, _ = load_multitask(directory, args.hidden_dropout_prob)
    else:
        outputs = {task.name: task.outputs for task in tasks}
        encoder = BertModel.from_pretrained(directory)
        model = MultitaskModel(encoder, outputs, args.hidden_dropout_prob)
    model.to(device).encoder.compute_dtype = choose_precision(args.precision, device)

    config = model.encoder.config
    tokenizer.check_fits(config.vocab_size)
    args = replace(args, max_length=min(args.max_length, config.max_position_embeddings))
    train, dev = load_train_and_dev(tasks, tokenizer, args)
    batches = count_batches({name: len(split) for name, split in train.items()}, args.batch_size)
    passes = sub_epochs(batches, args.sub_epochs)
    plan = Plan(args.mode, batches, args.epochs, passes, args.seed)
    features: tuple[Any, Any] = (None, None)
    if args.fine_tune_mode == FROZEN:
        model.encoder.requires_grad_(False)
        features = tuple(encode_features(model.encoder, splits, device) for splits in (train, dev))

    optimizer = AdamW(parameter_groups(model, args.weight_decay), lr=args.lr)
    state = {"step": 0, "assessed": -1, "before": {}, "best": None, "task_best": {}, "stages": []}
    if going_on:
        state = load_training_state(directory, model, optimizer)
    rundir.save_arguments(folder, args)
    log = RunLog(folder / "log.jsonl", state["step"] if going_on else -1)
    progress = Progress(plan.steps, state["step"])
    log.write("resume" if going_on else "start", step=state["step"], steps=plan.steps)
    return Run(
        args, folder, tasks, tokenizer, model, train, dev, *features, plan, optimizer, state, log,
        progress
    )  # fmt: skip


def train(args: Args, folder: Path) -> Run:
    """One run, from its start or where it was stopped, to its predictions."""
    run = set_up(args, folder)
    plan, state = run.plan, run.state
    if args.mode == "sequential":
        print("sub-epochs: " + ", ".join(f"{name} {n}" for name, n in plan.passes.items()))
    precision = str(run.model.encoder.compute_dtype).removeprefix("torch.")
    device = run.model.encoder.device
    print(f"{folder}: steps {state['step']} to {plan.steps}, {precision} on {device}", flush=True)
    saved = time.monotonic()
    with Interrupt() as interrupt:
        try:
            while True:
                step = state["step"]  # so many are done
                stage = plan.stage_after(step)
                if stage is None and args.eval_every and step % args.eval_every == 0:
                    stage = f"step {step}"
                if stage and state["assessed"] < step:
                    assess(run, stage)
                if stage or time.monotonic() - saved >= 60 * args.save_minutes:
                    save(run, "last")
                    saved = time.monotonic()
                if step == plan.steps:
                    break
                with interrupt.shielded():
                    train_step(run, step)
        except KeyboardInterrupt:
            run.progress.close()
            save(run, "last")
            print(f"stopped at step {state['step']} of {plan.steps}; go on with --resume {folder}")
            raise
    run.progress.close()
    if run.progress.examples:
        rates = run.progress.rates()
        run.log.write("end", step=plan.steps, **rates)
        print("{examples_per_s:.0f} examples/s, {tokens_per_s:.0f} real tokens/s".format(**rates))
    write_best_predictions(run)
    return run


def train_step(run: Run, step: int) -> None:
    """Draw a batch, forward, backward, clip, update, log."""
    args, draw = run.args, run.plan.draw(step)
    started = time.monotonic()
    run.model.train()
    if run.train_features is not None:
        run.model.encoder.eval()
    lr = learning_rate(step, run.plan.steps, args.lr, args.schedule, args.warmup)
    for group in run.optimizer.param_groups:
        group["lr"] = lr
    split, batches = run.train[draw.task], run.plan.batches[draw.task]
    rows = batch_rows(
        len(split), args.batch_size, batches, args.seed, draw.task, draw.epoch, draw.batch
    )
    total = 0.0
    for part in np.array_split(rows, min(args.accumulate, len(rows))):
        outputs, labels = forward(run, draw.task, part)
        # each part counts by its rows: the gradient is that of the whole batch
        loss = TASKS[draw.task].loss(outputs, labels) * (len(part) / len(rows))
        loss.backward()
        total += loss.item()
    if not math.isfinite(total):
        raise UserError(
            f"loss of {draw.task} is {total} at step {step + 1}, nothing was saved since the last "
            f"checkpoint: start again with a lower --lr, with --clip 1 or with --precision fp32"
        )
    if args.clip:
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), args.clip)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    run.state["step"] = step + 1

    tokens, epoch = int(split.lengths[rows].sum()), step // run.plan.epoch_steps + 1
    seconds = time.monotonic() - started
    run.progress.step(epoch, draw.task, total, lr, len(rows), tokens, seconds)
    run.log.write("step", step=step + 1, task=draw.task, loss=total, lr=lr, tokens=tokens)


def forward(run: Run, task: str, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """(outputs, labels) of these rows, through the encoder or from its ready features."""
    device = run.model.encoder.device
    if run.train_features is None:
        batch = collate(run.train[task], rows).to(device)
        return run.model(task, batch), batch.labels
    labels = torch.from_numpy(run.train[task].labels[rows]).to(device)
    features = run.train_features[task][torch.from_numpy(rows)].to(device)
    return run.model.heads[task](features), labels


def assess(run: Run, stage: str) -> None:
    """Dev scores now: log and show them, keep best/ and each task's best."""
    state, step = run.state, run.state["step"]
    device = run.model.encoder.device
    scores = score_tasks(run.tasks, run.model, run.dev, device, run.dev_features)
    main = {name: s.main for name, s in scores.items()}
    raw, form_2024 = overall(main, {t.name for t in run.tasks if t.is_correlation})
    metrics = {name: {**s.metrics, "loss": s.loss} for name, s in scores.items()}
    run.log.write(
        "dev", step=step, stage=stage, scores=metrics, overall=raw, overall_2024=form_2024
    )
    shown = "  ".join(f"{t.title} {main[t.name]:.3f}" for t in run.tasks)
    run.progress.print(f"{stage}: {shown}  mean {raw:.3f}  2024 form {form_2024:.3f}")
    if step == 0:
        state["before"] = main
    elif state["best"] is None or raw > state["best"]["overall"]:
        save(
            run, "best"
        )  # before the state says so: an interrupt in between repeats this evaluation
        state["best"] = {"overall": raw, "step": step, "scores": main}
    for name, score in main.items():
        if step and score > state["task_best"].get(name, {"score": -math.inf})["score"]:
            state["task_best"][name] = {"score": score, "step": step}
    state["stages"].append([stage, main])
    state["assessed"] = step
    if run.args.mode == "sequential" and step:
        run.progress.print(forgetting_table(run.tasks, state["stages"]))


def save(run: Run, name: str) -> None:
    """best/ to use, last/ to go on from; whole or not at all."""
    with atomic_directory(run.folder / name) as folder:
        save_multitask(run.model, folder)
        run.tokenizer.save(folder)
        if name == "last":
            save_training_state(folder, run.model, run.optimizer, run.state)


def write_best_predictions(run: Run) -> None:
    """Dev and test predictions of best/; a task without a test file gets none, and that is said."""
    args, device = run.args, run.model.encoder.device
    model, _ = load_multitask(run.folder / "best")
    model.to(device).encoder.compute_dtype = run.model.encoder.compute_dtype
    for task in run.tasks:
        splits = {"dev": run.dev[task.name]}
        path = Path(args.data_dir) / task.files["test"]
        if path.is_file():
            splits["test"] = load_task(task, "test", run.tokenizer, args)
        else:
            print(f"no {path}: no test predictions for {task.name}")
        for name, split in splits.items():
            outputs = predict_task(model, task, split, device).numpy()
            write_predictions(run.folder / "predictions", task, name, split, outputs)


def train_one_by_one(args: Args, folder: Path) -> list[Run]:
    """Each task alone, from the same start, in its own folder. All data is read before any
    training.
    """
    tasks = [TASKS[name] for name in args.tasks]
    tokenizer = BertTokenizer.from_directory(resolve(args.model))
    load_train_and_dev(tasks, tokenizer, args)
    rundir.save_arguments(folder, args)
    runs = []
    for task in tasks:
        print(f"\n{task.title} alone")
        limit = {name: rows for name, rows in args.limit.items() if name == task.name}
        runs.append(train(replace(args, tasks=(task.name,), limit=limit), folder / task.name))
    return runs


def main(argv: list[str]) -> int:
    given = parse_given(Args, argv, __doc__.split("\n")[0])
    root = Path(given.get("output_dir", Args.output_dir))
    if "resume" in given:
        folder = rundir.find_run(root, given["resume"])
        given = vars(rundir.resumed_arguments(Args, folder, given, FREE_ON_RESUME))
        args = replace(resolve_arguments(given), resume="")
    else:
        args = resolve_arguments(given)
        folder = rundir.new_run(root, args.name, f"{args.mode}-{'-'.join(args.tasks)}")
        args = replace(args, name=folder.name)
    alone = args.mode == "single" and len(args.tasks) > 1
    runs = train_one_by_one(args, folder) if alone else [train(args, folder)]
    before = {name: score for run in runs for name, score in run.state["before"].items()}
    after = {name: score for run in runs for name, score in run.state["best"]["scores"].items()}
    frozen = " (frozen)" if args.fine_tune_mode == FROZEN else ""
    print(f"\nDev scores of the best step ({args.model}, {folder})\n")
    tasks = [task for run in runs for task in run.tasks]
    print(results_table(tasks, {"before training": before, args.mode + frozen: after}))
    checkpoint = folder / args.tasks[0] if alone else folder
    print(f"\nnext: python evaluate.py --checkpoint {checkpoint} --data-dir {args.data_dir}")
    return 0


if __name__ == "__main__":
    run_script(main)
