"""What stands beside a vocabulary counts: the ids are transformers', or the setting is named."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from minbert import BertConfig, BertModel, BertTokenizer, UserError
from minbert.data.vocabulary import SPECIAL

WORDS = [
    *SPECIAL, "good", "Good", "cafe", "café", "CAFÉ", "##s", "g", "##ood", "中", "国", "中国",
    "fil", "##m", "new", "##word", "c", "##afe", "##afé", "C", "##AFE", ".", "!",
]  # fmt: skip
TEXTS = [
    "Good café films.",
    "CAFÉ 中国 good!",
    "newword cafes",
    "e\u0301 \u200b 中good",
    "<new> good",
]
ABSENT = "absent"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    BertModel(
        BertConfig(
            vocab_size=len(WORDS) + 4, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
            intermediate_size=8, max_position_embeddings=32,
        )
    ).save_pretrained(tmp_path)  # fmt: skip
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return tmp_path


def settle(folder: Path, **settings: Any) -> None:
    there = {key: value for key, value in settings.items() if value != ABSENT}
    (folder / "tokenizer_config.json").write_text(json.dumps(there))


def ids(folder: Path) -> list[list[int]]:
    return [e.ids for e in BertTokenizer.from_directory(folder).encode_batch(TEXTS)]


def theirs(folder: Path) -> list[list[int]]:
    return transformers.AutoTokenizer.from_pretrained(folder)(TEXTS)["input_ids"]


def test_pieces_that_continue_a_word_are_known(folder: Path) -> None:
    """Whole-word masking goes by them."""
    found = BertTokenizer.from_directory(folder).continuation_pieces()
    assert [WORDS[i] for i in found.nonzero()[0]] == [w for w in WORDS if w.startswith("##")]


@pytest.mark.parametrize("file", ["vocab.txt", "tokenizer.json"])
def test_every_combination_of_settings(folder: Path, file: str) -> None:
    """A tokenizer.json of other settings, too: those beside it win."""
    settle(folder, tokenizer_class="BertTokenizer", do_lower_case=False)
    if file == "tokenizer.json":
        transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
        (folder / "vocab.txt").unlink(missing_ok=True)
    seen = set()
    for name, lower, accents, chinese in itertools.product(
        ("BertTokenizer", "BertTokenizerFast"), (ABSENT, True, False),
        (ABSENT, None, True, False), (ABSENT, True, False),
    ):  # fmt: skip
        settings = {"tokenizer_class": name, "do_lower_case": lower}
        settle(folder, **settings, strip_accents=accents, tokenize_chinese_chars=chinese)
        ours = ids(folder)
        assert ours == theirs(folder), (name, lower, accents, chinese)
        seen.add(str(ours))
    assert len(seen) > 5  # the settings make a difference on these texts


@pytest.mark.parametrize("file", ["vocab.txt", "tokenizer.json"])
@pytest.mark.parametrize("known", [False, True])
def test_added_tokens_have_their_ids(folder: Path, file: str, known: bool) -> None:
    """Also one that the vocabulary has: it stays whole."""
    settle(folder, tokenizer_class="BertTokenizer")
    if known:
        (folder / "vocab.txt").write_text("\n".join([*WORDS, "<new>"]) + "\n", encoding="utf-8")
    if file == "tokenizer.json":
        transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    n = len(WORDS)
    added = {"content": "<new>", "lstrip": False, "normalized": False, "rstrip": False,
             "single_word": False, "special": True}  # fmt: skip
    settle(folder, tokenizer_class="BertTokenizer", added_tokens_decoder={str(n): added})
    ours = ids(folder)
    assert ours == theirs(folder) and n in ours[-1]


def test_added_tokens_in_a_file_of_their_own(folder: Path) -> None:
    settle(folder, tokenizer_class="BertTokenizer")
    (folder / "added_tokens.json").write_text(json.dumps({"<new>": len(WORDS)}))
    assert len(WORDS) in ids(folder)[-1]
    (folder / "added_tokens.json").write_text(json.dumps({"<new>": len(WORDS) + 2}))
    with pytest.raises(UserError, match="added token '<new>' has the id 29 in its file"):
        ids(folder)
    (folder / "added_tokens.json").write_text('{"<new>": Infinity}')
    with pytest.raises(UserError, match="its added tokens cannot be read"):
        BertTokenizer.from_directory(folder)


def test_a_plain_class_takes_its_file_as_it_is(folder: Path) -> None:
    settle(folder, tokenizer_class="BertTokenizer", do_lower_case=False)
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    settle(folder, tokenizer_class="PreTrainedTokenizerFast", do_lower_case=True)
    assert ids(folder) == theirs(folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**tokenizer, "post_processor": None}))
    with pytest.raises(UserError, match=r"adds no \[CLS\] and \[SEP\]"):
        ids(folder)
    with pytest.raises(UserError, match=r"adds no \[CLS\] and \[SEP\]"):
        BertTokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")))
    settle(folder, tokenizer_class="BertTokenizer", do_lower_case=False)
    assert ids(folder) == theirs(folder) and ids(folder)[0][0] == WORDS.index("[CLS]")


def test_what_is_saved_is_read_as_before(folder: Path, tmp_path: Path) -> None:
    """Of BERT's own class, and of a tokenizer that the tokenizers library was told to make."""
    ends = [(token, WORDS.index(token)) for token in ("[CLS]", "[SEP]")]
    template = TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A $B [SEP]", ends)
    for part, other in (
        ("normalizer", BertNormalizer(clean_text=False)), ("pre_tokenizer", Whitespace()),
        ("post_processor", template),
    ):  # fmt: skip
        tokenizer = BertTokenizer.from_directory(folder)
        assert tokenizer.has_bert_parts()
        setattr(tokenizer.tokenizer, part, other)
        assert not tokenizer.has_bert_parts()
    whole = BertTokenizer.from_directory(folder).tokenizer
    whole.save(str(folder / "tokenizer.json"))
    for kind in ("BertTokenizer", "PreTrainedTokenizerFast"):
        settle(folder, tokenizer_class=kind, do_lower_case=False)
        before = BertTokenizer.from_directory(folder)
        before.save(tmp_path / kind, 32)
        after = BertTokenizer.from_directory(tmp_path / kind)
        first, second = (t.encode_batch(TEXTS, TEXTS) for t in (before, after))
        assert [(e.ids, e.type_ids) for e in first] == [(e.ids, e.type_ids) for e in second]
        whole.pre_tokenizer, whole.post_processor = Whitespace(), template
        whole.save(str(folder / "tokenizer.json"))
    assert set(itertools.chain(*(e.type_ids for e in first))) == {0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"tokenizer_class": "BertJapaneseTokenizer"},
            "tokenizer_class is 'BertJapaneseTokenizer'",
        ),
        ({"tokenizer_class": "XLMRobertaTokenizer"}, "tokenizer_class is 'XLMRobertaTokenizer'"),
        ({"do_lower_case": "no"}, "do_lower_case is 'no'; it must be true or false"),
        ({"strip_accents": 3}, "strip_accents is 3"),
        ({"tokenize_chinese_chars": None}, "tokenize_chinese_chars is None"),
        ({"added_tokens_decoder": {"x": {}}}, "its added tokens cannot be read"),
        ({"added_tokens_decoder": 3}, "its added tokens cannot be read"),
        ({"cls_token": "<s>"}, "cls_token is '<s>'; only .CLS. is supported"),
        ({"unk_token": {"content": "<unk>"}}, "unk_token is '<unk>'; only .UNK. is supported"),
        ({"truncation_side": "left"}, "truncation_side is 'left'; only 'right' is supported"),
        ({"split_special_tokens": True}, "split_special_tokens is True; only False is supported"),
        ({"additional_special_tokens": 3}, "additional_special_tokens is not a list of tokens"),
    ],
)
def test_what_is_not_bert_s_is_named(folder: Path, settings: dict, message: str) -> None:
    settle(folder, **settings)
    with pytest.raises(UserError, match=message) as error:
        BertTokenizer.from_directory(folder)
    assert "\n" not in str(error.value)


def test_the_usual_values_may_be_written_out(folder: Path) -> None:
    settle(folder, truncation_side="right", split_special_tokens=False)
    assert ids(folder) == theirs(folder)


def test_a_class_that_the_model_s_config_names_counts(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    for name, fits in (("BertJapaneseTokenizer", False), ("BertTokenizer", True)):
        (folder / "config.json").write_text(json.dumps(config | {"tokenizer_class": name}))
        for settings in ({}, {"do_lower_case": True}):
            settle(folder, **settings)
            if fits:
                assert ids(folder)
                continue
            with pytest.raises(UserError, match=r"config.json: tokenizer_class is 'BertJapanese"):
                BertTokenizer.from_directory(folder)


@pytest.mark.parametrize("key", ["additional_special_tokens", "extra_special_tokens"])
@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
def test_more_special_tokens_stay_whole(folder: Path, file: str, key: str) -> None:
    """One that is in the vocabulary, and a new one."""
    settle(folder, tokenizer_class="BertTokenizer")
    (folder / "vocab.txt").write_text("\n".join([*WORDS, "[new]"]) + "\n", encoding="utf-8")
    values = json.loads((folder / file).read_text()) if (folder / file).is_file() else {}
    (folder / file).write_text(json.dumps(values | {key: ["[new]", "[newer]"]}))
    text = "good [new] good[newer]"
    mine = BertTokenizer.from_directory(folder).encode_batch([text])[0].ids
    assert mine == transformers.AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    assert len(mine) == 6


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer_config.json", b"{", "cannot be read"),
        ("tokenizer_config.json", b"[1]", "not an object of settings"),
        ("tokenizer_config.json", b"\xff", "cannot be read"),
        (
            "tokenizer.json",
            b'{"model": {"vocab": {"a": 100000000}}}',
            "a token with the id 100000000",
        ),
        ("vocab.txt", b"caf\xe9\n", r"not UTF-8 \(.*\); fetch the model again"),
    ],
)
def test_damaged_settings_are_named(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}.*: .*{message}") as error:
        BertTokenizer.from_directory(folder)
    assert "\n" not in str(error.value)


def test_another_kind_of_tokenizer_is_named(folder: Path) -> None:
    from tokenizers import models

    Tokenizer(models.BPE({"a": 0}, [])).save(str(folder / "tokenizer.json"))
    with pytest.raises(UserError, match=r"a BPE tokenizer; BERT's is WordPiece"):
        BertTokenizer.from_directory(folder)


def test_blank_and_repeated_lines_leave_gaps(folder: Path) -> None:
    lines = [*SPECIAL, "good", "", "cafe", "good", "."]
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n")
    settle(folder, tokenizer_class="BertTokenizer")
    tokenizer = BertTokenizer.from_directory(folder)
    assert tokenizer.vocab_size == len(lines) == len(tokenizer.continuation_pieces())
    assert [e.ids for e in tokenizer.encode_batch(["good cafe ."])] == [[2, 8, 7, 9, 3]]


def test_a_tokenizer_without_settings_beside_it_stays_as_it_is(folder: Path) -> None:
    settle(folder, tokenizer_class="BertTokenizer", do_lower_case=False)
    cased = BertTokenizer.from_directory(folder)
    cased.tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").unlink()
    assert ids(folder) == [e.ids for e in cased.encode_batch(TEXTS)]
