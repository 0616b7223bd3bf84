"""What a finished run leaves beside its weights: predictions, findings, card, report, scores."""

import json
from pathlib import Path

import torch

from minbert.data.items import by_row, gold_of
from minbert.files import sha256_of, write_json, write_text
from minbert.metrics import over_seeds
from minbert.report.card import (
    Command,
    Findings,
    Splits,
    write_card,
    write_mlm_card,
    write_several_card,
)
from minbert.report.files import FINDINGS, write_report
from minbert.report.findings import findings
from minbert.run.checkpoint import Best, Scores, TaskBest, task_best_folder
from minbert.run.loop import Training, step_of
from minbert.run.mlm_args import Args as MlmArgs
from minbert.run.temperatures import calibrate_task_bests, keep_temperatures, load_for_use
from minbert.run.train_args import Args, data_source
from minbert.task.calibration import calibration_of
from minbert.task.evaluation import predict_task, with_interval
from minbert.task.loading import load_test, training_files
from minbert.task.predictions import write_predictions
from minbert.task.probabilities import why_none
from minbert.task.task import Task
from minbert.training import distributed

SCORES = "scores.json"  # of a folder of several runs


def finish(
    run: Training, *, args: Args, script: str, tasks: list[Task], train_splits: Splits,
    dev_splits: Splits, device: torch.device, precision: torch.dtype,
) -> None:  # fmt: skip
    """Write predictions, card, report and the log's last line of a fine-tuned run; print its speed.

    dev_splits: what it was evaluated on; device, precision: for the predictions.
    """
    state = run.state
    if state.step < run.steps:
        print(f"stopped at step {step_of(run)}: no better mean in {args.patience} evaluations")
    run.progress.print_rates()
    if state.skipped:
        print(f"batches without two pairs to tell apart, skipped: {state.skipped}")
    found: Findings = {}
    if not args.skip_predictions:
        found = predict_best(run, args, tasks, dev_splits, device, precision)
    bests = {key: state.to_json()[key] for key in ("best", "task_best")}
    best, kept = state.best, kept_step(state.best)
    if args.save_task_best:
        of_tasks = state.task_best.items()
        kept += "".join(f", `{task_best_folder(n)}/` {kept_step(one)}" for n, one in of_tasks)
    if best.is_mean or args.save_task_best:
        print(f"best/ holds {kept}".replace("`", ""))
    write_card(
        run.folder, Command.of(script, args), tasks, train_splits, dev_splits, kept, best.scores,
        found,
    )  # fmt: skip
    calibrated = {name: own["calibrated"] for name, own in found.items() if "calibrated" in own}
    run.log.write(
        "end", step=state.step, **bests, calibrated=calibrated, **run.progress.rates()
    )  # fmt: skip
    if distributed.rank() == 0:
        write_report(run.folder)


def kept_step(best: Best | TaskBest) -> str:
    """Return what a folder of a best step holds."""
    return ("the mean of the weights up to " if best.is_mean else "") + f"step {best.step}"


def predict_best(
    run: Training, args: Args, tasks: list[Task], dev_splits: Splits, device: torch.device,
    precision: torch.dtype,
) -> Findings:  # fmt: skip
    """Write the predictions of best/ for dev and, if there is a file, test; and findings.json.

    Its heads get their temperatures. Returns what is in findings.json.
    """
    distributed.barrier()  # until the first process has written best/
    model = load_for_use(run.folder / "best", device, precision)
    source, is_first = data_source(args), distributed.rank() == 0
    found: Findings = {}
    temperatures: dict[str, float] = {}
    splits = {task.name: {"dev": dev_splits[task.name]} for task in tasks}
    for task in tasks:  # before anything is written: a broken file leaves no half of it
        with distributed.first_before_others():
            test = load_test(task, run.tokenizer, source)
        if test:
            splits[task.name]["test"] = test
    for task in tasks:
        for name, split in splits[task.name].items():
            outputs = predict_task(model, task, split, device, f"{task.title}: {name}").numpy()
            outputs = by_row(split, outputs)
            if is_first:
                write_predictions(run.folder / "predictions", task, name, split, outputs)
            if name == "dev":
                metric = task.metrics[task.main_metric]
                _, low, high = with_interval(metric, task.decode(outputs), gold_of(split))
                calibration = None
                if not why_none(task, model.heads[task.name].config):
                    calibration = calibration_of(task, outputs, split.labels)
                    temperatures[task.name] = calibration.temperature
                dev_files = unchanged_files(run, task, source.data_dir)
                found[task.name] = findings(task, outputs, split, dev_files, calibration)
                if task.main_metric in found[task.name]["metrics"]:
                    found[task.name]["interval"] = (low, high)
    if is_first:
        write_text(run.folder / FINDINGS, json.dumps(found))
        keep_temperatures(run.folder / "best", temperatures)
    if args.save_task_best:
        calibrate_task_bests(run, tasks, dev_splits, temperatures, device, precision)
    return found


def unchanged_files(run: Training, task: Task, data_dir: Path) -> tuple[Path, ...]:
    """Return a task's dev files; none, which is said, if one is not what the run began with."""
    files = tuple(task.paths("dev", data_dir))
    for name, path in training_files([task], data_dir).items():
        if path in files and not (path.is_file() and sha256_of(path) == run.state.data[name]):
            print(f"{path}: changed since the run began; the report shows no texts of it")
            return ()
    return files


def finish_mlm(
    run: Training, *, args: MlmArgs, script: str, files: list[Path], rows: int
) -> None:  # fmt: skip
    """Write card, report and the log's last line of a pre-trained run; print its speed.

    files: what it was trained on; rows: how many texts of them.
    """
    state, command = run.state, Command.of(script, args)
    step, scores = state.step, state.stages[-1][1]  # of last/
    if state.best:
        step, scores = state.best.step, state.best.scores
    kept = "best" if state.best else "last"
    write_mlm_card(run.folder, command, files, rows, kept, step, scores)
    run.log.write("end", step=run.steps, **run.progress.rates())
    if distributed.rank() == 0:
        write_report(run.folder)
    run.progress.print_rates()


def finish_several(
    folder: Path, *, args: Args, script: str, tasks: list[Task], scores: list[Scores]
) -> None:
    """Write card, report and scores.json of several runs into the folder that holds them.

    scores: of each seed.
    """
    write_several_card(folder, Command.of(script, args), tasks, scores)
    if distributed.rank() == 0:
        write_json(folder / SCORES, {"scores": scores, "over_seeds": over_seeds(scores)})
        write_report(folder)
