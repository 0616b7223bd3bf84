"""The courses' module name: `from tokenizer import BertTokenizer`."""

from _project import model_name
from torch import Tensor

from minbert.data.tokenizer import BertTokenizer as _BertTokenizer


class BertTokenizer(_BertTokenizer):
    """minbert's tokenizer, called as in the courses.

    `tokenizer(sentences, padding=True, return_tensors="pt")`
    """

    @classmethod
    def from_pretrained(cls, name: str = "bert-base-uncased", **_: object) -> "BertTokenizer":
        """Load a tokenizer; other arguments of the courses' scripts are ignored."""
        return super().from_pretrained(model_name(name))

    def tokenize(self, sentence: str) -> list[str]:
        """Return a sentence's pieces, without [CLS] and [SEP]."""
        return [self.tokenizer.id_to_token(i) for i in self.encode_plain([sentence])[0]]

    def __call__(
        self,
        sentences: str | list[str],
        pairs: str | list[str] | None = None,
        *,
        max_length: int = 512,
        padding: bool = True,
        truncation: bool = True,
        return_tensors: str = "pt",
    ) -> dict[str, Tensor]:
        """Return padded `input_ids`, `token_type_ids` and `attention_mask`, (B, T) each."""
        if not padding or return_tensors != "pt":
            raise ValueError('only padding=True and return_tensors="pt" are supported')
        return super().__call__(sentences, pairs, max_length if truncation else 10**6)


__all__ = ["BertTokenizer"]
