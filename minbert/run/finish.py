"""After the last step of train_multitask.py: predictions, README.md, report.html, scores.json."""

import json
from pathlib import Path
from typing import Any

from minbert.report.card import write_card, write_several_card
from minbert.report.files import write_report
from minbert.run.closing import predict_best
from minbert.run.loop import step_of
from minbert.run.several import SCORES, BestScores, summary
from minbert.run.train_args import Args
from minbert.training import distributed
from tasks import TASKS


def finish(run: Any, script: str) -> None:
    """After the last step: what there is to say, and to write beside the checkpoints."""
    args, state, encoder = run.args, run.state, run.model.encoder
    if state["step"] < run.steps:
        print(f"stopped at step {step_of(run)}: no better mean in {args.patience} evaluations")
    run.progress.print_rates()
    if state["skipped"]:
        print(f"batches without two pairs to tell apart, skipped: {state['skipped']}")
    intervals = {}
    if not args.skip_predictions:
        how = (run.tokenizer, args, encoder.device, encoder.compute_dtype)
        intervals = predict_best(run.folder, run.tasks, run.dev, *how)
    data = (run.tasks, run.train, run.dev)
    write_card(run.folder, args, script, *data, state["best"], intervals)
    bests = {"best": state["best"], "task_best": state["task_best"]}
    run.log.write("end", step=state["step"], **bests, **run.progress.rates())
    if distributed.rank() == 0:
        write_report(run.folder)


def finish_several(args: Args, folder: Path, script: str, scores: list[BestScores]) -> None:
    """Beside several runs: what they came to."""
    tasks = [TASKS[name] for name in args.tasks]
    write_several_card(folder, args, script, tasks, scores)
    if distributed.rank() == 0:
        found = {"scores": scores, "over_seeds": summary(scores)}
        (folder / SCORES).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        write_report(folder)
