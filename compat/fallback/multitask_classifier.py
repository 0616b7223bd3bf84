"""The courses' module name: `from multitask_classifier import MultitaskBERT`."""

import torch
from _project import model_name
from bert import BertModel
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from minbert.errors import UserError
from minbert.model.encoder import BertModel as _BertModel
from minbert.model.heads import Head, HeadConfig
from minbert.model.multitask import HEADS, MultitaskNetwork, load_multitask
from minbert.weights.resolve import resolve

HEADS_OF = {"sst": HeadConfig(5), "quora": HeadConfig(1), "sts": HeadConfig(1)}


class MultitaskBERT(nn.Module):
    """One encoder with the heads of three tasks; trained ones if MINBERT_MODEL is a run's folder.

    config: the course's namespace, of which hidden_dropout_prob is the dropout of the heads, and
    option "pretrain" or fine_tune_mode "last-linear-layer" leaves the encoder as it is.
    """

    def __init__(self, config: object = None) -> None:
        super().__init__()
        name_or_path = model_name("bert-base-uncased")
        directory = resolve(name_or_path)
        dropout = getattr(config, "hidden_dropout_prob", 0.3)
        if (directory / HEADS).is_file():
            model, _ = load_multitask(directory, dropout)
            for name in HEADS_OF.keys() & model.heads.keys():
                found, wanted = model.heads[name].config.outputs, HEADS_OF[name].outputs
                if found != wanted:
                    raise UserError(
                        f"{directory}: {name} has {found} outputs, the course's {wanted}: name a "
                        f"run of the course's tasks"
                    )
                if not model.heads[name].config.is_bert_head:
                    raise UserError(
                        f"{directory}: the head of {name} reads other than BERT's pooler, or pairs "
                        f"apart: train it with --pooling cls and --pair-encoding cross"
                    )
        else:
            model = MultitaskNetwork(_BertModel.from_pretrained(directory), HEADS_OF, dropout)
        self.bert, self.heads = BertModel.of(model.encoder, name_or_path), model.heads
        mode = (getattr(config, "option", ""), getattr(config, "fine_tune_mode", ""))
        self.bert.requires_grad_(mode[0] != "pretrain" and mode[1] != "last-linear-layer")

    def forward(self, ids: Tensor, mask: Tensor, segments: Tensor | None = None) -> Tensor:
        """Return the pooled output (B, D) of padded inputs (B, T)."""
        return self.bert(ids, mask, segments)["pooler_output"]

    def predict_sentiment(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return SST's logits, (B, 5)."""
        return self._head("sst")(self(ids, mask))

    def predict_paraphrase(
        self, ids1: Tensor, mask1: Tensor, ids2: Tensor, mask2: Tensor
    ) -> Tensor:
        """Return Quora's logits, (B, 1), before the sigmoid."""
        return self._head("quora")(self(*join_pairs(ids1, mask1, ids2, mask2)))

    def predict_similarity(
        self, ids1: Tensor, mask1: Tensor, ids2: Tensor, mask2: Tensor
    ) -> Tensor:
        """Return STS's scores, (B, 1), on the scale of the labels, 0 to 5."""
        return self._head("sts")(self(*join_pairs(ids1, mask1, ids2, mask2)))

    def _head(self, task: str) -> Head:
        """Return a task's head. Raises UserError if the run was trained without it."""
        if task not in self.heads:
            known = ", ".join(self.heads)
            raise UserError(f"MINBERT_MODEL: a run of {known}, without {task}; name one with it")
        return self.heads[task]


def join_pairs(
    ids1: Tensor, mask1: Tensor, ids2: Tensor, mask2: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Join `[CLS] a [SEP]` and `[CLS] b [SEP]` to `[CLS] a [SEP] b [SEP]`.

    Returns ids, mask and segments, (B, T) each.
    """
    left = [ids[mask.bool()] for ids, mask in zip(ids1, mask1, strict=True)]
    right = [ids[mask.bool()][1:] for ids, mask in zip(ids2, mask2, strict=True)]
    pairs = list(zip(left, right, strict=True))
    segments = [torch.cat([torch.zeros_like(a), torch.ones_like(b)]) for a, b in pairs]
    return (
        pad_sequence([torch.cat(pair) for pair in pairs], batch_first=True),
        pad_sequence([torch.ones_like(s) for s in segments], batch_first=True),
        pad_sequence(segments, batch_first=True),
    )


__all__ = ["MultitaskBERT"]
