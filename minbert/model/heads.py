"""Pooling and task heads. N tokens, S sequences or pairs, D hidden, E embedding size."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minbert.batch import Batch, to_device
from minbert.errors import DAMAGED, UserError
from minbert.model.layers import Dropout, Linear, at_least_fp32
from minbert.typed import from_json

LARGEST_SIZE = 10**5  # of a head's outputs and embeddings
LARGEST = 1e36  # of its other numbers, which fp32 holds
POOLINGS = ("cls", "mean", "max")  # cls is BERT's own pooler output


def pool_tokens(hidden: Tensor, batch: Batch, pooling: str) -> Tensor:
    """Return the mean or max over all tokens of (N, D), [CLS] and [SEP] too, in fp32: (S, D).

    Sentence-BERT, Reimers and Gurevych (2019), section 3.
    """
    if pooling not in POOLINGS[1:]:
        raise ValueError(f"pooling {pooling!r}: one of {', '.join(POOLINGS[1:])}")
    hidden = hidden.to(at_least_fp32(hidden.dtype))
    lengths = torch.tensor(batch.lengths, device="cpu")
    if pooling == "max":
        # not segment_reduce: where equal values tie for the largest, as often in bf16, it gives
        # each of them the whole of a negative gradient
        rows = torch.arange(len(lengths), device="cpu").repeat_interleave(lengths)  # (N,), of S
        rows = to_device(rows, hidden.device)[:, None].expand_as(hidden)
        largest = hidden.new_full((len(lengths), hidden.shape[1]), -torch.inf)
        return largest.scatter_reduce(0, rows, hidden, "amax")
    # unsafe: without the check that the lengths sum up to N, which would wait for the GPU
    lengths = to_device(lengths, hidden.device)
    return torch.segment_reduce(hidden, "mean", lengths=lengths, axis=0, unsafe=True)


@dataclass(frozen=True)
class HeadConfig:
    """What a head is made of; saved beside its weights."""

    outputs: int = 1
    siamese: bool = False  # a bi-encoder: a pair's sentences are encoded alone, then compared
    both: bool = False  # cross-encoder and bi-encoder; a pair's score is the mean of the two
    pooling: str = "cls"  # what the head reads of a sentence, one of POOLINGS
    embedding_size: int = 0  # of a linear map on the pooled sentence; 0: none
    classifier: bool = False  # compare by a linear map of (u, v, |u - v|), not by the cosine
    scale: float = 1.0  # of the cosine: 5 for labels 0..5
    # a score is unit * linear map + shift (the lowest label); classes and oldest runs: 1 and 0
    unit: float = 1.0
    shift: float = 0.0
    class_names: tuple[str, ...] = ()  # if the classes have some
    layers: tuple[int, ...] = ()  # numbers, from 1, of layers whose mean it reads; (): the top one
    problem_type: str = ""  # what the outputs mean, in transformers' word; "": not kept (old runs)
    temperature: float = 1.0  # logits are divided by it in probabilities; see task/calibration.py
    per_word: bool = False  # it reads each word's first piece, not the pooled sentence

    @property
    def is_bert_head(self) -> bool:
        """Whether it is BERT's own head: a linear map of the pooler's output, and nothing more."""
        own_ways = self.siamese or self.both or self.layers or self.per_word
        return self.pooling == "cls" and not own_ways

    @classmethod
    def from_json(cls, saved: Any, where: str) -> "HeadConfig":
        """Read a head's entry in heads.json; the oldest runs have `names` for `class_names`."""
        if isinstance(saved, dict):
            saved = {"class_names" if key == "names" else key: v for key, v in saved.items()}
        config = from_json(cls, saved, where)
        sizes = 1 <= config.outputs <= LARGEST_SIZE and 0 <= config.embedding_size <= LARGEST_SIZE
        numbers = {key: getattr(config, key) for key in ("scale", "unit", "shift", "temperature")}
        in_range = sizes and all(abs(x) < LARGEST for x in numbers.values())  # NaN is not
        positive = config.unit > 0 and config.temperature > 0 and min(config.layers, default=1) > 0
        if config.pooling not in POOLINGS or not (in_range and positive):
            raise UserError(f"{where}: not a head of this program; {DAMAGED}")
        # a whole number of JSON may be more than a tensor can be multiplied by
        return replace(config, **{key: float(x) for key, x in numbers.items()})


def draw_weights(linear: Linear, std: float = 0.02) -> None:
    """Draw a head's weights from N(0, std^2), as BERT's are drawn; biases are 0."""
    nn.init.normal_(linear.weight, std=std)
    nn.init.zeros_(linear.bias)


class Head(Linear):
    """unit (dropout(h) W^T + b) + shift, (S, D) -> (S, outputs); unit is 1 and shift 0 for classes.

    h: pooled sentences or, with per_word, the hidden states of words.
    """

    def __init__(self, hidden_size: int, config: HeadConfig, dropout_prob: float) -> None:
        super().__init__(hidden_size, config.outputs)
        self.config = config
        self.dropout = Dropout(dropout_prob)
        draw_weights(self)

    def __repr__(self) -> str:
        return f"Head({self.config.outputs} outputs)"

    def forward(self, pooled: Tensor) -> Tensor:
        x, config = super().forward(self.dropout(pooled)), self.config
        if (config.unit, config.shift) == (1, 0):
            return x
        # in fp32 at least: bf16 has three digits, of which a large shift would leave none
        return x.to(at_least_fp32(x.dtype)) * config.unit + config.shift

    def folded(self) -> dict[str, Tensor]:
        """Return weight and bias of the linear map alone that gives the same outputs."""
        unit, shift = self.config.unit, self.config.shift
        return {"weight": self.weight.detach() * unit, "bias": self.bias.detach() * unit + shift}


class SiameseHead(nn.Module):
    """Sentence-BERT (Reimers and Gurevych, 2019): embeddings, and a score of two of them."""

    def __init__(self, hidden_size: int, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        size = config.embedding_size or hidden_size
        self.map = Linear(hidden_size, size) if config.embedding_size else None
        self.classifier = Linear(3 * size, 1) if config.classifier else None
        for linear in filter(None, (self.map, self.classifier)):
            draw_weights(linear)
        # subtracted from the score: above 0 means yes; `set_threshold` sets it on training pairs
        self.register_buffer("threshold", torch.zeros(()))

    def __repr__(self) -> str:
        kind = "classifier" if self.config.classifier else "cosine"
        size = self.config.embedding_size
        embeddings = f", embeddings of {size}" if size else ""
        return f"SiameseHead({kind}, {self.config.pooling} pooling{embeddings})"

    def embed(self, pooled: Tensor) -> Tensor:
        """Map pooled sentences to embeddings, (S, D) -> (S, E)."""
        return pooled if self.map is None else self.map(pooled)

    def score(self, u: Tensor, v: Tensor) -> Tensor:
        """Return the pairs' logits, or cosines times scale plus shift, (S, E) twice -> (S, 1)."""
        if self.classifier is not None:
            return self.classifier(torch.cat([u, v, (u - v).abs()], dim=-1))
        cosines = F.cosine_similarity(u, v).unsqueeze(-1)
        return self.config.scale * cosines + self.config.shift

    def compare(self, u: Tensor, v: Tensor) -> Tensor:
        """Return the pairs' scores less the threshold, which training must not depend on."""
        return self.score(u, v) - self.threshold


class TwoWayHead(Head):
    """A cross-encoder's head on the pair, with a bi-encoder's beside it: `apart`.

    The pair's score is the mean of the two, which `task.evaluation.task_outputs` takes.
    """

    def __init__(self, hidden_size: int, config: HeadConfig, dropout_prob: float) -> None:
        super().__init__(hidden_size, config, dropout_prob)
        self.apart = SiameseHead(hidden_size, config)

    def __repr__(self) -> str:
        return f"TwoWayHead({self.config.outputs} outputs, {self.apart})"


def make_head(hidden_size: int, config: HeadConfig, dropout_prob: float) -> Head | SiameseHead:
    """Return a new head of the kind that its configuration says."""
    if config.siamese:
        return SiameseHead(hidden_size, config)
    return (TwoWayHead if config.both else Head)(hidden_size, config, dropout_prob)


def siamese_part(head: Head | SiameseHead) -> Head | SiameseHead:
    """Return the siamese head of a two-way head; any other head is returned as it is."""
    return head.apart if isinstance(head, TwoWayHead) else head
