"""Masked-language-model pre-training: masks, the head against transformers, corpora, resuming."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

import pretrain_mlm
import train_multitask
from minbert import Batch, BertModel, BertTokenizer, UserError
from minbert.data.masking import Masking, mask_batch
from minbert.losses import cross_entropy
from minbert.model.mlm import MaskedLanguageModel, load_mlm, save_mlm
from minbert.run.mlm_args import resolve_arguments
from tasks import TASKS
from tests.conftest import TINY, arguments, killed_after, weights

V = 1000
PLAIN = Masking(0.15, False, 4, np.array([0, 2, 3]), np.arange(V) % 3 == 0)


def make_batch(rows: int, length: int) -> Batch:
    """[CLS] words [SEP], `rows` times."""
    rng = np.random.default_rng(5)
    words = rng.integers(5, V, (rows, length))
    words[:, 0], words[:, -1] = 2, 3
    ids = torch.from_numpy(words.reshape(-1))
    positions = torch.arange(length).repeat(rows)
    lengths, numbers = (length,) * rows, tuple(range(rows))
    return Batch(ids, positions, torch.zeros_like(ids), lengths, rows=numbers)


def band(p: float, n: int) -> float:
    return 4 * (p * (1 - p) / n) ** 0.5


@pytest.mark.parametrize("epoch", [0, 1])
def test_rates_lie_in_the_four_sigma_band(epoch: int) -> None:
    """Over 100k tokens: 15 % chosen, never a special one; of them 80 / 10 / 10."""
    batch = make_batch(1000, 102)
    masked = mask_batch(batch, PLAIN, 1, epoch)
    n, m = 100_000, len(masked.indices)
    assert abs(m / n - 0.15) < band(0.15, n)
    assert torch.equal(batch.ids[masked.indices], masked.targets)
    assert not set(masked.targets.tolist()) & {0, 2, 3}
    now = masked.batch.ids[masked.indices]
    assert abs(float((now == 4).float().mean()) - 0.8) < band(0.8, m)
    same = float((now == masked.targets).float().mean())
    assert abs(same - (0.1 + 0.1 / V)) < band(0.1, m)
    untouched = torch.ones(len(batch.ids), dtype=torch.bool)
    untouched[masked.indices] = False
    assert torch.equal(masked.batch.ids[untouched], batch.ids[untouched])


def test_masks_depend_on_seed_epoch_and_row_only() -> None:
    batch = make_batch(4, 40)
    one, again = mask_batch(batch, PLAIN, 1, 0), mask_batch(batch, PLAIN, 1, 0)
    assert torch.equal(one.batch.ids, again.batch.ids)
    for seed, epoch in ((2, 0), (1, 1)):
        assert not torch.equal(one.batch.ids, mask_batch(batch, PLAIN, seed, epoch).batch.ids)
    last = Batch(*(t[120:] for t in (batch.ids, batch.positions, batch.segments)), (40,), rows=(3,))
    assert torch.equal(mask_batch(last, PLAIN, 1, 0).batch.ids, one.batch.ids[120:])


def test_whole_words_are_chosen_together() -> None:
    batch = make_batch(1000, 102)
    masking = Masking(0.15, True, 4, PLAIN.special, PLAIN.continues)
    masked = mask_batch(batch, masking, 1, 0)
    chosen = np.zeros(len(batch.ids), dtype=bool)
    chosen[masked.indices] = True
    ids = batch.ids.numpy()
    special = np.isin(ids, PLAIN.special)
    inside = PLAIN.continues[ids] & ~special & ~np.roll(special, 1)
    assert np.array_equal(chosen[inside], np.roll(chosen, 1)[inside])
    assert abs(chosen.mean() * 102 / 100 - 0.15) < 3 * band(0.15, 100_000)  # words vary in length


def test_loss_and_gradients_equal_transformers(tiny: BertModel, tmp_path: Path) -> None:
    """On the same masked batch and weights; and what we save, BertForMaskedLM reads."""
    model = MaskedLanguageModel(tiny)
    torch.nn.init.normal_(model.mlm_head.bias)
    save_mlm(model, tmp_path)
    reference = transformers.BertForMaskedLM.from_pretrained(tmp_path).eval()
    ours, new = load_mlm(tmp_path)
    assert not new
    ids = torch.randint(5, 200, (3, 12), generator=torch.Generator().manual_seed(0))
    indices = torch.tensor([2, 5, 13, 30])
    labels = torch.full((36,), -100)
    labels[indices] = ids.view(-1)[indices]
    batch = Batch(ids.view(-1), torch.arange(12).repeat(3), torch.zeros(36).long(), (12,) * 3)
    rows = []
    ours.mlm_head.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    loss = cross_entropy(ours(batch, indices), labels[indices])
    assert rows[0] < 36  # of the masked tokens alone, padded
    expected = reference(ids, labels=labels.view(3, 12)).loss
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=0)
    loss.backward()
    expected.backward()
    pairs = (
        (ours.mlm_head.dense.weight, reference.cls.predictions.transform.dense.weight),
        (ours.mlm_head.bias, reference.cls.predictions.bias),
        (ours.encoder.word_embedding.weight, reference.bert.embeddings.word_embeddings.weight),
    )
    for a, b in pairs:
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=0)


def test_a_checkpoint_without_head_gets_a_new_one(tiny: BertModel, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path)
    assert load_mlm(tmp_path)[1]


def test_a_head_for_words_that_is_not_finite_is_refused(tiny: BertModel, tmp_path: Path) -> None:
    save_mlm(MaskedLanguageModel(tiny), tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    tensors["cls.predictions.bias"][3] = torch.nan
    save_file(tensors, path)
    with pytest.raises(UserError, match=r"model\.safetensors: bias is not finite in every entry"):
        load_mlm(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"text\.txt: the file is empty"),
        (b"fine\nbin\0ary\n", r"text\.txt:2: a binary file"),
        (b"fine\ncaf\xe9\n", r"text\.txt:2: not UTF-8"),
        (b"cat\ndog\n", "2 texts are too few to hold .*--held-out 0"),
    ],
)
def test_bad_corpora(world: Path, content: bytes, message: str) -> None:
    (world / "text.txt").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        pretrain(world, "--corpus", str(world / "text.txt"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("loss", [5000, 300])  # e to the power of 300 is a number, of no report
def test_a_loss_without_bounds_is_one_line(world: Path, monkeypatch, loss: int) -> None:
    monkeypatch.setattr(pretrain_mlm, "cross_entropy", lambda *_: torch.tensor(float(loss)))
    with pytest.raises(
        UserError, match=rf"held-out loss {loss}: training has diverged; .*lower --lr"
    ):
        pretrain(world)


def test_missing_files_are_named_before_weights_are_looked_for(world: Path) -> None:
    with pytest.raises(UserError, match="--corpus and --task-file: write one, to train on files"):
        resolve_arguments({"corpus": ("a.txt",), "task_file": "own.toml"}, TASKS)
    for place, message in (("--data-dir", "no such file; fetch"), ("--corpus", "no such file")):
        with pytest.raises(UserError, match=message):
            pretrain(world, "--model", "/nowhere", place, "nothing-here")
    with pytest.raises(UserError, match=r"a folder; name its files, as in FOLDER/\*.txt"):
        pretrain(world, "--corpus", str(world))
    os.mkfifo(world / "pipe")
    with pytest.raises(UserError, match="pipe: not a plain file"):
        pretrain(world, "--corpus", str(world / "pipe"))
    for again in ("text.txt", "data/../text.txt"):
        with pytest.raises(UserError, match=r"text\.txt: given twice"):
            pretrain(world, "--corpus", str(world / "text.txt"), str(world / again))


def test_the_card_names_the_tasks_that_go_on(world: Path) -> None:
    pretrain(world, "--name", "mlm", "--tasks", "sst", "--epochs", "1")
    card = (world / "runs/mlm/README.md").read_text()
    assert f"train_multitask.py --model {world}/runs/mlm --data-dir DIR --tasks sst\n" in card


def test_texts_without_a_word_to_guess(world: Path) -> None:
    """More than a twentieth of the texts is never held out: no flag could have raised that."""
    (world / "text.txt").write_text("red cat\n" * 40)
    few = ["--corpus", str(world / "text.txt"), "--mask-rate", "0.01"]
    message = r"nothing to guess in 2 held-out texts \(a twentieth of all at most\): raise --mask"
    with pytest.raises(UserError, match=message):
        pretrain(world, *few, "--held-out", "3")
    with pytest.raises(UserError, match="nothing to guess in 2 held-out texts: raise --mask-rate"):
        pretrain(world, *few, "--held-out", "2")


def test_the_next_command_is_of_the_same_tasks_of_a_file(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--model", str(own / "model"), "--data-dir", str(own / "data"), "--epochs", "1"]
    where += ["--output-dir", str(own / "runs"), "--held-out", "0"]
    tasks = ["--task-file", str(own / "own.toml"), "--tasks", "intent,stars"]
    pretrain_mlm.main([*where, *tasks])
    assert capsys.readouterr().out.splitlines()[-1].endswith(" ".join(tasks))


def pretrain(world: Path, *extra: str) -> None:
    base = arguments(world)[:-4]  # without --tasks and --epochs
    pretrain_mlm.main([*base, "--epochs", "3", *extra])


@pytest.mark.parametrize("option", [[], ["--whole-word"]])
def test_stopped_and_resumed_is_bitwise_the_same(world: Path, option: list[str]) -> None:
    pretrain(world, "--name", "whole", "--keep", "best", *option)
    with killed_after(10, pretrain_mlm):
        pretrain(world, "--name", "cut", "--save-minutes", "0", "--keep", "best", *option)
    pretrain_mlm.main(["--resume", str(world / "runs/cut")])
    for folder in ("last", "best"):
        models = (load_mlm(world / "runs" / name / folder)[0] for name in ("whole", "cut"))
        whole, cut = (model.state_dict() for model in models)
        assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_it_learns_and_its_run_is_a_model(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "text.txt").write_text("red cat sleeps here\nblue dog runs fast\n" * 200)
    pretrain(world, "--corpus", str(world / "text.txt"), "--name", "mlm", "--lr", "1e-2")
    lines = capsys.readouterr().out.splitlines()
    said = "has no masked-language-model head: it starts from random values"
    assert f"{world / 'model'} {said}" in lines
    before, *_, after = [line for line in lines if "held-out masked tokens: accuracy" in line]
    assert float(before.split("accuracy ")[1][:5]) < 0.2 < float(after.split("accuracy ")[1][:5])
    model = ["--model", str(world / "runs/mlm"), "--name", "fine", "--epochs", "1"]
    train_multitask.main([*arguments(world), *model])
    assert weights(world / "runs/fine/last")


def test_a_head_that_its_file_would_not_hold_is_not_saved(tmp_path: Path) -> None:
    for name, module, message in (
        ("layer_norm", nn.LayerNorm(32, eps=0.1), "layer_norm.eps is 0.1, where its config makes"),
        ("dense", nn.Linear(32, 32, bias=False), "dense.bias is missing, where its config makes"),
    ):
        model = MaskedLanguageModel(BertModel(TINY))
        setattr(model.mlm_head, name, module)
        with pytest.raises(UserError, match=message):
            save_mlm(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_head_whose_file_repeats_one_number_trains(tmp_path: Path) -> None:
    """As torch.save keeps an expanded tensor: in memory it is one number for all words."""
    save_mlm(MaskedLanguageModel(BertModel(TINY)), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["cls.predictions.bias"] = torch.zeros(1).expand(TINY.vocab_size)
    (tmp_path / "model.safetensors").unlink()
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    model, _ = load_mlm(tmp_path)
    assert model.mlm_head.bias.is_contiguous()
    with torch.no_grad():
        model.mlm_head.bias += 1


def test_a_mask_that_stands_in_a_text_is_no_word_to_guess() -> None:
    tokenizer = BertTokenizer.from_pretrained("all-MiniLM-L6-v2")
    masking = Masking.of(tokenizer, 0.5, whole_word=False)
    encoded = tokenizer(["red [MASK] cat"] * 50)
    ids = encoded["input_ids"]
    batch = Batch(
        ids.flatten(), torch.arange(ids.shape[1]).repeat(50), torch.zeros(ids.numel()).long(),
        (ids.shape[1],) * 50, rows=tuple(range(50)),
    )  # fmt: skip
    targets = set(mask_batch(batch, masking, 1, 0).targets.tolist())
    assert targets == {*tokenizer("red cat")["input_ids"][0, 1:-1].tolist()}


def test_a_head_by_its_names_of_2018_is_read(tiny: BertModel, tmp_path: Path) -> None:
    """As the published bert-base-uncased has them, from which pre-training goes on by default."""
    model, path = MaskedLanguageModel(tiny), tmp_path / "model.safetensors"
    nn.init.normal_(model.mlm_head.layer_norm.bias)
    save_mlm(model, tmp_path)
    tensors = load_file(path)
    for now, then in (("Norm.weight", "Norm.gamma"), ("Norm.bias", "Norm.beta")):
        tensors = {name.replace(now, then): tensor for name, tensor in tensors.items()}
    save_file(tensors, path)
    loaded, is_new = load_mlm(tmp_path)
    assert not is_new
    assert torch.equal(loaded.mlm_head.layer_norm.bias, model.mlm_head.layer_norm.bias)
