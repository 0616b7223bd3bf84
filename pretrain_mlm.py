"""Go on with BERT's masked-language-model pre-training on your text (paper, section 3.1).

python pretrain_mlm.py --epochs 50 --model all-MiniLM-L6-v2 --data-dir data
"""

if __name__ == "__main__":  # Ctrl-C during the imports, which take seconds, prints one line
    import os
    import signal

    signal.signal(signal.SIGINT, lambda *_: (os.write(2, b"stopped.\n"), os._exit(130)))

import json
import math
import time
from pathlib import Path
from shlex import quote

import numpy as np
import torch
from torch import Tensor

from minbert.cli import parse_given, run_script
from minbert.data.collate import collate
from minbert.data.masking import MaskedBatch, mask_batch
from minbert.data.sampler import batch_rows, length_sorted_batches, rows_without
from minbert.errors import UserError
from minbert.losses import cross_entropy
from minbert.printable import silence
from minbert.progress import progress
from minbert.run import dry_run, rundir
from minbert.run.checkpoint import Best, Scores, TrainState
from minbert.run.finish import finish_mlm, kept_checkpoint
from minbert.run.keeper import Keeper, check_finite, save_checkpoint
from minbert.run.mlm_args import Args, default_name, resolve_arguments, task_flags
from minbert.run.pre_training import PreTraining, set_up
from minbert.run.steps import StepRecord
from minbert.task.task import Tasks
from minbert.training import distributed
from minbert.training.optimizer import clip_scale
from minbert.training.schedule import learning_rate
from minbert.training.threads import set_threads
from tasks import TASKS

LARGEST_LOSS = 230  # exp(230) < 1e100, the largest perplexity that a report takes
HELD_OUT_EPOCH = 2**32 - 1  # held-out tokens are masked the same at every evaluation


def train(args: Args, folder: Path, tasks: Tasks) -> TrainState:
    """Train one run, from its start or where it was stopped, to its end."""
    with rundir.alone_in(folder, resumed=bool(args.resume)):
        run = set_up(args, folder, tasks)
        state = run.state
        print(f"{folder}: {run.train_rows} texts to train on, {len(run.held_out)} held out")
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
        finish_mlm(run)
    return state


def train_step(run: PreTraining, step: int) -> None:
    """Set the rate, draw a batch, mask it, forward, backward, clip, update.

    It waits for a GPU only in `records.add`, which reads the losses every few steps.
    """
    args, started = run.args, time.monotonic()
    torch.manual_seed(distributed.own_seed(args.seed, step))
    lr = learning_rate(step, run.steps, args.lr, args.schedule, args.warmup)
    for group in run.optimizer.param_groups:
        group["lr"] = lr

    epoch, number = divmod(step, run.epoch_steps)
    indices = batch_rows(
        run.train_rows, args.batch_size, num_batches=run.epoch_steps, seed=args.seed, task="mlm",
        epoch=epoch, batch=number,
    )  # fmt: skip
    rows = rows_without(run.held_out, indices)

    loss, num_masked = forward_backward(run, rows, epoch)
    if num_masked:  # a batch of a few short texts may have no masked token
        distributed.sum_gradients(run.model.parameters())
        run.optimizer.step(scale=clip_scale(run.model.parameters(), args.clip))
        run.optimizer.zero_grad(set_to_none=True)
    run.state.step = step + 1

    tokens = int(run.text.lengths_of(rows).sum())
    record = StepRecord(
        step=step + 1, task="mlm", loss=loss if num_masked else None, lr=lr, epoch=epoch + 1,
        examples=len(rows), tokens=tokens, seconds=time.monotonic() - started,
    )  # fmt: skip
    run.records.add([record])


def forward_backward(run: PreTraining, rows: np.ndarray, epoch: int) -> tuple[Tensor, float]:
    """Add the gradient of the mean loss over these rows' masked tokens; return loss and count.

    The rows are split among the processes and into --accumulate parts. A part counts by its masked
    tokens, and one without any takes part with zeros. The loss is this process's part of the sum,
    the count that of all processes.
    """
    run.model.train()
    shares = distributed.micro_batches(rows, run.args.accumulate)
    parts = [(masked_rows(run, part, run.args.seed, epoch), share) for part, share in shares]
    counts = [len(masked.targets) if share else 0 for masked, share in parts]
    total = torch.zeros((), device=run.model.encoder.device)
    all_masked = distributed.all_reduce_sum(sum(counts))
    if not all_masked:
        return total, 0.0
    for (masked, _), num_masked in zip(parts, counts, strict=True):
        logits = run.model(masked.batch, masked.indices)
        loss = cross_entropy(logits, masked.targets) if num_masked else logits.sum()
        loss = loss * (num_masked / all_masked)
        loss.backward()
        total += loss.detach()
    return total, all_masked


def masked_rows(run: PreTraining, rows: np.ndarray, seed: int, epoch: int) -> MaskedBatch:
    """Return these rows, packed and masked, on the model's device."""
    batch = collate(run.text, rows)
    return mask_batch(batch, run.masking, seed, epoch).to(run.model.encoder.device)


def evaluate(run: PreTraining, stage: str) -> None:
    """Score the held-out rows; --keep best: keep the weights with the lowest loss of them."""
    run.records.flush()
    check_finite(run)
    state, step = run.state, run.state.step
    scores: Scores = {}
    if len(run.held_out):
        scores, tokens = held_out_scores(run)
        epoch = step // run.epoch_steps
        run.log.write("held-out", step=step, epoch=epoch, **scores, tokens=tokens)
        run.progress.print_scores(f"{stage}: held-out masked tokens", describe(scores))
        is_best = step and (state.best is None or -scores["loss"] > state.best.chosen_by)
        if run.args.keep == "best" and is_best:
            # before the state says so: an interrupt repeats this evaluation
            best = Best(-scores["loss"], step, scores)
            save_checkpoint(run, "best", best)
            state.best = best
    state.count_evaluation(stage, scores)


def describe(scores: Scores) -> str:
    """Return what was found on held-out rows, in words."""
    if not scores:
        return "no row is held out"
    return "accuracy {accuracy:.3f}, perplexity {perplexity:.1f}".format(**scores)


@torch.no_grad()
def held_out_scores(run: PreTraining) -> tuple[Scores, int]:
    """Return accuracy, perplexity and loss of the held-out rows' masked tokens, and their number.

    Raises UserError when there was nothing to guess, and for a loss beyond all bounds.
    """
    run.model.eval()
    right = total = 0
    loss = 0.0
    batches = distributed.shard(length_sorted_batches(run.text.lengths_of(run.held_out)))
    for indices in progress(batches, "held-out texts", size=len):
        masked = masked_rows(run, run.held_out[indices], 0, HELD_OUT_EPOCH)
        if len(masked.targets):
            logits = run.model(masked.batch, masked.indices)
            right += int((logits.argmax(-1) == masked.targets).sum())
            total += len(masked.targets)
            loss += float(cross_entropy(logits, masked.targets)) * len(masked.targets)
    right, total, loss = map(distributed.all_reduce_sum, (right, total, loss))
    if total == 0:
        few = f"nothing to guess in {len(run.held_out):,} held-out texts"
        most = " (a twentieth of all at most)" if len(run.held_out) < run.args.held_out else ""
        raise UserError(
            f"{few}{most}: raise --mask-rate, give more texts, or train on all with --held-out 0"
        )
    loss /= total
    if loss > LARGEST_LOSS:
        raise UserError(f"held-out loss {loss:.0f}: training has diverged; start with a lower --lr")
    return {"accuracy": right / total, "perplexity": math.exp(loss), "loss": loss}, total


def main(argv: list[str]) -> int:
    given = parse_given(Args, argv, __doc__)
    with distributed.process_group():
        with silence(given.get("quiet", False)), given.naming_files():
            args, tasks, folder = rundir.open_run(
                given, Args, TASKS, resolve_arguments, default_name
            )
        set_threads(args.threads)
        if args.dry_run:
            dry_run.show(args, lambda f: dry_run.preview_mlm(args, tasks, train_step, f))
            return 0
        with silence(args.quiet):
            state = train(args, folder, tasks)
            kept, step, kept_scores = kept_checkpoint(state)
            print(f"\nHeld-out masked tokens ({args.model}, {folder})\n")
            for name, scores in (state.stages[0], (f"{kept}/, step {step}", kept_scores)):
                print(f"{name:16} {describe(scores)}")
            flags = f"--model {quote(str(folder))} --data-dir {quote(args.data_dir)}"
            print(f"\nnext: python train_multitask.py {flags}{task_flags(args)}")
        if args.json:
            print(json.dumps({"run": str(folder), "held_out": kept_scores}))
    return 0


if __name__ == "__main__":
    run_script(main)
