"""Splits as flat ids: the cache, subsets, packing, memory."""

import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from minbert import BertTokenizer
from minbert.data import encoded
from minbert.data.collate import collate
from minbert.data.encoded import EncodedSplit, chosen_rows, encode_files, limit_rows, take
from minbert.data.examples import read_examples
from minbert.data.id_cache import load_split
from minbert.data.items import count_unseen
from minbert.data.sampler import length_sorted_batches
from minbert.files import HOST
from minbert.task.loading import DataSource, count_trained_on, distinct_sentences, load_task
from minbert.task.taskfile import make_task
from minbert.weights.resolve import resolve
from tasks import TASKS

OWN = {"kind": "classification", "text": "text", "label": "label", "labels": 2, "bad_rows": 0.5}
PAIRS = [("a kite", "one red kite"), ("rain", "sun"), ("it is late now", "it is early")]


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizer:
    return BertTokenizer.from_directory(resolve("all-MiniLM-L6-v2"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = [f"{i}\tid{i}\t{a}\t{b}\t{i}.5" for i, (a, b) in enumerate(PAIRS)]
    path = tmp_path / "sts-train.csv"
    path.write_text("\tid\tsentence1\tsentence2\tsimilarity\n" + "\n".join(rows) + "\n")
    return path


def load(file: Path, tokenizer: BertTokenizer, max_length: int = 512) -> EncodedSplit:
    return load_split(file, TASKS["sts"].columns, True, tokenizer, max_length, file.parent / "ids")


def assert_equal(a: EncodedSplit, b: EncodedSplit) -> None:
    for name, value in vars(a).items():
        assert np.array_equal(value, getattr(b, name)), name


def test_second_load_does_not_tokenize(file: Path, tokenizer, monkeypatch) -> None:
    first = load(file, tokenizer)
    assert not list((file.parent / "ids").glob("*.new"))
    monkeypatch.setattr(encoded, "encode_examples", None)
    assert_equal(first, load(file, tokenizer))


def test_a_cache_follows_its_file_and_length(file: Path, tokenizer) -> None:
    first = load(file, tokenizer)
    assert len(load(file, tokenizer, 6).ids) < len(first.ids)
    file.write_text(file.read_text().replace("rain", "snow"))
    assert not np.array_equal(first.ids, load(file, tokenizer).ids)


def test_rows_that_are_left_out_are_of_the_files_that_are_read(tmp_path: Path, tokenizer) -> None:
    """Also where files of the same content in another folder have been read before."""
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        files = (folder / "may.tsv", folder / "june.tsv")
        for path in files:
            path.write_text("text\tlabel\nred\t1\nold\t\n")
        task = make_task("own", OWN | {"train": [path.name for path in files]})
        read = (task.paths("train", folder), task.columns, True, tokenizer, 32, tmp_path / "ids")
        for _ in range(2):
            assert str(folder / "may.tsv:3") in load_split(*read).left_out


def test_a_cache_that_a_kill_left_half_written_is_removed(file: Path, tokenizer) -> None:
    (file.parent / "ids").mkdir()
    gone = subprocess.Popen(["true"])
    gone.wait()
    half = file.parent / f"ids/x.npz.{HOST}.{gone.pid}.new"
    half.write_text("half")
    load(file, tokenizer)
    assert not half.exists()


def test_rows_taken_and_limited(file: Path, tokenizer) -> None:
    split = load(file, tokenizer)
    two = take(split, np.array([2, 0]))
    assert two.id_strings() == ["id2", "id0"] and two.labels.tolist() == [2.5, 0.5]
    assert two.ids[: two.offsets[1]].tolist() == split.ids[split.offsets[2] :].tolist()
    limited = limit_rows(split, 2)
    assert len(limited) == 2 and limit_rows(split, 3) is split
    assert_equal(limited, limit_rows(split, 2))


def test_collate_packs_shortest_first(file: Path, tokenizer) -> None:
    split = load(file, tokenizer)
    batch = collate(split, np.array([2, 1, 0]))
    assert batch.rows == (1, 0, 2) and list(batch.lengths) == sorted(batch.lengths)
    assert batch.labels.tolist() == [1.5, 0.5, 2.5]
    begin = 0
    for row, length in zip(batch.rows, batch.lengths, strict=True):
        encoding = tokenizer.encode_batch([PAIRS[row][0]], [PAIRS[row][1]])[0]
        here = slice(begin, begin + length)
        assert batch.ids[here].tolist() == encoding.ids
        assert batch.segments[here].tolist() == encoding.type_ids
        assert batch.positions[here].tolist() == list(range(length))
        begin += length
    assert begin == len(batch.ids) == batch.cu_seqlens[-1]
    assert batch.ids.dtype == torch.int64


def test_an_evaluation_holds_a_few_thousand_tokens_at_once() -> None:
    """Its memory does not grow with the split."""
    largest = max(len(rows) for rows in length_sorted_batches(np.full(1000, 512)))
    assert 1000 < largest * 512 < 10_000


def test_length_sorted_batches_hold_every_row_within_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(3, 300, 500)
    batches = length_sorted_batches(lengths, 1000)
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    assert all(len(rows) * lengths[rows].max() <= 1000 for rows in batches)


def peak_memory(make: Callable[[], object]) -> int:
    """Return the most bytes that Python and numpy hold at a time."""
    tracemalloc.start()
    try:
        make()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_row_costs_little_more_than_its_ids_while_a_file_is_read(
    tmp_path: Path, tokenizer, monkeypatch
) -> None:
    """Of each row 40 bytes of ids, offset, label and name stay; lists of rows took 900."""
    monkeypatch.setattr(encoded, "CHUNK", 500)
    text = "\tid\tsentence\tsentiment\n" + "".join(f"{i}\ts{i}\ta kite\t3\n" for i in range(8000))
    peaks = []
    for rows in (4000, 8000):
        path = tmp_path / f"{rows}.csv"
        path.write_text("\n".join(text.split("\n")[: rows + 1]))
        columns = TASKS["sst"].columns
        peaks.append(peak_memory(lambda: encode_files(path, columns, True, tokenizer, 64)))  # noqa: B023
    assert (peaks[1] - peaks[0]) / 4000 < 120


def test_counting_over_all_rows_takes_less_than_a_byte_of_each() -> None:
    """A list of where they end took 40."""
    rows, starts = 50_000, np.ones(50_000, dtype=np.int32)
    ids, labels = np.zeros(rows, dtype=np.int32), np.zeros(rows, dtype=np.float32)
    train = EncodedSplit(np.zeros(rows, dtype="S1"), labels, ids, np.arange(rows + 1), starts)
    dev = take(train, np.arange(3))
    assert count_unseen(train) == 0
    assert count_trained_on(dev, train) == 3
    assert peak_memory(lambda: count_unseen(train)) < rows
    assert peak_memory(lambda: count_trained_on(dev, train)) < rows


def test_how_many_rows_a_file_gave_is_said(tmp_path: Path, tokenizer, capsys) -> None:
    """The last row's line tells whether a quote has swallowed some."""
    text = '\tid\tsentence\tsentiment\n0\ta\tone\t1\n1\tb\ttwo\t\n\n2\tc\t"th\nree"\t2\n3\td\tx\t\n'
    (tmp_path / "ids-sst-train.csv").write_text(text)
    source = DataSource(tmp_path, tmp_path / "ids", 64)
    for _ in range(2):  # from the file, from the cache
        assert len(load_task(TASKS["sst"], "train", tokenizer, source)) == 2
        said = "2 rows, the last on line 7; left out: 2 without a label (lines 3, 7)"
        assert said in capsys.readouterr().out


def test_real_data_is_small_in_memory(real_data: Path, tokenizer) -> None:
    """Four bytes a token and 48 a row: 35 MB for all 205,000 rows of the four tasks."""
    for task in TASKS.values():
        for split_name, (name,) in task.files.items():
            if split_name != "train":  # tokenizing all takes half a minute
                labelled = split_name != "test"
                split = load_split(real_data / name, task.columns, labelled, tokenizer, 512)
                size = sum(v.nbytes for v in vars(split).values() if isinstance(v, np.ndarray))
                assert size <= 4 * len(split.ids) + 48 * len(split)


def test_a_limit_draws_from_all_rows_and_keeps_their_order() -> None:
    found = chosen_rows(1000, 100).tolist()
    assert found == sorted({*found}) and len(found) == 100
    assert found[0] < 100 and found[-1] >= 900 and found != [*range(0, 1000, 10)]
    assert found == chosen_rows(1000, 100).tolist() and chosen_rows(3, 5).tolist() == [0, 1, 2]


def test_a_cache_is_of_one_tokenizer_and_one_reading(file: Path, tokenizer) -> None:
    """Not taken for another vocabulary, pairs read apart, or rows without labels."""
    (file.parent / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nkite\nrain\n")
    other = BertTokenizer.from_vocab(file.parent / "vocab.txt")
    columns = TASKS["sts"].columns
    for words in (tokenizer, other):
        for labelled in (False, True):
            for siamese in (False, True):
                found, expected = (
                    load_split(file, columns, labelled, words, 512, cache, siamese)
                    for cache in (file.parent / "ids", None)
                )
                for name, value in vars(expected).items():
                    np.testing.assert_array_equal(getattr(found, name), value, name)


def test_pre_training_reads_the_rows_that_a_limit_draws(world: Path) -> None:
    task = TASKS["sst"]
    examples, _ = read_examples(task.paths("train", world / "data"), task.columns, labelled=True)
    texts = [examples[row].text for row in chosen_rows(len(examples), 7)]
    found, _ = distinct_sentences([task], world / "data", {"sst": 7})
    assert found == [*dict.fromkeys(texts)]
    assert texts != [example.text for example in examples[:7]]
