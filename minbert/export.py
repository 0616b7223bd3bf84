"""A run as a directory that other libraries load.

python -m minbert.export checkpoints/run out --to transformers --task sst
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from minbert.cli import arg, parse_given, run_script
from minbert.data.tokenizer import BertTokenizer
from minbert.errors import UserError
from minbert.files import save_tensors
from minbert.model.heads import Head, HeadConfig
from minbert.model.multitask import MultitaskNetwork, load_multitask
from minbert.onnx import write_onnx
from minbert.weights.convert import to_published

MODULE = "sentence_transformers.models."  # under these names every version of it finds its modules
ACTIVATION = {"tanh": "activation.Tanh", "none": "linear.Identity"}


@dataclass(frozen=True)
class Args:
    """Beside the run and the new directory."""

    to: str = arg(
        "transformers",
        "which library is to load it",
        choices=["transformers", "sentence-transformers", "onnx"],
    )
    task: str = arg("", "the head to take along; without one, the encoder alone")


def export_transformers(model: MultitaskNetwork, task: str, folder: Path) -> None:
    """AutoModelForSequenceClassification with the task's logits; without a task AutoModel."""
    model.encoder.save_pretrained(folder)
    if not task:
        return
    head = model.heads[task]
    if head.config.siamese:
        raise UserError(f"{task} compares sentences: export it --to sentence-transformers")
    tensors = {f"bert.{to_published(k)}": v for k, v in model.encoder.state_dict().items()}
    tensors |= {f"classifier.{k}": v for k, v in head.state_dict().items()}
    save_tensors(tensors, folder / "model.safetensors")
    _add(folder / "config.json", **classifier_config(head))


def classifier_config(head: Head) -> dict[str, Any]:
    """What transformers' config.json says of a classifier."""
    outputs = head.config.outputs  # one logit of two classes is the second one's
    names = head.config.class_names[-outputs:] or tuple(f"LABEL_{i}" for i in range(outputs))
    # by it a pipeline chooses between softmax, sigmoid and the outputs as they are
    problem = head.config.problem_type
    return {
        "architectures": ["BertForSequenceClassification"],
        **({"problem_type": problem} if problem else {}),
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
        "classifier_dropout": head.dropout_prob,
    }


def export_sentence_transformers(model: MultitaskNetwork, task: str, folder: Path) -> None:
    """The embeddings of a siamese task; without a task the mean over the tokens.

    Its "cls" is the first token's hidden state, ours goes through BERT's pooler: a Dense module.
    """
    config = model.heads[task].config if task else HeadConfig(siamese=True, pooling="mean")
    if not config.siamese:
        raise UserError(f"{task} reads pairs together: export it --to transformers")
    model.encoder.save_pretrained(folder)
    size = model.encoder.config.hidden_size
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    kinds = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens"}
    modes = {f"pooling_mode_{mode}": kind == config.pooling for kind, mode in kinds.items()}
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": size, **modes})
    if config.pooling == "cls":
        path = f"{len(modules)}_Dense"
        _dense(folder / path, model.encoder.pooler_dense.state_dict(), "tanh")
        modules.append((path, "Dense"))
    if config.embedding_size:
        path = f"{len(modules)}_Dense"
        _dense(folder / path, model.heads[task].map.state_dict(), "none")
        modules.append((path, "Dense"))
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": MODULE + kind}
        for i, (path, kind) in enumerate(modules)
    ]
    _write(folder / "modules.json", listed)
    longest = min(512, model.encoder.config.max_position_embeddings)
    _write(
        folder / "sentence_bert_config.json", {"max_seq_length": longest, "do_lower_case": False}
    )


def _dense(folder: Path, parameters: dict[str, Tensor], activation: str) -> None:
    out_features, in_features = parameters["weight"].shape
    config = {"in_features": in_features, "out_features": out_features, "bias": True}
    config["activation_function"] = "torch.nn.modules." + ACTIVATION[activation]
    _write(folder / "config.json", config)
    save_tensors({f"linear.{k}": v for k, v in parameters.items()}, folder / "model.safetensors")


def export_onnx(model: MultitaskNetwork, task: str, folder: Path) -> None:
    """model.onnx with the task's logits or embeddings; without a task, the encoder's outputs."""
    write_onnx(model, task, folder / "model.onnx")
    _write(folder / "config.json", model.encoder.config.to_dict())
    if task and not model.heads[task].config.siamese:
        _add(folder / "config.json", **classifier_config(model.heads[task]))


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _add(path: Path, **values: Any) -> None:
    _write(path, json.loads(path.read_text(encoding="utf-8")) | values)


EXPORTS: dict[str, Callable[[MultitaskNetwork, str, Path], None]] = {
    "transformers": export_transformers,
    "sentence-transformers": export_sentence_transformers,
    "onnx": export_onnx,
}


def main(argv: list[str]) -> int:
    places, options, words = [], [], iter(argv)
    for word in words:
        if not word.startswith("-"):
            places.append(word)
        else:  # every option has a value
            options += [word] if "=" in word else [word, *islice(words, 1)]
    args = Args(**parse_given(Args, options, __doc__.split("\n")[0]))
    if len(places) != 2:
        raise UserError("write python -m minbert.export RUN NEW_DIRECTORY, and options")
    folder = Path(places[1])
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: not empty; name a new directory")
    model, directory = load_multitask(Path(places[0]))
    if args.task and args.task not in model.heads:
        raise UserError(f"--task {args.task}: this run has {', '.join(model.heads)}")
    cross = args.task and not model.heads[args.task].config.siamese
    if model.second_tower is not None and not cross:
        raise UserError("a run with separate towers is two encoders, which one directory has not")
    EXPORTS[args.to](model, args.task, folder)
    longest = model.encoder.config.max_position_embeddings
    BertTokenizer.from_directory(directory).save(folder, longest)
    print(f"wrote {folder} for {args.to}" + (f", task {args.task}" if args.task else ""))
    return 0


if __name__ == "__main__":
    run_script(main)
