"""Fine-tune one shared BERT on several tasks (paper, section 3.3).

python train_multitask.py --mode parallel --model all-MiniLM-L6-v2 --data-dir data
"""

if __name__ == "__main__":  # the imports below take seconds, in which Ctrl-C is one line, too
    import os
    import signal

    signal.signal(signal.SIGINT, lambda *_: (os.write(2, b"stopped.\n"), os._exit(130)))

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from minbert.batch import to_device
from minbert.cli import parse_given, run_script
from minbert.data.collate import collate
from minbert.data.encoded import EncodedSplit
from minbert.data.sampler import batch_rows, count_batches
from minbert.data.tokenizer import BertTokenizer
from minbert.metrics import over_seeds, overall
from minbert.model.encoder import BertModel
from minbert.model.layers import set_kernels
from minbert.model.multitask import MultitaskNetwork, load_multitask, save_multitask
from minbert.run import dry_run, rundir
from minbert.run.checkpoint import Best, TaskBest, TrainState
from minbert.run.finish import finish
from minbert.run.loop import Keeper, Training, begin, check_finite, find_checkpoint, save
from minbert.run.runlog import StepRecord, silence
from minbert.run.several import best_scores, closing_text, is_several, results_table, train_several
from minbert.run.train_args import FROZEN, Args, data_source, default_name, resolve_arguments
from minbert.task.evaluation import calibrate, encode_features, replace_undefined, score_tasks
from minbert.task.loading import (
    check_files,
    check_segments,
    load_train_and_dev,
    training_files,
)  # fmt: skip
from minbert.task.siamese import PairData, head_config, siamese_loss
from minbert.task.task import Task, main_scores
from minbert.training import distributed
from minbert.training.device import choose_device, choose_precision
from minbert.training.mixing import Plan, resolve_sub_epochs
from minbert.training.optimizer import AdamW, clip_scale, parameter_groups
from minbert.training.schedule import learning_rate
from minbert.weights.resolve import resolve
from tasks import TASKS

Splits = dict[str, EncodedSplit]
Tasks = dict[str, Task]


@dataclass(frozen=True)
class Run(Training):
    """What one run works with."""

    model: MultitaskNetwork
    args: Args
    tasks: Tasks
    train_splits: Splits
    dev_splits: Splits
    # pooled outputs of train and dev if the encoder is frozen: computed once, not once an epoch
    features: dict[str, dict[str, Tensor]] | None
    pairs: dict[str, PairData]  # the training sets of siamese tasks
    plan: Plan

    def is_over(self) -> bool:
        """Return whether the last step is done, or --patience evaluations were without a gain."""
        out_of_patience = 0 < self.args.patience <= self.state.since_best
        return self.state.step >= self.steps or out_of_patience

    def stage_after(self, step: int) -> str | None:
        """Return what ends after so many steps: an epoch, a sub-epoch, or --eval-every steps."""
        due = self.args.eval_every and step % self.args.eval_every == 0
        return self.plan.stage_after(step) or (f"step {step}" if due else None)

    def write(self, folder: Path) -> None:
        """Write model, heads and tokenizer."""
        save_multitask(self.model, folder)
        self.tokenizer.save(folder, self.args.max_length)


def train(args: Args, folder: Path, tasks: Tasks) -> TrainState:
    """Train one run, from its start or where it was stopped, to its predictions."""
    with rundir.alone_in(folder, resumed=bool(args.resume)):
        run = set_up(args, folder, tasks)
        encoder, state = run.model.encoder, run.state
        if args.mode == "sequential":
            print("sub-epochs: " + ", ".join(f"{t} {n}" for t, n in run.plan.sub_epochs.items()))
        where = f"{encoder.compute_dtype} on {encoder.device}"
        print(f"{folder}: steps {state.step} to {run.steps}, {where}", flush=True)
        with Keeper(run, args.save_minutes) as keeper:  # Ctrl-C: last/ is saved, between two steps
            for step in range(state.step, run.steps + 1):  # so many steps are done
                stage = run.stage_after(step)
                if stage and state.assessed < step:
                    evaluate(run, stage)
                    keeper.save()
                elif keeper.due:
                    keeper.save()
                if run.is_over():
                    break
                with keeper.step():
                    train_step(run, step)
        finish(
            run, args=run.args, script=Path(__file__).name, tasks=list(tasks.values()),
            train_splits=run.train_splits, dev_splits=run.dev_splits, device=encoder.device,
            precision=encoder.compute_dtype,
        )  # fmt: skip
    return state


def train_step(run: Run, step: int) -> None:
    """Set the rate, draw a batch, forward, backward, clip, update. Nothing waits for a GPU."""
    args, started = run.args, time.monotonic()
    torch.manual_seed(distributed.own_seed(args.seed, step))
    lr = learning_rate(step, run.steps, args.lr, args.schedule, args.warmup)
    for group in run.optimizer.param_groups:
        group["lr"] = lr

    draw = run.plan.draw(step)
    task, split, batches = run.tasks[draw.task], run.train_splits[draw.task], run.plan.batches
    rows = batch_rows(
        len(split), args.batch_size, batches[task.name], args.seed, task.name, draw.epoch,
        draw.batch,
    )  # fmt: skip

    loss = forward_backward(run, task, rows)
    distributed.sum_gradients(run.model.parameters())
    run.optimizer.step(scale=clip_scale(run.model.parameters(), args.clip))
    run.optimizer.zero_grad(set_to_none=True)
    run.state.step = step + 1

    tokens, epoch = int(split.lengths_of(rows).sum()), step // run.plan.epoch_steps + 1
    seconds = time.monotonic() - started
    run.records.add(StepRecord(step + 1, task.name, loss, lr, epoch, len(rows), tokens, seconds))


def forward_backward(run: Run, task: Task, rows: np.ndarray) -> Tensor | None:
    """Add the gradient of these rows' mean loss; return the loss, None if there was none.

    The rows go through the model in --accumulate parts, and of several processes each takes its
    share: every part counts by its rows, so that the gradient is that of the whole batch.
    """
    run.model.train()
    if run.features:
        run.model.encoder.eval()
    total = None
    for part, share in distributed.micro_batches(rows, run.args.accumulate):
        loss = batch_loss(run, task, part)
        if loss is None:  # an in-batch loss without two pairs to tell apart
            run.state.skipped += 1
            continue
        loss = loss * (task.weight * share)
        loss.backward()
        total = loss.detach() if total is None else total + loss.detach()
    return total


def batch_loss(run: Run, task: Task, rows: np.ndarray) -> Tensor | None:
    """Return the mean loss of these rows, through the encoder or from its ready features."""
    device = run.model.encoder.device
    if task.name in run.pairs:
        pairs, name = run.pairs[task.name], run.args.pair_loss[task.name]
        return siamese_loss(run.model, task, pairs, rows, name, run.args.mnr_scale)
    if run.features is None:
        batch = collate(run.train_splits[task.name], rows).to(device)
        return task.loss(run.model(task.name, batch), batch.labels)
    labels = to_device(torch.from_numpy(run.train_splits[task.name].labels[rows]), device)
    features = to_device(run.features["train"][task.name][torch.from_numpy(rows)], device)
    return task.loss(run.model.heads[task.name](features), labels)


def evaluate(run: Run, stage: str) -> None:
    """Take dev scores: log and show them, keep best/ and each task's best."""
    check_finite(run)
    state, step, tasks = run.state, run.state.step, list(run.tasks.values())
    device = run.model.encoder.device
    for name in run.pairs:
        calibrate(run.model, run.tasks[name], run.train_splits[name], device)
    features = run.features and run.features["dev"]
    scores = score_tasks(tasks, run.model, run.dev_splits, device, features)
    for sentence in replace_undefined(scores):
        run.progress.print(sentence)
    main = main_scores(tasks, scores)
    mean, form_2024 = overall(main, {task.name for task in tasks if task.is_correlation})
    run.log.write(
        "dev", step=step, stage=stage, scores=scores, overall=mean, overall_2024=form_2024
    )
    found = "  ".join(f"{task.title} {main[task.name]:.3f}" for task in tasks)
    run.progress.print(f"{stage}: {found}  mean {mean:.3f}  2024 form {form_2024:.3f}")
    if step == 0:
        state.before = main
    elif state.best is None or mean > state.best.overall:
        save(run, "best")  # before the state says so: an interrupt repeats this evaluation
        state.best = Best(mean, step, main)
        state.since_best = 0
    else:
        state.since_best += 1
    for name, score in main.items():
        best = state.task_best.get(name)
        if step and (best is None or score > best.score):
            state.task_best[name] = TaskBest(score, step)
    state.stages.append((stage, main))
    state.assessed = step
    if run.args.mode == "sequential" and step:
        run.progress.print(results_table(tasks, dict(state.stages)))


def set_up(args: Args, folder: Path, tasks: Tasks) -> Run:
    """Make a run ready to train: from --model, or from last/ if the folder has one."""
    source = data_source(args)
    check_files(list(tasks.values()), source.data_dir, ("train", "dev"))
    last = find_checkpoint(folder)
    directory = last or resolve(args.model)
    tokenizer = BertTokenizer.from_directory(directory)
    device = choose_device(args.device)
    model = make_model(args, tasks, directory, whole=bool(last)).to(device)
    model.set_precision(choose_precision(args.precision, device))
    set_kernels(model, args.kernels)
    written_out = args.kernels == "written-out"
    model.set_row_gradients(distributed.takes_row_gradients(device) and not written_out)
    model.set_checkpointing(args.checkpoint_activations)

    config = model.encoder.config
    tokenizer.check_fits(config.vocab_size)
    check_segments(list(tasks.values()), source, config.type_vocab_size)
    args = replace(args, max_length=min(args.max_length, config.max_position_embeddings))
    source = replace(source, max_length=args.max_length)
    train_splits, dev_splits = load_train_and_dev(list(tasks.values()), tokenizer, source)
    rows = {name: len(split) for name, split in train_splits.items()}
    batches = count_batches(rows, args.batch_size)
    sub_epochs = resolve_sub_epochs(batches, args.sub_epochs)
    plan = Plan(args.mode, batches, args.epochs, sub_epochs, args.seed)
    features = None
    if args.fine_tune_mode == FROZEN:
        encoder = model.encoder.requires_grad_(False)
        both = {"train": train_splits, "dev": dev_splits}
        features = {name: encode_features(encoder, s, device) for name, s in both.items()}
    pairs = {n: PairData.of(tasks[n], train_splits[n], loss) for n, loss in args.pair_loss.items()}

    groups = parameter_groups(model, args.weight_decay)
    optimizer = AdamW(groups, lr=args.lr, kernels=args.kernels)
    files = training_files(list(tasks.values()), source.data_dir)
    begun = begin(folder, args, tokenizer, model, plan.steps, optimizer, last, files)
    args = rundir.save_arguments(folder, args, tasks)
    return Run(
        **vars(begun), args=args, tasks=tasks, train_splits=train_splits, dev_splits=dev_splits,
        features=features, pairs=pairs, plan=plan,
    )  # fmt: skip


def make_model(args: Args, tasks: Tasks, directory: Path, whole: bool) -> MultitaskNetwork:
    """Load the encoder of a directory and make new heads; whole: load its heads too."""
    torch.manual_seed(args.seed)
    if whole:
        return load_multitask(directory, args.hidden_dropout_prob)[0]
    encoder = BertModel.from_pretrained(directory)
    shape = (args.pooling, args.embedding_size)
    heads = {n: head_config(t, args.pair_loss.get(n), *shape) for n, t in tasks.items()}
    return MultitaskNetwork(encoder, heads, args.hidden_dropout_prob, args.towers == "separate")


def main(argv: list[str]) -> int:
    given = parse_given(Args, argv, __doc__.split("\n")[0])
    with distributed.processes():
        args, tasks, folder = rundir.open_run(given, Args, TASKS, resolve_arguments, default_name)
        if args.dry_run:
            dry_run.show(args, lambda f: dry_run.preview(args, tasks, set_up, train_step, f))
            return 0
        with silence(args.quiet):
            if is_several(args):
                every = train_several(args, folder, tasks, train, Path(__file__).name)
            else:
                every = [[train(args, folder, tasks)]]
            print(closing_text(args, folder, list(tasks.values()), every))
        scores = list(map(best_scores, every))
        if args.json:
            found = {"run": str(folder), "scores": scores, "over_seeds": over_seeds(scores)}
            print(json.dumps(found))
    return 0


if __name__ == "__main__":
    run_script(main)
