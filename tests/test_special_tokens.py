"""Which tokens of a text stay whole: as in transformers, whatever tokenizer.json lists."""

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing

from minbert import BertTokenizer, UserError
from minbert.data.vocabulary import ROLES, SPECIAL

WORDS = [*SPECIAL, "good", "film", "[", "]", "mask", "##s", "a", "##a", "@@a", "new", "word"]
TEXTS = [
    "good [MASK] film", "good[CLS] [mask] [SEP]film [UNK] [PAD]", "[new] word <x> films", "a" * 60,
    "a" * 120,
]  # fmt: skip
CLASSES = ["BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"]
NEW = {"content": "<x>", "single_word": False, "lstrip": False, "rstrip": False,
       "normalized": False, "special": True}  # fmt: skip
MASK = NEW | {"content": "[MASK]"}
LOWER = {"content": "[MASK]", "lstrip": False, "rstrip": False, "normalized": True}


def write(folder: Path, config: dict | None, added: list[dict] | None = None, **model: Any) -> None:
    """Write a tokenizer.json as the tokenizers library does that was told of no added token."""
    settings = {"unk_token": "[UNK]", "max_input_chars_per_word": 100} | model
    tokenizer = Tokenizer(WordPiece({word: i for i, word in enumerate(WORDS)}, **settings))
    tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    tokenizer.post_processor = BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    whole = json.loads(tokenizer.to_str()) | {"added_tokens": added or []}
    (folder / "tokenizer.json").write_text(json.dumps(whole))
    (folder / "config.json").write_text('{"model_type": "bert"}')
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))


def both(folder: Path) -> list[list[list[int]]]:
    ours = BertTokenizer.from_directory(folder).encode_batch(TEXTS)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS)["input_ids"]
    return [[encoding.ids for encoding in ours], theirs]


@pytest.mark.parametrize("roles", ["unnamed", "tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("name", [*CLASSES, None])
def test_special_tokens_that_tokenizer_json_does_not_list(
    tmp_path: Path, name: str | None, roles: str
) -> None:
    """BERT's classes know their five, the others those that have a role."""
    write(tmp_path, None if name is None else {"tokenizer_class": name})
    path = tmp_path / roles
    if roles != "unnamed":
        before = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(before | ROLES))
    ours, theirs = both(tmp_path)
    assert ours == theirs
    whole = roles != "unnamed" or name in (None, *CLASSES[:2])
    assert (ours[0] == [2, 5, 4, 6, 3]) == whole


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(
    ("config", "beside", "added"),
    [
        ({"bos_token": "<x>", "eos_token": "word", "mask_token": "[MASK]"}, {}, []),
        ({"image_token": "<x>"}, {}, []),
        ({}, {"mask_token": LOWER}, []),
        ({"extra_special_tokens": {"image": "<x>"}}, {"mask_token": "[MASK]"}, []),
        ({"additional_special_tokens": ["<x>"]}, {"additional_special_tokens": ["[new]"]}, []),
        ({"added_tokens_decoder": {"4": MASK}}, {"additional_special_tokens": ["<x>"]}, []),
        ({"added_tokens_decoder": {"4": MASK}}, {}, [NEW | {"id": len(WORDS)}]),
        ({"added_tokens_decoder": {"4": MASK | {"normalized": True}}}, ROLES, []),
        ({}, {}, [LOWER | {"id": 4, "single_word": False, "special": False}]),
    ],
    ids=str,
)
def test_tokens_of_other_roles_and_files(
    tmp_path: Path, name: str, config: dict, beside: dict, added: list
) -> None:
    write(tmp_path, config | {"tokenizer_class": name}, added)
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(beside))
    ours, theirs = both(tmp_path)
    assert ours == theirs


def test_a_token_of_added_tokens_json_may_be_special(tmp_path: Path) -> None:
    write(tmp_path, {"tokenizer_class": "BertTokenizer", "extra_special_tokens": ["[New]"]})
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[New]": len(WORDS)}))
    ours, theirs = both(tmp_path)
    assert ours == theirs and len(WORDS) not in ours[2]


def test_special_tokens_only_beside_the_vocabulary(tmp_path: Path) -> None:
    """tokenizer.json may have [CLS] among its added tokens alone."""
    added = NEW | {"content": "[CLS]", "id": len(WORDS)}
    write(tmp_path, {"tokenizer_class": "BertTokenizer"}, [added])
    whole = (tmp_path / "tokenizer.json").read_text().replace('"[CLS]": 2', '"other": 2')
    (tmp_path / "tokenizer.json").write_text(whole)
    ours, theirs = both(tmp_path)
    assert ours == theirs and ours[0][0] == len(WORDS)


@pytest.mark.parametrize(
    "model",
    [
        {"max_input_chars_per_word": 50},
        {"continuing_subword_prefix": "@@"},
        {"unk_token": "[PAD]"},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", [*CLASSES, None])
def test_settings_that_bert_s_classes_leave_out(
    tmp_path: Path, name: str | None, model: dict
) -> None:
    write(tmp_path, None if name is None else {"tokenizer_class": name} | ROLES, **model)
    if name not in CLASSES[2:]:
        (key, value), *_ = model.items()
        message = rf"tokenizer.json: model.{key} is {value!r}, BERT's .*to keep it, write PreTr"
        with pytest.raises(UserError, match=message.replace("[", r"\[")):
            BertTokenizer.from_directory(tmp_path)
        return
    ours, theirs = both(tmp_path)
    assert ours == theirs
    tokenizer = BertTokenizer.from_directory(tmp_path)
    tokenizer.save(tmp_path / "saved", 32)  # under a class that keeps the setting
    assert both(tmp_path / "saved") == [ours, theirs]


def test_another_prefix_tells_which_pieces_continue_a_word(tmp_path: Path) -> None:
    write(tmp_path, {"tokenizer_class": CLASSES[2]} | ROLES, continuing_subword_prefix="@@")
    tokenizer = BertTokenizer.from_directory(tmp_path)
    assert [WORDS[i] for i in tokenizer.continuation_pieces().nonzero()[0]] == ["@@a"]
    assert tokenizer.decode(tokenizer("good aaa film")["input_ids"][0]) == "good aaa film"


def test_settings_of_a_tokenizer_json_that_would_change_what_is_read(tmp_path: Path) -> None:
    write(tmp_path, {"tokenizer_class": "BertTokenizer"})
    path = tmp_path / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(4, direction="left")
    tokenizer.save(str(path))
    with pytest.raises(UserError, match=r"json: truncation.direction is 'left'; only 'right' is"):
        BertTokenizer.from_directory(tmp_path)
    write(tmp_path, {"tokenizer_class": "BertTokenizer", "mask_token": MASK | {"lstrip": "no"}})
    with pytest.raises(UserError, match=r"the token '\[MASK\]': ") as error:
        BertTokenizer.from_directory(tmp_path)
    assert "\n" not in str(error.value)
