"""A trained run, ready for use: texts in, predictions or embeddings out."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, overload

import numpy as np

from minbert.data.encoded import encode_examples
from minbert.data.examples import Example
from minbert.data.items import by_row, count_unseen
from minbert.data.tables import as_words
from minbert.data.texts import as_list, checked_text
from minbert.data.tokenizer import LONGEST, SHORTEST, BertTokenizer, check_max_length
from minbert.data.vocabulary import read_settings
from minbert.errors import UserError
from minbert.losses import normalized
from minbert.model.encoder import BertModel
from minbert.model.heads import POOLINGS
from minbert.model.multitask import MultitaskNetwork, load_multitask, pooled_sentences
from minbert.modules import evaluating
from minbert.printable import valid_unicode
from minbert.progress import say
from minbert.run_files import ARGS, TASKS_FILE, folders_of_run, read_arguments
from minbert.task.answers import Answer, Entity
from minbert.task.evaluation import compute_outputs, task_outputs
from minbert.task.heads import check_head
from minbert.task.probabilities import class_probabilities, why_no_probabilities
from minbert.task.tagging import spans
from minbert.task.task import Table, Task, Tasks
from minbert.task.taskfile import make_task, tasks_of_run
from minbert.training import distributed
from minbert.training.device import choose_device, choose_precision

# A sentence, or a pair for the tasks that have two; for one that labels words also a list of words.
Text = str | tuple[str, str] | list[str]


@dataclass(frozen=True)
class MultitaskModel:
    """A run's model with its tokenizer and tasks.

    `MultitaskModel.load("checkpoints/run").predict("sst", ["A fine film."])`
    """

    directory: Path  # best/ or last/ of the run, which it was loaded from
    network: MultitaskNetwork
    tokenizer: BertTokenizer
    tasks: Tasks
    max_length: int

    @classmethod
    def load(
        cls,
        run: str | Path,
        device: str = "auto",
        precision: str = "fp32",
        max_length: int | None = None,
    ) -> Self:
        """Load a run's best/, else its last/.

        precision: fp32, bf16, or auto for the faster one on this device. max_length: in tokens;
        longer texts are cut. None: that of the run. Raises UserError for one below 4, and for what
        cannot be loaded.
        """
        if max_length is not None:
            check_max_length(max_length)
        network, directory = load_multitask(Path(run))
        tasks = tasks_of_run(directory, network.heads)
        for name, task in tasks.items():
            check_head(task, network.heads[name].config, directory)
        where = choose_device(device)
        network.to(where)
        network.for_inference(choose_precision(precision, where))
        tokenizer = BertTokenizer.from_directory(directory)
        longest = max_length_of_run(directory, network.encoder)
        max_length = longest if max_length is None else max_length
        positions = network.encoder.config.max_position_embeddings
        return cls(directory, network, tokenizer, tasks, min(max_length, positions))

    def __repr__(self) -> str:
        """Return the run, a line of its encoder and one a task."""
        lines = (f"\n  {name}: {task.table['kind']}" for name, task in self.tasks.items())
        return f"MultitaskModel({self.directory}): {self.network.encoder}{''.join(lines)}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it be pickled, as for another process: a task's functions are made of its table."""
        tasks = {n: (t.table, t.dev_ids, t.dev_entries) for n, t in self.tasks.items()}
        return _made_again, (self.directory, self.network, self.tokenizer, tasks, self.max_length)

    @overload
    def predict(
        self, task: str, texts: Sequence[Text], probabilities: Literal[False] = False
    ) -> list[str]: ...

    @overload
    def predict(
        self, task: str, texts: Sequence[Text], probabilities: Literal[True], raw: bool = False
    ) -> list[dict[str, float]]: ...

    def predict(
        self, task: str, texts: Sequence[Text], probabilities: bool = False, raw: bool = False
    ) -> list[str] | list[dict[str, float]]:
        """Return each text's label: its class's name, its labels with `;` between, or its score.

        Without any label it is `-`. In token classification it is a text's tags, with blanks
        between: one per word of a list, or per word that BERT splits a string into.
        probabilities: return each text's probabilities by class instead; in a multi-label task they
        do not sum to 1. raw: do not use the temperature that was fitted on dev. Raises UserError
        for a task that has no probabilities.
        """
        if raw and not probabilities:
            raise UserError("raw is of probabilities: add probabilities=True")
        if not probabilities:
            spec = self.task_named(task)
            return [spec.display_label(p) for p in spec.decode(self.outputs(task, texts))]
        if why := self.why_no_probabilities(task):
            raise UserError(f"{why}; leave probabilities out")
        return [answer.probabilities for answer in self.answers(task, texts, raw)]

    def answers(self, task: str, texts: Sequence[Text], raw: bool = False) -> list[Answer]:
        """Return each text's label and, if the task has them, its probabilities by class."""
        texts = as_list(texts)
        spec, outputs = self.task_named(task), self.outputs(task, texts)
        predictions = spec.decode(outputs)
        labels = [spec.display_label(p) for p in predictions]
        if self.why_no_probabilities(task):
            parts = zip(labels, texts, predictions, strict=True)
            return [Answer(label, {}, self._entities_in(spec, *row)) for label, *row in parts]
        temperature = 1.0 if raw else self.network.heads[task].config.temperature
        rows = class_probabilities(spec, outputs, temperature).tolist()
        return [
            Answer(label, dict(zip(spec.display_classes, row, strict=True)))
            for label, row in zip(labels, rows, strict=True)
        ]

    def why_no_probabilities(self, task: str) -> str:
        """Return why a task has no probabilities; "" if it has."""
        return why_no_probabilities(self.task_named(task), self.network.heads[task].config)

    def entities(self, task: str, texts: Sequence[str]) -> list[list[Entity]]:
        """Return the entities in each text, by a task that labels words.

        If the tags spell no entities (parts of speech, say), every word counts as one. Raises
        UserError for a task that labels whole texts, and for texts that are lists of words.
        """
        if not self.task_named(task).per_word:
            raise UserError(f"task {task}: it labels texts, not their words")
        found = [answer.entities for answer in self.answers(task, texts)]
        if None in found:
            raise UserError("entities are places in texts: give a list of texts, not of words")
        return found

    def _entities_in(self, task: Task, text: Text, tags: np.ndarray) -> list[Entity] | None:
        """Return what the tags of a text's words spell out; None for a text that is a list."""
        if not (task.per_word and isinstance(text, str)):
            return None
        text = valid_unicode(text)
        words = self.tokenizer.word_spans(text)
        places = [(words[a][0], words[b - 1][1], type_) for a, b, type_ in spans(task, tags)]
        return [Entity(start, end, type_, text[start:end]) for start, end, type_ in places]

    def outputs(self, task: str, texts: Sequence[Text]) -> np.ndarray:
        """Return the head's outputs, (n, outputs), in the order of the texts.

        In token classification n arrays (words, outputs).
        """
        spec = self.task_named(task)
        examples = _examples(texts, 1 + spec.is_pair, self.tokenizer if spec.per_word else None)
        if not examples:
            return np.zeros((0, spec.outputs), dtype=np.float32)
        siamese = task in self.network.siamese_tasks
        split = encode_examples(examples, self.tokenizer, self.max_length, siamese, spec.long)
        with distributed.alone(), evaluating(self.network):
            outputs = task_outputs(self.network, spec, split)
        if cut := count_unseen(split):
            what = f"{cut:,} words cut off or without a piece, not predicted"
            say(f"{task}: {what} (max_length {self.max_length})", sys.stderr)
        return by_row(split, outputs.numpy())

    def encode(
        self, texts: Sequence[str], pooling: str = "mean", normalize: bool = False
    ) -> np.ndarray:
        """Return the encoder's vector of each text, (n, D) in fp32; normalize: scaled to length 1.

        The defaults give the vectors of an export --to sentence-transformers without a task.
        """
        if pooling not in POOLINGS:
            raise UserError(f"pooling {pooling!r}: one of {', '.join(POOLINGS)}")
        encoder = self.network.encoder
        examples = _examples(texts, 1)
        if not examples:
            return np.zeros((0, encoder.config.hidden_size), dtype=np.float32)
        split = encode_examples(examples, self.tokenizer, self.max_length)
        forward = partial(pooled_sentences, encoder, pooling=pooling)
        with distributed.alone(), evaluating(self.network):
            vectors = compute_outputs(forward, split, encoder.device)
        return (normalized(vectors) if normalize else vectors).numpy()

    def task_named(self, name: str) -> Task:
        """Return one of the run's tasks. Raises UserError for a name that is none of them."""
        if not isinstance(name, str) or name not in self.tasks:
            raise UserError(f"task {name!r:.60}: this run has {', '.join(self.tasks)}")
        return self.tasks[name]


def _made_again(
    directory: Path, network: MultitaskNetwork, tokenizer: BertTokenizer,
    tasks: dict[str, tuple[Table, frozenset[str] | None, frozenset[str]]], max_length: int,
) -> MultitaskModel:  # fmt: skip
    """Make a model of what `__reduce__` has kept."""
    network.for_inference(network.encoder.compute_dtype)
    made = {
        name: replace(make_task(name, table), dev_ids=ids, dev_entries=entries)
        for name, (table, ids, entries) in tasks.items()
    }
    return MultitaskModel(directory, network, tokenizer, made, max_length)


def max_length_of_run(directory: Path, encoder: BertModel) -> int:
    """Return the --max-length that the run of a directory was trained with, or what fits."""
    folders = folders_of_run(directory)
    if not folders and (directory.parent / TASKS_FILE).is_file():
        raise UserError(
            f"{directory.parent / ARGS}: gone; put it back: it says how long the run's texts are"
        )
    if folders:
        saved, where = read_arguments(folders[0]).get("max_length", LONGEST), folders[0] / ARGS
    else:  # best/ alone, somewhere else
        where = directory / "tokenizer_config.json"
        saved = read_settings(where).get("model_max_length", LONGEST)
    if type(saved) is not int or saved < SHORTEST:
        raise UserError(f"{where}: the longest text has {saved!r} tokens; write {SHORTEST} or more")
    return min(saved, encoder.config.max_position_embeddings)


def _examples(
    texts: Sequence[Text], sentences: int, splitter: BertTokenizer | None = None
) -> list[Example]:
    """Make Examples of texts of so many sentences. Raises UserError for a text that differs.

    splitter: for a task that labels words, of which a text may be a list or an array, too.
    """
    examples = []
    for number, text in enumerate(as_list(texts), start=1):
        if isinstance(text, np.ndarray) and not text.ndim:
            text = text.item()
        if splitter and isinstance(text, tuple):
            expected = "expected a sentence or a list of words"
            raise UserError(f"text {number}: {expected}, found a tuple, which is a pair")
        if splitter and isinstance(text, list | np.ndarray):
            examples.append(_example_of_words(list(text), number))
            continue
        parts = tuple(text) if isinstance(text, tuple | list | np.ndarray) else (text,)
        if len(parts) != sentences:
            what = "a pair of sentences" if sentences == 2 else "one sentence"
            raise UserError(f"text {number}: expected {what}, found {len(parts)}")
        parts = [checked_text(part, number) for part in parts]
        if not all(part.strip() for part in parts):
            raise UserError(f"text {number}: empty sentence")
        example = Example(str(number), *parts)
        if splitter:
            words = [example.text[start:end] for start, end in splitter.word_spans(example.text)]
            example = replace(example, words=tuple(words))
        examples.append(example)
    return examples


def _example_of_words(words: list[str], number: int) -> Example:
    """Make an Example of a text's words. Raises UserError for what is no list of them."""
    try:
        found = as_words(words)
    except ValueError as error:
        raise UserError(f"text {number}: {error}") from error
    if not found:
        raise UserError(f"text {number}: no words")
    return Example(str(number), " ".join(found), words=tuple(found))
