"""BertConfig: the keys of a published config.json, checked."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from minbert.errors import UserError
from minbert.files import parse_json
from minbert.manifest import check_content

# What each number of a config.json may be, both ends included; floats where the ends are floats.
LIMITS = {
    "vocab_size": (1, 10**7),
    "hidden_size": (1, 10**5),
    "num_hidden_layers": (1, 1000),
    "num_attention_heads": (1, 10**4),
    "intermediate_size": (1, 10**6),
    "max_position_embeddings": (1, 10**6),
    "type_vocab_size": (1, 1000),
    "pad_token_id": (0, 10**7),
    "hidden_dropout_prob": (0.0, 0.99),
    "attention_probs_dropout_prob": (0.0, 0.99),
    "initializer_range": (0.0, 10.0),
    "layer_norm_eps": (1e-20, 1.0),  # with 0 a row of padding, which has no variance, is NaN
}


@dataclass(frozen=True)
class BertConfig:
    """Shape and constants of an encoder; the defaults are bert-base-uncased's."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            kind = int if isinstance(low, int) else (int, float)
            # a bool is an int for isinstance; the comparison is false for NaN
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                raise UserError(f"config: {name} is {value!r}; it must be from {low} to {high}")
        if self.hidden_act != "gelu":
            raise UserError(
                f"config: hidden_act is {self.hidden_act!r}; BERT's is 'gelu' (the erf form)"
            )
        if self.hidden_size % self.num_attention_heads:
            raise UserError(
                f"config: hidden_size {self.hidden_size} is not a multiple of "
                f"num_attention_heads {self.num_attention_heads}"
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "BertConfig":
        """Make a configuration of the keys above and ignore all others.

        Raises UserError for a model that is not a BERT of this form.
        """
        if not isinstance(values, dict):
            raise UserError("config: not an object of settings")
        if values.get("model_type", "bert") != "bert":
            raise UserError(
                f"config: model_type is {values['model_type']!r}; only 'bert' is supported"
            )
        if values.get("position_embedding_type", "absolute") != "absolute":
            raise UserError("config: only position_embedding_type 'absolute' is supported")
        if values.get("is_decoder"):
            raise UserError(
                "config: is_decoder is true: such a model looks back only; BERT does not"
            )
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        if known.get("pad_token_id", 0) is None:
            known["pad_token_id"] = 0
        return cls(**known)

    @classmethod
    def from_file(cls, path: str | Path) -> "BertConfig":
        """Read a published config.json. Raises UserError if it is damaged or not a BERT's."""
        path = Path(path)
        try:
            check_content(path)
            values = parse_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: not valid JSON ({error}); fetch the model again") from error
        try:
            return cls.from_dict(values)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Return the keys as transformers expects them in config.json."""
        return {"architectures": ["BertModel"], "model_type": "bert", **asdict(self)}
