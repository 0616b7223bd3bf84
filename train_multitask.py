"""Fine-tune one shared BERT on several tasks (paper, section 3.3).

python train_multitask.py --mode parallel --model all-MiniLM-L6-v2 --data-dir data
"""

import json
import math
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from minbert.batch import to_device
from minbert.cli import parse_given, run_script
from minbert.data.collate import collate
from minbert.data.encoded import EncodedSplit
from minbert.data.sampler import batch_rows, count_batches
from minbert.data.tokenizer import BertTokenizer
from minbert.metrics import overall
from minbert.model import fused
from minbert.model.encoder import BertModel
from minbert.model.multitask import MultitaskNetwork
from minbert.run import checkpoint, rundir
from minbert.run.dry_run import preview
from minbert.run.finish import finish, finish_several
from minbert.run.loop import save, train_to_end
from minbert.run.runlog import Progress, RunLog, silence
from minbert.run.several import best_scores, is_one_by_one, shown, summary, train_seeds
from minbert.run.steprecords import StepRecord, StepRecords
from minbert.run.tables import forgetting_table
from minbert.run.train_args import FREE_ON_RESUME, FROZEN, Args, resolve_arguments
from minbert.task.evaluation import calibrate, encode_features, score_tasks
from minbert.task.loading import check_files, load_train_and_dev
from minbert.task.siamese import PairData, head_config, siamese_loss
from minbert.task.task import Task
from minbert.task.taskfile import KEPT_AS, kept_task_file
from minbert.training import distributed
from minbert.training.device import choose_device, choose_precision
from minbert.training.mixing import Plan, sub_epochs
from minbert.training.optimizer import AdamW, clip_scale, parameter_groups
from minbert.training.schedule import learning_rate
from minbert.weights.multitask import load_multitask, save_multitask
from minbert.weights.resolve import resolve
from tasks import TASKS


@dataclass(frozen=True)
class Run:
    """What one run works with. Parameters, optimizer, `state` and the log change."""

    args: Args
    folder: Path
    tasks: list[Task]
    tokenizer: BertTokenizer
    model: MultitaskNetwork
    train: dict[str, EncodedSplit]
    dev: dict[str, EncodedSplit]
    # pooled outputs of train and dev if the encoder is frozen: computed once, not once an epoch
    features: dict[str, dict[str, Tensor]] | None
    pairs: dict[str, PairData]  # the training sets of siamese tasks
    plan: Plan
    optimizer: AdamW
    state: dict[str, Any]  # numbers and text, saved with last/
    log: RunLog
    progress: Progress
    records: StepRecords

    @property
    def steps(self) -> int:
        return self.plan.steps

    def is_over(self) -> bool:
        """After the last step, or --patience evaluations without a better mean."""
        patience = self.args.patience
        tired = patience > 0 and self.state["since_best"] >= patience
        return self.state["step"] >= self.steps or tired

    def stage_after(self, step: int) -> str | None:
        """An epoch or a sub-epoch has ended, or --eval-every steps."""
        every = self.args.eval_every
        return self.plan.stage_after(step) or (
            f"step {step}" if every and step % every == 0 else None
        )

    def write(self, folder: Path) -> None:
        """Model, heads and tokenizer."""
        save_multitask(self.model, folder)
        self.tokenizer.save(folder, self.model.encoder.config.max_position_embeddings)


def set_up(args: Args, folder: Path) -> Run:
    """From --model, or from last/ if the folder has one."""
    tasks = [TASKS[name] for name in args.tasks]
    check_files(tasks, args.data_dir, ("train", "dev"))
    with distributed.first_before_others():
        going_on = checkpoint.is_whole(folder / "last")
    directory = folder / "last" if going_on else resolve(args.model)
    tokenizer = BertTokenizer.from_directory(directory)
    device = choose_device(args.device)
    model = make_model(args, tasks, directory, going_on).to(device)
    model.set_precision(choose_precision(args.precision, device))
    fused.turn_off(args.written_out)
    sparse = device.type == "cpu" and distributed.size() == 1 and not fused.is_off()
    model.set_row_gradients(sparse)
    model.set_checkpointing(args.checkpoint_activations)

    config = model.encoder.config
    tokenizer.check_fits(config.vocab_size)
    args = replace(args, max_length=min(args.max_length, config.max_position_embeddings))
    with distributed.first_before_others():
        train, dev = load_train_and_dev(tasks, tokenizer, args)
    batches = count_batches({name: len(split) for name, split in train.items()}, args.batch_size)
    passes = sub_epochs(batches, args.sub_epochs)
    plan = Plan(args.mode, batches, args.epochs, passes, args.seed)
    features = None
    if args.fine_tune_mode == FROZEN:
        encoder = model.encoder.requires_grad_(False)
        both = {"train": train, "dev": dev}
        features = {name: encode_features(encoder, s, device) for name, s in both.items()}
    pairs = {n: PairData.of(TASKS[n], train[n], loss) for n, loss in args.pair_loss.items()}

    groups = parameter_groups(model, args.weight_decay)
    optimizer = AdamW(groups, lr=args.lr, written_out=args.written_out)
    state: dict[str, Any] = {"step": 0, "steps": plan.steps, "assessed": -1, "before": {}}
    state |= {"best": None, "stages": [], "task_best": {}, "skipped": 0, "since_best": 0}
    if going_on:
        state |= checkpoint.load_training_state(directory, model, optimizer)
        rundir.check_steps(folder, state["steps"], plan.steps)
    log = RunLog(folder / "log.jsonl", state["step"] if going_on else -1, args.tensorboard)
    args = replace(args, task_file=rundir.keep_file(args.task_file, folder, KEPT_AS))
    rundir.save_arguments(folder, args)
    progress = Progress(plan.steps, state["step"], args.quiet)
    log.write("resume" if going_on else "start", step=state["step"], steps=plan.steps)
    return Run(
        args, folder, tasks, tokenizer, model, train, dev, features, pairs, plan, optimizer,
        state, log, progress, StepRecords(log, progress, device),
    )  # fmt: skip


def make_model(args: Args, tasks: list[Task], directory: Path, whole: bool) -> MultitaskNetwork:
    """The encoder of a directory with new heads; whole: its heads too."""
    torch.manual_seed(args.seed)
    if whole:
        return load_multitask(directory, args.hidden_dropout_prob)[0]
    encoder = BertModel.from_pretrained(directory)
    shape = (args.pooling, args.embedding_size)
    heads = {t.name: head_config(t, args.pair_loss.get(t.name), *shape) for t in tasks}
    return MultitaskNetwork(encoder, heads, args.hidden_dropout_prob, args.towers == "separate")


def train(args: Args, folder: Path) -> dict[str, Any]:
    """One run, from its start or where it was stopped, to its predictions; returns its state."""
    with rundir.alone_in(folder):
        run = set_up(args, folder)
        plan, encoder = run.plan, run.model.encoder
        if args.mode == "sequential":
            print("sub-epochs: " + ", ".join(f"{name} {n}" for name, n in plan.passes.items()))
        where = f"{encoder.compute_dtype} on {encoder.device}"
        print(f"{folder}: steps {run.state['step']} to {run.steps}, {where}", flush=True)
        train_to_end(run, train_step, assess)
        finish(run, Path(__file__).name)
    return run.state


def train_step(run: Run, step: int) -> None:
    """Draw a batch, forward, backward, clip, update. Nothing here waits for a GPU."""
    args, draw = run.args, run.plan.draw(step)
    started = time.monotonic()
    run.model.train()
    if run.features:
        run.model.encoder.eval()
    torch.manual_seed(distributed.own_seed(args.seed, step))
    lr = learning_rate(step, run.steps, args.lr, args.schedule, args.warmup)
    for group in run.optimizer.param_groups:
        group["lr"] = lr
    split, batches = run.train[draw.task], run.plan.batches[draw.task]
    rows = batch_rows(
        len(split), args.batch_size, batches, args.seed, draw.task, draw.epoch, draw.batch
    )
    total = None
    for part, weight in distributed.shares(rows, args.accumulate):
        loss = batch_loss(run, TASKS[draw.task], part)
        if loss is None:  # an in-batch loss without two pairs to tell apart
            run.state["skipped"] += 1
            continue
        # each part counts by its rows: the gradient is that of the whole batch; and tasks differ
        loss = loss * (TASKS[draw.task].weight * weight)
        loss.backward()
        total = loss.detach() if total is None else total + loss.detach()
    distributed.sum_gradients(run.model.parameters())
    run.optimizer.step(scale=clip_scale(run.model.parameters(), args.clip))
    run.optimizer.zero_grad(set_to_none=True)
    run.state["step"] = step + 1

    tokens, epoch = int(split.lengths_of(rows).sum()), step // run.plan.epoch_steps + 1
    seconds = time.monotonic() - started
    record = StepRecord(step + 1, draw.task, total, lr, epoch, len(rows), tokens, seconds)
    run.records.add(record)


def batch_loss(run: Run, task: Task, rows: np.ndarray) -> Tensor | None:
    """Forward: the mean loss of these rows, through the encoder or from its ready features."""
    device = run.model.encoder.device
    if task.name in run.pairs:
        pairs, name = run.pairs[task.name], run.args.pair_loss[task.name]
        return siamese_loss(run.model, task, pairs, rows, name, run.args.mnr_scale)
    if run.features is None:
        batch = collate(run.train[task.name], rows).to(device)
        return task.loss(run.model(task.name, batch), batch.labels)
    labels = to_device(torch.from_numpy(run.train[task.name].labels[rows]), device)
    features = to_device(run.features["train"][task.name][torch.from_numpy(rows)], device)
    return task.loss(run.model.heads[task.name](features), labels)


def assess(run: Run, stage: str) -> None:
    """Dev scores now: log and show them, keep best/ and each task's best."""
    run.records.flush()
    state, step = run.state, run.state["step"]
    device = run.model.encoder.device
    for name in run.pairs:
        calibrate(run.model, TASKS[name], run.train[name], device)
    features = run.features and run.features["dev"]
    scores = score_tasks(run.tasks, run.model, run.dev, device, features)
    main = {task.name: scores[task.name][task.main_metric] for task in run.tasks}
    raw, form_2024 = overall(main, {t.name for t in run.tasks if t.is_correlation})
    run.log.write("dev", step=step, stage=stage, scores=scores, overall=raw, overall_2024=form_2024)
    shown = "  ".join(f"{t.title} {main[t.name]:.3f}" for t in run.tasks)
    run.progress.print(f"{stage}: {shown}  mean {raw:.3f}  2024 form {form_2024:.3f}")
    if step == 0:
        state["before"] = main
    elif state["best"] is None or raw > state["best"]["overall"]:
        save(run, "best")  # before the state says so: an interrupt repeats this evaluation
        state["best"] = {"overall": raw, "step": step, "scores": main}
        state["since_best"] = 0
    else:
        state["since_best"] += 1
    for name, score in main.items():
        if step and score > state["task_best"].get(name, {"score": -math.inf})["score"]:
            state["task_best"][name] = {"score": score, "step": step}
    state["stages"].append([stage, main])
    state["assessed"] = step
    if run.args.mode == "sequential" and step:
        run.progress.print(forgetting_table(run.tasks, state["stages"]))


def check_all_files(args: Args) -> None:
    """What several runs will read, before the first of them trains."""
    tasks = [TASKS[name] for name in args.tasks]
    check_files(tasks, args.data_dir, ("train", "dev"))
    tokenizer = BertTokenizer.from_directory(resolve(args.model))
    with distributed.first_before_others():
        load_train_and_dev(tasks, tokenizer, args)


def new_folder(args: Args, root: Path) -> tuple[Args, Path]:
    """Where a new run goes; its arguments then name it."""
    folder = rundir.new_run(root, args.name, f"{args.mode}-{'-'.join(args.tasks)}")
    return replace(args, name=folder.name), folder


def main(argv: list[str]) -> int:
    given = parse_given(Args, argv, __doc__.split("\n")[0])
    root = Path(given.get("output_dir", Args.output_dir))
    if "resume" in given:
        folder = rundir.find_run(root, given["resume"])
        given = vars(rundir.resumed_arguments(Args, folder, given, FREE_ON_RESUME))
        given["task_file"] = str(kept_task_file(folder) or "")
        args = replace(resolve_arguments(given), resume="")
    else:
        args = resolve_arguments(given)
        if args.dry_run:
            with tempfile.TemporaryDirectory() as scratch, silence(args.quiet):
                text, found = preview(args, set_up, train_step, Path(scratch))
                print(text)
            if args.json:
                print(json.dumps(asdict(found)))
            return 0
        args, folder = new_folder(args, root)
    with silence(args.quiet):
        if args.seeds > 1 or is_one_by_one(args):
            check_all_files(args)
            args = replace(args, task_file=rundir.keep_file(args.task_file, folder, KEPT_AS))
            rundir.save_arguments(folder, args)
        every = train_seeds(args, folder, train)
        print(shown(args, folder, every))
    scores = list(map(best_scores, every))
    if args.seeds > 1 or is_one_by_one(args):
        finish_several(args, folder, Path(__file__).name, scores)
    if args.json:
        print(json.dumps({"run": str(folder), "scores": scores, "over_seeds": summary(scores)}))
    return 0


if __name__ == "__main__":
    run_script(main)
