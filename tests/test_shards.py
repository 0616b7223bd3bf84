"""Weights in several files, which an index lists."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from minbert import BertModel, UserError


def test_shards_are_read(tiny: BertModel, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path / "whole")
    theirs = transformers.BertModel.from_pretrained(tmp_path / "whole")
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 1
    loaded = BertModel.from_pretrained(tmp_path / "shards").state_dict()
    assert all(torch.equal(w, loaded[name]) for name, w in tiny.state_dict().items())
    index = tmp_path / "shards/model.safetensors.index.json"
    for content in ('{"weight_map": {"a": "../../secret"}}', "{}", '{"weight_map": 3}'):
        index.write_text(content)
        with pytest.raises(UserError, match="not a list of weights by file"):
            BertModel.from_pretrained(tmp_path / "shards")


def test_shards_of_torch_save_are_read(tiny: BertModel, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path)
    whole = sorted(load_file(tmp_path / "model.safetensors").items())
    (tmp_path / "model.safetensors").unlink()
    places = {}
    for number, half in enumerate((dict(whole[::2]), dict(whole[1::2])), start=1):
        file = f"pytorch_model-0000{number}-of-00002.bin"
        torch.save(half, tmp_path / file)
        places |= dict.fromkeys(half, file)
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    loaded = BertModel.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(w, loaded[name]) for name, w in tiny.state_dict().items())


def test_an_index_of_shards_that_is_none(tiny: BertModel, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    index = tmp_path / "model.safetensors.index.json"
    found = {
        "[1]": "not a list of weights by file", '"x"': "x: no such file",
        r'"a\u0000"': "no such file", r'"\ud800"': "cannot be read",
    }  # fmt: skip
    for name, message in found.items():
        index.write_text(f'{{"weight_map": {{"pooler.dense.weight": {name}}}}}')
        with pytest.raises(UserError, match=message):
            BertModel.from_pretrained(tmp_path)
