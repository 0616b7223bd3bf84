"""Files of labelled words, their ids, and the entities that tags spell out."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import transformers

from minbert import BertTokenizer, UserError
from minbert.data.collate import collate
from minbert.data.encoded import encode_examples, take
from minbert.data.examples import Example, read_examples
from minbert.data.id_cache import load_split
from minbert.data.items import gold_of, item_counts, item_labels
from minbert.metrics import accuracy, bootstrap_interval
from minbert.task.tagging import entities, entity_metrics, has_entities
from minbert.task.task import Task
from minbert.task.taskfile import make_task
from minbert.weights.resolve import resolve

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def task_of(**more: object) -> Task:
    table = {"kind": "token-classification", "train": "a", "dev": "a", "labels": TAGS, **more}
    return make_task("ner", table)


def read(path: Path, content: str, labelled: bool = True, **more: object) -> list[Example]:
    path.write_text(content, encoding="utf-8")
    return read_examples(path, task_of(**more).columns, labelled)[0]


def parts(examples: list[Example]) -> list[tuple[object, ...]]:
    return [(e.id, e.words, e.label) for e in examples]


BOTH = [("2", ("Ada", "sails"), [1, 0]), ("6", ("to", "New", "York"), [0, 3, 4])]


@pytest.mark.parametrize(
    "text",
    [
        "\nAda\tB-PER\nsails\tO\n\n\nto\tO\nNew\tB-LOC\nYork\tI-LOC\n\n",
        "-DOCSTART- -X- O O\nAda NNP  I-NP B-PER \nsails VB O O\n\n\t\nto IN O O\n"
        "New NNP O B-LOC\nYork NNP O I-LOC",
        "\r\nAda\tB-PER\r\nsails\tO\r\n-DOCSTART-\r\n\r\nto\tO\r\nNew\tB-LOC\r\nYork\tI-LOC\r\n",
    ],
)
def test_conll_files_are_sentences_of_words_with_tags(tmp_path: Path, text: str) -> None:
    assert parts(read(tmp_path / "a.conll", text)) == BOTH
    assert read(tmp_path / "a.txt", text)[0].text == "Ada sails"  # whatever the ending


def test_words_survive_as_they_are(tmp_path: Path) -> None:
    words = ["\u00a0", "O'Neill", "😀", "e\u0301", "東京", "\x07", "#", "a b"]
    text = "".join(f"{word}\tO\n" for word in words)
    assert read(tmp_path / "a.conll", text)[0].words == tuple(words)


def test_columns_name_those_that_are_read(tmp_path: Path) -> None:
    more = {"columns": ["form", "pos", "ner"], "text": "form", "label": "pos", "labels": ["X", "Y"]}
    assert parts(read(tmp_path / "a.conll", "a X O\nb Y O\n", **more)) == [
        ("1", ("a", "b"), [0, 1])
    ]


def test_a_column_that_is_there_twice_is_named(tmp_path: Path) -> None:
    more = {"columns": ["w", "t", "_", "_", "t"], "text": "w", "label": "t"}
    with pytest.raises(UserError, match=r"a.conll: two columns are called 't'; rename one"):
        read(tmp_path / "a.conll", "Ada\tB-PER\t1\t2\tO\n", **more)


def test_a_file_of_words_alone_has_no_tags(tmp_path: Path) -> None:
    assert parts(read(tmp_path / "a.conll", "a\nb\n\nc\n", labelled=False)) == [
        ("1", ("a", "b"), None), ("4", ("c",), None),
    ]  # fmt: skip
    with pytest.raises(UserError, match="no column 'tags'; it has tokens"):
        read(tmp_path / "a.conll", "a\nb\n")


def test_json_lines_have_lists(tmp_path: Path) -> None:
    rows = [
        {"key": "x", "w": ["Ada", " ", "é"], "t": ["B-PER", "O", "O"]},
        {"key": "y", "w": ["Bo"], "t": None},
        {"key": "z", "w": ["Bo"], "t": ["O"]},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    columns = task_of(text="w", label="t", id="key", bad_rows=0.5).columns
    found, left_out = read_examples(path, columns, labelled=True)
    assert parts(found) == [("x", ("Ada", " ", "é"), [1, 0, 0]), ("z", ("Bo",), [0])]
    assert left_out.counts.total() == 1
    numbered = task_of(text="w", label="t", labels=5, display_names=TAGS)
    path.write_text(json.dumps({"w": ["Ada", "sails"], "t": [1, 0]}))
    assert read_examples(path, numbered.columns, labelled=True)[0][0].label == [1, 0]
    assert numbered.main_metric == "f1" and numbered.format_prediction(np.array([1, 0])) == "1 0"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.conll", "a\tO\nb\tB-ORG\n", r"a.conll:1: tags is 'B-ORG': expected one of O, B-PER"),
        ("a.conll", "a\tO\nb\n", r"a.conll:2: 1 columns, the first line has 2: 'b'"),
        ("a.csv", "No #,word,tag\nno 1,a,O\n,b,O\n", r"a.csv:3: 1 columns, .*; tabs, or blanks in"),
        ("a.csv", "a,O\nb,O\n", r"a.csv:1: no column 'tags'; it has tokens; tabs, or blanks in a"),
        ("a.conll", "a\tO\n\nb\t\n", r"a.conll:3: an empty cell in 'b\\t'"),
        ("a.conll", "-DOCSTART-\n\n", r"a.conll: no sentence in it"),
        ("a.jsonl", '{"tokens": ["a"], "tags": ["O", "O"]}', r"a.jsonl:1: 1 words and 2 tags"),
        ("a.jsonl", '{"tokens": "a b", "tags": ["O"]}', r"jsonl:1: tokens: a list of words was ex"),
        ("a.jsonl", '{"tokens": ["a", ""], "tags": ["O", "O"]}', r"tokens: word 2 is empty"),
        ("a.jsonl", '{"tokens": ["a"], "tags": "O"}', r"jsonl:1: tags: a list of tags was expect"),
        ("a.jsonl", '{"tokens": ["a"], "tags": [["O"]]}', r"1: tags: a list is not a label: \['O'"),
        ("a.jsonl", '{"tokens": [], "tags": ["O"]}', r"a.jsonl:1: empty sentence"),
    ],
)
def test_rows_that_cannot_be_read(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path / name, text)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"labels": ["O", "B-PER", "PER"]}, "labels: 'PER': beside B-TYPE write I-TYPE"),
        ({"labels": ["O", "a b"]}, "labels: 'a b': a tag is a word, without blanks"),
        ({"labels": ["NOUN", "VERB"], "metric": "f1"}, "metric = 'f1': write accuracy"),
        ({"metric": "spearman"}, "write f1 or precision or recall or accuracy"),
        ({"delimiter": ";"}, "'delimiter' is not a key of files of words"),
        ({"course": True}, "'course' is not a key of files of words"),
        ({"text": ["a", "b"]}, "token-classification has 1"),
        ({"encoding": "siamese"}, "'encoding' is not a key of token-classification"),
    ],
)
def test_keys_that_do_not_fit(more: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task_of(**more)


WORDS = [
    ["Antidisestablishmentarianism", "in", "São", "Paulo", ",", "x-ray"],
    ["\x00", "\u200b", "word", "\u00ad", "東京都", "a" * 120, "[SEP]", "😀😀"],
    ["\x00"],
    ["unbelievable"] * 12,
]


@pytest.mark.parametrize("max_length", [64, 9, 5])
def test_ids_and_first_pieces_are_transformers_own(max_length: int) -> None:
    directory = resolve("all-MiniLM-L6-v2")
    ours = BertTokenizer.from_directory(directory).encode_words(WORDS, max_length)
    theirs = transformers.AutoTokenizer.from_pretrained(directory)(
        WORDS, is_split_into_words=True, truncation=True, max_length=max_length
    )
    for row, (words, (ids, starts)) in enumerate(zip(WORDS, ours, strict=True)):
        assert ids == theirs["input_ids"][row]
        numbers = theirs.word_ids(row)
        expected = [numbers.index(i) if i in numbers else -1 for i in range(len(words))]
        assert starts == expected


def test_words_of_a_text_are_places_in_it(tiny_words: BertTokenizer) -> None:
    text = "\t Red  cat's 😀\u200b e\u0301toile-x 東京!  "
    found = [text[start:end] for start, end in tiny_words.word_spans(text)]
    assert found == ["Red", "cat", "'", "s", "😀", "e\u0301toile", "-", "x", "東", "京", "!"]
    assert tiny_words.word_spans(" \x00 ") == []
    accent = "cafe\u0301"
    assert tiny_words.word_spans(accent) == [(0, len(accent))]


@pytest.fixture
def tiny_words(tmp_path: Path) -> BertTokenizer:
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (tmp_path / "vocab.txt").write_text("\n".join([*specials, "red", "cat", "##s", "a"]) + "\n")
    return BertTokenizer.from_directory(tmp_path)


def test_a_batch_knows_where_its_words_begin(tiny_words: BertTokenizer) -> None:
    examples = [
        Example("a", "", words=("cats", "\x00", "red"), label=[1, 2, 3]),
        Example("b", "", words=("red",), label=[4]),
        Example("c", "", words=("cats", "cats", "red"), label=[5, 6, 7]),
    ]
    split = encode_examples(examples, tiny_words, max_length=6)
    assert split.word_starts.tolist() == [1, -1, 3, 1, 1, 3, -1]
    assert [x.tolist() for x in gold_of(split)] == [[1, 2, 3], [4], [5, 6, 7]]
    for own, rows in ((split, [2, 0, 1]), (take(split, np.array([2, 0, 1])), [0, 1, 2])):
        batch = collate(own, np.array(rows))  # shortest first
        pieces = batch.ids[batch.word_starts].tolist()
        cat, red = (tiny_words.tokenizer.token_to_id(word) for word in ("cat", "red"))
        named = list(zip(pieces, batch.labels.tolist(), strict=True))
        assert sorted(named) == sorted([(cat, 1), (red, 3), (red, 4), (cat, 5), (cat, 6)])
        assert item_labels(own)[list(batch.items)].tolist() == batch.labels.tolist()
        counts = item_counts(own, np.array(rows)).tolist()
        assert counts == [2, 2, 1]


def test_the_cache_keeps_words(tiny_words: BertTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("cats\tB-PER\nred\tO\n\nred\tO\n")
    arguments = (path, task_of().columns, True, tiny_words, 8, tmp_path / "cache")
    first, again = load_split(*arguments), load_split(*arguments)
    assert len(list((tmp_path / "cache").glob("*.npz"))) == 1
    for name in ("ids", "tags", "word_starts", "word_offsets"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert again.tags.tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-PER I-PER O B-LOC", [(1, 3, "PER"), (4, 5, "LOC")]),
        ("I-PER I-PER B-PER I-LOC", [(0, 2, "PER"), (2, 3, "PER"), (3, 4, "LOC")]),
        ("B-PER B-PER", [(0, 1, "PER"), (1, 2, "PER")]),
        ("S-PER B-PER E-PER E-PER", [(0, 1, "PER"), (1, 3, "PER"), (3, 4, "PER")]),
        ("B I O I B-A-B", [(0, 2, "_"), (3, 4, "_"), (4, 5, "A-B")]),
        ("O", []),
        ("", []),
    ],
)
def test_entities_are_conlleval_s(tags: str, expected: list[tuple[int, int, str]]) -> None:
    assert entities(tags.split()) == expected


def random_tags(rng: random.Random, tags: list[str]) -> list[list[str]]:
    return [[rng.choice(tags) for _ in range(rng.randint(0, 9))] for _ in range(300)]


@pytest.mark.parametrize("prefixes", ["BI", "I", "BIES"])
def test_scores_are_seqeval_s(prefixes: str) -> None:
    seqeval = pytest.importorskip("seqeval.metrics")
    tags = ["O", *(f"{prefix}-{kind}" for prefix in prefixes for kind in ("PER", "LOC", "A-B"))]
    rng = random.Random(prefixes)
    gold = random_tags(rng, tags)
    predicted = [[t if rng.random() < 0.7 else rng.choice(tags) for t in row] for row in gold]
    ours = entity_metrics(tags)
    rows = [np.array([tags.index(t) for t in row]) for row in (*predicted, *gold)]
    both = np.empty(600, dtype=object)
    both[:] = rows
    for name, theirs in (
        ("f1", seqeval.f1_score), ("precision", seqeval.precision_score),
        ("recall", seqeval.recall_score),
    ):  # fmt: skip
        assert ours[name](both[:300], both[300:]) == pytest.approx(
            theirs(gold, predicted), abs=1e-12
        )
    for row in predicted:
        found = [(start, end - 1, kind) for start, end, kind in entities(row)]
        assert found == [(s, e, k) for k, s, e in seqeval.sequence_labeling.get_entities(row)]


def test_a_metric_of_counts_has_the_interval_of_its_resamples() -> None:
    task = task_of()
    rng = np.random.default_rng(0)
    gold, predicted = np.empty(40, dtype=object), np.empty(40, dtype=object)
    for i in range(40):
        gold[i] = rng.integers(0, 5, rng.integers(1, 7))
        predicted[i] = np.where(rng.random(len(gold[i])) < 0.6, gold[i], 0)
    for metric in task.metrics.values():
        slow = bootstrap_interval(lambda p, g, metric=metric: metric(p, g), predicted, gold)
        assert bootstrap_interval(metric, predicted, gold) == slow
        assert slow[0] < metric(predicted, gold) < slow[1]
    flat = (np.concatenate([*predicted]), np.concatenate([*gold]))
    assert task.metrics["accuracy"](predicted, gold) == accuracy(*flat)


def test_parts_of_speech_are_scored_by_word() -> None:
    task = task_of(labels=["NOUN", "I", "B", "S-1"])
    assert not has_entities(task.class_names) and list(task.metrics) == ["accuracy"]
    assert has_entities(["B", "I", "O"])


def test_words_without_an_output_are_in_no_entity() -> None:
    outputs = np.empty(2, dtype=object)
    outputs[0] = np.array([[0, 1, 0, 0, 0], [np.nan] * 5])
    outputs[1] = np.zeros((0, 5))
    tags = ["B-PER", "I-PER", "O", "B-LOC", "I-LOC"]
    assert [x.tolist() for x in task_of(labels=tags).decode(outputs)] == [[1, 2], []]
    without_outside = task_of(labels=["A", "B", "C", "D", "E"])
    assert without_outside.decode(outputs)[0].tolist() == [1, 0]


def test_a_file_of_words_alone_is_read_whatever_columns_there_are(tmp_path: Path) -> None:
    columns = {"columns": ["word", "pos", "tag"], "text": "word", "label": "tag"}
    words = read(tmp_path / "a.conll", "Ada\nsails\n\nto\nYork\n", labelled=False, **columns)
    assert [e.words for e in words] == [("Ada", "sails"), ("to", "York")]
    with pytest.raises(UserError, match="2 columns, `columns` names 3"):
        read(tmp_path / "b.conll", "Ada NN\n", labelled=False, **columns)
