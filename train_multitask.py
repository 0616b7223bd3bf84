"""Fine-tune one shared BERT on several tasks (paper, section 3.3).

python train_multitask.py --mode parallel --model all-MiniLM-L6-v2 --data-dir data
"""

if __name__ == "__main__":  # Ctrl-C during the imports, which take seconds, prints one line
    import os
    import signal

    signal.signal(signal.SIGINT, lambda *_: (os.write(2, b"stopped.\n"), os._exit(130)))

import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from minbert.batch import to_device
from minbert.cli import parse_given, run_script
from minbert.data.items import item_counts
from minbert.metrics import overall, summarize_seeds, weighted_mean
from minbert.printable import silence
from minbert.progress import say
from minbert.run import dry_run, rundir
from minbert.run.checkpoint import Best, Scores, TaskBest, TrainState, task_best_folder
from minbert.run.fine_tuning import FineTuning, set_up
from minbert.run.finish import finish
from minbert.run.keeper import Keeper, check_finite, save_checkpoint
from minbert.run.resolve_args import resolve_arguments
from minbert.run.several import best_scores, closing_text, results_table, train_several
from minbert.run.steps import StepRecord
from minbert.run.train_args import Args, default_name
from minbert.task.balance import row_weights
from minbert.task.evaluation import (
    LOWEST,
    defined_or,
    describe_undefined,
    score_tasks,
    set_threshold,
)
from minbert.task.siamese import siamese_loss
from minbert.task.soft_losses import distillation_targets, hard_targets, r_drop_loss, soft_loss
from minbert.task.task import Task, Tasks, has_2024_form, main_scores
from minbert.training import distributed
from minbert.training.averaging import add_to_average, averaged
from minbert.training.gradients import TaskGradients, cosines
from minbert.training.mixing import describe_passes
from minbert.training.optimizer import clip_scale
from minbert.training.schedule import learning_rate
from minbert.training.threads import set_threads
from tasks import TASKS


def train(args: Args, folder: Path, tasks: Tasks) -> TrainState:
    """Train one run, from its start or where it was stopped, to its predictions."""
    with rundir.alone_in(folder, resumed=bool(args.resume)):
        run = set_up(args, folder, tasks)
        state = run.state
        if args.mode == "sequential":
            print("sub-epochs: " + ", ".join(f"{t} {n}" for t, n in run.plan.sub_epochs.items()))
        print(describe_passes(run.plan.passes()))
        print(run.outlook(), flush=True)
        with Keeper(run, args.save_minutes) as keeper:  # Ctrl-C: last/ is saved, between two steps
            for step in range(state.step, run.steps + 1):  # step: how many are done
                stage = run.stage_after(step)
                if keeper.due:
                    keeper.save()
                if stage and not state.is_evaluated:
                    evaluate(run, stage)
                    keeper.save()
                if run.is_over():
                    break
                with keeper.step():
                    train_step(run, step)
        finish(run)
    return state


def train_step(run: FineTuning, step: int) -> None:
    """Set the rate, draw a batch, forward, backward, clip, update.

    It waits for a GPU only in `records.add`, which reads the losses every few steps.
    """
    args, started = run.args, time.monotonic()
    torch.manual_seed(distributed.own_seed(args.seed, step))
    lr = learning_rate(step, run.steps, args.lr, args.schedule, args.warmup)
    for group in run.optimizer.param_groups:
        group["lr"] = lr * group["rate"]

    rows = {draw.task: run.rows_of(draw) for draw in run.plan.draws(step)}
    losses, task_cosines = add_gradients(run, rows)
    run.optimizer.step(scale=clip_scale(run.model.parameters(), args.clip))
    run.optimizer.zero_grad(set_to_none=True)
    run.state.step = step + 1
    if count := run.averaged_steps:
        add_to_average(run.optimizer, count)

    epoch = step // run.plan.epoch_steps + 1
    seconds, records = (time.monotonic() - started) / len(rows), []
    for task, task_rows in rows.items():
        tokens = int(run.train_sequences[task].lengths_of(task_rows).sum())
        record = StepRecord(
            step=step + 1, task=task, loss=losses[task], lr=lr, epoch=epoch,
            examples=len(task_rows), tokens=tokens, seconds=seconds, cosines=task_cosines,
        )  # fmt: skip
        records.append(record)
        task_cosines = {}  # only the step's first record has them
    run.records.add(records)


def add_gradients(
    run: FineTuning, rows: dict[str, np.ndarray]
) -> tuple[dict[str, Tensor | None], dict[str, Tensor]]:
    """Compute the gradients of a step and leave them in the parameters, summed over all processes.

    rows: the batch's row numbers, by task. Returns each task's loss and, where several tasks share
    the step (joint mode), the cosines between their gradients of the encoder, which are combined as
    --combine says.
    """
    losses = {}
    if len(rows) == 1 or run.features:  # no gradient of the encoder to combine
        for task, task_rows in rows.items():
            losses[task] = forward_backward(run, run.tasks[task], task_rows)
        distributed.sum_gradients(run.model.parameters())
        return losses, {}
    gradients = TaskGradients(p for encoder in run.model.encoders for p in encoder.parameters())
    for task, task_rows in rows.items():
        losses[task] = forward_backward(run, run.tasks[task], task_rows)
        distributed.sum_gradients(gradients.shared)
        gradients.take(task)
    distributed.sum_gradients(run.model.heads.parameters())
    gradients.put(run.args.combine, [run.args.seed, run.state.step])
    return losses, cosines(gradients.by_task)


def forward_backward(run: FineTuning, task: Task, rows: np.ndarray) -> Tensor | None:
    """Add the gradient of these rows' mean loss, weighted by the task's weight.

    Returns the loss without that weight, None if there was none.

    The rows are split among the processes and into --accumulate parts. A part counts by its rows or
    labelled words, so that the gradient is that of the whole batch.
    """
    run.model.train()
    total, weight = None, run.args.task_weight.get(task.name, task.weight)
    counts = item_counts(run.train_sequences[task.name], rows)
    for part, share in distributed.micro_batches(rows, run.args.accumulate, counts):
        loss = batch_loss(run, task, part)
        if loss is None:  # fewer than two pairs: an in-batch loss has nothing to tell apart
            run.state.skipped += 1
            continue
        loss = loss * share
        (loss * weight).backward()
        total = loss.detach() if total is None else total + loss.detach()
    return total


def batch_loss(run: FineTuning, task: Task, rows: np.ndarray) -> Tensor | None:
    """Return the mean loss of these rows; with --pair-encoding both it is the sum of two losses."""
    if task.name not in run.pairs:
        return head_loss(run, task, rows)
    args, pairs = run.args, run.pairs[task.name]
    apart = siamese_loss(run.model, task, pairs, rows, args.pair_loss[task.name], args.mnr_scale)
    if task.name in args.siamese_tasks:
        return apart
    return apart + head_loss(run, task, rows)


def head_loss(run: FineTuning, task: Task, rows: np.ndarray) -> Tensor:
    """Return a head's mean loss: against labels or a teacher, under one dropout or two."""
    args, name = run.args, task.name
    r_drop = args.r_drop.get(name, 0.0)
    outputs, labels, items = run.forward(name, rows)
    if len(items) == 0:  # token classification: all labelled words were cut off
        # 0, with gradients of 0: all processes sum up gradients of the same parameters
        return outputs.sum()
    if name in run.teachers:
        teacher = to_device(run.teachers[name][torch.from_numpy(items)], outputs.device)
        # w of teacher annealing: 0 at the first step, 1 at the last one
        label_share = run.state.step / (run.steps - 1) if run.steps > 1 else 1.0
        targets = distillation_targets(task, labels, teacher, label_share)
    elif r_drop:
        targets = hard_targets(task, labels)
    else:
        return task.loss(outputs, labels)
    weights = row_weights(task, labels)
    loss = soft_loss(task, outputs, targets, weights)
    if r_drop:
        again, *_ = run.forward(name, rows)
        loss = (loss + soft_loss(task, again, targets, weights)) / 2
        loss = loss + r_drop * r_drop_loss(task, outputs, again, weights)
    return loss


def evaluate(run: FineTuning, stage: str) -> None:
    """Take dev scores of the weights, and of their mean if there is one; keep the best."""
    run.records.flush()
    check_finite(run)
    state = run.state
    if run.averaged_steps:  # before the weights: the thresholds set last are what last/ keeps
        with averaged(run.optimizer):
            evaluate_weights(run, stage, is_mean=True)
    by_task = evaluate_weights(run, stage)
    if state.step == 0:
        state.before = by_task
    without_gain = state.best is not None and state.best.step < state.step
    state.count_evaluation(stage, by_task, state.since_best + 1 if without_gain else 0)
    if run.args.mode == "sequential" and state.step:
        say(results_table(list(run.tasks.values()), dict(state.stages)))


def evaluate_weights(run: FineTuning, stage: str, is_mean: bool = False) -> Scores:
    """Score the model on dev, log and show the scores, and save it if it is the best so far.

    Returns the main scores. is_mean: the model has the mean of the weights over its last steps.
    """
    args, step, tasks = run.args, run.state.step, list(run.tasks.values())
    for name in run.pairs:
        set_threshold(run.model, run.tasks[name], run.train_sequences[name])
    features = run.features and run.features["dev"]
    scores = score_tasks(run.model, tasks, run.dev_splits, features)
    measured = main_scores(tasks, scores)
    undefined = describe_undefined(scores)
    scores = {name: defined_or(metrics, 0.0) for name, metrics in scores.items()}
    for name in undefined:
        if name not in run.reported_undefined:
            say(undefined[name])
    run.reported_undefined.update(undefined)
    # an undefined score is shown as 0, but where steps are compared it is lower than any other
    by_task, compared = defined_or(measured, 0.0), defined_or(measured, LOWEST)
    raw_mean, form_2024 = overall(by_task, {task.name for task in tasks if task.is_regression})
    values = {"stage": stage, "scores": scores, "overall": raw_mean, "overall_2024": form_2024}
    chosen_by = weighted_mean(compared, args.best_by or dict.fromkeys(compared, 1.0))
    kind = "mean-dev" if is_mean else "dev"
    run.log.write(kind, step=step, **values, chosen_by=chosen_by)
    by_title = "  ".join(f"{task.title} {by_task[task.name]:.3f}" for task in tasks)
    label = f"mean weights of {run.averaged_steps} steps" if is_mean else stage
    form = f"  2024 form {form_2024:.3f}" if has_2024_form(tasks) else ""
    form += f"  best by {chosen_by:.3f}" if args.best_by else ""
    run.progress.print_scores(label, f"{by_title}  mean {raw_mean:.3f}{form}")
    if step:
        keep_best(run, Best(chosen_by, step, by_task, is_mean), compared)
    return by_task


def keep_best(run: FineTuning, new: Best, compared: Scores) -> None:
    """Save the model as best/ if `new` is better than the best so far, and each task's best.

    compared: each task's score. The state changes after the saving: an interrupt between the two
    repeats the evaluation, and no step is called best that was not saved.
    """
    state = run.state
    if state.best is None or new.chosen_by > state.best.chosen_by:
        save_checkpoint(run, "best", new)
        state.best = new
    for name, score in compared.items():
        best = state.task_best.get(name)
        if best is None or score > best.score:
            own = TaskBest(score, new.step, new.is_mean)
            if run.args.save_task_best:
                save_checkpoint(run, task_best_folder(name), own)
            state.task_best[name] = own


def main(argv: list[str]) -> int:
    given = parse_given(Args, argv, __doc__)
    with distributed.process_group():
        with silence(given.get("quiet", False)), given.naming_files():
            args, tasks, folder = rundir.open_run(
                given, Args, TASKS, resolve_arguments, default_name
            )
        set_threads(args.threads)
        if args.dry_run:
            dry_run.show(args, lambda f: dry_run.preview(args, tasks, train_step, f))
            return 0
        with silence(args.quiet):
            if args.is_several:
                by_seed = train_several(args, folder, tasks, train)
            else:
                by_seed = [[train(args, folder, tasks)]]
            print(closing_text(args, folder, list(tasks.values()), by_seed))
        scores = list(map(best_scores, by_seed))
        if args.json:
            report = {"run": str(folder), "scores": scores, "over_seeds": summarize_seeds(scores)}
            print(json.dumps(report))
    return 0


if __name__ == "__main__":
    run_script(main)
