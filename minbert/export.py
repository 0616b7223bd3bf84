"""A run as a directory that other libraries load.

python -m minbert.export checkpoints/run out --to transformers --task sst
"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from minbert.cli import arg, parse_with_positionals, run_script
from minbert.data.encoded import limit_rows
from minbert.data.long_texts import HEAD_ONLY
from minbert.data.pairs import sentences_of
from minbert.data.tokenizer import BertTokenizer
from minbert.errors import UserError
from minbert.exported import agreement, encoder_agreement
from minbert.files import read_json, write_json
from minbert.inference import max_length_of_run
from minbert.model.heads import Head, HeadConfig
from minbert.model.multitask import HEAD_DROPOUT, MultitaskNetwork, load_multitask
from minbert.onnx import quantize, write_onnx
from minbert.run_files import (
    check_not_replaced,
    data_dir_of,
    data_hashes,
    folders_of_run,
    read_arguments,
)
from minbert.task.heads import check_head
from minbert.task.loading import DataSource, changed_dev_files, load_task
from minbert.task.taskfile import tasks_of_run
from minbert.tensors import save_tensors

POSITIONALS = "RUN NEW_DIRECTORY"  # the arguments that are written without a flag
COMPARED_ROWS = 2000  # most rows of dev that a quantized model is compared on
MODULE = "sentence_transformers.models."  # every version of the library finds its modules by it


@dataclass(frozen=True)
class Args:
    """The options, beside POSITIONALS."""

    to: str = arg(
        "transformers",
        "library that is to load it",
        choices=["transformers", "sentence-transformers", "onnx"],
    )
    task: str = arg("", "the head to take along; without one, the encoder alone")
    quantize: str = arg("", "store model.onnx's weights in 8 bits; says how well it agrees on dev",
                        choices=["int8"])  # fmt: skip
    data_dir: str = arg("", "where the dev set of --quantize is (default: the run's --data-dir)")


def export_transformers(model: MultitaskNetwork, task: str, folder: Path, max_length: int) -> None:
    """Write a task as AutoModelForSequenceClassification loads it, without one as AutoModel does.

    A task that labels words is written for AutoModelForTokenClassification, whose encoder has no
    pooler. Raises UserError for a siamese task, and for a head that transformers does not have.
    """
    model.encoder.save_pretrained(folder)
    if not task:
        return
    head = model.heads[task]
    if head.config.siamese:
        raise UserError(f"{task} compares sentences: export it --to sentence-transformers")
    if head.config.pooling != "cls":
        kind = head.config.pooling
        raise UserError(f"{task}: its head reads the {kind} of all tokens: export it --to onnx")
    tensors = {f"bert.{k}": v for k, v in model.encoder.published_state_dict().items()}
    if head.config.per_word:
        tensors = {name: x for name, x in tensors.items() if ".pooler." not in name}
    tensors |= {f"classifier.{k}": v for k, v in head.folded().items()}
    save_tensors(tensors, folder / "model.safetensors")
    add_to_config(folder, classifier_config(head))


def classifier_config(head: Head) -> dict[str, Any]:
    """Return the keys of transformers' config.json that describe a classifier."""
    outputs, per_word = head.config.outputs, head.config.per_word
    # problem_type makes a pipeline apply a softmax, a sigmoid or nothing to the outputs
    problem = "" if per_word else head.config.problem_type
    calibrated = problem.endswith("_classification")
    # the one logit of two classes is that of class 1
    first = 1 if outputs == 1 and problem == "multi_label_classification" else 0
    numbers = range(first, first + outputs)
    names = head.config.class_names[-outputs:] or tuple(f"LABEL_{i}" for i in numbers)
    return {
        "architectures": [f"BertFor{'Token' if per_word else 'Sequence'}Classification"],
        **({"problem_type": problem} if problem else {}),
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
        "classifier_dropout": head.dropout.p,
        # not `temperature`, which in transformers belongs to generating text
        **({"calibration_temperature": head.config.temperature} if calibrated else {}),
    }


def export_sentence_transformers(
    model: MultitaskNetwork, task: str, folder: Path, max_length: int
) -> None:
    """Write the embeddings of a siamese task; without a task the mean over the tokens.

    The library's "cls" pooling is the first token's hidden state. Ours goes through BERT's pooler,
    which becomes a Dense module. Raises UserError for a task that is not siamese.
    """
    config = model.heads[task].config if task else HeadConfig(siamese=True, pooling="mean")
    if not config.siamese:
        what = "labels words" if config.per_word else "is no siamese task"
        raise UserError(
            f"{task} {what}: export it --to transformers, or without --task the encoder"
        )
    model.encoder.save_pretrained(folder)
    size = model.encoder.config.hidden_size
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    kinds = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens"}
    modes = {f"pooling_mode_{mode}": kind == config.pooling for kind, mode in kinds.items()}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": size, **modes})
    if config.pooling == "cls":
        path = f"{len(modules)}_Dense"
        write_dense(folder / path, model.encoder.pooler_dense.state_dict(), "activation.Tanh")
        modules.append((path, "Dense"))
    if config.embedding_size:
        path = f"{len(modules)}_Dense"
        write_dense(folder / path, model.heads[task].map.state_dict(), "linear.Identity")
        modules.append((path, "Dense"))
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": MODULE + kind}
        for i, (path, kind) in enumerate(modules)
    ]
    write_json(folder / "modules.json", listed)
    longest = {"max_seq_length": max_length, "do_lower_case": False}
    write_json(folder / "sentence_bert_config.json", longest)


def write_dense(folder: Path, parameters: dict[str, Tensor], activation: str) -> None:
    """Write a linear map and its activation, a class of torch.nn.modules, as a Dense module."""
    out_features, in_features = parameters["weight"].shape
    config = {"in_features": in_features, "out_features": out_features, "bias": True}
    config["activation_function"] = "torch.nn.modules." + activation
    write_json(folder / "config.json", config)
    save_tensors({f"linear.{k}": v for k, v in parameters.items()}, folder / "model.safetensors")


def export_onnx(model: MultitaskNetwork, task: str, folder: Path, max_length: int) -> None:
    """Write model.onnx with a task's logits or embeddings; without one, the encoder's outputs."""
    write_onnx(model, task, folder / "model.onnx")
    write_json(folder / "config.json", model.encoder.config.to_dict())
    if task and not model.heads[task].config.siamese:
        add_to_config(folder, classifier_config(model.heads[task]))


def add_to_config(folder: Path, values: dict[str, Any]) -> None:
    """Add keys to a directory's config.json."""
    path = folder / "config.json"
    write_json(path, read_json(path) | values)


EXPORTS: dict[str, Callable[[MultitaskNetwork, str, Path, int], None]] = {
    "transformers": export_transformers,
    "sentence-transformers": export_sentence_transformers,
    "onnx": export_onnx,
}


def main(argv: list[str]) -> int:
    positionals, args = parse_with_positionals(Args, argv, __doc__, POSITIONALS)
    if len(positionals) != 2:
        raise UserError(f"write python -m minbert.export {POSITIONALS}, and options")
    if args.quantize and args.to != "onnx":
        raise UserError(f"--quantize {args.quantize} goes with --to onnx")
    if args.data_dir and not args.quantize:
        raise UserError(f"--data-dir {args.data_dir} goes with --quantize")
    if args.data_dir and not Path(args.data_dir).is_dir():
        raise UserError(f"--data-dir {args.data_dir}: no such directory")
    folder = new_folder(positionals[1])
    check_not_replaced(folder, "NEW_DIRECTORY")
    runs = folders_of_run(Path(positionals[0]))
    trained_with = read_arguments(runs[0]) if runs else {}
    dropout = trained_with.get("hidden_dropout_prob", HEAD_DROPOUT)
    model, directory = load_multitask(Path(positionals[0]), dropout)
    check_exportable(model, args.task)
    max_length = max_length_of_run(directory, model.encoder)
    if folders_of_run(directory) and args.task:
        task, head = tasks_of_run(directory, [args.task])[args.task], model.heads[args.task]
        check_head(task, head.config, directory)
        # names for people may have been corrected since the run began
        head.config = replace(head.config, class_names=task.class_names or task.display_names)
        if task.long != HEAD_ONLY:
            print(
                f"long = {task.long!r} is not exported: other libraries read a text's first tokens"
            )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        new = Path(scratch) / folder.name  # whole or not at all: an error leaves nothing
        new.mkdir()
        EXPORTS[args.to](model, args.task, new, max_length)
        if args.quantize:
            quantize(new / "model.onnx")
        BertTokenizer.from_directory(directory).save(new, max_length)
        if folder.exists():
            folder.rmdir()  # it is empty
        os.replace(new, folder)
    what = f"task {args.task}" if args.task else "the encoder without a head (--task takes one)"
    print(f"wrote {folder} for {args.to}, {what}")
    if args.quantize:
        print(describe_quantized(model, args, directory, folder / "model.onnx"))
    return 0


def check_exportable(model: MultitaskNetwork, task: str) -> None:
    """Raise UserError for a task, or with "" for an encoder, that an export cannot have."""
    if task and task not in model.heads:
        raise UserError(f"--task {task}: this run has {', '.join(model.heads)}")
    if task and (why := model.why_only_minbert(task)):
        mend = "; without --task the encoder is exported" if model.second_tower is None else ""
        raise UserError(f"--task {task}: {why}{mend}")
    if not task and model.second_tower is not None:
        raise UserError("a run with separate towers has two encoders, and an export can have one")


def new_folder(name: str) -> Path:
    """Return the path of a directory to make. Raises UserError for one that cannot be replaced."""
    folder = Path(name)
    if folder.is_symlink():
        folder = folder.resolve()  # the link stays
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: not empty; name a new directory")
    if folder.resolve() == Path.cwd():
        raise UserError(f"{folder}: the directory that you are in; name a new one, as {folder}/new")
    if folder.is_mount():
        raise UserError(f"{folder}: a mount point; name a new directory in it, as {folder}/new")
    return folder


def describe_quantized(model: MultitaskNetwork, args: Args, directory: Path, path: Path) -> str:
    """Return a quantized model's size, and how near it comes to the run's on rows of dev.

    directory: best/ or last/ of the run. The encoder alone is compared on the first
    task that does not label words.
    """
    size = f"{args.quantize}: {path.stat().st_size / 2**20:.0f} MiB"
    if not folders_of_run(directory):
        return f"{size}; {directory} is outside of its run, whose dev set tells how well it agrees"
    tasks = tasks_of_run(directory, model.heads)
    of_texts = [task for task in tasks.values() if not task.per_word]
    task = tasks[args.task] if args.task else next(iter(of_texts), None)
    if task is None:
        return f"{size}; --task tells how well it agrees"
    data_dir = Path(args.data_dir or data_dir_of(directory))
    if missing := [file for file in task.paths("dev", data_dir) if not file.is_file()]:
        return f"{size}; {missing[0]}: not there, so --data-dir DIR tells how well it agrees"
    begun_with = data_hashes(folders_of_run(directory)[0])
    # reading a dev share tells whether its rows are still there
    is_own = args.data_dir or task.dev_share
    if not is_own and (other := changed_dev_files(task, data_dir, begun_with)):
        what = "not what the run was evaluated on"
        return f"{size}; {other[0]}: {what}, so --data-dir DIR tells how well it agrees"
    task = replace(task, long=HEAD_ONLY)  # as what is exported reads it
    max_length = max_length_of_run(directory, model.encoder)
    source = DataSource(data_dir, None, max_length, model.siamese_tasks)
    try:
        split = load_task(task, "dev", BertTokenizer.from_directory(directory), source)
    except UserError as error:  # as of a dev share whose rows have changed
        return f"{size}; {error}"
    if not args.task and task.name in model.siamese_tasks:
        split, _ = sentences_of(split)  # the encoder reads each by itself
    split = limit_rows(split, COMPARED_ROWS)
    if args.task:
        return f"{size}; {agreement(model, task, split, path)}"
    return f"{size}; {encoder_agreement(model, split, path)}"


if __name__ == "__main__":
    run_script(main)
