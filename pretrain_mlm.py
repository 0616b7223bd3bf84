"""Go on with BERT's masked-language-model pre-training on your text (paper, section 3.1).

python pretrain_mlm.py --epochs 50 --model all-MiniLM-L6-v2 --data-dir data
"""

if __name__ == "__main__":  # the imports below take seconds, in which Ctrl-C is one line, too
    import os
    import signal

    signal.signal(signal.SIGINT, lambda *_: (os.write(2, b"stopped.\n"), os._exit(130)))

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import numpy as np
import torch
from torch import Tensor

from minbert.cli import parse_given, run_script
from minbert.data.collate import collate
from minbert.data.corpus import load_corpus, load_sentences
from minbert.data.encoded import EncodedSplit
from minbert.data.masking import MaskedBatch, Masking, mask_batch
from minbert.data.sampler import (
    batch_rows,
    count_batches,
    length_sorted_batches,
    random_order,
    rows_without,
)  # fmt: skip
from minbert.data.tokenizer import BertTokenizer
from minbert.errors import UserError
from minbert.losses import cross_entropy
from minbert.model.layers import set_kernels
from minbert.model.mlm import MaskedLanguageModel, load_mlm, save_mlm
from minbert.progress import progress
from minbert.run import dry_run, rundir
from minbert.run.checkpoint import Best, Scores, TrainState
from minbert.run.finish import finish_mlm
from minbert.run.loop import Keeper, Training, begin, check_finite, recover_last, save
from minbert.run.mlm_args import Args, default_name, resolve_arguments
from minbert.run.runlog import silence
from minbert.run.steps import StepRecord
from minbert.task.loading import check_files, distinct_sentences
from minbert.task.task import Task
from minbert.training import distributed
from minbert.training.device import choose_device, choose_precision
from minbert.training.optimizer import AdamW, clip_scale, parameter_groups
from minbert.training.schedule import learning_rate
from minbert.training.threads import set_threads
from minbert.weights.resolve import resolve
from tasks import TASKS

LARGEST_LOSS = 230  # e to the power of it is a number that the report takes: below 1e100
HELD_OUT_EPOCH = 2**32 - 1  # held-out tokens are masked the same at every evaluation
Tasks = dict[str, Task]


@dataclass(frozen=True)
class Run(Training):
    """What one run works with."""

    model: MaskedLanguageModel
    args: Args
    text: EncodedSplit
    held_out: np.ndarray  # rows of `text` to evaluate on, in ascending order; the others train
    masking: Masking

    @property
    def train_rows(self) -> int:
        """How many rows of the text are trained on."""
        return len(self.text) - len(self.held_out)

    @property
    def epoch_steps(self) -> int:
        """How many steps a pass over the rows takes."""
        return self.steps // self.args.epochs

    def stage_after(self, step: int) -> str | None:
        """Return what ends after so many steps: an epoch, or the time before training."""
        epoch, rest = divmod(step, self.epoch_steps)
        if rest:
            return None
        return f"epoch {epoch}" if epoch else "before training"

    def write(self, folder: Path) -> None:
        """Write model, head and tokenizer."""
        save_mlm(self.model, folder)
        self.tokenizer.save(folder, self.model.encoder.config.max_position_embeddings)


def train(args: Args, folder: Path, tasks: Tasks) -> TrainState:
    """Train one run, from its start or where it was stopped, to its end."""
    with rundir.alone_in(folder, resumed=bool(args.resume)):
        run = set_up(args, folder, tasks)
        state = run.state
        print(f"{folder}: {run.train_rows} texts to train on, {len(run.held_out)} held out")
        print(run.outlook(), flush=True)
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
        finish_mlm(
            run, args=run.args, script=Path(__file__).name, files=text_files(args, tasks),
            rows=run.train_rows,
        )  # fmt: skip
    return state


def train_step(run: Run, step: int) -> None:
    """Set the rate, draw a batch, mask it, forward, backward, clip, update.

    Nothing here waits for a GPU.
    """
    args, started = run.args, time.monotonic()
    torch.manual_seed(distributed.own_seed(args.seed, step))
    lr = learning_rate(step, run.steps, args.lr, args.schedule, args.warmup)
    for group in run.optimizer.param_groups:
        group["lr"] = lr

    epoch, number = divmod(step, run.epoch_steps)
    places = batch_rows(
        run.train_rows, args.batch_size, run.epoch_steps, args.seed, "mlm", epoch, number
    )
    rows = rows_without(run.held_out, places)

    loss, guesses = forward_backward(run, rows, epoch)
    if guesses:  # a batch of a few short texts may have nothing to guess
        distributed.sum_gradients(run.model.parameters())
        run.optimizer.step(scale=clip_scale(run.model.parameters(), args.clip))
        run.optimizer.zero_grad(set_to_none=True)
    run.state.step = step + 1

    tokens, seconds = int(run.text.lengths_of(rows).sum()), time.monotonic() - started
    run.records.add(StepRecord(step + 1, "mlm", loss, lr, epoch + 1, len(rows), tokens, seconds))


def forward_backward(run: Run, rows: np.ndarray, epoch: int) -> tuple[Tensor, float]:
    """Add the gradient of the mean loss over these rows' guesses; return loss and guesses.

    The rows go through the model in --accumulate parts, and of several processes each takes its
    share: every part counts by its guesses, and one without any takes part with zeros.
    """
    run.model.train()
    shares = distributed.micro_batches(rows, run.args.accumulate)
    parts = [(masked_rows(run, part, run.args.seed, epoch), share) for part, share in shares]
    guesses = [len(masked.targets) if share else 0 for masked, share in parts]
    total = torch.zeros((), device=run.model.encoder.device)
    all_guesses = distributed.all_reduce_sum(sum(guesses))
    for (masked, _), own in zip(parts, guesses, strict=True) if all_guesses else ():
        logits = run.model(masked.batch, masked.places)
        loss = cross_entropy(logits, masked.targets) if own else logits.sum()
        loss = loss * (own / all_guesses)
        loss.backward()
        total += loss.detach()
    return total, all_guesses


def masked_rows(run: Run, rows: np.ndarray, seed: int, epoch: int) -> MaskedBatch:
    """Return these rows, packed and masked, on the model's device."""
    batch = collate(run.text, rows)
    return mask_batch(batch, run.masking, seed, epoch).to(run.model.encoder.device)


def evaluate(run: Run, stage: str) -> None:
    """Score the guesses on the held-out rows: log and show them; --keep best: by their loss."""
    check_finite(run)
    state, step, scores = run.state, run.state.step, Scores()
    if len(run.held_out):
        scores, tokens = held_out_scores(run)
        epoch = step // run.epoch_steps
        run.log.write("held-out", step=step, epoch=epoch, **scores, tokens=tokens)
        run.progress.print_scores(f"{stage}: held-out masked tokens", describe(scores))
        is_best = step and (state.best is None or -scores["loss"] > state.best.overall)
        if run.args.keep == "best" and is_best:
            save(run, "best")  # before the state says so: an interrupt repeats this evaluation
            state.best = Best(-scores["loss"], step, scores)
    state.stages.append((stage, scores))
    state.assessed = step


def describe(scores: Scores) -> str:
    """Return what was found on held-out rows, in words."""
    if not scores:
        return "no row is held out"
    return "accuracy {accuracy:.3f}, perplexity {perplexity:.1f}".format(**scores)


@torch.no_grad()
def held_out_scores(run: Run) -> tuple[Scores, int]:
    """Return masked-token accuracy, perplexity and loss on the held-out rows, and the tokens.

    Raises UserError when there was nothing to guess.
    """
    run.model.eval()
    right = total = 0
    loss = 0.0
    batches = distributed.shard(length_sorted_batches(run.text.lengths_of(run.held_out)))
    for places in progress(batches, "held-out texts", size=len):
        masked = masked_rows(run, run.held_out[places], 0, HELD_OUT_EPOCH)
        if len(masked.targets):
            logits = run.model(masked.batch, masked.places)
            right += int((logits.argmax(-1) == masked.targets).sum())
            total += len(masked.targets)
            loss += float(cross_entropy(logits, masked.targets)) * len(masked.targets)
    right, total, loss = map(distributed.all_reduce_sum, (right, total, loss))
    if total == 0:
        raise UserError("nothing to guess in the held-out texts: raise --held-out or --mask-rate")
    loss /= total
    if loss > LARGEST_LOSS:
        raise UserError(f"held-out loss {loss:.0f}: training has diverged; start with a lower --lr")
    return {"accuracy": right / total, "perplexity": math.exp(loss), "loss": loss}, total


def set_up(args: Args, folder: Path, tasks: Tasks) -> Run:
    """Make a run ready to train: from --model, or from last/ if the folder has one."""
    if not args.corpus:
        check_files(list(tasks.values()), Path(args.data_dir), ("train",))
    last = recover_last(folder)
    directory = last or resolve(args.model)
    device = choose_device(args.device)
    torch.manual_seed(args.seed)
    model, new_head = load_mlm(directory)
    if new_head:
        print(f"{directory} has no masked-language-model head: it starts from random values")
    set_kernels(model, args.kernels)
    model.to(device).encoder.compute_dtype = choose_precision(args.precision, device)
    model.encoder.checkpoint_activations = args.checkpoint_activations
    tokenizer = BertTokenizer.from_directory(directory)
    config = model.encoder.config
    tokenizer.check_fits(config.vocab_size)

    longest = min(args.max_length, config.max_position_embeddings)
    with distributed.first_before_others():
        text = load_text(args, tasks, tokenizer, longest)
    held_out = np.sort(random_order(len(text), 0)[: min(args.held_out, len(text) // 20)])
    if args.held_out and len(held_out) == 0:
        raise UserError(f"{len(text)} texts are too few: training and evaluation need 20 or more")
    rows = len(text) - len(held_out)
    steps = args.epochs * count_batches({"mlm": rows}, args.batch_size)["mlm"]
    masking = Masking.of(tokenizer, args.mask_rate, args.whole_word)

    groups = parameter_groups(model, args.weight_decay)
    optimizer = AdamW(groups, lr=args.lr, kernels=args.kernels)
    files = {str(i): path for i, path in enumerate(text_files(args, tasks))}
    begun = begin(folder, args, tokenizer, model, steps, optimizer, last, files, rows=rows)
    args = rundir.save_arguments(folder, args, tasks)
    return Run(**vars(begun), args=args, text=text, held_out=held_out, masking=masking)


def text_files(args: Args, tasks: Tasks) -> list[Path]:
    """Return the files that are trained on."""
    of_tasks = [task.paths("train", Path(args.data_dir)) for task in tasks.values()]
    return [Path(file) for file in args.corpus] or [path for paths in of_tasks for path in paths]


def load_text(args: Args, tasks: Tasks, tokenizer: BertTokenizer, max_length: int) -> EncodedSplit:
    """Load --corpus, or every distinct training sentence of the tasks, each as a text."""
    cache = Path(args.output_dir) / ".ids"
    if args.corpus:
        return load_corpus([Path(f) for f in args.corpus], tokenizer, max_length, cache)
    sentences = distinct_sentences(Path(args.data_dir), list(tasks.values()), args.limit or {})
    return load_sentences(sentences, tokenizer, max_length, cache)


def main(argv: list[str]) -> int:
    given = parse_given(Args, argv, __doc__.split("\n")[0])
    with distributed.processes():
        args, tasks, folder = rundir.open_run(given, Args, TASKS, resolve_arguments, default_name)
        set_threads(args.threads)
        if args.dry_run:
            dry_run.show(args, lambda f: dry_run.preview_mlm(args, tasks, set_up, train_step, f))
            return 0
        with silence(args.quiet):
            stages = train(args, folder, tasks).stages
            print(f"\nHeld-out masked tokens ({args.model}, {folder})\n")
            for name, scores in [stages[0], *stages[-1:]]:
                print(f"{name:16} {describe(scores)}")
            places = f"--model {quote(str(folder))} --data-dir {quote(args.data_dir)}"
            print(f"\nnext: python train_multitask.py {places}")
        if args.json:
            print(json.dumps({"run": str(folder), "held_out": stages[-1][1]}))
    return 0


if __name__ == "__main__":
    run_script(main)
