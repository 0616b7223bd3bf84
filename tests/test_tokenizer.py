"""BertTokenizer against transformers', token for token, on the real data."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, normalizers
from tokenizers.normalizers import BertNormalizer

from minbert import BertModel, BertTokenizer, UserError
from minbert.data.examples import Example, read_examples
from minbert.weights.resolve import resolve
from tasks import TASKS

SENTENCES = [
    "Hello, WORLD!",
    "naïve café\u0301 — 北京 42%",
    "[MASK] it's\tfine\u00a0",
    "a" * 120,
    "…",
]


@pytest.fixture(scope="module")
def uncased() -> "tuple[BertTokenizer, transformers.BertTokenizerFast]":
    directory = resolve("all-MiniLM-L6-v2")
    ours = BertTokenizer.from_directory(directory)
    return ours, transformers.AutoTokenizer.from_pretrained(directory)


@pytest.fixture(scope="module")
def cased(tmp_path_factory: pytest.TempPathFactory) -> tuple[BertTokenizer, object]:
    """A small cased vocabulary: letters, word pieces and a few words."""
    letters = [chr(c) for c in range(33, 127)] + list("éïü…")
    words = ["The", "the", "film", "What", "what", "is", "It", "##ing", "##ed", "How", "##ly"]
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = specials + letters + [f"##{c}" for c in letters] + words
    directory = tmp_path_factory.mktemp("cased")
    (directory / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    reference = transformers.BertTokenizerFast(
        vocab={word: i for i, word in enumerate(vocab)}, do_lower_case=False
    )
    return BertTokenizer.from_directory(directory), reference


def assert_same(
    both: "tuple[BertTokenizer, transformers.BertTokenizerFast]",
    texts: list[str],
    pairs: list[str] | None,
    max_length: int,
) -> None:
    ours, theirs = both
    for start in range(0, len(texts), 8192):  # bounds the memory of the reference's lists
        a, b = texts[start : start + 8192], pairs and pairs[start : start + 8192]
        expected = theirs(a, b, truncation="longest_first", max_length=max_length)
        for i, encoding in enumerate(ours.encode_batch(a, b, max_length)):
            assert encoding.ids == expected["input_ids"][i], a[i]
            assert encoding.type_ids == expected["token_type_ids"][i], a[i]


def read(path: Path, task: str) -> list[Example]:
    return read_examples(path, TASKS[task].columns, "test" not in path.name)[0]


def files() -> list[tuple[str, str]]:
    return [(name, file) for name, task in TASKS.items() for (file,) in task.files.values()]


@pytest.mark.parametrize(("task", "file"), files())
def test_same_as_transformers_on_real_data(
    real_data: Path, tmp_path: Path, uncased, task, file
) -> None:
    every = 20 if task == "quora" else 1  # 182,000 pairs take transformers half a minute
    head, *lines = (real_data / file).read_text(encoding="utf-8").split("\n")
    (tmp_path / file).write_text("\n".join([head, *lines[::every]]), encoding="utf-8")
    examples = read(tmp_path / file, task)
    pairs = [e.pair for e in examples] if examples[0].pair is not None else None
    assert_same(uncased, [e.text for e in examples], pairs, 512)


@pytest.mark.parametrize(("task", "file"), [x for x in files() if "train" not in x[1]])
def test_cased_is_the_same_too(real_data: Path, cased, task, file) -> None:
    examples = read(real_data / file, task)[::5]
    pairs = [e.pair for e in examples] if examples[0].pair is not None else None
    assert_same(cased, [e.text for e in examples], pairs, 512)


@pytest.mark.thorough
@pytest.mark.parametrize("max_length", [5, 8, 9, 16])
def test_pairs_are_cut_longest_first(real_data: Path, uncased, max_length: int) -> None:
    examples = read(real_data / "sts-dev.csv", "sts")
    assert_same(uncased, [e.text for e in examples], [e.pair for e in examples], max_length)


def test_same_from_vocab_txt(real_data: Path, uncased) -> None:
    from_vocab = BertTokenizer.from_vocab(str(resolve("all-MiniLM-L6-v2") / "vocab.txt"))
    texts = [e.text for e in read(real_data / "ids-sst-train.csv", "sst")] + SENTENCES
    assert_same((from_vocab, uncased[1]), texts, None, 512)


def test_odd_text(uncased, cased) -> None:
    for both in (uncased, cased):
        assert_same(both, SENTENCES, None, 512)
        assert_same(both, SENTENCES, SENTENCES[::-1], 20)


@pytest.mark.parametrize("kind", [str, Path])
def test_saved_and_loaded_is_the_same(uncased, tmp_path: Path, kind: type) -> None:
    folder = kind(tmp_path / "a/new/folder")
    uncased[0].save(folder, 512)
    again = BertTokenizer.from_directory(folder)
    for a, b in zip(again.encode_batch(SENTENCES), uncased[0].encode_batch(SENTENCES), strict=True):
        assert np.array_equal(a.ids, b.ids)


@pytest.mark.parametrize("options", [{"lowercase": False}, {"strip_accents": False}, None], ids=str)
def test_transformers_reads_what_was_saved(cased, tmp_path: Path, options) -> None:
    """Beside a BERT's config.json, by which it would take any vocabulary as uncased."""
    tokenizer = Tokenizer.from_str(cased[0].tokenizer.to_str())
    tokenizer.normalizer = BertNormalizer(**options) if options else normalizers.NFC()
    ours = BertTokenizer(tokenizer)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    ours.save(tmp_path, max_length=64)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.model_max_length == 64 and theirs.pad_token_id == ours.pad_id
    assert_same((ours, theirs), ["The film is naïve, What caf\u0301e", *SENTENCES], None, 64)
    theirs.save_pretrained(tmp_path / "back")
    assert_same((BertTokenizer.from_directory(tmp_path / "back"), theirs), SENTENCES, None, 64)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.txt", "just\nwords\n", "not a BERT vocabulary"),
        ("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nred\n", r"vocabulary lacks \[MASK\]"),
        ("tokenizer.json", "{broken", "cannot be read"),
        (
            "tokenizer.json",
            '{"model": {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "[OOV]", '
            '"continuing_subword_prefix": "##", "max_input_chars_per_word": 100}}',
            r"its unk_token '\[OOV\]' is not in its vocabulary",
        ),
        ("other.txt", "", "neither tokenizer.json nor vocab.txt"),
    ],
)
def test_bad_vocabularies(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message) as error:
        BertTokenizer.from_directory(tmp_path)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_a_missing_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone.txt: No such file"):
        BertTokenizer.from_vocab(tmp_path / "gone.txt")


def test_threads_with_lengths_of_their_own(uncased) -> None:
    texts = ["a red kite flies over the hill " * 20] * 8

    def lengths(n: int) -> set[int]:
        every = (uncased[0].encode_batch(texts, max_length=n) for _ in range(60))
        return {len(encoding.ids) for encodings in every for encoding in encodings}

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lengths, (8, 16, 64))) == [{8}, {16}, {64}]
        whole = pool.map(lambda n: {len(uncased[0].encode_plain(texts)[0])} | lengths(n), (8, 9))
        assert list(whole) == [{140, 8}, {140, 9}]
        words = pool.map(words_of, (8, 16, 64), [uncased[0]] * 3)
        assert list(words) == [{8, 200}, {16, 200}, {64, 200}]


def words_of(n: int, tokenizer: BertTokenizer) -> set[int]:
    """Return how many ids of 200 words are read, of at most n, and how many words there are."""
    found = set()
    for _ in range(60):
        (ids, _), *_ = tokenizer.encode_words([["red"] * 200], n)
        found |= {len(ids), len(tokenizer.word_spans("red " * 200))}
    return found


@pytest.mark.parametrize("pairs", [None, SENTENCES[::-1]], ids=["texts", "pairs"])
def test_called_it_returns_what_transformers_returns(uncased, pairs: list[str] | None) -> None:
    ours, theirs = uncased
    expected = theirs(SENTENCES, pairs, padding=True, truncation=True, max_length=40,
                      return_tensors="pt")  # fmt: skip
    found = ours(SENTENCES, pairs, max_length=40)
    assert {*found} == {*expected} == {"input_ids", "attention_mask", "token_type_ids"}
    assert all(torch.equal(found[name], expected[name]) for name in found)
    arrays = ours(np.array(SENTENCES), pairs and np.array(pairs), 40)
    assert all(torch.equal(arrays[name], expected[name]) for name in found)
    one = ours(SENTENCES[0], pairs and pairs[0], 40)
    real = one["input_ids"].shape[1]
    assert torch.equal(one["input_ids"], expected["input_ids"][:1, :real])


def test_the_model_takes_what_it_returns_and_decode_gives_the_text_back(uncased) -> None:
    tokenizer = BertTokenizer.from_pretrained("all-MiniLM-L6-v2")
    out = BertModel.from_pretrained("all-MiniLM-L6-v2")(**tokenizer(["A kite.", "A red kite."]))
    assert out.last_hidden_state.shape == (2, 6, 384)
    (ids,) = tokenizer("A Reddish KITE, is it?", "[MASK] flies")["input_ids"]
    text = "a reddish kite, is it? [MASK] flies"
    assert tokenizer.decode(ids) == tokenizer.decode(ids.tolist()) == text
    theirs = uncased[1]
    for sentence in ("Hello, WORLD!", "na\u00efve caf\u00e9 - 42%", "unbelievably"):
        ids = theirs(sentence)["input_ids"]
        assert tokenizer.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


def test_calls_that_do_not_fit(uncased) -> None:
    tokenizer = uncased[0]
    for texts, pairs in (([], None), (["a", "b"], ["c"]), ("a", [])):
        with pytest.raises(UserError, match="give a text or more"):
            tokenizer(texts, pairs)
    for number in (-1, 30522, 2**40):
        with pytest.raises(UserError, match=f"id {number}: no word"):
            tokenizer.decode([101, number])
    batch = tokenizer(["a kite", "kites"])["input_ids"]
    for ids in (batch, batch.tolist(), [[1], [2, 3]], "a kite", 5, [1.5], None):
        with pytest.raises(UserError, match=r"of one sequence: of a batch write ids\[0\]"):
            tokenizer.decode(ids)
    assert tokenizer.decode([*batch[0]]) == tokenizer.decode(batch[0].numpy()) == "a kite"
    assert tokenizer.decode([]) == ""


@pytest.mark.parametrize("texts", [{"text": ["a"]}, SimpleNamespace(columns=["text"]), None, 3])
def test_what_is_no_list_of_texts(uncased, texts: object) -> None:
    """A dict and a DataFrame would give the names of their columns."""
    for given in ((texts,), (["a"], texts))[: 1 + (texts is not None)]:
        with pytest.raises(UserError, match="give a list of texts, as a column of a table, not a"):
            uncased[0](*given)


@pytest.mark.parametrize("text", [None, float("nan"), b"a", ["a"]])
def test_only_texts_are_texts(uncased, text: object) -> None:
    message = rf"text 2: a {type(text).__name__}, not a text: {re.escape(repr(text))}"
    for given in ((["a", text],), (["a", "b"], ["c", text])):
        with pytest.raises(UserError, match=message):
            uncased[0](*given)


def test_half_a_character_is_read_as_its_replacement(uncased) -> None:
    halves, unknown = (uncased[0](["red", f"a {c} kite"]) for c in ("\ud83d", "\ufffd"))
    assert torch.equal(halves["input_ids"], unknown["input_ids"])


IN_WORKERS = """
import sys
import torch
from minbert import BertTokenizer
from minbert.weights.resolve import resolve

tokenizer = BertTokenizer.from_directory(resolve("all-MiniLM-L6-v2"))
texts = ["a red kite"] * 64

class Texts(torch.utils.data.Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, i):
        return torch.tensor(tokenizer.encode_batch(texts, max_length=5)[i].ids)

tokenizer.encode_batch(texts)
loader = torch.utils.data.DataLoader(Texts(), 4, num_workers=1, multiprocessing_context="fork")
print([tuple(batch.shape) for batch in loader])
"""


def test_a_worker_of_a_data_loader_tokenizes_too() -> None:
    """Forked after the parent has tokenized, with threads: neither a hang nor a warning."""
    done = subprocess.run(
        [sys.executable, "-c", IN_WORKERS], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "[(4, 5), (4, 5)]\n" and done.stderr == ""


def test_a_length_that_nothing_can_be_cut_to_is_refused(uncased) -> None:
    for length in (-1, 0, 3, None, "5", 4.5):
        with pytest.raises(UserError, match=f"max_length {length!r}: write a whole number, 4 or"):
            uncased[0]("red cat", max_length=length)


def test_a_text_without_an_end_costs_no_more_than_what_is_read(uncased) -> None:
    spans = uncased[0].word_spans("red " * 200_000)
    assert len(spans) == 512_000 // 4 and spans[-1] == (511_996, 511_999)
