"""Score a checkpoint, use it on your own text, compare with reference outputs.

python evaluate.py --checkpoint RUN --data-dir data
python evaluate.py --checkpoint RUN --text "..." | --pair "..." "..." | --input FILE --task NAME
python evaluate.py --verify FILE | --emit FILE | --score PREDICTIONS --gold FILE
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from minbert.cli import arg, parse_arguments, run_script
from minbert.data.encoded import load_split, take
from minbert.data.pairs import sentences_of
from minbert.data.tokenizer import BertTokenizer
from minbert.errors import UserError
from minbert.inference import MultitaskModel
from minbert.metrics import accuracy, bootstrap_interval, overall
from minbert.model.encoder import BertModel
from minbert.model.heads import Head
from minbert.stream import predict_input
from minbert.task.evaluation import cosine_threshold, predict, predict_task
from minbert.task.predictions import has_test, score_predictions, write_predictions
from minbert.task.task import Task
from minbert.task.taskfile import kept_task_file, read_task_file
from minbert.training import distributed
from minbert.training.device import choose_device, choose_precision
from minbert.weights.multitask import HEADS, load_multitask
from minbert.weights.resolve import resolve
from minbert.weights.verify import emit_reference, verify
from tasks import TASKS

SPEED_ROWS = 1000  # pairs that the speeds of both encodings are measured on


@dataclass(frozen=True)
class Args:
    """One of --checkpoint, --verify, --emit or --score."""

    checkpoint: str = arg("", "run directory: score dev, write dev and test predictions")
    text: str = arg(None, "a sentence of yours for --checkpoint", parse=str)
    pair: tuple[str, str] = arg(None, "two sentences of yours", parse=str, nargs=2)
    input: str = arg("", "file of sentences, of pairs with a tab between, or a table; -: stdin")
    task: str = arg("", "which of the run's tasks (default: all that fit the text)")
    verify: str = arg("", "compare --model with the reference outputs in this file")
    emit: str = arg("", "write such a reference of --model, with its inputs")
    score: str = arg("", "prediction file to score by id against --gold")
    gold: str = arg("", "data file with the labels")
    task_file: str = arg("", "for --score: TOML with the task of your own that GOLD belongs to")
    model: str = arg("bert-base-uncased", "model name, directory or run, for --verify and --emit")
    data_dir: str = arg("data", "directory with the tasks' files")
    output: str = arg(
        "", "where predictions go (default: RUN/predictions; of --input -, the screen)"
    )
    precision: str = arg("fp32", "of the products", choices=["auto", "fp32", "bf16"])
    device: str = arg("cpu", "auto, cpu or cuda")
    max_length: int = arg(512, "longest sequence in tokens; longer ones are cut", low=4, high=512)
    atol: float = arg(1e-5, "absolute tolerance of --verify")
    rtol: float = arg(1e-3, "relative tolerance of --verify")
    json: bool = arg(False, "end with one line of JSON", parse=bool)


def intervals(
    task: Task, outputs: np.ndarray, labels: np.ndarray, threshold: float | None
) -> dict[str, dict[str, float]]:
    """Each metric with its bootstrap 95 % interval, printed a line each.

    threshold: the calibrated one of a siamese task; then the accuracy at 0.5, the paper's, is
    there too.
    """
    rows = {name: (metric, task.decode(outputs)) for name, metric in task.metrics.items()}
    if threshold is not None:
        rows["accuracy_at_0.5"] = (accuracy, outputs[:, 0] + threshold > 0.5)
    result = {}
    for name, (metric, predictions) in rows.items():
        value = metric(predictions, labels)
        low, high = bootstrap_interval(metric, predictions, labels)
        result[name] = {"value": value, "low": low, "high": high}
        print(
            f"{task.title:7} {name:15} {value:.4f}  95 % [{low:.4f}, {high:.4f}]  n {len(labels)}"
        )
    return result


def pairs_per_second(
    encoder: BertModel, task: Task, path: Path, tokenizer: BertTokenizer, max_length: int
) -> dict[str, float]:
    """The encoder's speed on the first rows of a file, cross and siamese, in turn, best of two."""
    rates = {"cross": 0.0, "siamese": 0.0}
    rows = np.arange(SPEED_ROWS)
    for kind in ("cross", "siamese") * 2:
        siamese = kind == "siamese"
        split = load_split(path, task.columns, True, tokenizer, max_length, None, siamese)
        split = take(split, rows[: len(split)])
        started = time.perf_counter()
        sequences = sentences_of(split)[0] if siamese else split
        predict(lambda batch: encoder.encode_first(batch), sequences, encoder.device)
        rates[kind] = max(rates[kind], len(split) / (time.perf_counter() - started))
    print(
        f"{task.title:7} pairs/s         cross {rates['cross']:.0f}, siamese {rates['siamese']:.0f}"
    )
    return rates


def score_checkpoint(args: Args) -> dict[str, object]:
    """Dev metrics with bootstrap 95 % intervals; dev and test predictions in the course's files."""
    run = Path(args.checkpoint)
    model, directory = load_multitask(run)
    device = choose_device(args.device)
    model.to(device).set_precision(choose_precision(args.precision, device))
    tokenizer = BertTokenizer.from_directory(directory)
    max_length = min(args.max_length, model.encoder.config.max_position_embeddings)
    output = Path(args.output) if args.output else run / "predictions"
    result: dict[str, dict[str, dict[str, float]]] = {}
    speed: dict[str, dict[str, float]] = {}
    print(f"{directory}, {args.precision} on {device}")
    if kept := kept_task_file(directory):
        TASKS.update(read_task_file(kept, None))
    unknown = [name for name in model.heads if name not in TASKS]
    if unknown:
        raise UserError(f"{directory}: head {unknown[0]!r} is not of ({', '.join(TASKS)})")
    for task in (TASKS[name] for name in model.heads):
        head = model.heads[task.name]
        for split_name in ("dev", "test"):
            if split_name == "test" and not has_test(task, args.data_dir):
                continue
            path = Path(args.data_dir) / task.files[split_name]
            labelled, siamese = split_name == "dev", head.config.siamese
            split = load_split(path, task.columns, labelled, tokenizer, max_length, None, siamese)
            outputs = predict_task(model, task, split, device).numpy()
            write_predictions(output, task, split_name, split, outputs)
            if labelled:
                result[task.name] = intervals(
                    task, outputs, split.labels, cosine_threshold(task, head)
                )
                if siamese:
                    rates = pairs_per_second(model.encoder, task, path, tokenizer, max_length)
                    speed[task.name] = rates
    main = {name: rows[TASKS[name].main_metric]["value"] for name, rows in result.items()}
    raw, form_2024 = overall(main, {name for name in main if TASKS[name].is_correlation})
    print(f"overall: raw mean {raw:.4f}, 2024 form {form_2024:.4f}; predictions in {output}")
    return {"scores": result, "pairs_per_s": speed, "overall": raw, "overall_2024": form_2024}


def use_checkpoint(args: Args) -> dict[str, object]:
    """What the run says of --text or --pair, or of every line of --input."""
    model = MultitaskModel.load(args.checkpoint, args.device, args.precision, args.max_length)
    if args.input:
        if not args.task:
            raise UserError(f"--input needs --task, one of {', '.join(model.tasks)}")
        return {"lines": predict_input(model, args.task, args.input, args.output)}
    text = args.pair or args.text
    sentences = 2 if args.pair else 1
    fitting = [n for n, t in model.tasks.items() if len(t.columns.texts) == sentences]
    if not (args.task or fitting):
        raise UserError(f"{args.checkpoint} has no task of {sentences} sentences")
    names = [args.task] if args.task else fitting
    found = {name: model.predict(name, [text])[0] for name in names}
    for name, prediction in found.items():
        print(f"{model.tasks[name].title:7} {prediction}")
    return {"predictions": found}


def load_for_verification(args: Args) -> tuple[BertModel, dict[str, Head]]:
    """The encoder of --model, and the heads if it is a run of train_multitask.py."""
    directory = resolve(args.model)
    if not (directory / HEADS).is_file():
        return BertModel.from_pretrained(directory), {}
    model, _ = load_multitask(directory)
    heads = {name: head for name, head in model.heads.items() if not head.config.siamese}
    return model.encoder, heads


def verify_model(args: Args) -> tuple[dict[str, object], int]:
    """Print a line a tensor and PASS or FAIL; the exit code says the same."""
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


def main(argv: list[str]) -> int:
    args = parse_arguments(Args, argv, __doc__.split("\n")[0])
    if distributed.size() > 1:
        raise UserError("evaluate.py works in one process: start it with python, not torchrun")
    jobs = [name for name in ("checkpoint", "verify", "emit", "score") if getattr(args, name)]
    if len(jobs) != 1:
        raise UserError("write one of --checkpoint RUN, --verify FILE, --emit FILE, --score FILE")
    given = [one for one in (args.text, args.pair, args.input or None) if one is not None]
    if len(given) > bool(args.checkpoint):
        raise UserError("write one of --text, --pair and --input, and --checkpoint RUN with it")
    code = 0
    if jobs == ["checkpoint"]:
        report = use_checkpoint(args) if given else score_checkpoint(args)
    elif jobs == ["verify"]:
        report, code = verify_model(args)
    elif jobs == ["emit"]:
        encoder, heads = load_for_verification(args)
        emit_reference(encoder, Path(args.emit), heads)
        report = {"written": args.emit}
        print(f"wrote {args.emit}")
    else:
        if not args.gold:
            raise UserError("--score needs --gold FILE, the data file with the labels")
        own = read_task_file(Path(args.task_file), None) if args.task_file else TASKS
        report = score_predictions(Path(args.score), Path(args.gold), list(own.values()))
        for key, value in report.items():
            print(f"{key},{value}")
        code = 1 if report["missing"] or report["extra"] or report["duplicate"] else 0
    if args.json:
        print(json.dumps(report))
    return code


if __name__ == "__main__":
    torch.backends.cuda.matmul.allow_tf32 = False  # verification is exact fp32
    run_script(main)
