"""One shared encoder, one head per task; saved and loaded with its heads."""

import copy
import json
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from minbert.batch import Batch
from minbert.errors import UserError, first_line
from minbert.files import read_json
from minbert.manifest import MANIFEST
from minbert.memory import lack_of_memory
from minbert.model.encoder import BertModel
from minbert.model.heads import Head, HeadConfig, SiameseHead, make_head, pool_tokens, siamese_part
from minbert.modules import check_same_form, without_values
from minbert.tensors import load_tensors, save_tensors
from minbert.weights.convert import convert
from minbert.weights.pretrained import check_weights, write_pretrained
from minbert.weights.resolve import resolve, saved_directory, say_if_best_is_gone

HEADS, CONFIGS = "heads.safetensors", "heads.json"
SECOND = "second.safetensors"  # the encoder of second sentences, if the towers are separate
HEAD_DROPOUT = 0.3  # the course's


class MultitaskNetwork(nn.Module):
    """`model(task, batch)` returns the output of that task's head, (I, outputs).

    I: the S sequences or, in a task that labels words, their words. A siamese task has `embed`
    instead, since its head compares two embeddings.

    separate_towers: the second sentences of siamese pairs have an encoder of their own, which
    starts as a copy of the first (TwinBERT, Lu et al., 2020).
    """

    def __init__(
        self,
        encoder: BertModel,
        heads: dict[str, HeadConfig],
        head_dropout: float = HEAD_DROPOUT,
        separate_towers: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.second_tower = copy.deepcopy(encoder) if separate_towers else None
        deepest = max((layer for c in heads.values() for layer in c.layers), default=0)
        if deepest > len(encoder.bert_layers):
            raise UserError(f"layer {deepest}: the model has {len(encoder.bert_layers)} layers")
        size = encoder.config.hidden_size
        self.heads = nn.ModuleDict(
            {name: make_head(size, config, head_dropout) for name, config in heads.items()}
        )

    def __repr__(self) -> str:
        """Return a line of the encoder and one a head."""
        towers = " and a second tower" if self.second_tower is not None else ""
        heads = "".join(f"\n  {name}: {head}" for name, head in self.heads.items())
        return f"MultitaskNetwork: {self.encoder}{towers}{heads}"

    @property
    def device(self) -> torch.device:
        return self.encoder.device

    def for_inference(self, dtype: torch.dtype) -> None:
        """Switch to evaluation, with the encoders' matrices rounded to dtype for good."""
        for encoder in self.encoders:
            encoder.for_inference(dtype)
        self.eval()

    def why_only_minbert(self, task: str) -> str:
        """Return what in a task's head only minbert computes; "" if nothing."""
        config = self.head_named(task).config
        if config.both:
            return "its pairs are read together and apart, which only minbert does"
        if config.layers:
            return f"its head reads layers {config.layers}, which only minbert does"
        if config.siamese and self.second_tower is not None:
            return "its pairs are read by two encoders, which only minbert does"
        return ""

    @property
    def siamese_tasks(self) -> frozenset[str]:
        """The tasks whose data has to be encoded sentence by sentence."""
        return frozenset(name for name, head in self.heads.items() if head.config.siamese)

    @property
    def encoders(self) -> list[BertModel]:
        return [self.encoder] if self.second_tower is None else [self.encoder, self.second_tower]

    def head_named(self, task: str) -> Head | SiameseHead:
        """Return a task's head. Raises UserError for a name that is none of them."""
        if task not in self.heads:
            raise UserError(f"task {task!r}: this network has {', '.join(self.heads)}")
        return self.heads[task]

    def forward(self, task: str, batch: Batch) -> Tensor:
        head = self.head_named(task)
        if head.config.siamese:
            raise UserError(f"task {task!r}: its head compares embeddings: call embed")
        return head(self.head_input(task, batch))

    def head_input(self, task: str, batch: Batch) -> Tensor:
        """Return what a head reads: pooled sentences (S, D) or words' first pieces (I, D)."""
        config = self.head_named(task).config
        if config.per_word:
            states = self.encoder.token_states(batch, config.layers)
            return states.index_select(0, batch.word_starts).to(self.encoder.dtype)
        return pooled_sentences(self.encoder, batch, config.pooling, config.layers)

    def embed(self, task: str, batch: Batch, side: int = 0) -> Tensor:
        """Return embeddings (S, E) of sentences alone, by a siamese task's pooling and map.

        side: 0 for first sentences of pairs, 1 for second ones; it matters with separate towers.
        """
        head = siamese_part(self.head_named(task))
        if not isinstance(head, SiameseHead):
            raise UserError(f"task {task!r}: its head has no embeddings: call the network itself")
        encoder = self.second_tower if side == 1 and self.second_tower is not None else self.encoder
        return head.embed(pooled_sentences(encoder, batch, head.config.pooling))


def pooled_sentences(
    encoder: BertModel, batch: Batch, pooling: str, layers: tuple[int, ...] = ()
) -> Tensor:
    """Return a vector of each sentence, (S, D); pooling: one of POOLINGS, "cls" is BERT's pooler.

    layers: numbers, from 1, of layers whose mean output is read instead of the top layer's.
    """
    if pooling == "cls":
        return encoder.pooled_output(batch, layers)
    return pool_tokens(encoder.token_states(batch, layers), batch, pooling)


def save_multitask(model: MultitaskNetwork, directory: Path) -> None:
    """Write config.json, model.safetensors (encoder, published names) and the heads' two files.

    A second tower has a file of its own. Raises UserError, and writes nothing, for a model that
    could not be loaded again as it is.
    """
    configs = {name: head.config for name, head in model.heads.items()}
    encoder, second = model.encoder, None
    tensors = encoder.published_state_dict()
    if model.second_tower is not None:
        second = model.second_tower.published_state_dict()
    with without_values():
        expected = MultitaskNetwork(BertModel(encoder.config), configs, 0.0, second is not None)
    check_same_form(beside_encoder(model), beside_encoder(expected))
    write_pretrained(directory, encoder.config, tensors, "BertModel")
    save_tensors(model.heads.state_dict(), directory / HEADS)
    if second is not None:
        save_tensors(second, directory / SECOND)
    saved = {name: asdict(config) for name, config in configs.items()}
    (directory / CONFIGS).write_text(json.dumps(saved, indent=1) + "\n")


def beside_encoder(model: MultitaskNetwork) -> nn.ModuleDict:
    """Return a network's heads and second tower, by the names that they have in it."""
    tower = {} if model.second_tower is None else {"second_tower": model.second_tower}
    return nn.ModuleDict({"heads": model.heads, **tower})


def load_multitask(run: Path, head_dropout: float = HEAD_DROPOUT) -> tuple[MultitaskNetwork, Path]:
    """Return the model of a run (its best/, else last/), in eval mode, and where it was found.

    It is read again if the run replaces it meanwhile: the files read could be of two steps. Raises
    UserError for a directory that is not such a run, or whose files do not fit each other.
    """
    if not saved_directory(run).is_dir():
        raise UserError(f"{run}: no such run; give the folder that train_multitask.py made")
    while True:
        directory = resolve(run)
        before = read_bytes(directory / MANIFEST)
        try:
            model = load_directory(directory, head_dropout)
        except (UserError, OSError):
            if read_bytes(directory / MANIFEST) == before:
                raise
            continue
        if read_bytes(directory / MANIFEST) == before:
            break
    say_if_best_is_gone(run)
    return model, directory


def say_what_is_left_out(directory: Path) -> None:
    """Print what a saved model has beside its encoder, where the encoder alone is read."""
    for file, what in ((HEADS, "heads are"), (SECOND, "second tower is")):
        if (directory / file).is_file():
            print(f"{directory}: its {what} left out")


def read_bytes(path: Path) -> bytes:
    """Return a file's content, none if it is not there."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def load_directory(directory: Path, head_dropout: float) -> MultitaskNetwork:
    """Return the model that `save_multitask` wrote into a directory, in eval mode.

    Raises UserError as `load_multitask`.
    """
    if not (directory / HEADS).is_file():
        raise UserError(f"{directory}: no {HEADS}; give a run directory of train_multitask.py")
    tensors = load_tensors(directory / HEADS)
    check_weights(tensors, directory / HEADS)
    try:
        saved = read_json(directory / CONFIGS)
        where = str(directory / CONFIGS)
        heads = {n: HeadConfig.from_json(head, f"{where}: {n}") for n, head in saved.items()}
        encoder, separate = BertModel.from_pretrained(directory), (directory / SECOND).is_file()
        with without_values():  # of the heads; a second tower is a copy of the encoder
            model = MultitaskNetwork(encoder, heads, head_dropout, separate)
        # assigned, as the encoder's: fp32 on the CPU, whatever a program has set as the default
        model.heads.load_state_dict({n: t.float() for n, t in tensors.items()}, assign=True)
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError, KeyError) as error:
        if lack_of_memory(error):
            raise
        reason = first_line(error)  # a KeyError is of a name that no torch module may have
        raise UserError(f"{directory}: {HEADS} and {CONFIGS} do not fit ({reason})") from error
    if model.second_tower is not None:
        path = directory / SECOND
        expected = model.second_tower.state_dict()
        second = convert(load_tensors(path), expected, str(path))
        check_weights(second, path)
        model.second_tower.load_state_dict(second)
    return model.eval()
