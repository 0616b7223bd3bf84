"""Score a checkpoint, use it on your own text, compare with reference outputs.

python evaluate.py --checkpoint RUN --data-dir data
python evaluate.py --checkpoint RUN --text "..." | --pair "..." "..." | --input FILE --task NAME
python evaluate.py --verify FILE | --emit FILE | --score PREDICTIONS --gold FILE
"""

if __name__ == "__main__":  # Ctrl-C during the imports, which take seconds, prints one line
    import os
    import signal

    signal.signal(signal.SIGINT, lambda *_: (os.write(2, b"stopped.\n"), os._exit(130)))

import json
import math
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minbert.cli import args_of, flag_of, parse_given, run_script
from minbert.data.tokenizer import LONGEST, SHORTEST
from minbert.errors import UserError
from minbert.inference import MultitaskModel
from minbert.model.encoder import BertModel
from minbert.model.heads import Head
from minbert.model.multitask import HEADS, load_multitask
from minbert.printable import without_controls
from minbert.run.scoring import check_own_data, score_run
from minbert.run_files import check_not_replaced, data_dir_of, predictions_folder
from minbert.stream import predict_input, predict_text
from minbert.task.answers import output_ending
from minbert.task.dev_rows import with_dev_rows
from minbert.task.evaluation import WHY_UNDEFINED
from minbert.task.predictions import score_predictions
from minbert.task.taskfile import read_task_file
from minbert.training.device import PRECISIONS, precision_name
from minbert.training.threads import set_threads
from minbert.weights.resolve import resolve, say_if_best_is_gone
from minbert.weights.verify import check_form, check_reference, emit_reference, verify

job_arg, text_arg, data_arg = args_of("what to do"), args_of("text of yours"), args_of("data")
model_arg, machine_arg, screen_arg = args_of("model"), args_of("machine"), args_of("printing")


@dataclass(frozen=True)
class Args:
    """The arguments; one of --checkpoint, --verify, --emit and --score says what to do."""

    checkpoint: str = job_arg("", "run directory: score dev, write dev and test predictions")
    text: str | None = text_arg(
        None, "a sentence of yours for --checkpoint", parse=str, may_be_empty=True
    )
    pair: tuple[str, str] | None = text_arg(
        None, "two sentences of yours", parse=str, nargs=2, may_be_empty=True
    )
    input: str | None = text_arg(
        None, "file of sentences, of pairs with a tab between, or a table; -: stdin", parse=str
    )
    task: str = text_arg(
        "",
        "one task (default: all, or those that fit the text or GOLD; --input needs it in a run of "
        "several)",
    )
    verify: str = job_arg("", "compare --model with the reference outputs in this file")
    emit: str = job_arg("", "write such a reference of --model, with its inputs")
    score: str = job_arg("", "prediction file to score by id against --gold")
    gold: str = data_arg("", "data file with the labels")
    task_file: str = data_arg(
        "", "for --score: TOML with the task of your own that GOLD belongs to"
    )
    model: str = model_arg(
        "bert-base-uncased", "model name, directory or run, for --verify and --emit"
    )
    data_dir: str = data_arg("", "directory with the tasks' files (default: the run's)")
    output: str = text_arg(
        "",
        "where predictions go (default: RUN/predictions; for --checkpoint RUN/best, "
        "RUN/predictions-best; for texts of yours, the screen)",
    )
    probabilities: bool = text_arg(
        False, "say each class's probability; a .csv, .tsv or .jsonl always has them", parse=bool
    )
    raw: bool = text_arg(False, "probabilities without temperature scaling", parse=bool)
    precision: str = machine_arg("fp32", "of matrix products", choices=PRECISIONS)
    device: str = machine_arg("cpu", "auto, cpu, cuda, or mps, on which no test has run")
    threads: int = machine_arg(
        0, "CPU threads of the products; 0: PyTorch's choice", low=0, high=1024
    )
    max_length: int | None = model_arg(
        None,
        "longest sequence in tokens (default: the run's)",
        parse=int,
        low=SHORTEST,
        high=LONGEST,
    )
    atol: float = model_arg(1e-5, "absolute tolerance of --verify", low=0, high=1e9)
    rtol: float = model_arg(1e-3, "relative tolerance of --verify", low=0, high=1e9)
    json: bool = screen_arg(False, "end with one line of JSON", parse=bool)


def load_model(args: Args) -> MultitaskModel:
    """Load the run of --checkpoint."""
    return MultitaskModel.load(args.checkpoint, args.device, args.precision, args.max_length)


def score_checkpoint(args: Args) -> dict[str, object]:
    """Print the run's scores on --data-dir and write its predictions."""
    if args.output == "-" or output_ending(args.output):
        raise UserError(f"--output {args.output}: a folder for the files of all tasks, not a file")
    model = load_model(args)
    if args.task:
        model = replace(model, tasks={args.task: model.task_named(args.task)})
    encoder = model.network.encoder
    print(f"{model.directory}, {precision_name(encoder.compute_dtype)} on {encoder.device}")
    checkpoint = Path(args.checkpoint)
    output = Path(args.output) if args.output else predictions_folder(checkpoint)
    data_dir = Path(args.data_dir or data_dir_of(checkpoint))
    if not args.data_dir:
        check_own_data(checkpoint, model.tasks, data_dir)
    return score_run(model, data_dir, output)


def use_checkpoint(args: Args) -> dict[str, object]:
    """Print what the run says of --text or --pair, or of every line of --input."""
    if args.raw and not (args.probabilities or output_ending(args.output)):
        raise UserError("--raw changes probabilities: add --probabilities or --output FILE.csv")
    model, wants_probabilities = load_model(args), args.probabilities or args.raw
    if args.input is not None:
        if not args.task and len(model.tasks) > 1:
            raise UserError(f"--input needs --task, one of {', '.join(model.tasks)}")
        task = args.task or next(iter(model.tasks))
        if wants_probabilities and (why := model.why_no_probabilities(task)):
            print(why, file=sys.stderr)
        lines = predict_input(model, task, args.input, args.output, args.probabilities, args.raw)
        return {"lines": lines}
    text = args.pair or args.text
    if args.task:
        model.task_named(args.task)  # raises for one that the run has not
    fitting = [name for name, task in model.tasks.items() if task.is_pair == bool(args.pair)]
    if not fitting or (args.task and args.task not in fitting):
        reads = "single sentences: use --text" if args.pair else "pairs: use --pair"
        raise UserError(f"{args.task or args.checkpoint} reads {reads}")
    names = [args.task] if args.task else fitting
    answers = predict_text(model, names, text, args.output, args.raw)
    report = {"predictions": {n: answer.value(model.tasks[n]) for n, answer in answers.items()}}
    for name, answer in answers.items():
        print(f"{model.tasks[name].title:7} {without_controls(answer.display_text)}")
        if args.probabilities:
            rows = sorted(answer.probabilities.items(), key=lambda row: -row[1])
            print("".join(f"{p:15.4f} {label}\n" for label, p in rows), end="")
        if wants_probabilities and (why := model.why_no_probabilities(name)):
            print(f"{'':7} ({why})")
    if args.probabilities:
        report["probabilities"] = {name: a.probabilities for name, a in answers.items()}
    return report


def load_for_verification(args: Args) -> tuple[BertModel, dict[str, Head]]:
    """Load the encoder of --model, and the heads if it is a run of train_multitask.py."""
    directory = resolve(args.model)
    say_if_best_is_gone(Path(args.model))
    if not (directory / HEADS).is_file():
        return BertModel.from_pretrained(directory), {}
    model, _ = load_multitask(directory)
    heads = {name: head for name, head in model.heads.items() if head.config.is_bert_head}
    if others := [name for name in model.heads if name not in heads]:
        what = "as they are no plain linear map of BERT's pooler"
        print(f"left out, {what}: the heads of {', '.join(others)}")
    if model.second_tower is not None:
        print("left out: the second tower")
    return model.encoder, heads


def verify_model(args: Args) -> tuple[dict[str, object], int]:
    """Print one line per tensor and PASS or FAIL; the exit code says the same."""
    check_reference(Path(args.verify))  # before a model is downloaded
    encoder, heads = load_for_verification(args)
    report = verify(encoder, Path(args.verify), heads, args.atol, args.rtol)
    for name, row in report["tensors"].items():
        print(
            f"{name:20} max {row['max']:.2e}  mean {row['mean']:.2e}  "
            f"outside {row['outside']:.2%}  worst at {row['worst']}"
        )
    if report["first_diverging"]:
        print(f"first diverging layer: {report['first_diverging']}")
    print("PASS" if report["pass"] else "FAIL")
    return report, 0 if report["pass"] else 1


def finite(report: object) -> object:
    """Return a report with None for NaN and infinity, which JSON does not have."""
    if isinstance(report, dict):
        return {name: finite(value) for name, value in report.items()}
    if isinstance(report, list):
        return list(map(finite, report))
    return None if isinstance(report, float) and not math.isfinite(report) else report


def score_file(args: Args) -> tuple[dict[str, object], int]:
    """Print the scores of a prediction file; the exit code is 1 when ids are missing or extra."""
    if not args.gold:
        raise UserError("--score needs --gold FILE, the data file with the labels")
    if args.task_file:
        path = Path(args.task_file)
        tasks = with_dev_rows(read_task_file(path, None), path.parent, all_of_them=False)
    else:
        from tasks import TASKS as tasks  # here alone: all else goes by the run's own tasks.toml
    if args.task and args.task not in tasks:
        raise UserError(f"--task {args.task}: write one of {', '.join(tasks)}")
    chosen = [tasks[args.task]] if args.task else list(tasks.values())
    report = score_predictions(Path(args.score), Path(args.gold), chosen)
    for key, value in report.items():
        print(f"{key},{value}")
        if value != value:
            print(f"{key}: not defined: {WHY_UNDEFINED}", file=sys.stderr)
    return report, 1 if report["missing"] or report["extra"] or report["duplicate"] else 0


def check_flags(given: dict[str, Any], job: str, has_text: bool) -> None:
    """Raise UserError for a given argument that this job would ignore, also if it is the default.

    But not for a switch that is off.
    """
    is_run, is_compared = job == "checkpoint", job in ("verify", "emit")
    used_where = {
        "probabilities": has_text, "raw": has_text, "output": is_run, "task": not is_compared,
        "max_length": is_run, "precision": is_run, "device": is_run,
        "data_dir": is_run and not has_text, "model": is_compared, "atol": job == "verify",
        "rtol": job == "verify", "gold": job == "score", "task_file": job == "score",
        "threads": job != "score",
    }  # fmt: skip
    for name, is_used in used_where.items():
        if given.get(name, False) is not False and not is_used:
            texts = (" with a text" if has_text else " without a text") if is_run else ""
            raise UserError(f"{flag_of(name)} does nothing beside --{job}{texts}: leave it out")


def job_of(args: Args, given: dict[str, Any]) -> tuple[str, bool]:
    """Return which of the four jobs is asked for, and whether it is to read texts.

    given: the arguments that were typed. Raises UserError for none or several, and for other
    arguments that do not go with it.
    """
    jobs = [name for name in ("checkpoint", "verify", "emit", "score") if getattr(args, name)]
    if len(jobs) != 1:
        raise UserError("write one of --checkpoint RUN, --verify FILE, --emit FILE, --score FILE")
    texts = [one for one in (args.text, args.pair, args.input) if one is not None]
    if len(texts) > 1 or (texts and not args.checkpoint):
        raise UserError("write one of --text, --pair and --input; they go with --checkpoint RUN")
    check_flags(given, jobs[0], bool(texts))
    for name in ("output", "emit"):
        if path := getattr(args, name):
            check_not_replaced(Path(path), flag_of(name))
    return jobs[0], bool(texts)


def main(argv: list[str]) -> int:
    given = parse_given(Args, argv, __doc__)
    args = Args(**given)
    if os.environ.get("WORLD_SIZE", "") not in ("", "0", "1"):
        raise UserError("evaluate.py works in one process: start it with python, not torchrun")
    with given.naming_files():
        job, has_text = job_of(args, given)
    set_threads(args.threads)
    code = 0
    if job == "checkpoint":
        report = use_checkpoint(args) if has_text else score_checkpoint(args)
    elif job == "verify":
        report, code = verify_model(args)
    elif job == "emit":
        check_form(Path(args.emit))  # before a model is downloaded
        encoder, heads = load_for_verification(args)
        emit_reference(encoder, Path(args.emit), heads)
        report = {"written": args.emit}
        print(f"wrote {args.emit}")
    else:
        report, code = score_file(args)
    if args.json:
        print(json.dumps(finite(report)))
    return code


if __name__ == "__main__":
    run_script(main)
