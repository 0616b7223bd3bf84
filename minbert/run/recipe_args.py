"""The arguments of train_multitask.py that go beyond the paper; all of them are off by default."""

from dataclasses import dataclass

from minbert.cli import args_of
from minbert.parsers import amount_by_task, comma_list, number_list, word_by_task
from minbert.run.common_args import (
    CommonArgs,
    saving_arg,
    tasks_arg,
    training_arg,
)

beyond_arg = args_of("beyond the paper")


def weights_of_mean(text: str) -> dict[str, float]:
    """Read the weights of tasks' scores in a mean: sst=2,quora=1, or sst alone; {} for the mean."""
    if text == "mean":
        return {}
    return amount_by_task(",".join(x if "=" in x else f"{x}=1" for x in comma_list(text)))


@dataclass(frozen=True)
class RecipeArgs(CommonArgs):
    """What a recipe for one model of several tasks is made of; see docs/recipes.md."""

    steps: int = training_arg(
        0, "end after so many steps, whatever --epochs is; 0: do not", low=0, high=10**7
    )
    anneal_from: float = tasks_arg(
        1.0,
        "annealed mode draws tasks by size^a: the first step's a; above 1, small sets come late",
        low=0,
        high=4,
    )
    anneal_to: float = tasks_arg(0.2, "the a of annealed mode's last step", low=0, high=1)
    sampling_power: float | None = tasks_arg(
        None, "annealed mode with this a at every step", parse=float, low=0, high=1
    )
    combine: str = tasks_arg(
        "sum",
        "joint mode's gradients: their sum, or projected where they conflict",
        choices=["sum", "pcgrad"],
    )
    task_weight: dict[str, float] = tasks_arg(
        None, "weight of a task's loss: sst=2", parse=amount_by_task
    )
    teacher: dict[str, str] = beyond_arg(
        None,
        "learn from a run's outputs, too (distillation), for all tasks or sst=RUN,sts=RUN",
        parse=word_by_task,
    )
    average: float = beyond_arg(
        0.0,
        "evaluate the mean of the weights over this last share of steps, too; keep the better",
        low=0,
        high=1,
    )
    heads_first: int = beyond_arg(
        0, "passes that train the heads alone, before all is trained", low=0, high=10**4
    )
    r_drop: dict[str, float] = beyond_arg(
        None, "weight of the difference between two dropouts: sst=1", parse=amount_by_task
    )
    layer_decay: float = beyond_arg(
        1.0, "a layer's learning rate divided by that of the layer above it", low=0.01, high=1
    )
    reinit_layers: int = beyond_arg(
        0, "so many top layers, and the pooler, start from random values", low=0, high=10**3
    )
    pool_layers: tuple[int, ...] = beyond_arg(
        (), "heads read the mean of these layers, as 3,4,5,6 (default: the top one)",
        parse=number_list,
    )  # fmt: skip
    best_by: dict[str, float] = saving_arg(
        None, "what chooses best/: mean (default), a task, or weights in the mean: sst=2,quora=1",
        parse=weights_of_mean, metavar="TASK",
    )  # fmt: skip
    save_task_best: bool = saving_arg(
        False, "keep each task's own best step too, in best-TASK/", parse=bool
    )
    # its flag is --no-correct-bias
    correct_bias: bool = training_arg(True, "without Adam's correction of m and v", parse=bool)
