"""The arguments that both training scripts have."""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from minbert.cli import arg, comma_list
from minbert.errors import UserError
from minbert.kernels import KERNELS
from minbert.task.task import Task


@dataclass(frozen=True)
class CommonArgs:
    """Every argument, its default and its help line; the resolved values are saved with the run."""

    tasks: tuple[str, ...] = arg(("sst", "quora", "sts"), "any, comma-separated", parse=comma_list)
    task_file: str = arg("", "TOML with tasks of your own; all of them unless --tasks chooses")
    model: str = arg("bert-base-uncased", "model name, directory or run directory")
    data_dir: str = arg("data", "directory with the tasks' files")
    output_dir: str = arg("checkpoints", "where runs are kept")
    name: str = arg("", "name of the run (default: made of what is trained)")
    resume: str = arg("", "name or directory of a run to go on with, with its own arguments")
    accumulate: int = arg(
        1, "split every batch into so many parts to save memory; same gradients", low=1, high=10**6
    )
    checkpoint_activations: bool = arg(
        False, "compute layers again in the backward pass: less memory, more time", parse=bool
    )
    weight_decay: float = arg(
        0.0, "AdamW's, not applied to biases and layer norms", low=0, high=1e4
    )
    warmup: float = arg(0.0, "steps of warm-up, or a share of all below 1", low=0, high=1e9)
    schedule: str = arg("constant", "after warm-up", choices=["constant", "linear", "cosine"])
    # The paper names no clipping. Without it STS's first gradients, tens of times SST's, fill
    # Adam's second moment, and SST stands still for its first 400 steps.
    clip: float = arg(1.0, "largest gradient norm; 0: no clipping", low=0, high=1e9)
    precision: str = arg("auto", "of the products", choices=["auto", "fp32", "bf16"])
    kernels: str = arg(
        "minbert",
        "whose layer norm and AdamW run: ours, PyTorch's, or our equations by autograd",
        choices=KERNELS,
    )
    written_out: bool = arg(False, "the same as --kernels written-out", parse=bool)
    device: str = arg("auto", "auto, cpu or cuda")
    seed: int = arg(11711, "of all random numbers", low=0, high=2**32 - 1)
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


ScriptArgs = TypeVar("ScriptArgs", bound=CommonArgs)


def check_tasks(args: CommonArgs, known: dict[str, Task]) -> None:
    """Raise UserError for a task that is unknown or named twice."""
    unknown = [name for name in args.tasks if name not in known]
    if unknown or not args.tasks or len(set(args.tasks)) < len(args.tasks):
        raise UserError(f"--tasks {','.join(args.tasks)}: write each once, of {','.join(known)}")


def resolve_kernels(args: ScriptArgs, given: dict[str, Any]) -> ScriptArgs:
    """Replace --written-out by the --kernels it stands for."""
    if not args.written_out:
        return args
    if given.get("kernels", "written-out") != "written-out":
        raise UserError(f"--written-out and --kernels {args.kernels} contradict: write one")
    return replace(args, kernels="written-out", written_out=False)
