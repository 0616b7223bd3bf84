"""What a finished run leaves beside its weights: predictions, findings, card, report, scores."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from minbert.data.items import gold_of
from minbert.files import write_json, write_text
from minbert.metrics import bootstrap_interval, summarize_seeds
from minbert.model.heads import HeadConfig
from minbert.report.card import (
    Findings,
    write_card,
    write_mlm_card,
    write_several_card,
)
from minbert.report.files import read_findings, write_report
from minbert.report.findings import findings
from minbert.report.task_findings import TaskFindings
from minbert.run.checkpoint import Best, Scores, TaskBest, TrainState, task_best_folder
from minbert.run.fine_tuning import FineTuning
from minbert.run.keeper import step_of
from minbert.run.mlm_args import task_flags
from minbert.run.pre_training import PreTraining
from minbert.run.temperatures import calibrate_task_bests, keep_temperatures, load_for_use
from minbert.run.train_args import Args
from minbert.run_files import FINDINGS, PREDICTIONS
from minbert.task.calibration import calibration_if_any
from minbert.task.evaluation import outputs_by_row
from minbert.task.loading import changed_dev_files
from minbert.task.predictions import write_predictions
from minbert.task.task import Task
from minbert.training import distributed

SCORES = "scores.json"  # of a folder of several runs


def finish(run: FineTuning) -> None:
    """Write predictions, card, report and the log's last line of a run; print its speed."""
    args, state = run.args, run.state
    if state.step < run.steps:
        what = "score by --best-by" if args.best_by else "mean"
        n = f"{args.patience} evaluation{'s' * (args.patience > 1)}"
        print(f"stopped at step {step_of(run)}: no better {what} in {n}")
    run.progress.print_rates()
    if state.skipped:
        print(f"batches without two pairs to tell apart, skipped: {state.skipped}")
    found = read_findings(run.folder) if args.skip_predictions else predict_best(run)
    bests = {key: state.to_json()[key] for key in ("best", "task_best")}
    best, kept = state.best, describe_best(state.best)
    if args.save_task_best:
        of_tasks = state.task_best.items()
        kept += "".join(f", `{task_best_folder(n)}/` {describe_best(one)}" for n, one in of_tasks)
    if args.average and not run.averaged_steps:
        print(f"--average {args.average:g}: stopped before those steps, so there is no mean")
    if args.average or args.save_task_best:
        print(f"best/ holds {kept}".replace("`", ""))
    if distributed.rank() == 0:
        write_card(
            run.folder, args, list(run.tasks.values()), run.train_splits,
            run.dev_splits, state.data, kept, best.scores, found,
        )  # fmt: skip
    calibrated = {name: own.calibrated for name, own in found.items() if own.calibrated}
    run.log.write(
        "end", step=state.step, **bests, calibrated=calibrated, **run.progress.rates()
    )  # fmt: skip
    if distributed.rank() == 0:
        write_report(run.folder)


def describe_best(best: Best | TaskBest) -> str:
    """Return what a folder of a best step holds."""
    return ("the mean of the weights up to " if best.is_mean else "") + f"step {best.step}"


def predict_best(run: FineTuning) -> Findings:
    """Write the predictions of best/ for dev and, if there is a file, test; and findings.json.

    Its heads get their temperatures. Returns what is in findings.json.
    """
    distributed.barrier()  # until the first process has written best/
    model = load_for_use(run, "best")
    is_first = distributed.rank() == 0
    found: Findings = {}
    for task in run.tasks.values():
        for name, splits in (("dev", run.dev_splits), ("test", run.test_splits)):
            if task.name not in splits:
                continue
            split = splits[task.name]
            outputs = outputs_by_row(model, task, split, f"{task.title}: {name}")
            if is_first:
                write_predictions(run.folder / PREDICTIONS, task, name, split, outputs)
            if name == "dev":
                found[task.name] = dev_findings(run, task, model.heads[task.name].config, outputs)
    temperatures = {
        name: own.calibrated["temperature"] for name, own in found.items() if own.calibrated
    }
    if is_first:
        keep_temperatures(run.folder / "best", temperatures)
    if run.args.save_task_best:
        calibrate_task_bests(run, temperatures)
    if is_first:  # last, so that findings.json never has temperatures that best/ lacks
        write_text(
            run.folder / FINDINGS, json.dumps({n: own.to_json() for n, own in found.items()})
        )
    return found


def dev_findings(
    run: FineTuning, task: Task, head: HeadConfig, outputs: np.ndarray
) -> TaskFindings:
    """Return what findings.json has of a task: outputs are those of the dev set's rows."""
    split = run.dev_splits[task.name]
    calibration = calibration_if_any(task, head, outputs, split.labels)
    files = unchanged_files(run, task)
    found = findings(task, outputs, split, files, calibration)
    if task.main_metric not in found.metrics:  # it is not defined
        return found
    metric = task.metrics[task.main_metric]
    return replace(found, interval=bootstrap_interval(metric, task.decode(outputs), gold_of(split)))


def unchanged_files(run: FineTuning, task: Task) -> tuple[Path, ...]:
    """Return a task's dev files; none, which is said, if one is not what the run began with."""
    data_dir = Path(run.args.data_dir)
    if changed := changed_dev_files(task, data_dir, run.state.data):
        print(f"{changed[0]}: changed since the run began; the report shows no texts of it")
        return ()
    return task.paths("dev", data_dir)


def kept_checkpoint(state: TrainState) -> tuple[str, int, Scores]:
    """Return which folder --model RUN means of a pre-trained run, its step and scores."""
    if state.best:
        return "best", state.best.step, state.best.scores
    return "last", state.step, state.stages[-1][1]


def finish_mlm(run: PreTraining) -> None:
    """Write card, report and the log's last line of a pre-trained run; print its speed."""
    kept, step, scores = kept_checkpoint(run.state)
    hashes = {path: run.state.data[name] for name, path in run.files.items()}
    if distributed.rank() == 0:
        write_mlm_card(
            run.folder, run.args, hashes, run.train_rows, len(run.held_out), kept, step, scores,
            task_flags(run.args),
        )  # fmt: skip
    run.log.write("end", step=run.steps, **run.progress.rates())
    if distributed.rank() == 0:
        write_report(run.folder)
    run.progress.print_rates()


def finish_several(folder: Path, args: Args, tasks: list[Task], scores: list[Scores]) -> None:
    """Write card, report and scores.json of several runs into the folder that holds them.

    scores: of each seed.
    """
    if distributed.rank() == 0:
        write_several_card(folder, args, tasks, scores)
        write_json(folder / SCORES, {"scores": scores, "over_seeds": summarize_seeds(scores)})
        write_report(folder)
