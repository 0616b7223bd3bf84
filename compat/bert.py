"""The courses' module name: `from bert import BertModel`."""

from _project import model_name

from minbert.model.encoder import BertModel as _BertModel


class BertModel(_BertModel):
    """Our encoder; MINBERT_MODEL decides on the weights if it is set."""

    @classmethod
    def from_pretrained(cls, name: str = "bert-base-uncased", **changes: object) -> _BertModel:
        return _BertModel.from_pretrained(model_name(name), **changes)


__all__ = ["BertModel"]
