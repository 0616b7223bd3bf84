"""A run of pre-training: what it works with, and how it is made ready."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from minbert.data.corpus import check_plain, load_corpus, load_sentences
from minbert.data.encoded import EncodedSplit
from minbert.data.id_cache import CACHE
from minbert.data.masking import Masking
from minbert.data.sampler import count_batches, random_order
from minbert.data.tokenizer import BertTokenizer
from minbert.errors import UserError
from minbert.manifest import unchanged
from minbert.model.layers import set_kernels
from minbert.model.mlm import MaskedLanguageModel, load_mlm, save_mlm
from minbert.model.multitask import say_what_is_left_out
from minbert.model.parameter_groups import parameter_groups
from minbert.run import rundir
from minbert.run.beginning import Run, begin, recover_last
from minbert.run.mlm_args import Args
from minbert.run.resumed import check_begun
from minbert.task.loading import (
    LeftOutCounts,
    check_files,
    distinct_sentences,
    training_files,
)
from minbert.task.task import Tasks
from minbert.training import distributed
from minbert.training.device import choose_device, choose_precision
from minbert.training.optimizer import AdamW
from minbert.weights.resolve import resolve


@dataclass(frozen=True)
class PreTraining(Run):
    """A pre-training run: its model, text and masking, beside what all runs have."""

    model: MaskedLanguageModel
    args: Args
    files: dict[str, Path]  # that are trained on, by names that stay when they move
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


def set_up(args: Args, folder: Path, tasks: Tasks) -> PreTraining:
    """Make a run ready to train: from --model, or from last/ if the folder has one."""
    if not args.corpus:
        check_files(list(tasks.values()), Path(args.data_dir), ("train",))
    last = recover_last(folder)
    if args.corpus and not last:  # an older run may have begun with one
        check_plain([Path(file) for file in args.corpus])
    directory = last or resolve(args.model)
    model = load_model(args, directory)
    tokenizer = BertTokenizer.from_directory(directory)
    config = model.encoder.config
    tokenizer.check_fits(config.vocab_size)

    longest = min(args.max_length, config.max_position_embeddings)
    files = text_files(args, tasks)
    with unchanged(files) as hashes:
        check_begun(folder, files, hashes)  # before more work is done
        with distributed.first_before_others():
            by_path = {path: hashes[name] for name, path in files.items()}
            text, left_out = load_text(args, tasks, by_path, tokenizer, longest)
    held_out = np.sort(random_order(len(text), 0)[: min(args.held_out, len(text) // 20)])
    if args.held_out and len(held_out) == 0:
        raise UserError(
            f"{len(text)} texts are too few to hold some out, which takes 20 or more: --held-out 0 "
            f"trains on all of them"
        )
    rows = len(text) - len(held_out)
    steps = args.epochs * count_batches({"mlm": rows}, args.batch_size)["mlm"]
    masking = Masking.of(tokenizer, args.mask_rate, args.whole_word)

    groups = parameter_groups(model, args.weight_decay)
    optimizer = AdamW(groups, lr=args.lr, kernels=args.kernels)
    begun = begin(
        folder, args, tokenizer=tokenizer, model=model, optimizer=optimizer, steps=steps,
        last=last, files=files, hashes=hashes, rows=rows, left_out=left_out,
    )  # fmt: skip
    args = rundir.save_arguments(folder, args, tasks)
    return PreTraining(
        **vars(begun), args=args, files=files, text=text, held_out=held_out, masking=masking
    )


def load_model(args: Args, directory: Path) -> MaskedLanguageModel:
    """Load a directory's model for --device, and set what its training computes with."""
    device = choose_device(args.device)
    torch.manual_seed(args.seed)
    model, new_head = load_mlm(directory)
    say_what_is_left_out(directory)
    if new_head:
        print(f"{directory} has no masked-language-model head: it starts from random values")
    set_kernels(model, args.kernels)
    model.to(device).encoder.compute_dtype = choose_precision(args.precision, device)
    model.encoder.checkpoint_activations = args.checkpoint_activations
    return model


def text_files(args: Args, tasks: Tasks) -> dict[str, Path]:
    """Return the files that are trained on, by names that stay when they move."""
    if args.corpus:
        return {f"corpus {i}": Path(file) for i, file in enumerate(args.corpus, start=1)}
    return training_files(list(tasks.values()), Path(args.data_dir), ("train",))


def load_text(
    args: Args, tasks: Tasks, hashes: dict[Path, str], tokenizer: BertTokenizer, max_length: int
) -> tuple[EncodedSplit, LeftOutCounts]:
    """Load --corpus, or every distinct training sentence of the tasks, each as a text.

    hashes: of the files. Returns also how many rows of the tasks are left out.
    """
    cache = Path(args.output_dir) / CACHE
    if args.corpus:
        return load_corpus(hashes, tokenizer, max_length, cache), {}
    known = list(tasks.values())
    sentences, left_out = distinct_sentences(known, Path(args.data_dir), args.limit or {})
    return load_sentences(sentences, tokenizer, max_length, cache), left_out
