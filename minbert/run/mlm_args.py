"""The arguments of pretrain_mlm.py."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minbert.cli import arg, comma_list, number_by_task
from minbert.errors import UserError
from minbert.kernels import KERNELS
from minbert.run.train_args import resolve_kernels
from minbert.task.task import Task


@dataclass(frozen=True)
class Args:
    """Every argument, its default and its help line; the resolved values are saved with the run."""

    tasks: tuple[str, ...] = arg(
        ("sst", "sts"), "train on the training sentences of these tasks", parse=comma_list
    )
    task_file: str = arg("", "TOML with tasks of your own; all of them unless --tasks chooses")
    corpus: tuple[str, ...] = arg(
        (), "train on these text files instead", parse=str, nargs="+", metavar="FILE"
    )
    limit: dict[str, int] | None = arg(
        None, "of so many rows of a task: quora=16000", parse=number_by_task
    )
    model: str = arg("bert-base-uncased", "model name, directory or run directory")
    data_dir: str = arg("data", "directory with the tasks' files")
    output_dir: str = arg("checkpoints", "where runs are kept")
    name: str = arg("", "name of the run (default: made from the data)")
    resume: str = arg("", "name or directory of a run to go on with, with its own arguments")
    epochs: int = arg(50, "passes over the text", low=1, high=10**6)
    lr: float = arg(1e-5, "learning rate", low=0, high=1)
    batch_size: int = arg(32, "rows in a batch", low=1, high=10**6)
    accumulate: int = arg(
        1, "split every batch into so many parts to save memory; same gradients", low=1, high=10**6
    )
    max_length: int = arg(512, "longer texts are cut in pieces of it", low=4, high=512)
    mask_rate: float = arg(0.15, "share of the tokens to guess", low=0.01, high=0.9)
    whole_word: bool = arg(False, "mask all pieces of a word or none", parse=bool)
    held_out: int = arg(1000, "rows to evaluate on; at most a twentieth", low=1, high=10**7)
    weight_decay: float = arg(
        0.0, "AdamW's, not applied to biases and layer norms", low=0, high=1e4
    )
    warmup: float = arg(0.0, "steps of warm-up, or a share of all below 1", low=0, high=1e9)
    schedule: str = arg("constant", "after warm-up", choices=["constant", "linear", "cosine"])
    clip: float = arg(1.0, "largest gradient norm; 0: no clipping", low=0, high=1e9)
    checkpoint_activations: bool = arg(
        False, "compute layers again in the backward pass: less memory, more time", parse=bool
    )
    precision: str = arg("auto", "of the products", choices=["auto", "fp32", "bf16"])
    kernels: str = arg(
        "minbert",
        "whose layer norm and AdamW run: ours, PyTorch's, or our equations by autograd",
        choices=KERNELS,
    )
    written_out: bool = arg(False, "the same as --kernels written-out", parse=bool)
    device: str = arg("auto", "auto, cpu or cuda")
    seed: int = arg(11711, "of initialisation, order, masks and dropout", low=0, high=2**32 - 1)
    save_minutes: float = arg(
        5.0, "save last/ at least so often; 0: after every step", low=0, high=1e6
    )
    dry_run: bool = arg(
        False, "say what would be done, with time and memory of a few steps; then stop", parse=bool
    )
    tensorboard: bool = arg(
        False, "write the log's numbers for TensorBoard too, to tensorboard/", parse=bool
    )
    quiet: bool = arg(False, "print nothing but errors and --json's line", parse=bool)
    json: bool = arg(False, "end with one line of JSON", parse=bool)


def resolve_arguments(given: dict[str, Any], tasks: dict[str, Task]) -> Args:
    """Return the arguments, checked: one line for what is unknown or does not go together.

    tasks: all that are known, by name.
    """
    args = Args(**given)
    unknown = [name for name in args.tasks if name not in tasks]
    if unknown or not (args.tasks or args.corpus) or len(set(args.tasks)) < len(args.tasks):
        raise UserError(f"--tasks {','.join(args.tasks)}: write each once, of {','.join(tasks)}")
    if args.corpus and (args.tasks != Args.tasks or args.task_file):
        raise UserError("--corpus and --tasks: write one, to train on files or on tasks' sentences")
    if missing := [file for file in args.corpus if not Path(file).is_file()]:
        raise UserError(f"--corpus {missing[0]}: no such file")
    if args.accumulate > args.batch_size:
        raise UserError(f"--accumulate {args.accumulate}: at most --batch-size {args.batch_size}")
    return resolve_kernels(args, given)


def default_name(args: Args) -> str:
    """Return what a run is called unless --name says otherwise."""
    stems = [Path(file).stem for file in args.corpus] or args.tasks
    return "-".join(("mlm", *stems))
