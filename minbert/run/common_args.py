"""The arguments that both training scripts have."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from minbert.cli import args_of, flag_of
from minbert.errors import UserError
from minbert.kernels import KERNELS
from minbert.parsers import comma_list
from minbert.task.task import Tasks
from minbert.training.device import PRECISIONS

tasks_arg, data_arg, training_arg = args_of("tasks"), args_of("data"), args_of("training")
saving_arg, machine_arg, screen_arg = args_of("saving"), args_of("machine"), args_of("printing")
LARGEST_SEED = 2**32 - 1  # of --seed, and of the last of --seeds
LONGEST_JOINED = 80  # characters; a folder's name may have 255 bytes


@dataclass(frozen=True)
class CommonArgs:
    """What both scripts have, with defaults and help; a run keeps the resolved values.

    A field's type is that of its resolved value, by which args.json is checked. A None before that
    stands for an empty dict, or for what depends on other fields.
    """

    script: ClassVar[str]  # whose arguments they are

    tasks: tuple[str, ...] = tasks_arg(
        ("sst", "quora", "sts"),
        "some of sst,quora,sts,cfimdb or of --task-file's",
        parse=comma_list,
    )
    task_file: str = tasks_arg(
        "", "TOML with tasks of your own; all of them unless --tasks chooses"
    )
    model: str = training_arg("bert-base-uncased", "model name, directory or run directory")
    data_dir: str = data_arg("data", "directory with the tasks' files")
    output_dir: str = saving_arg("checkpoints", "where runs are kept")
    name: str = saving_arg("", "name of the run (default: made of what is trained)")
    resume: str = saving_arg("", "name or directory of a run to go on with, with its own arguments")
    accumulate: int = machine_arg(
        1,
        "split every batch into so many parts: same gradients but for dropout, less memory on "
        "long texts",
        low=1,
        high=10**6,
    )
    checkpoint_activations: bool = machine_arg(
        False, "compute layers again in the backward pass: less memory, more time", parse=bool
    )
    weight_decay: float = training_arg(
        0.0, "AdamW's weight decay, none for biases and layer norms", low=0, high=1e4
    )
    warmup: float = training_arg(
        0.0, "warm-up steps; below 1: a share of all steps", low=0, high=1e9
    )
    schedule: str = training_arg(
        "constant", "learning rate after warm-up", choices=["constant", "linear", "cosine"]
    )
    # The paper names no clipping. Without it STS's first gradients, tens of times SST's, fill
    # Adam's second moment, and SST stands still for its first 400 steps.
    clip: float = training_arg(1.0, "largest gradient norm; 0: no clipping", low=0, high=1e9)
    precision: str = machine_arg(
        "auto", "of matrix products; auto: the faster one here", choices=PRECISIONS
    )
    kernels: str = machine_arg(
        "minbert",
        "whose layer norm and AdamW run: ours, PyTorch's (AdamW on a CPU alone), or our equations "
        "by autograd",
        choices=KERNELS,
    )
    written_out: bool = machine_arg(
        False, "the same as --kernels written-out", parse=bool, same_as="kernels"
    )
    device: str = machine_arg("auto", "auto, cpu, cuda, or mps, on which no test has run")
    threads: int = machine_arg(
        0, "CPU threads of the products; 0: PyTorch's choice", low=0, high=1024
    )
    seed: int = training_arg(
        11711,
        "of new weights, order, dropout and masks; which rows --limit and dev take is fixed",
        low=0,
        high=LARGEST_SEED,
    )
    save_minutes: float = saving_arg(
        5.0, "save last/ at least so often; 0: after every step", low=0, high=1e6
    )
    dry_run: bool = screen_arg(
        False,
        "print data, steps and, from a few trial steps, the steps' time and the memory; then stop",
        parse=bool,
    )
    tensorboard: bool = saving_arg(
        False, "write the log's numbers for TensorBoard too, to tensorboard/", parse=bool
    )
    quiet: bool = screen_arg(False, "print nothing on stdout but --json's line", parse=bool)
    json: bool = screen_arg(False, "end with one line of JSON", parse=bool)


ScriptArgs = TypeVar("ScriptArgs", bound=CommonArgs)


def check_tasks(args: CommonArgs, known: Tasks) -> None:
    """Raise UserError for a task that is unknown or named twice."""
    unknown = [name for name in args.tasks if name not in known]
    if unknown:
        raise UserError(
            f"--tasks {unknown[0]}: unknown; there are {', '.join(known)}, and those of --task-file"
        )
    if not args.tasks or len(set(args.tasks)) < len(args.tasks):
        raise UserError(f"--tasks {','.join(args.tasks)}: write each once, of {','.join(known)}")


def check_task_names(tasks: tuple[str, ...], field: str, names: Iterable[str]) -> None:
    """Raise UserError for a name in an argument that is not one of the tasks; "" means all."""
    if stray := [name for name in names if name and name not in tasks]:
        raise UserError(f"{flag_of(field)} {stray[0]}: not one of --tasks {','.join(tasks)}")


def check_accumulate(parts: int, batch_size: int | str) -> None:
    """Raise UserError for more parts than a batch has rows; adaptive batches have many."""
    if isinstance(batch_size, int) and parts > batch_size:
        raise UserError(f"--accumulate {parts}: at most --batch-size {batch_size}")


def limits_of(tasks: tuple[str, ...], field: str, limits: dict[str, int]) -> dict[str, int]:
    """Return the most rows of each task that has a limit; one for all tasks has the key "".

    Raises UserError for a task that is not one of them.
    """
    check_task_names(tasks, field, limits)
    of_all = limits.get("")
    found = {name: limits.get(name, of_all) for name in tasks}
    return {name: rows for name, rows in found.items() if rows}


def resolve_kernels(args: ScriptArgs, given: dict[str, Any]) -> ScriptArgs:
    """Replace --written-out by the --kernels it stands for."""
    if not args.written_out:
        return args
    if given.get("kernels", "written-out") != "written-out":
        raise UserError(f"--written-out and --kernels {args.kernels} contradict: write one")
    return replace(args, kernels="written-out", written_out=False)


def joined_names(names: Sequence[str]) -> str:
    """Join names for a run's folder; of many the first, and how many follow."""
    first, *others = names
    if len(whole := "-".join(names)) <= LONGEST_JOINED:
        return whole
    return first[: LONGEST_JOINED // 2] + (f"-and-{len(others)}-more" if others else "")
