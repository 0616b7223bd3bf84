"""Fine-tune one shared BERT on several tasks (paper, section 3.3).

python train_multitask.py --mode parallel --model all-MiniLM-L6-v2 --data-dir data
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from minbert.data.collate import collate
from minbert.data.encoded import EncodedSplit, limit_rows, load_split
from minbert.data.sampler import batch_rows, count_batches
from minbert.data.tokenizer import BertTokenizer
from minbert.errors import UserError
from minbert.metrics import overall
from minbert.model.encoder import BertModel
from minbert.model.multitask import MultitaskModel
from minbert.training import mixing
from minbert.training.arguments import arg, comma_list, number_by_task, parse_arguments, run_script
from minbert.training.checkpoint import (
    atomic_directory,
    check_manifest,
    load_training_state,
    save_training_state,
)
from minbert.training.device import choose_device, choose_precision
from minbert.training.interrupt import Interrupt
from minbert.training.optimizer import AdamW, parameter_groups
from minbert.training.runlog import Progress, RunLog
from minbert.training.schedule import learning_rate
from minbert.weights.multitask import load_multitask, save_multitask
from minbert.weights.resolve import resolve
from tasks import TASKS, Task
from tasks.evaluation import Scores, predict, score_outputs
from tasks.predictions import write_predictions
from tasks.tables import forgetting_table, results_table

FROZEN = "last-linear-layer"


@dataclass(frozen=True)
class Args:
    """Every argument, its default and its help line; the resolved values are saved with the run."""

    mode: str = arg(
        "parallel", "how tasks take turns", choices=["parallel", "sequential", "single"]
    )
    tasks: tuple[str, ...] = arg(
        ("sst", "quora", "sts"), "tasks, comma-separated", parse=comma_list
    )
    fine_tune_mode: str = arg("full-model", "what is trained", choices=["full-model", FROZEN])
    option: str = arg("", "the same in 2023's words", choices=["", "finetune", "pretrain"])
    model: str = arg("bert-base-uncased", "model name, directory or run directory")
    data_dir: str = arg("data", "directory with the tasks' files")
    output_dir: str = arg("checkpoints", "where runs are kept")
    name: str = arg("", "name of the run (default: made from the mode)")
    resume: str = arg("", "name or directory of a run to continue, with its own arguments")
    epochs: int = arg(0, "global epochs; 0: 5 for the full model, 10 frozen")
    lr: float = arg(0.0, "learning rate; 0: 1e-5 for the full model, 1e-3 frozen")
    batch_size: int = arg(32, "rows in a batch")
    accumulate: int = arg(1, "split every batch in this many parts to save memory; same gradients")
    limit: dict[str, int] = arg(
        None, "train on so many rows, quora=16000,sst=100", parse=number_by_task
    )
    sub_epochs: dict[str, int] = arg(
        None, "sequential passes, sst=16,quora=1", parse=number_by_task
    )
    max_length: int = arg(512, "longest sequence in tokens; longer ones are cut")
    weight_decay: float = arg(0.0, "AdamW's, not applied to biases and layer norms")
    warmup: float = arg(0.0, "steps of warm-up, or a share of all below 1")
    schedule: str = arg("constant", "after warm-up", choices=["constant", "linear", "cosine"])
    clip: float = arg(0.0, "largest gradient norm; 0: no clipping")
    hidden_dropout_prob: float = arg(0.3, "dropout of the heads (the encoder keeps its own)")
    precision: str = arg("auto", "of the products", choices=["auto", "fp32", "bf16"])
    device: str = arg("auto", "auto, cpu or cuda")
    use_gpu: bool = arg(False, "the same as --device cuda")
    seed: int = arg(11711, "of initialisation, order and dropout")
    eval_every: int = arg(
        0, "also evaluate every so many steps; 0: at the ends of epochs and stages"
    )
    save_minutes: float = arg(5.0, "save last/ at least so often; 0: after every step")


def check(args: Args) -> Args:
    """Fill in what depends on other fields; one line for what is out of range or in conflict."""
    unknown = [name for name in args.tasks if name not in TASKS]
    if unknown or not args.tasks:
        raise UserError(f"--tasks {','.join(args.tasks)}: write any of {','.join(TASKS)}")
    if len(set(args.tasks)) < len(args.tasks):
        raise UserError(f"--tasks {','.join(args.tasks)}: name each task once")
    if args.option:
        args = replace(args, fine_tune_mode=FROZEN if args.option == "pretrain" else "full-model")
    if args.use_gpu:
        args = replace(args, device="cuda")
    frozen = args.fine_tune_mode == FROZEN
    args = replace(
        args,
        option="",
        epochs=args.epochs or (10 if frozen else 5),
        lr=args.lr or (1e-3 if frozen else 1e-5),
        limit=args.limit or {},
        sub_epochs=args.sub_epochs or {},
    )
    ranges = {
        "epochs": (1, math.inf),
        "lr": (0, 1),
        "batch_size": (1, math.inf),
        "accumulate": (1, args.batch_size),
        "max_length": (4, 512),
        "weight_decay": (0, 1),
        "warmup": (0, math.inf),
        "clip": (0, math.inf),
        "hidden_dropout_prob": (0, 0.99),
        "eval_every": (0, math.inf),
        "save_minutes": (0, math.inf),
        "seed": (0, 2**32 - 1),
    }
    for name, (low, high) in ranges.items():
        value = getattr(args, name)
        if not low <= value <= high:
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{flag} {value}: write a number from {low} to {high}")
    for field in ("limit", "sub_epochs"):
        stray = [task for task in getattr(args, field) if task not in args.tasks]
        if stray:
            flag = "--" + field.replace("_", "-")
            raise UserError(
                f"{flag} names {stray[0]!r}, which is not in --tasks {','.join(args.tasks)}"
            )
    if args.sub_epochs and args.mode != "sequential":
        raise UserError(f"--sub-epochs goes with --mode sequential, not --mode {args.mode}")
    return args


def load_splits(
    args: Args, tasks: list[Task], tokenizer: BertTokenizer, name: str
) -> dict[str, EncodedSplit]:
    """One split of every task as ids, from the cache when file and tokenizer are unchanged."""
    splits = {}
    for task in tasks:
        path = Path(args.data_dir) / task.files[name]
        cache = Path(args.output_dir) / ".ids"
        split = load_split(path, task.columns, name != "test", tokenizer, args.max_length, cache)
        splits[task.name] = (
            limit_rows(split, args.limit.get(task.name)) if name == "train" else split
        )
        if split.unlabelled:
            print(f"{path}: {split.unlabelled} rows without a label left out")
    return splits


def make_model(args: Args, tasks: list[Task], run: Path) -> tuple[MultitaskModel, BertTokenizer]:
    """A fresh multitask model, or the one of last/ when resuming."""
    outputs = {task.name: task.outputs for task in tasks}
    if args.resume:
        check_manifest(run / "last")
        model, directory = load_multitask(run / "last", args.hidden_dropout_prob)
    else:
        directory = resolve(args.model)
        model = MultitaskModel(
            BertModel.from_pretrained(directory), outputs, args.hidden_dropout_prob
        )
    tokenizer = BertTokenizer.from_directory(directory)
    if tokenizer.vocab_size > model.encoder.config.vocab_size:
        raise UserError(f"{directory}: the tokenizer has more words than the model has embeddings")
    return model, tokenizer


def forward_functions(
    args: Args, model: MultitaskModel, splits: dict[str, EncodedSplit], device: torch.device
) -> Callable[[str, np.ndarray], tuple[Tensor, Tensor]]:
    """(task, rows) -> (outputs, labels). Frozen: the encoder runs once over the split, here."""
    if args.fine_tune_mode != FROZEN:

        def forward(task: str, rows: np.ndarray) -> tuple[Tensor, Tensor]:
            batch = collate(splits[task], rows).to(device)
            return model(task, batch), batch.labels

        return forward
    features = encode_features(model, splits, device)

    def forward_frozen(task: str, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        labels = torch.from_numpy(splits[task].labels[rows]).to(device)
        return model.heads[task](features[task][torch.from_numpy(rows)].to(device)), labels

    return forward_frozen


def encode_features(
    model: MultitaskModel, splits: dict[str, EncodedSplit], device: torch.device
) -> dict[str, Tensor]:
    """Pooled outputs (rows, D) of whole splits, without dropout."""
    model.eval()
    return {
        name: predict(lambda batch: model.encoder.encode(batch)[1], split, device)
        for name, split in splits.items()
    }


def evaluate(
    tasks: list[Task],
    model: MultitaskModel,
    splits: dict[str, EncodedSplit],
    device: torch.device,
    features: dict[str, Tensor] | None,
) -> dict[str, Scores]:
    """Every task's scores on these splits; from ready features when the encoder is frozen."""
    model.eval()
    scores = {}
    for task in tasks:
        if features is None:
            outputs = predict(lambda batch, t=task.name: model(t, batch), splits[task.name], device)
        else:
            with torch.no_grad():
                outputs = model.heads[task.name](features[task.name].to(device)).float().cpu()
        scores[task.name] = score_outputs(task, outputs, splits[task.name].labels)
    return scores


def train(args: Args, run: Path) -> dict[str, dict[str, float]]:
    """One run: set up, train, keep last/ and best/, write predictions. Returns rows of the final table."""
    tasks = [TASKS[name] for name in args.tasks]
    device = choose_device(args.device)
    torch.manual_seed(args.seed)
    model, tokenizer = make_model(args, tasks, run)
    splits = load_splits(args, tasks, tokenizer, "train")
    dev = load_splits(args, tasks, tokenizer, "dev")
    model.to(device).encoder.compute_dtype = choose_precision(args.precision, device)
    frozen = args.fine_tune_mode == FROZEN
    model.encoder.requires_grad_(not frozen)

    batches = {name: count_batches(len(split), args.batch_size) for name, split in splits.items()}
    passes = mixing.sub_epochs(batches, args.sub_epochs)
    if args.mode == "sequential":
        print("sub-epochs: " + ", ".join(f"{name} {n}" for name, n in passes.items()))
        epoch_steps = mixing.sequential_steps(batches, passes)
    else:
        epoch_steps = mixing.parallel_steps(batches)
    total = args.epochs * epoch_steps

    optimizer = AdamW(parameter_groups(model, args.weight_decay), lr=args.lr)
    log, stop = RunLog(run / "log.jsonl"), Interrupt()
    dev_features = encode_features(model, dev, device) if frozen else None
    forward = forward_functions(args, model, splits, device)
    if args.resume:
        state = load_training_state(run / "last", model, optimizer)
        log.write("resume", step=state["step"])
    else:
        state = {"step": 0, "best": None, "task_best": {}, "stages": [], "before": {}}
        (run / "args.json").write_text(json.dumps(asdict(args), indent=1) + "\n")
        log.write("start", steps=total, epoch_steps=epoch_steps, batches=batches)
    print(f"{run}: {total} steps, {model.encoder.compute_dtype} on {device}")

    def save(folder_name: str) -> None:
        with atomic_directory(run / folder_name) as folder:
            save_multitask(model, folder)
            tokenizer.save(folder)
            if folder_name == "last":
                save_training_state(folder, model, optimizer, state)

    def assess(stage: str) -> None:
        scores = evaluate(tasks, model, dev, device, dev_features)
        main = {name: s.main for name, s in scores.items()}
        raw, form_2024 = overall(main, {t.name for t in tasks if t.is_correlation})
        metrics = {name: s.metrics for name, s in scores.items()}
        step = state["step"]
        log.write(
            "dev", step=step, stage=stage, scores=metrics, overall=raw, overall_2024=form_2024
        )
        shown = "  ".join(f"{t.title} {main[t.name]:.3f}" for t in tasks)
        progress.print(f"{stage}: {shown}  mean {raw:.3f}  2024 form {form_2024:.3f}")
        if step == 0:
            state["before"] = main
            return
        if args.mode == "sequential":
            state["stages"].append([stage, main])
            progress.print(forgetting_table(tasks, state["stages"]))
        for name, score in main.items():
            if score > state["task_best"].get(name, {"score": -math.inf})["score"]:
                state["task_best"][name] = {"score": score, "step": step}
        if state["best"] is None or raw > state["best"]["overall"]:
            state["best"] = {"overall": raw, "step": step, "scores": main}
            save("best")

    progress = Progress(total, state["step"])
    saved = time.monotonic()
    with stop:
        if state["step"] == 0:
            assess("before training")
        for step in range(state["step"], total):
            started = time.monotonic()
            model.train()
            model.encoder.train(not frozen)
            if args.mode == "sequential":
                draw = mixing.sequential_draw(batches, passes, step)
            else:
                draw = mixing.parallel_draw(batches, step)
            lr = learning_rate(step, total, args.lr, args.schedule, args.warmup)
            for group in optimizer.param_groups:
                group["lr"] = lr
            rows = batch_rows(
                len(splits[draw.task]),
                args.batch_size,
                args.seed,
                draw.task,
                draw.epoch,
                draw.batch,
            )
            loss_sum = 0.0
            for part in np.array_split(rows, min(args.accumulate, len(rows))):
                outputs, labels = forward(draw.task, part)
                # each part counts by its rows: the gradient is that of the whole batch
                loss = TASKS[draw.task].loss(outputs, labels) * (len(part) / len(rows))
                loss.backward()
                loss_sum += loss.item()
            if not math.isfinite(loss_sum):
                raise UserError(
                    f"loss of {draw.task} is {loss_sum} at step {step}; last/ holds an earlier step: "
                    f"lower --lr, set --clip 1, or use --precision fp32"
                )
            if args.clip:
                torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            state["step"] = step + 1

            tokens = int(splits[draw.task].lengths[rows].sum())
            seconds = time.monotonic() - started
            epoch = step // epoch_steps
            progress.step(epoch, draw.task, loss_sum, lr, len(rows), tokens, seconds)
            log.write("step", step=step + 1, task=draw.task, loss=loss_sum, lr=lr, tokens=tokens)
            epoch_end = (step + 1) % epoch_steps == 0
            if (
                epoch_end
                or draw.stage_end
                or (args.eval_every and (step + 1) % args.eval_every == 0)
            ):
                stage = (
                    f"epoch {epoch + 1}"
                    if args.mode != "sequential"
                    else f"{epoch + 1}:{draw.task}"
                )
                assess(stage)
            due = time.monotonic() - saved >= 60 * args.save_minutes
            if epoch_end or draw.stage_end or due or stop.stop:
                save("last")
                saved = time.monotonic()
            if stop.stop and step + 1 < total:
                progress.close()
                print(f"stopped at step {step + 1} of {total}; go on with: --resume {run}")
                raise KeyboardInterrupt
    progress.close()
    rates = {
        "examples_per_s": progress.rate(progress.examples),
        "tokens_per_s": progress.rate(progress.tokens),
    }
    log.write("end", best=state["best"], task_best=state["task_best"], **rates)
    print(f"{rates['examples_per_s']:.0f} examples/s, {rates['tokens_per_s']:.0f} real tokens/s")
    write_best_predictions(args, tasks, run, device, tokenizer, dev)
    return {"before": state["before"], "after": state["best"]["scores"]}


def write_best_predictions(
    args: Args,
    tasks: list[Task],
    run: Path,
    device: torch.device,
    tokenizer: BertTokenizer,
    dev: dict[str, EncodedSplit],
) -> None:
    """Dev and test predictions of best/; a task without a test file gets none, and that is said."""
    model, _ = load_multitask(run / "best")
    model.to(device).encoder.compute_dtype = choose_precision(args.precision, device)
    for task in tasks:
        split_names = {"dev": dev[task.name]}
        if (Path(args.data_dir) / task.files["test"]).is_file():
            split_names["test"] = load_splits(args, [task], tokenizer, "test")[task.name]
        else:
            print(
                f"no {task.files['test']} in {args.data_dir}: no test predictions for {task.name}"
            )
        for split_name, split in split_names.items():
            outputs = predict(lambda batch, t=task.name: model(t, batch), split, device).numpy()
            write_predictions(
                run / "predictions", task, split_name, split, task.decode(outputs), outputs
            )


def run_directory(args: Args) -> tuple[Args, Path]:
    """The run's folder. A resumed run brings its own arguments; a new one never overwrites."""
    root = Path(args.output_dir)
    if args.resume:
        run = Path(args.resume) if Path(args.resume).is_dir() else root / args.resume
        if not (run / "args.json").is_file():
            raise UserError(
                f"--resume {args.resume}: no args.json in {run}; give a run's name or directory"
            )
        saved = Args(**json.loads((run / "args.json").read_text()))
        saved = replace(saved, tasks=tuple(saved.tasks), resume=args.resume)
        defaults = Args()
        for field, value in asdict(args).items():
            if field != "resume" and value not in (getattr(defaults, field), getattr(saved, field)):
                flag = "--" + field.replace("_", "-")
                raise UserError(
                    f"{flag} {value} differs from the run's {getattr(saved, field)}; leave it out"
                )
        return saved, run
    base = args.name or f"{args.mode}-{'-'.join(args.tasks)}"
    name, number = base, 2
    while (root / name).exists():
        if args.name:
            raise UserError(
                f"{root / name} exists: write --resume {name} to go on, or another --name"
            )
        name, number = f"{base}-{number}", number + 1
    return replace(args, name=name), root / name


def main(argv: list[str]) -> int:
    given = parse_arguments(Args, argv, __doc__.split("\n")[0])
    args, run = run_directory(given)
    args = check(args)
    tasks = [TASKS[name] for name in args.tasks]
    if args.mode == "single" and len(tasks) > 1:
        table: dict[str, dict[str, float]] = {"before": {}, "after": {}}
        for task in tasks:
            only = {
                field: {k: v for k, v in getattr(args, field).items() if k == task.name}
                for field in ("limit", "sub_epochs")
            }
            rows = train_task_alone(replace(args, tasks=(task.name,), **only), run / task.name)
            for row in table:
                table[row].update(rows[row])
    else:
        table = train(args, run)
    names = {
        "before": "before training",
        "after": args.mode + (" (frozen)" if args.fine_tune_mode == FROZEN else ""),
    }
    print(f"\nDev scores of the best step ({args.model}, {run})\n")
    print(results_table(tasks, {names[row]: scores for row, scores in table.items()}))
    print(f"\nnext: python evaluate.py --checkpoint {run} --data-dir {args.data_dir}")
    return 0


def train_task_alone(args: Args, run: Path) -> dict[str, dict[str, float]]:
    print(f"\n== {args.tasks[0]} alone")
    return train(args, run)


if __name__ == "__main__":
    run_script(main)
