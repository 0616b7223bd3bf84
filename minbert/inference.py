"""A trained run, ready for use: texts in, predictions or embeddings out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from minbert.data.encoded import encode_examples
from minbert.data.examples import Example
from minbert.data.tokenizer import BertTokenizer
from minbert.errors import UserError
from minbert.losses import unit
from minbert.model.multitask import MultitaskNetwork
from minbert.model.pooling import KINDS, pool
from minbert.task.evaluation import predict, predict_task
from minbert.task.task import Task
from minbert.task.taskfile import kept_task_file, read_task_file
from minbert.training.device import choose_device, choose_precision
from minbert.weights.multitask import load_multitask
from tasks import TASKS

Text = str | tuple[str, str]  # a sentence, or a pair for the tasks that have two
LONGEST = 512  # tokens


@dataclass(frozen=True)
class MultitaskModel:
    """`MultitaskModel.load("checkpoints/run").predict("sst", ["A fine film."])`"""

    network: MultitaskNetwork
    tokenizer: BertTokenizer
    tasks: dict[str, Task]
    max_length: int

    @classmethod
    def load(
        cls,
        run: str | Path,
        device: str = "auto",
        precision: str = "fp32",
        max_length: int = LONGEST,
    ) -> Self:
        """A run's best/, else its last/. precision: fp32, bf16, or auto for what is fast here.

        max_length: in tokens; what is longer is cut.
        """
        network, directory = load_multitask(Path(run))
        own = read_task_file(kept, None) if (kept := kept_task_file(directory)) else {}
        tasks = {name: {**TASKS, **own}.get(name) for name in network.heads}
        if unknown := [name for name, task in tasks.items() if task is None]:
            raise UserError(f"{directory}: head {unknown[0]!r} is of no known task")
        where = choose_device(device)
        network.to(where)
        for encoder in network.encoders:
            encoder.for_inference(choose_precision(precision, where))
        tokenizer = BertTokenizer.from_directory(directory)
        longest = network.encoder.config.max_position_embeddings
        return cls(
            network, tokenizer, {n: t for n, t in tasks.items() if t}, min(max_length, longest)
        )

    def predict(self, task: str, texts: Sequence[Text]) -> list[str]:
        """What the task says of each text, as its prediction files have it."""
        found = self.task_named(task)
        return [found.shown(p) for p in found.decode(self.outputs(task, texts))]

    def outputs(self, task: str, texts: Sequence[Text]) -> np.ndarray:
        """The head's outputs, (n, outputs), in the order of the texts."""
        found = self.task_named(task)
        examples = _examples(texts, len(found.columns.texts))
        if not examples:
            return np.zeros((0, found.outputs), dtype=np.float32)
        siamese = self.network.heads[task].config.siamese
        split = encode_examples(examples, self.tokenizer, self.max_length, siamese=siamese)
        return predict_task(self.network, found, split, self.network.encoder.device).numpy()

    def encode(
        self, texts: Sequence[str], pooling: str = "mean", normalize: bool = False
    ) -> np.ndarray:
        """The encoder's vector of each text, (n, D) in fp32; normalize: of length 1.

        By default what an export --to sentence-transformers without a task encodes it as.
        """
        if pooling not in KINDS:
            raise UserError(f"pooling {pooling!r}: one of {', '.join(KINDS)}")
        encoder = self.network.encoder
        examples = _examples(texts, 1)
        if not examples:
            return np.zeros((0, encoder.config.hidden_size), dtype=np.float32)
        split = encode_examples(examples, self.tokenizer, self.max_length)

        def forward(batch):
            if pooling == "cls":
                return encoder.encode_first(batch)
            return pool(encoder.hidden_states(batch)[-1], batch, pooling)

        vectors = predict(forward, split, encoder.device)
        return (unit(vectors) if normalize else vectors).numpy()

    def task_named(self, name: str) -> Task:
        """One of the run's tasks. Raises UserError for another."""
        if name not in self.tasks:
            raise UserError(f"task {name!r}: this run has {', '.join(self.tasks)}")
        return self.tasks[name]


def _examples(texts: Sequence[Text], sentences: int) -> list[Example]:
    """Raises UserError for a text that is empty or has another number of sentences."""
    if isinstance(texts, str):
        raise UserError("give a list of texts, not one text")
    examples = []
    for number, text in enumerate(texts, start=1):
        parts = (text,) if isinstance(text, str) else tuple(text)
        if len(parts) != sentences:
            raise UserError(f"text {number}: expected {sentences} sentences, found {len(parts)}")
        if not all(part.strip() for part in parts):
            raise UserError(f"text {number}: empty sentence")
        examples.append(Example(str(number), *parts))
    return examples
