"""Corpora as ids in files: parts that are kept, damage that is seen, memory that stays flat."""

import errno
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import pytest

import pretrain_mlm
from minbert import BertTokenizer, UserError
from minbert.data import corpus, sampler
from minbert.data.collate import collate
from minbert.data.corpus import load_corpus, load_sentences
from minbert.data.encoded import EncodedSplit
from minbert.data.sampler import random_order, rows_without
from minbert.locks import locked
from minbert.manifest import sha256_of
from tests.conftest import arguments

LINES = [f"red cat {'old dog ' * (i % 5)}" for i in range(60)]


def hashed(path: Path) -> dict[Path, str]:
    return {path: sha256_of(path)}


@pytest.fixture
def tokenizer(world: Path) -> BertTokenizer:
    return BertTokenizer.from_directory(world / "model")


@pytest.fixture
def load(world: Path, tokenizer: BertTokenizer) -> Callable[[], EncodedSplit]:
    """Load a file of lines that makes several parts."""
    file = world / "text.txt"
    file.write_text("\n".join(LINES) + "\n")
    return lambda: load_corpus(hashed(file), tokenizer, 16, world / "ids")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "CHUNK", 60)  # characters
    monkeypatch.setattr(corpus, "PART", 50)  # tokens


def in_memory(split: EncodedSplit) -> tuple[list[int], list[int]]:
    return split.ids.tolist(), split.offsets.tolist()


def files_of(world: Path) -> dict[str, Path]:
    return {path.suffix: path for path in (world / "ids").iterdir()}


def test_long_lines_are_cut_and_empty_ones_are_no_rows(
    world: Path, tokenizer: BertTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = world / "text.txt"
    file.write_text("red cat\n\n" + "old dog " * 20 + "\n")
    monkeypatch.setattr(corpus, "CHUNK", 1000)
    split = load_corpus(hashed(file), tokenizer, 16, world / "ids")
    assert split.lengths.tolist() == [4, 16, 16, 14]
    rows = np.split(split.ids, split.offsets[1:-1])
    words = [word for row in rows for word in row[1:-1]]
    assert words == tokenizer.encode_plain(["red cat " + "old dog " * 20])[0]
    assert all(row[0] == tokenizer.cls_id and row[-1] == tokenizer.sep_id for row in rows)


def test_a_line_without_an_end_is_tokenized_piece_by_piece(
    world: Path, tokenizer: BertTokenizer
) -> None:
    split = load_sentences(["old dog " * 200, "r" * 500], tokenizer, 16, world / "ids")
    words = [i for i in split.ids.tolist() if i not in (tokenizer.cls_id, tokenizer.sep_id)]
    expected = tokenizer.encode_plain(["old dog " * 200])[0]
    pieces = [tokenizer.unk_id] * 9  # a line that is cut nowhere would have one
    assert words[: len(expected)] == expected and words[len(expected) :] == pieces


def test_what_was_finished_before_a_kill_is_not_made_again(
    world: Path, load: Callable[[], EncodedSplit], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = in_memory(load())
    for path in files_of(world).values():
        path.unlink()
    original, read = BertTokenizer.encode_plain, []

    def killed(self: BertTokenizer, texts: list[str]) -> list[list[int]]:
        read.extend(texts)
        if len(read) > 30:
            raise KeyboardInterrupt
        return original(self, texts)

    monkeypatch.setattr(BertTokenizer, "encode_plain", killed)
    with pytest.raises(KeyboardInterrupt):
        load()
    files_of(world)[".ids"].open("ab").write(b"half a row")  # what a part leaves that is not over
    first, read[:] = len(read), []
    monkeypatch.setattr(
        BertTokenizer,
        "encode_plain",
        lambda self, texts: read.extend(texts) or original(self, texts),
    )
    assert in_memory(load()) == whole
    assert first > 30 and len(read) < len(LINES) - 20
    read.clear()
    assert in_memory(load()) == whole and not read  # complete: nothing is tokenized


@pytest.mark.parametrize("ending", [".ids", ".offsets", ".json"])
@pytest.mark.parametrize(
    "damage", ["gone", "empty", "half", "longer", "flipped", "end flipped", "first flipped"]
)
def test_damaged_files_are_made_anew(
    world: Path, load: Callable[[], EncodedSplit], ending: str, damage: str
) -> None:
    whole = in_memory(load())
    path = files_of(world)[ending]
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif "flipped" in damage:
        data[{"flipped": len(data) // 2, "end flipped": -3, "first flipped": 0}[damage]] ^= 1
        path.write_bytes(data)
    else:
        cut = {"empty": b"", "half": data[: len(data) // 2], "longer": data + b"12345678"}
        path.write_bytes(cut[damage])
    assert in_memory(load()) == whole


@pytest.mark.parametrize(
    "change", ["negative", "huge", "no parts, complete", "fewer parts, complete"]
)
def test_a_journal_that_cannot_be_is_made_anew(
    world: Path, load: Callable[[], EncodedSplit], change: str
) -> None:
    whole = in_memory(load())
    path = files_of(world)[".json"]
    journal = json.loads(path.read_text())
    if "parts" in change:
        journal["parts"] = journal["parts"][: -1 if "fewer" in change else 0]
    else:
        journal["parts"][0]["tokens"] = -3 if change == "negative" else 10**30
    path.write_text(json.dumps(journal))
    assert in_memory(load()) == whole


def test_sentences_with_line_breaks_are_others(world: Path, tokenizer: BertTokenizer) -> None:
    every = [["red\ncat", "cat"], ["red", "cat\ncat"]]
    found = [in_memory(load_sentences(texts, tokenizer, 8, world / "ids")) for texts in every]
    assert found[0] != found[1]


def test_another_length_or_text_is_another_corpus(world: Path, tokenizer: BertTokenizer) -> None:
    def rows(texts: list[str], max_length: int) -> int:
        return len(load_sentences(texts, tokenizer, max_length, world / "ids"))

    assert rows(LINES, 16) == len(LINES) and rows(LINES, 5) > len(LINES)
    assert rows(LINES[1:], 16) == len(LINES) - 1


def test_no_memory_grows_with_the_rows(
    load: Callable[[], EncodedSplit], monkeypatch: pytest.MonkeyPatch
) -> None:
    split = load()
    assert isinstance(split.ids, np.memmap) and isinstance(split.offsets, np.memmap)
    for constant in (split.row_ids, split.labels, split.segment_starts):
        assert constant.strides == (0,) and len(constant) == len(split)
    batch = collate(split, np.array([3, 1]))
    assert batch.lengths == (6, 10) and not batch.segments.any()
    expected = np.random.default_rng([1, 2]).permutation(1000)
    assert np.array_equal(random_order(1000, [1, 2]), expected)
    monkeypatch.setattr(sampler, "ROWS_IN_MEMORY", 300)
    order = random_order(1000, [1, 2])
    assert np.array_equal(order, expected) and isinstance(order.base, np.memmap)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system has no such call")
def test_no_room_for_the_order_of_many_rows_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the end of the process, as when a map's page finds no room."""
    monkeypatch.setattr(sampler, "ROWS_IN_MEMORY", 10)

    def full(*about: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sampler.os, "posix_fallocate", full)
    with pytest.raises(OSError, match=f"left on device: {gettempdir()}, for") as end:
        random_order(20, 0)
    assert end.value.filename is None  # so that a run saves what it has


def test_no_room_for_ids_names_their_file(
    world: Path, load: Callable[[], EncodedSplit], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(corpus.os, "fsync", full)
    with pytest.raises(OSError, match=rf"No space left on device: '{world}/ids/corpus-\w+\.ids'"):
        load()


def test_rows_without_some() -> None:
    rng = np.random.default_rng(0)
    for left in range(6):
        left_out = np.sort(rng.permutation(20)[:left])
        others = [row for row in range(20) if row not in left_out]
        places = rng.permutation(len(others))
        assert rows_without(left_out, places).tolist() == np.array(others)[places].tolist()


def test_a_second_command_waits_for_the_first(
    world: Path, load: Callable[[], EncodedSplit]
) -> None:
    whole = in_memory(load())
    lock, found = files_of(world)[".lock"], []
    with locked(lock, wait=True):
        other = threading.Thread(target=lambda: found.append(in_memory(load())))
        other.start()
        other.join(0.3)
        assert other.is_alive() and not found
        with pytest.raises(BlockingIOError), locked(lock, wait=False):
            pass
    other.join(20)
    assert found == [whole]


def test_no_text_and_no_token(world: Path, tokenizer: BertTokenizer) -> None:
    (world / "blank.txt").write_text(" \n\n")
    with pytest.raises(UserError, match=r"blank.txt: the file is empty"):
        load_corpus(hashed(world / "blank.txt"), tokenizer, 16, world / "ids")
    with pytest.raises(UserError, match="hold no token"):
        load_sentences(["\x01", "\x02"], tokenizer, 16, world / "ids")
    (world / "binary.txt").write_text("red\ncat\0\n")
    with pytest.raises(UserError, match=r"binary.txt:2: a binary file"):
        load_corpus(hashed(world / "binary.txt"), tokenizer, 16, world / "ids")


def test_a_run_goes_on_with_its_own_files_alone(world: Path) -> None:
    for name in ("a", "b"):
        (world / f"{name}.txt").write_text(f"{name} red cat\n" * 20)
    files = [str(world / "a.txt"), str(world / "b.txt")]
    train = [*arguments(world)[:-4], "--epochs", "1", "--held-out", "0", "--name"]
    pretrain_mlm.main([*train, "files", "--corpus", *files])
    card = (world / "runs/files/README.md").read_text()
    assert "\n| none | - |\n" in card  # of scores: no text was held out
    with pytest.raises(UserError, match=r"train and evaluate on: 2 when it began, now 1: give it"):
        pretrain_mlm.main(["--resume", str(world / "runs/files"), "--corpus", files[0]])
    pretrain_mlm.main([*train, "tasks", "--tasks", "sst"])
    with pytest.raises(UserError, match=r"--corpus .*a.txt differs from the run, which has none"):
        pretrain_mlm.main(["--resume", str(world / "runs/tasks"), "--corpus", files[0]])


def test_another_tokenizer_makes_another_corpus(world: Path) -> None:
    (world / "few.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ncat\nred\n")
    whole = BertTokenizer.from_directory(world / "model")
    for words in (whole, BertTokenizer.from_vocab(world / "few.txt")):
        found = load_sentences(["red cat"], words, 16, world / "ids")
        assert found.ids.tolist() == words.encode_batch(["red cat"])[0].ids


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("texts.jsonl", "red cat\n"), ("texts.csv", "red cat\n"), ("t.tsv.gz", ""),
        ("texts.parquet", "PAR1"), ("texts.txt", '\n {"id": 1, "text": "red cat"}\n'),
    ],
)  # fmt: skip
def test_a_table_is_no_corpus(world: Path, name: str, text: str) -> None:
    """Its keys, ids and quotes would be words to guess; nothing is read before it is refused."""
    (world / name).write_text(text)
    (world / "fine.txt").write_text("{ red cat }\n[1] old dog\n" * 20)
    train = [*arguments(world)[:-4], "--epochs", "1", "--name", "mlm", "--corpus"]
    with pytest.raises(UserError, match=rf"{name}: a table; --corpus takes plain text"):
        pretrain_mlm.main([*train, str(world / "fine.txt"), str(world / name)])
    assert not (world / "runs/.ids").exists()
    assert pretrain_mlm.main([*train, str(world / "fine.txt")]) == 0
