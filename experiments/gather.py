"""The records of a table's runs, put together: scores by row, and differences to other rows."""

import statistics
from pathlib import Path

import numpy as np

from experiments.ablation import Ablation, AblationRow, Gain, RowFigures, SeedScores, jobs_of_rows
from experiments.jobs import Job, JobArgs
from experiments.run_records import Records, RunRecord, machines_of
from minbert.data.examples import read_examples
from minbert.errors import UserError
from minbert.metrics import bootstrap_interval
from tasks import TASKS


def gather_ablation(
    title: str, module: str, rows: list[AblationRow], root: Path, args: JobArgs, note: str = ""
) -> Ablation:
    """Put the records of the runs that there are in a table. module: what to type for it."""
    records = RowRecords(root, args)
    flags = f"--model {args.model} --seeds {args.seeds} --data-dir DIR"
    jobs = jobs_of_rows(rows)
    every = [record for job in jobs for record in records.of(job).values()]
    return Ablation(
        title, f"python -m {module} {flags}", machines_of(every),
        [gather_line(row, rows, records) for row in rows],
        {job.name: job.command(args.model) for job in jobs}, note,
    )  # fmt: skip


def gather_line(row: AblationRow, rows: list[AblationRow], records: "RowRecords") -> RowFigures:
    """Return a row's figures, beside the first row and the one that it names."""
    chosen = {task: records.best_job(row, task) for task in row.jobs}
    # annealed mode draws tasks by the seed: show the mean passes; the oldest records have none
    passes = mean_by_name(
        [
            {task: record.passes[task]}
            for task, job in chosen.items()
            for record in records.of(job).values()
            if record.passes
        ]
    )
    # a task's seeds may be fewer than another's: means by job, then their sum
    runs = {job.name: [*found.values()] for job in chosen.values() if (found := records.of(job))}
    every = [record for found in runs.values() for record in found]
    labels = {rows[0].label, row.beside} - {row.label}
    return RowFigures(
        row.label,
        {task: records.scores(row, task) for task in row.jobs},
        [gain for other in rows if other.label in labels for gain in records.gains(row, other)],
        {name: found[0].updates for name, found in runs.items()},
        passes,
        sum(statistics.fmean(record.examples for record in found) for found in runs.values()),
        sum(statistics.fmean(record.minutes for record in found) for found in runs.values()),
        mean_by_name([record.cosines for record in every]),
        # empty if an old record lacks it: it must be of the same seeds as the cosines
        mean_by_name([record.opposed for record in every if all(one.opposed for one in every)]),
    )


def mean_by_name(values: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of every name's values over those that have it."""
    names = dict.fromkeys(name for one in values for name in one)
    return {name: statistics.fmean(one[name] for one in values if name in one) for name in names}


class RowRecords(Records):
    """The records of a table's runs, and what is computed of them for its rows."""

    def __init__(self, root: Path, args: JobArgs) -> None:
        super().__init__(root, args)
        self.known_labels: dict[str, np.ndarray] = {}

    def best_job(self, row: AblationRow, task: str) -> Job:
        """Return the job with the highest mean of a task's scores; without any run the first.

        The mean is over the seeds that all jobs with a finished run have in common, over each
        one's own if there is none.
        """
        tried = [self.of(job).keys() for job in row.jobs[task] if self.of(job)]
        seeds = set.intersection(*map(set, tried)) if tried else set()

        def mean(job: Job) -> float:
            own = self.of(job)
            runs = [own[s] for s in seeds if own] or [*own.values()]
            scores = [run.best(row.is_mean).scores[task] for run in runs]
            return statistics.fmean(scores) if scores else -1.0

        return max(row.jobs[task], key=mean)

    def scores(self, row: AblationRow, task: str) -> SeedScores:
        """Return a task's scores in a row, by seed."""
        job = self.best_job(row, task)
        own = self.of(job).values()
        tried = [self.of(one).values() for one in row.jobs[task] if self.of(one)]
        return SeedScores(
            [record.best(row.is_mean).scores[task] for record in own],
            [record.last(row.is_mean).scores[task] for record in own],
            sum(max(len(record.of_kind(row.is_mean)) for record in found) for found in tried),
        )

    def gains(self, row: AblationRow, other: AblationRow) -> list[Gain]:
        """Return the differences of a row to another: at the best steps, then at the last ones.

        If the two are the same, only one is returned; if there is nothing to compare, none.
        """
        found = []
        for at_last in (False, True):
            by_task = {task: self.gain(row, other, task, at_last) for task in row.jobs}
            if any(by_task.values()) and by_task not in [gain.by_task for gain in found]:
                found.append(Gain(other.label, at_last, by_task))
        return found

    def gain(
        self, row: AblationRow, other: AblationRow, task: str, at_last: bool
    ) -> list[float] | None:
        """Return the mean difference of a task's score over seeds, and its bootstrap interval.

        Only seeds that both rows have count. Returns None if there is none, or if the predictions
        of a run were not kept. The same dev rows are drawn for all runs.
        """
        of_rows = []
        for one in (row, other):
            found = self.of(self.best_job(one, task)).items()
            chosen = RunRecord.last if at_last else RunRecord.best
            of_rows.append({seed: chosen(record, one.is_mean) for seed, record in found})
        seeds = sorted(of_rows[0].keys() & of_rows[1].keys())
        both = [(of_rows[0][seed], of_rows[1][seed]) for seed in seeds]
        if not both or not all(one.predictions for pair in both for one in pair):
            return None
        pairs = [(a.predicted(task), b.predicted(task)) for a, b in both]
        metric, labels = TASKS[task].metrics[TASKS[task].main_metric], self.labels(task)
        n = len(labels)
        if wrong := [len(one) for pair in pairs for one in pair if len(one) != n]:
            raise UserError(
                f"--data-dir {self.args.data_dir}: {n} dev rows of {task}, and this table's runs "
                f"had {wrong[0]}: give it their data"
            )

        def mean_difference(rows: np.ndarray, _: np.ndarray) -> float:
            gains = (
                metric(a[rows], labels[rows]) - metric(b[rows], labels[rows]) for a, b in pairs
            )
            return statistics.fmean(gains)

        rows = np.arange(n)
        return [mean_difference(rows, rows), *bootstrap_interval(mean_difference, rows, rows)]

    def labels(self, task: str) -> np.ndarray:
        """Return the labels of a task's dev rows, (n,), in the file's order."""
        if task not in self.known_labels:
            known, data_dir = TASKS[task], Path(self.args.data_dir)
            examples, _ = read_examples(known.paths("dev", data_dir), known.columns, labelled=True)
            labels = np.array([example.label for example in examples], dtype=np.float32)
            self.known_labels[task] = labels
        return self.known_labels[task]
