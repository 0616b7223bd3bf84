"""Sentence-BERT: pooling, one forward for both sides, thresholds, what does not go together."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from minbert import Batch, BertModel, BertTokenizer, UserError
from minbert.data.encoded import EncodedSplit, encode_examples, take
from minbert.data.examples import Example
from minbert.data.pairs import (
    collate_sentences,
    paraphrase_groups,
    sentences_of,
    sides_of,
    without_repeats,
)
from minbert.losses import contrastive
from minbert.model.heads import HeadConfig, pool_tokens
from minbert.model.multitask import MultitaskNetwork
from minbert.run.fine_tuning import prepare_model
from minbert.run.train_args import Args
from minbert.task.evaluation import best_threshold, siamese_outputs
from minbert.task.siamese import PairData, describe_pairs, ranked_rows
from minbert.task.taskfile import read_tasks
from minbert.weights.resolve import resolve
from tasks import TASKS
from tests.conftest import run
from tests.models import make_model

TEXTS = [("a red kite", "one kite"), ("rain", "it rains a lot")]
TEXTS += [("one kite", "a red kite"), ("rain", "rain")]


@pytest.fixture(scope="module")
def split() -> EncodedSplit:
    tokenizer = BertTokenizer.from_directory(resolve("all-MiniLM-L6-v2"))
    examples = [Example(str(i), a, b, float(i % 2)) for i, (a, b) in enumerate(TEXTS)]
    return encode_examples(examples, tokenizer, 512, siamese=True)


@pytest.mark.parametrize("kind", ["mean", "max"])
def test_pooling_is_one_sequence_at_a_time(kind: str) -> None:
    torch.manual_seed(0)
    lengths = (3, 5, 9)
    hidden = torch.randn(17, 4, dtype=torch.float64, requires_grad=True)
    batch = Batch(*(torch.zeros(17).long(),) * 3, lengths)
    parts = hidden.split(lengths)
    expected = {
        "mean": torch.stack([p.mean(0) for p in parts]),
        "max": torch.stack([p.amax(0) for p in parts]),
    }[kind]
    out = pool_tokens(hidden, batch, kind)
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=0)
    weight = torch.randn_like(out)
    gradients = [torch.autograd.grad(x, hidden, weight)[0] for x in (out, expected)]
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=0)


def test_equal_largest_values_share_the_gradient() -> None:
    """A negative one, too; bf16 has few digits, and so such values."""
    hidden = torch.tensor([[1.0], [3.0], [3.0], [3.0], [2.0]], requires_grad=True)
    batch = Batch(*(torch.zeros(5).long(),) * 3, (3, 2))
    pool_tokens(hidden, batch, "max").backward(torch.tensor([[-2.0], [-1.0]]))
    assert hidden.grad.flatten().tolist() == [0.0, -1.0, -1.0, -1.0, 0.0]


@pytest.mark.parametrize("kind", ["mean", "max"])
def test_pooling_asks_the_device_for_no_number(kind: str) -> None:
    """A tensor without values: what would wait for a GPU fails here."""
    batch = Batch(*(torch.zeros(17).long(),) * 3, (3, 5, 9))
    hidden = torch.empty(17, 4, device="meta", requires_grad=True)
    pool_tokens(hidden, batch, kind).sum().backward()
    hidden = torch.ones(17, 4)
    with torch.device("meta"):  # the program's default is not the batch's
        assert pool_tokens(hidden, batch, kind).tolist() == [[1.0] * 4] * 3


def test_sentences_come_once_and_keep_their_places(split: EncodedSplit) -> None:
    sentences, index = sentences_of(split)
    assert len(sentences) == 4
    assert index.tolist() == [[0, 1], [2, 3], [1, 0], [2, 2]]
    batch, places = collate_sentences(sentences, index.T.reshape(-1))
    assert len(batch.lengths) == 4
    starts = batch.cu_seqlens[places]
    for place, start, number in zip(places, starts, index.T.reshape(-1), strict=True):
        ids = batch.ids[start : start + batch.lengths[place]].tolist()
        offsets = sentences.offsets
        assert ids == sentences.ids[offsets[number] : offsets[number + 1]].tolist()


def test_of_two_towers_each_reads_its_own_side(split: EncodedSplit) -> None:
    sentences, index = sentences_of(split)
    [all_read], numbers = sides_of(split, towers=1)
    assert all_read.ids.tolist() == sentences.ids.tolist()
    assert numbers.tolist() == index.tolist()
    read, numbers = sides_of(split, towers=2)
    assert [len(part) for part in read] == [3, 4]
    for side, part in enumerate(read):
        found, right = take(part, numbers[:, side]), take(sentences, index[:, side])
        assert found.ids.tolist() == right.ids.tolist()
        assert found.offsets.tolist() == right.offsets.tolist()


def test_pairs_read_together_have_the_same_sentences(split: EncodedSplit) -> None:
    tokenizer = BertTokenizer.from_directory(resolve("all-MiniLM-L6-v2"))
    examples = [Example(str(i), *pair, 1.0) for i, pair in enumerate(TEXTS)]
    together = encode_examples(examples, tokenizer, 512)
    (ours, places), (theirs, index) = sentences_of(together), sentences_of(split)
    assert ours.ids.tolist() == theirs.ids.tolist()
    assert ours.offsets.tolist() == theirs.offsets.tolist()
    assert places.tolist() == index.tolist()


def test_scores_are_the_cosines_of_transformers_mean_pooled_embeddings(split) -> None:
    directory = resolve("all-MiniLM-L6-v2")
    config = HeadConfig(siamese=True, pooling="mean", scale=5.0)
    model = MultitaskNetwork(BertModel.from_pretrained(directory), {"sts": config}).eval()
    ours = siamese_outputs(model, TASKS["sts"], split)
    reference = transformers.BertModel.from_pretrained(directory).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    for (a, b), score in zip(TEXTS, ours[:, 0].tolist(), strict=True):
        with torch.no_grad():
            u, v = (
                reference(**tokenizer(t, return_tensors="pt")).last_hidden_state[0].mean(0)
                for t in (a, b)
            )
        assert score == pytest.approx(5 * float(torch.cosine_similarity(u, v, 0)), abs=1e-5)


def test_groups_follow_chains_of_paraphrases() -> None:
    index = np.array([[0, 1], [1, 2], [3, 4], [5, 2], [6, 0]])
    groups = paraphrase_groups(index, np.array([1.0, 1, 0, 1, 0]))
    one = groups[0, 0]
    assert groups[[0, 0, 1, 3], [0, 1, 1, 0]].tolist() == [one] * 4 and groups[4, 1] == one
    assert len({one, groups[2, 0], groups[2, 1], groups[4, 0]}) == 4


def test_no_sentence_twice_in_a_batch() -> None:
    index = np.array([[0, 1], [2, 3], [1, 4], [5, 5], [5, 6], [3, 7]])
    assert without_repeats(np.array([0, 1, 2, 3, 4, 5]), index).tolist() == [0, 1, 3]
    assert without_repeats(np.array([5, 4, 2]), index).tolist() == [5, 4, 2]


def test_of_pairs_that_share_a_sentence_one_of_label_1_is_ranked() -> None:
    index = np.array([[0, 1], [0, 2], [3, 4], [2, 5]])
    labels = np.array([0.0, 1, 1, 0])
    pairs = PairData(None, index, None, labels)
    assert sorted(ranked_rows(pairs, np.array([0, 1, 2, 3]))) == [1, 2]
    assert sorted(ranked_rows(pairs, np.array([3, 0, 2]))) == [0, 1, 2]
    assert ranked_rows(pairs, np.array([0, 3])).size == 0


@pytest.mark.parametrize("seed", range(5))
def test_best_threshold_is_the_best_there_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random(40), 1).astype(np.float32)  # with ties
    labels = (rng.random(40) < scores).astype(np.float32)
    found = np.mean((scores > best_threshold(scores, labels)) == labels)
    every = [np.mean((scores > cut) == labels) for cut in np.linspace(-0.05, 1.05, 23)]
    assert found == max(every)


@pytest.mark.parametrize("start", [0.5, 0.7, 0.9])
def test_the_threshold_parts_neighbouring_scores(start: float) -> None:
    """It is kept in fp32, in which nothing lies between them."""
    scores = [np.float32(start)]
    for _ in range(6):
        scores.append(np.nextafter(scores[-1], np.float32(1)))
    for lower, upper in pairwise(scores):
        pair, labels = np.array([lower, upper]), np.array([0.0, 1.0], np.float32)
        threshold = np.float32(best_threshold(pair, labels))
        assert (pair - threshold > 0).tolist() == [False, True]


MNR = ("--tasks", "quora", "--pair-encoding", "siamese", "--pair-loss", "mnr")
ONE_EPOCH = ("--epochs", "1", "--lr", "1e-3", "--pooling", "mean", "--precision", "fp32")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            ["--tasks", "sst", "--pair-encoding", "sst=siamese"],
            "sst: no task of this run has pairs",
        ),
        (
            ["--tasks", "sst", "--pair-encoding", "siamese"],
            "siamese: no task of this run has pairs",
        ),
        (
            ["--tasks", "sst", "--pair-loss", "mnr"],
            "--pair-loss mnr: no task of this run has pairs",
        ),
        (
            ["--tasks", "sts", "--pair-loss", "mnr"],
            "--pair-loss mnr goes with --pair-encoding sts=siamese$",
        ),
        (
            ["--tasks", "quora,sts", "--pair-loss", "mnr", "--pair-encoding", "quora=siamese"],
            "--pair-encoding sts=siamese; if it is for other tasks, write --pair-loss TASK=mnr",
        ),
        (["--tasks", "sts", "--pair-encoding", "all"], "write one of cross, siamese, both"),
        (["--tasks", "sst,sts", "--pair-encoding", "sst=siamese"], "not one of the pair tasks sts"),
        (
            ["--tasks", "quora", "--pair-encoding", "both", "--pair-loss", "contrastive"],
            "contrastive: its score is not on the scale of a head's",
        ),
        (
            ["--tasks", "quora", "--pair-encoding", "both", "--pair-loss", "cosine-mse"],
            "cosine-mse: its score is not on the scale .* for quora write softmax",
        ),
        (
            ["--tasks", "sst,sts", "--pair-encoding", "siamese", "--teacher", "runs/a"],
            "name the others, as --teacher TASK=RUN",
        ),
        (["--tasks", "sts", "--towers", "separate"], "goes with --pair-encoding siamese"),
        (
            ["--tasks", "sts", "--pair-encoding", "siamese", "--pair-loss", "mnr"],
            "mnr needs labels 0 and 1; sts has scores",
        ),
        (
            ["--tasks", "sts", "--pair-encoding", "siamese", "--pair-loss", "mse"],
            "--pair-loss mse: write one of",
        ),
        (
            ["--tasks", "sts", "--pair-encoding", "siamese", "--option", "pretrain"],
            "siamese trains the encoder",
        ),
        (
            ["--tasks", "sts", "--pair-encoding", "both", "--option", "pretrain"],
            "both trains the encoder",
        ),
        (
            [*MNR, "--accumulate", "2"],
            "mnr needs whole batches",
        ),
        (
            [*MNR, "--limit", "quora=1"],
            "needs at least two pairs with label 1",
        ),
    ],
)
def test_what_does_not_go_together(world: Path, extra: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        run(world, *extra)
    assert "\n" not in str(error.value)


def test_the_second_label_is_of_pairs_that_are_alike() -> None:
    toml = (
        '[same]\nkind = "pair-classification"\ntrain = "a.csv"\ntext = ["a", "b"]\n'
        'label = "l"\nlabels = ["no", "yes"]\n'
    )
    task = read_tasks(toml, "own.toml", None)["same"]
    said = describe_pairs(task, "contrastive")
    assert said == "same: cosines of pairs labelled yes are to be high, of no low"
    alike, losses = torch.eye(2), []
    for name in ("yes", "no"):
        labels = torch.full((2,), task.columns.parse_label(name))
        losses.append(contrastive(alike, alike, labels).item())
    assert losses == [0, 0.5]


def test_what_is_chosen_is_chosen_for_both_towers() -> None:
    network = MultitaskNetwork(make_model(), {}, separate_towers=True)
    prepare_model(network, Args(precision="bf16", checkpoint_activations=True, device="cpu"))
    one, other = (tower.state_dict() for tower in network.encoders)
    assert all(torch.equal(one[name], other[name]) for name in one)
    for tower in network.encoders:
        assert tower.compute_dtype == torch.bfloat16
        assert tower.word_embedding.sparse and tower.checkpoint_activations


def test_a_sentence_is_cut_by_itself(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So a pair of two short ones does not count as one that may be cut."""
    for kind, said in (("cross", True), ("siamese", False)):
        run(world, "--tasks", "sts", "--pair-encoding", kind, "--max-length", "12", *ONE_EPOCH)
        assert ("fill --max-length 12 and may be cut" in capsys.readouterr().out) == said


def test_both_towers_are_rounded_for_inference() -> None:
    network = MultitaskNetwork(make_model(), {}, separate_towers=True)
    network.for_inference(torch.bfloat16)
    for tower in network.encoders:
        weight = tower.bert_layers[1].out_dense.weight
        assert tower.compute_dtype == weight.dtype == torch.bfloat16
