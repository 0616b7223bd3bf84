"""The courses' module name: `from bert import BertModel`."""

from _project import model_name

from minbert.model.encoder import BertModel as _BertModel


class BertModel(_BertModel):
    """minbert's encoder; MINBERT_MODEL chooses the weights if it is set."""

    @classmethod
    def from_pretrained(cls, name: str = "bert-base-uncased", **changes: object) -> _BertModel:
        """Load the encoder; changes: as in minbert's."""
        return _BertModel.from_pretrained(model_name(name), **changes)


__all__ = ["BertModel"]
