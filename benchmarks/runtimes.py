"""onnxruntime and OpenVINO as encoders: the programs that people export a model for.

B texts of a batch, T tokens with padding, D hidden.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ours import Text, Turn, encoding_turn, products
from minbert import BertModel, UserError
from minbert.model.multitask import MultitaskNetwork
from minbert.onnx import no_warnings, write_onnx

BATCH_SIZE = 32  # as in sentence-transformers
MAX_LENGTH = 256
CALIBRATION = 300  # texts that the ranges of OpenVINO's int8 are taken from
# (B, T) inputs by name -> hidden states (B, T, D) and pooled outputs (B, D)
Runtime = Callable[[dict[str, np.ndarray]], list[np.ndarray]]


def check_installed() -> None:
    """Raise UserError if one of the programs is not installed: it is told before any measuring."""
    for name in ("onnxruntime", "openvino", "nncf"):
        if importlib.util.find_spec(name) is None:
            raise UserError(f'{name} is not installed: pip install -e ".[bench]"')


def export(model: str, folder: Path) -> None:
    """Write model.onnx and, by onnxruntime's dynamic quantizer, int8.onnx into a folder."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = folder / "model.onnx"
    write_onnx(MultitaskNetwork(BertModel.from_pretrained(model), {}), "", path)
    with no_warnings():  # it recommends a preparation for images
        quantize_dynamic(path, folder / "int8.onnx", weight_type=QuantType.QInt8)


def onnxruntime(settings: dict[str, Any]) -> Runtime:
    """Return an encoder by onnxruntime, optimized as by default. settings: exported, precision."""
    from onnxruntime import InferenceSession

    name = "int8.onnx" if settings["precision"] == "int8" else "model.onnx"
    session = InferenceSession(Path(settings["exported"]) / name)
    return lambda inputs: session.run(None, inputs)


def openvino(settings: dict[str, Any]) -> Runtime:
    """Return an encoder by OpenVINO. settings: exported, precision, model and texts.

    int8: by nncf, for transformers, with ranges from the texts themselves.
    """
    import openvino as ov

    core = ov.Core()
    network = core.read_model(Path(settings["exported"]) / "model.onnx")
    if settings["precision"] == "int8":
        import nncf

        inputs = tokenized(settings["model"])
        samples = nncf.Dataset([inputs([text]) for text in settings["texts"][:CALIBRATION]])
        network = nncf.quantize(network, samples, model_type=nncf.ModelType.TRANSFORMER)
    hint = "bf16" if settings["precision"] == "bf16" else "f32"
    compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": hint})
    request = compiled.create_infer_request()

    def run(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return list(request.infer(inputs).to_tuple())

    return run


RUNTIMES: dict[str, Callable[[dict[str, Any]], Runtime]] = {
    "onnxruntime": onnxruntime, "OpenVINO": openvino,
}  # fmt: skip


def tokenized(model: str) -> Callable[[list[Text]], dict[str, np.ndarray]]:
    """Return a function from texts or pairs to padded inputs, (B, T) each."""
    import transformers  # an extra, whose absence is told when a benchmark begins

    tokenizer = transformers.AutoTokenizer.from_pretrained(model)

    def inputs(texts: list[Text]) -> dict[str, np.ndarray]:
        options = {"padding": True, "truncation": True, "max_length": MAX_LENGTH}
        encoded = tokenizer(texts, return_tensors="np", return_token_type_ids=True, **options)
        return {name: array.astype(np.int64) for name, array in encoded.items()}

    return inputs


def encoding(settings: dict[str, Any]) -> Turn:
    """Set up encoding by a runtime: of texts to means of length 1, of pairs to a score.

    settings: as benchmarks.ours.encoding's, the program, and the folder it was exported to.
    """
    run, inputs = RUNTIMES[settings["program"]](settings), tokenized(settings["model"])
    layers = BertModel.from_pretrained(settings["model"]).bert_layers
    head = np.random.default_rng(0).standard_normal(layers[0].out_dense.out_features)

    def encode_batch(texts: list[Text]) -> np.ndarray:
        padded = inputs(texts)
        hidden, pooled = run(padded)
        if settings["pairs"]:
            return pooled @ head
        real = padded["attention_mask"][:, :, None]
        means = (hidden * real).sum(1) / real.sum(1)
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    def encode(texts: list[Text]) -> np.ndarray:
        order = np.argsort([-len("".join(text)) for text in texts], kind="stable")
        starts = range(0, len(texts), BATCH_SIZE)
        parts = [order[start : start + BATCH_SIZE] for start in starts]
        outputs = np.concatenate([encode_batch([texts[i] for i in part]) for part in parts])
        return outputs[np.argsort(order)]

    return encoding_turn(encode, settings, products(layers))
