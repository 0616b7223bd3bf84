"""From a task to the configuration of its head, and whether a saved head is the task's."""

from dataclasses import replace
from pathlib import Path

from minbert.errors import UserError
from minbert.model.heads import HeadConfig
from minbert.model.multitask import CONFIGS
from minbert.run_files import ARGS, TASKS_FILE, folders_of_run
from minbert.task.siamese import CLASSIFIER
from minbert.task.task import Task


def head_config(
    task: Task, loss: str | None, pooling: str, embedding_size: int,
    layers: tuple[int, ...] = (), both: bool = False,
) -> HeadConfig:  # fmt: skip
    """Return the configuration of a task's head.

    With a pair loss the head is siamese, or has a siamese one beside it (both); its cosines from 0
    to 1 are scaled to the labels' range. pooling: of sentences; a head of words reads each of them.
    layers: that it reads if it is not siamese.
    """
    names = task.class_names or task.display_names
    together = HeadConfig(
        task.outputs, class_names=names, layers=layers, problem_type=task.problem_type,
        unit=task.unit, shift=task.low, per_word=task.per_word,
        pooling="cls" if task.per_word else pooling,
    )  # fmt: skip
    if loss is None:
        return together
    apart = {
        "embedding_size": embedding_size, "classifier": loss == CLASSIFIER,
        "scale": task.high - task.low,
    }  # fmt: skip
    if both:
        return replace(together, both=True, **apart)
    return HeadConfig(siamese=True, pooling=pooling, unit=task.unit, shift=task.low, **apart)


def check_head(task: Task, config: HeadConfig, directory: Path) -> None:
    """Raise UserError if a directory's head of a task is of another kind of task or other classes.

    Names that are for people alone may differ in a run's own tasks.toml: they may be corrected.
    """
    has_unit = (config.unit, config.shift) != (1, 0)
    is_other = config.problem_type not in ("", task.problem_type) or config.outputs != task.outputs
    if is_other or config.per_word != task.per_word or (has_unit and not task.is_regression):
        raise UserError(
            f"{directory / CONFIGS}: {task.name}: a head of another kind of task or number of "
            f"labels: the file is damaged, or the run's tasks.toml has been changed"
        )
    has_own = any((run / TASKS_FILE).is_file() for run in folders_of_run(directory))
    # without its own file the course's task of that name is taken for it
    names = task.class_names or (() if has_own else task.display_names)
    if names and config.class_names and names != config.class_names:
        raise UserError(
            f"{directory / CONFIGS}: {task.name}: its classes are {', '.join(config.class_names)}, "
            f"the task's {', '.join(names)}: put the run's own {TASKS_FILE} and {ARGS} beside "
            f"{directory.name}/ again"
        )
