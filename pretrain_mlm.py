"""Go on with BERT's masked-language-model pre-training on your text (paper, section 3.1).

python pretrain_mlm.py --epochs 50 --model all-MiniLM-L6-v2 --data-dir data
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

from minbert.cli import parse_given, run_script
from minbert.data.collate import collate
from minbert.data.corpus import encode_lines, load_corpus, open_lines
from minbert.data.encoded import EncodedSplit
from minbert.data.masking import MaskedBatch, Masking, mask_batch
from minbert.data.sampler import batch_rows, count_batches, length_sorted_batches
from minbert.data.tokenizer import BertTokenizer
from minbert.errors import UserError
from minbert.losses import cross_entropy
from minbert.model import fused
from minbert.model.mlm import MaskedLanguageModel
from minbert.report.card import write_mlm_card
from minbert.report.files import write_report
from minbert.run import rundir
from minbert.run.checkpoint import is_whole, load_training_state
from minbert.run.dry_run import preview_mlm
from minbert.run.loop import save, train_to_end
from minbert.run.mlm_args import FREE_ON_RESUME, Args, resolve_arguments
from minbert.run.runlog import Progress, RunLog, silence
from minbert.run.steprecords import StepRecord, StepRecords
from minbert.task.loading import check_files, distinct_sentences
from minbert.task.taskfile import KEPT_AS, kept_task_file
from minbert.training import distributed
from minbert.training.device import choose_device, choose_precision
from minbert.training.optimizer import AdamW, clip_scale, parameter_groups
from minbert.training.schedule import learning_rate
from minbert.weights.mlm import load_mlm, save_mlm
from minbert.weights.resolve import resolve
from tasks import TASKS

HELD_OUT_EPOCH = 2**32 - 1  # held-out tokens are masked the same at every evaluation


@dataclass(frozen=True)
class Run:
    """What one run works with. Parameters, optimizer, `state` and the log change."""

    args: Args
    folder: Path
    tokenizer: BertTokenizer
    model: MaskedLanguageModel
    text: EncodedSplit
    rows: np.ndarray  # of `text`, to train on
    held_out: np.ndarray  # of `text`, to evaluate on
    masking: Masking
    steps: int
    optimizer: AdamW
    state: dict[str, Any]  # numbers and text, saved with last/
    log: RunLog
    progress: Progress
    records: StepRecords

    @property
    def epoch_steps(self) -> int:
        return self.steps // self.args.epochs

    def is_over(self) -> bool:
        return self.state["step"] >= self.steps

    def stage_after(self, step: int) -> str | None:
        """Before training and after every epoch."""
        epoch, rest = divmod(step, self.epoch_steps)
        if rest:
            return None
        return f"epoch {epoch}" if epoch else "before training"

    def write(self, folder: Path) -> None:
        """Model, head and tokenizer."""
        save_mlm(self.model, folder)
        self.tokenizer.save(folder, self.model.encoder.config.max_position_embeddings)


def load_text(args: Args, tokenizer: BertTokenizer, max_length: int) -> EncodedSplit:
    """--corpus, or every distinct training sentence of --tasks, each as a text of its own.

    Of several processes the first one writes the ids, before the others come to read them.
    """
    cache = Path(args.output_dir) / ".ids"
    if args.corpus:
        return load_corpus([Path(f) for f in args.corpus], tokenizer, max_length, cache)
    path = cache / f"{args.name}.ids"
    if distributed.rank() > 0:
        return open_lines(path)
    tasks = [TASKS[name] for name in args.tasks]
    sentences = distinct_sentences(Path(args.data_dir), tasks, args.limit or {})
    return encode_lines(sentences, tokenizer, max_length, path)


def set_up(args: Args, folder: Path) -> Run:
    """From --model, or from last/ if the folder has one."""
    if not args.corpus:
        check_files([TASKS[name] for name in args.tasks], args.data_dir, ("train",))
    with distributed.first_before_others():
        going_on = is_whole(folder / "last")
    directory = folder / "last" if going_on else resolve(args.model)
    device = choose_device(args.device)
    torch.manual_seed(args.seed)
    model, new_head = load_mlm(directory)
    if new_head:
        print(f"{directory} has no masked-language-model head: it starts from random values")
    fused.turn_off(args.written_out)
    model.to(device).encoder.compute_dtype = choose_precision(args.precision, device)
    model.encoder.checkpoint_activations = args.checkpoint_activations
    tokenizer = BertTokenizer.from_directory(directory)
    config = model.encoder.config
    tokenizer.check_fits(config.vocab_size)

    with distributed.first_before_others():
        text = load_text(args, tokenizer, min(args.max_length, config.max_position_embeddings))
    order = np.random.default_rng(0).permutation(len(text))
    held_out = min(args.held_out, len(text) // 20)
    if held_out == 0:
        raise UserError(f"{len(text)} texts are too few: training and evaluation need 20 or more")
    rows = np.sort(order[held_out:])
    steps = args.epochs * count_batches({"mlm": len(rows)}, args.batch_size)["mlm"]
    masking = Masking.of(tokenizer, args.mask_rate, args.whole_word)

    groups = parameter_groups(model, args.weight_decay)
    optimizer = AdamW(groups, lr=args.lr, written_out=args.written_out)
    state: dict[str, Any] = {"step": 0, "steps": steps, "assessed": -1, "best": None, "stages": []}
    if going_on:
        state |= load_training_state(directory, model, optimizer)
        rundir.check_steps(folder, state["steps"], steps)
    log = RunLog(folder / "log.jsonl", state["step"] if going_on else -1, args.tensorboard)
    args = replace(args, task_file=rundir.keep_file(args.task_file, folder, KEPT_AS))
    rundir.save_arguments(folder, args)
    progress = Progress(steps, state["step"], args.quiet)
    log.write("resume" if going_on else "start", step=state["step"], steps=steps, rows=len(rows))
    held = order[:held_out]
    return Run(
        args, folder, tokenizer, model, text, rows, held, masking, steps, optimizer, state, log,
        progress, StepRecords(log, progress, device),
    )  # fmt: skip


def train(args: Args, folder: Path) -> dict[str, Any]:
    """One run, from its start or where it was stopped, to its end; returns its state."""
    with rundir.alone_in(folder):
        run = set_up(args, folder)
        encoder = run.model.encoder
        print(f"{folder}: {len(run.rows)} texts to train on, {len(run.held_out)} held out")
        where = f"{encoder.compute_dtype} on {encoder.device}"
        print(f"{folder}: steps {run.state['step']} to {run.steps}, {where}", flush=True)
        train_to_end(run, train_step, assess)
        run.log.write("end", step=run.steps, **run.progress.rates())
        tasks = [] if args.corpus else [TASKS[name] for name in args.tasks]
        files = [Path(args.data_dir) / task.files["train"] for task in tasks]
        files += [Path(file) for file in args.corpus]
        write_mlm_card(folder, run.args, files, len(run.rows), run.state["best"])
        if distributed.rank() == 0:
            write_report(folder)
        run.progress.print_rates()
    return run.state


def train_step(run: Run, step: int) -> None:
    """Draw a batch, mask it, forward, backward, clip, update. Nothing here waits for a GPU."""
    args = run.args
    started = time.monotonic()
    run.model.train()
    torch.manual_seed(distributed.own_seed(args.seed, step))
    lr = learning_rate(step, run.steps, args.lr, args.schedule, args.warmup)
    for group in run.optimizer.param_groups:
        group["lr"] = lr
    epoch, number = divmod(step, run.epoch_steps)
    n, batches = len(run.rows), run.epoch_steps
    rows = run.rows[batch_rows(n, args.batch_size, batches, args.seed, "mlm", epoch, number)]
    shares = distributed.shares(rows, args.accumulate)
    parts = [(masked_rows(run, part, args.seed, epoch), weight) for part, weight in shares]
    guesses = [len(masked.targets) if weight else 0 for masked, weight in parts]
    total = torch.zeros((), device=run.model.encoder.device)
    all_guesses = distributed.total(sum(guesses))
    if all_guesses:  # a batch of a few short texts may have nothing to guess
        for (masked, _), own in zip(parts, guesses, strict=True):
            logits = run.model(masked.batch, masked.places)
            # every part counts by its guesses; one without any takes part with zeros
            loss = cross_entropy(logits, masked.targets) if own else logits.sum()
            loss = loss * (own / all_guesses)
            loss.backward()
            total += loss.detach()
        distributed.sum_gradients(run.model.parameters())
        run.optimizer.step(scale=clip_scale(run.model.parameters(), args.clip))
        run.optimizer.zero_grad(set_to_none=True)
    run.state["step"] = step + 1

    tokens, seconds = int(run.text.lengths_of(rows).sum()), time.monotonic() - started
    record = StepRecord(step + 1, "mlm", total, lr, epoch + 1, len(rows), tokens, seconds)
    run.records.add(record)


def masked_rows(run: Run, rows: np.ndarray, seed: int, epoch: int) -> MaskedBatch:
    """These rows, packed and masked, on the model's device."""
    batch = collate(run.text, rows)
    return mask_batch(batch, run.masking, seed, epoch).to(run.model.encoder.device)


@torch.no_grad()
def assess(run: Run, stage: str) -> None:
    """Masked-token accuracy and perplexity on the held-out rows; keeps best/ by the loss."""
    run.records.flush()
    run.model.eval()
    right = total = 0
    loss = 0.0
    for places in distributed.mine(length_sorted_batches(run.text.lengths[run.held_out], 4096)):
        masked = masked_rows(run, run.held_out[places], 0, HELD_OUT_EPOCH)
        if len(masked.targets):
            logits = run.model(masked.batch, masked.places)
            right += int((logits.argmax(-1) == masked.targets).sum())
            total += len(masked.targets)
            loss += float(cross_entropy(logits, masked.targets)) * len(masked.targets)
    right, total, loss = map(distributed.total, (right, total, loss))
    if total == 0:
        raise UserError("nothing to guess in the held-out texts: raise --held-out or --mask-rate")
    loss /= total
    scores = {"accuracy": right / total, "perplexity": math.exp(loss), "loss": loss}
    state, step = run.state, run.state["step"]
    run.log.write("held-out", step=step, epoch=step // run.epoch_steps, **scores, tokens=total)
    shown = "accuracy {accuracy:.3f}, perplexity {perplexity:.1f}".format(**scores)
    run.progress.print(f"{stage}: held-out masked tokens: {shown}")
    if step and (state["best"] is None or loss < state["best"]["loss"]):
        save(run, "best")  # before the state says so: an interrupt repeats this evaluation
        state["best"] = {"step": step, **scores}
    state["stages"].append([stage, scores])
    state["assessed"] = step


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
                text, found = preview_mlm(args, set_up, train_step, Path(scratch))
                print(text)
            if args.json:
                print(json.dumps(asdict(found)))
            return 0
        stems = [Path(file).stem for file in args.corpus] or args.tasks
        folder = rundir.new_run(root, args.name, "-".join(("mlm", *stems)))
        args = replace(args, name=folder.name)
    with silence(args.quiet):
        stages = train(args, folder)["stages"]
        print(f"\nHeld-out masked tokens ({args.model}, {folder})\n")
        for name, scores in [stages[0], *stages[-1:]]:
            shown = "accuracy {accuracy:.3f}  perplexity {perplexity:.1f}".format(**scores)
            print(f"{name:16} {shown}")
        print(f"\nnext: python train_multitask.py --model {folder} --data-dir {args.data_dir}")
    if args.json:
        print(json.dumps({"run": str(folder), "held_out": stages[-1][1]}))
    return 0


if __name__ == "__main__":
    run_script(main)
