"""Data, beside test_tokenizer, _examples and _encoded: casing, malformed rows, damage."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import transformers

from minbert import BertTokenizer, UserError
from minbert.data.collate import collate
from minbert.data.encoded import EncodedSplit
from minbert.data.examples import read_examples
from minbert.data.id_cache import load_split
from minbert.files import has_its_hash
from minbert.weights.resolve import resolve
from tasks import TASKS
from tests.test_tokenizer import assert_same

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizer:
    return BertTokenizer.from_directory(resolve("all-MiniLM-L6-v2"))


@pytest.mark.parametrize("lowercase", [True, False])
def test_tokenizer_config_decides_on_casing(tmp_path: Path, lowercase: bool) -> None:
    """Over what the words of vocab.txt suggest: both cases are in it."""
    vocab = [*SPECIALS, "Kite", "kite"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocab) + "\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lowercase}))
    ids = {word: i for i, word in enumerate(vocab)}
    theirs = transformers.BertTokenizerFast(vocab=ids, do_lower_case=lowercase)
    ours = BertTokenizer.from_directory(tmp_path)
    assert_same((ours, theirs), ["Kite kite KITE"], None, 512)
    assert ours.encode_batch(["Kite"])[0].ids[1] == ids["kite" if lowercase else "Kite"]
    by_words = BertTokenizer.from_vocab(tmp_path / "vocab.txt")  # without settings
    assert by_words.encode_batch(["Kite"])[0].ids[1] == ids["Kite"]


PAIR_HEAD = "id\tsentence1\tsentence2\t"


@pytest.mark.parametrize(
    ("task", "text", "message"),
    [
        ("sts", PAIR_HEAD + "similarity\n1\ta\tb\t5.1\n", r"f\.csv:2: .*'5\.1'.*from 0 to 5"),
        ("sts", PAIR_HEAD + "similarity\n1\ta\tb\t-0.1\n", r"f\.csv:2: .*from 0 to 5"),
        ("sts", PAIR_HEAD + "similarity\n1\ta\tb\tnan\n", r"f\.csv:2: .*from 0 to 5"),
        ("quora", PAIR_HEAD + "is_duplicate\n1\ta\tb\t0.5\n", r"f\.csv:2: .*from 0 to 1"),
        ("quora", PAIR_HEAD + "is_duplicate\n1\ta\t\t1.0\n", r"f\.csv:2: empty sentence"),
        ("quora", PAIR_HEAD + "is_duplicate\nx\ta\tb\t1\n X\tc\td\t0\n", r"f\.csv:3: id 'x'"),
        ("sst", "id,sentence,sentiment\n1,so, so,3\n", r"f\.csv:2: 4 fields.*comma or a quote"),
        ("sst", 'id\tsentence\tsentiment\n1\t"a\nb"\t3\n2\tc\t9\n', r"f\.csv:4: .*'9'"),
    ],
)
def test_malformed_rows_of_every_task(tmp_path: Path, task: str, text: str, message: str) -> None:
    (tmp_path / "f.csv").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_examples(tmp_path / "f.csv", TASKS[task].columns, True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("mark", ["\u2028", "\x85", "\x0c", "\x1c"])
def test_only_a_line_feed_ends_a_cmu_line(tmp_path: Path, mark: str) -> None:
    """The table form keeps these characters inside a sentence; this one has to as well."""
    path = tmp_path / "f.txt"
    path.write_text(f"3 ||| kites{mark}fly\n1 ||| rain\n", encoding="utf-8")
    examples, _ = read_examples(path, TASKS["sst"].columns, True)
    assert [(e.id, e.text, e.label) for e in examples] == [
        ("1", f"kites{mark}fly", 3.0),
        ("2", "rain", 1.0),
    ]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = [f"{i}\t{'kite ' * (9 - i)}\t{i % 5}" for i in range(8)]
    path = tmp_path / "ids-sst-train.csv"
    path.write_text("id\tsentence\tsentiment\n" + "\n".join(rows) + "\n")
    return path


def load(file: Path, tokenizer: BertTokenizer) -> EncodedSplit:
    return load_split(file, TASKS["sst"].columns, True, tokenizer, 64, file.parent / "ids")


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",  # what a power cut leaves of a file that was not synced
    "middle": lambda content: content.replace(b"descr", b"decsr", 1),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_mended(file: Path, tokenizer: BertTokenizer, damage: str) -> None:
    first = load(file, tokenizer)
    (cache,) = (file.parent / "ids").glob("*.npz")
    whole = cache.read_bytes()
    cache.write_bytes(DAMAGE[damage](whole))
    again = load(file, tokenizer)
    for name, value in vars(first).items():
        assert np.array_equal(value, getattr(again, name)), name
    assert has_its_hash(cache)


def test_single_sentences_are_segment_zero(file: Path, tokenizer: BertTokenizer) -> None:
    split = load(file, tokenizer)
    batch = collate(split, np.array([0, 7, 3]))
    assert batch.rows == (7, 3, 0) and batch.lengths == (4, 8, 11)
    assert not batch.segments.any()
    assert batch.positions.tolist() == [*range(4), *range(8), *range(11)]
    assert batch.labels.tolist() == [2.0, 3.0, 0.0]
