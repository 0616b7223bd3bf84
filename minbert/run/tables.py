"""Tables for people, in the shape of the paper's Table 3."""

from typing import Any

from minbert.task.task import Task


def results_table(tasks: list[Task], rows: dict[str, dict[str, float]]) -> str:
    """One line a row, one column a task; a missing score is a dash."""
    width = max(len(name) for name in rows)
    lines = [" " * width + "".join(f"{task.title:>9}" for task in tasks)]
    for name, scores in rows.items():
        cells = [f"{scores[t.name]:9.3f}" if t.name in scores else f"{'-':>9}" for t in tasks]
        lines.append(name.ljust(width) + "".join(cells))
    lines.append(" " * width + "".join(f"{task.main_metric:>9}"[:9] for task in tasks))
    return "\n".join(line.rstrip() for line in lines)


def closing_table(tasks: list[Task], states: list[dict[str, Any]], trained: str) -> str:
    """Before and after, from the states of a run, or of several of a task each."""
    before = {name: score for state in states for name, score in state["before"].items()}
    after = {name: score for state in states for name, score in state["best"]["scores"].items()}
    return results_table(tasks, {"before training": before, trained: after})


def forgetting_table(tasks: list[Task], stages: list[tuple[str, dict[str, float]]]) -> str:
    """Each task's dev score after every stage of sequential training."""
    return results_table(tasks, dict(stages))
