"""A model's config.json: values that no BERT has are refused in one line."""

import json
from pathlib import Path

import pytest

from minbert import BertConfig, BertModel, UserError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is_decoder": True}, "is_decoder is true"),
        ({"hidden_size": "32"}, "hidden_size is '32'; it must be from 1"),
        ({"hidden_size": True}, "hidden_size is True"),
        ({"hidden_size": 33}, "hidden_size 33 is not a multiple of"),
        (
            {"num_hidden_layers": 10**9},
            "num_hidden_layers is 1000000000; it must be from 1 to 1000",
        ),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"vocab_size": -1}, "vocab_size is -1"),
        ({"layer_norm_eps": None}, "layer_norm_eps is None"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps is nan"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps is 0.0; it must be from 1e-20 to 1.0"),
        ({"hidden_dropout_prob": [0.1]}, "hidden_dropout_prob is"),
        ({"max_position_embeddings": 32.5}, "max_position_embeddings is 32.5"),
        ({"position_embedding_type": "relative_key"}, "only position_embedding_type 'absolute'"),
    ],
)
def test_a_config_s_values_are_checked(
    tiny: BertModel, tmp_path: Path, change: dict, message: str
) -> None:
    tiny.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=f"config.json: config: {message}") as error:
        BertModel.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["[]", "3", "null", "[" * 100_000])
def test_a_config_that_is_no_object(tiny: BertModel, tmp_path: Path, content: str) -> None:
    tiny.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(content)
    what = "config: not an object of settings" if len(content) < 5 else "not valid JSON"
    with pytest.raises(UserError, match=f"config.json: {what}"):
        BertModel.from_pretrained(tmp_path)


def test_a_config_of_a_name_as_text(tiny: BertModel, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path)
    assert BertConfig.from_file(str(tmp_path / "config.json")) == tiny.config
    with pytest.raises(UserError, match=r"gone.json: No such file"):
        BertConfig.from_file(tmp_path / "gone.json")


def test_a_configuration_by_its_name_of_2018_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "bert_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"copy its bert_config.json to config.json"):
        BertModel.from_pretrained(tmp_path)
