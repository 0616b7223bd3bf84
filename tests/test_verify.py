"""evaluate.py --verify against a reference made with transformers."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file

import evaluate
from minbert import BertModel, UserError
from minbert.weights.resolve import resolve
from minbert.weights.verify import emit_reference, read_reference, sanity_inputs, verify
from tests.conftest import TINY, run


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("reference") / "minilm.safetensors"
    model = transformers.BertModel.from_pretrained(resolve("all-MiniLM-L6-v2")).eval()
    inputs = sanity_inputs()
    with torch.no_grad():
        out = model(**inputs, output_hidden_states=True)
    tensors = {"last_hidden_state": out.last_hidden_state, "pooler_output": out.pooler_output}
    tensors |= {f"hidden_states.{i}": h.clone() for i, h in enumerate(out.hidden_states)}
    save_file({k: v.clone().contiguous() for k, v in (inputs | tensors).items()}, path)
    return path


def test_passes_against_transformers(reference: Path, capsys) -> None:
    assert evaluate.main(["--verify", str(reference), "--model", "all-MiniLM-L6-v2"]) == 0
    assert "PASS" in capsys.readouterr().out


def test_one_changed_weight_names_its_layer(reference: Path, tmp_path: Path, capsys) -> None:
    model = BertModel.from_pretrained("all-MiniLM-L6-v2")
    with torch.no_grad():
        model.bert_layers[3].interm_dense.weight[5, 7] += 1.0
    model.save_pretrained(tmp_path)
    assert evaluate.main(["--verify", str(reference), "--model", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "first diverging layer: encoder.layer.3" in out and "FAIL" in out
    form = r"^last_hidden_state +max (\S+)  mean (\S+)  outside (\S+)%  worst at \["
    largest, mean, outside = map(float, re.search(form, out, re.M).groups())
    assert largest > mean > 0 and 0 < outside <= 100


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pt", ".data"])
def test_emitted_reference_verifies(tiny: BertModel, tmp_path: Path, suffix: str) -> None:
    tiny.save_pretrained(tmp_path / "model")
    for job in ("--emit", "--verify"):
        file = str(tmp_path / f"ref{suffix}")
        assert evaluate.main([job, file, "--model", str(tmp_path / "model")]) == 0


@pytest.mark.parametrize(
    ("words", "positions"), [(30522, 512), (17954, 8), (17953, 8), (30522, 3), (1, 1)]
)
def test_the_inputs_of_a_reference_fit_its_model(
    tmp_path: Path, words: int, positions: int
) -> None:
    """A file without inputs is of others' making: a model that they do not fit is not compared."""
    config = replace(TINY, vocab_size=words, max_position_embeddings=positions)
    BertModel(config).save_pretrained(tmp_path / "model")
    file, model = tmp_path / "ref.pt", ["--model", str(tmp_path / "model")]
    for job in ("--emit", "--verify"):
        assert evaluate.main([job, str(file), *model]) == 0
    reference, expected = read_reference(file), sanity_inputs()
    as_it_is = words > 17953 and positions >= 8
    for name in expected:
        assert reference[name].shape == (2, min(8, positions))
        assert torch.equal(reference.pop(name), expected[name]) or not as_it_is
    torch.save(reference, file)
    if as_it_is:
        assert evaluate.main(["--verify", str(file), *model]) == 0
        return
    with pytest.raises(UserError, match="no input_ids in it, so they are bert-base-uncased's"):
        evaluate.main(["--verify", str(file), *model])


def test_a_reference_with_nan_fails_in_json_too(tiny: BertModel, tmp_path: Path, capsys) -> None:
    tiny.save_pretrained(tmp_path / "model")
    model = ["--model", str(tmp_path / "model")]
    ids = np.array([[1, 2, 3]])
    states = np.full((1, 3, tiny.config.hidden_size), np.nan, dtype=np.float32)
    np.savez(tmp_path / "ref.npz", input_ids=ids, last_hidden_state=states)
    assert evaluate.main(["--verify", str(tmp_path / "ref.npz"), *model, "--json"]) == 1
    report = json.loads(capsys.readouterr().out.splitlines()[-1], parse_constant=pytest.fail)
    assert report["tensors"]["last_hidden_state"]["max"] is None


@pytest.mark.parametrize("more", [{}, {"logits.sst": torch.zeros(1, 5)}])
def test_a_reference_with_nothing_to_compare_does_not_pass(
    tiny: BertModel, tmp_path: Path, more: dict[str, torch.Tensor]
) -> None:
    tiny.save_pretrained(tmp_path / "model")
    torch.save({"input_ids": torch.tensor([[1, 2, 3]]), **more}, tmp_path / "ref.pt")
    words = ["--verify", str(tmp_path / "ref.pt"), "--model", str(tmp_path / "model")]
    with pytest.raises(UserError, match="cannot compare"):
        evaluate.main(words)


def test_infinite_numbers_of_a_reference_are_not_met(tiny: BertModel, tmp_path: Path) -> None:
    """As half precision has them where it overflows."""
    tiny.save_pretrained(tmp_path / "model")
    states = np.full((1, 3, tiny.config.hidden_size), np.inf, dtype=np.float32)
    ids = np.array([[2, 7, 3]])
    np.savez(tmp_path / "ref.npz", input_ids=ids, last_hidden_state=states)
    words = ["--verify", str(tmp_path / "ref.npz"), "--model", str(tmp_path / "model")]
    assert evaluate.main(words) == 1


def test_heads_of_a_run_that_are_not_compared_are_named(world: Path, capsys) -> None:
    run(world, "--name", "run", "--pooling", "mean,sst=cls", "--epochs", "1")
    capsys.readouterr()
    reference = str(world / "ref.safetensors")
    assert evaluate.main(["--emit", reference, "--model", str(world / "runs/run")]) == 0
    out = capsys.readouterr().out
    assert "left out, as they are no plain linear map of BERT's pooler: the heads of sts\n" in out
    assert "logits.sst" in read_reference(Path(reference))


def test_a_pickle_with_code_is_refused(tiny: BertModel, tmp_path: Path) -> None:
    torch.save({"last_hidden_state": print}, tmp_path / "bad.pt")
    tiny.save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match="could run code"):
        evaluate.main(["--verify", str(tmp_path / "bad.pt"), "--model", str(tmp_path / "model")])


def test_a_reference_whose_names_are_numbers_is_refused(tiny: BertModel, tmp_path: Path) -> None:
    reference = {"input_ids": torch.tensor([[2, 5, 3]]), 0: torch.zeros(1, 3, 32)}
    torch.save(reference, tmp_path / "bad.pt")
    tiny.save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match="cannot compare 0; known are"):
        evaluate.main(["--verify", str(tmp_path / "bad.pt"), "--model", str(tmp_path / "model")])


def test_a_reference_without_numbers_is_refused(tiny: BertModel, tmp_path: Path) -> None:
    torch.save({"last_hidden_state": torch.zeros(2, 8, 32, device="meta")}, tmp_path / "bad.pt")
    tiny.save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match="last_hidden_state is a Tensor, not a dense tensor"):
        evaluate.main(["--verify", str(tmp_path / "bad.pt"), "--model", str(tmp_path / "model")])


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pt"])
def test_a_damaged_reference_is_one_line(tmp_path: Path, suffix: str) -> None:
    """Wherever it is cut and whichever third byte is another: refused in one line, or read."""
    file, tensor = tmp_path / f"ref{suffix}", torch.arange(64.0).view(2, 4, 8)
    if suffix == ".safetensors":
        save_file({"last_hidden_state": tensor}, file)
    elif suffix == ".npz":
        np.savez_compressed(file, last_hidden_state=tensor.numpy())
    else:
        torch.save({"last_hidden_state": tensor}, file)
    whole, refused = file.read_bytes(), 0
    for place in range(0, len(whole), 3):
        other = bytes([whole[place] ^ 64])
        for damaged in (whole[:place], whole[:place] + other + whole[place + 1 :]):
            file.write_bytes(damaged)
            try:
                read_reference(file)
            except UserError as error:
                refused += 1
                assert str(error).startswith(f"{file}: ") and "\n" not in str(error)
    assert refused > len(whole) / 3  # every file that is cut, and many of the others


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--verify", "none.safetensors"], "none.safetensors: no such file; make one with --emit"),
        (
            ["--emit", "out.txt"],
            r"--emit out.txt: end the name in .safetensors, .npz, .pt or .data",
        ),
    ],
)
def test_a_mistake_in_a_file_s_name_is_said_before_a_model_is_looked_for(
    words: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        evaluate.main([*words, "--model", "/nowhere"])


SHAPED = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])[:, None, None]  # as attention adds it
ADDED = torch.tensor([[0, 0, -10_000, -10_000], [0, 0, 0, 0]])  # to scores: 0 is a real token


@pytest.mark.parametrize("mask", [
    SHAPED, SHAPED.flatten(1), SHAPED.bool(), SHAPED.float(), ADDED, ADDED.float()[:, None, None],
    SHAPED.to(torch.uint16), SHAPED.to(torch.float8_e5m2),
])  # fmt: skip
def test_a_mask_may_be_any_that_a_model_takes(
    tiny: BertModel, tmp_path: Path, mask: torch.Tensor
) -> None:
    """And positions of padding do not count with it, either; those of real tokens do."""
    tiny.save_pretrained(tmp_path / "model")
    ids = torch.tensor([[1, 2, 9, 9], [5, 6, 7, 8]])
    hidden = tiny(ids, attention_mask=mask.float()).last_hidden_state.detach()
    hidden[0, 2:] = 0.3
    file, words = tmp_path / "ref.pt", ["--model", str(tmp_path / "model")]
    changes = ((0, 0, 0.0, 0), (1, 3, 1e-2, 1), (1, 3, -1e-2, 0), (0, 1, 1e-2, 1))
    for row, column, change, code in changes:
        hidden[row, column, 0] += change
        torch.save({"input_ids": ids, "attention_mask": mask, "last_hidden_state": hidden}, file)
        assert evaluate.main(["--verify", str(file), *words]) == code


IDS = torch.tensor([[1, 2, 3]])


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ([1], "holds a list, not a dict of tensors"),
        ({"input_ids": IDS.float()}, "input_ids has the type torch.float32; ids are whole numbers"),
        (
            {"input_ids": IDS, "last_hidden_state": torch.zeros(1, 3, 32, dtype=torch.complex64)},
            "last_hidden_state has the type torch.complex64; a model has real numbers",
        ),
        ({"attention_mask": IDS}, "has attention_mask but no input_ids"),
        (
            {"input_ids": IDS, "last_hidden_state": torch.zeros(1, 3, 8)},
            r"last_hidden_state is \(1, 3, 8\), this model gives \(1, 3, 32\)",
        ),
    ],
)
def test_a_file_that_cannot_be_compared(
    tiny: BertModel, tmp_path: Path, reference: object, message: str
) -> None:
    torch.save(reference, tmp_path / "ref.pt")
    with pytest.raises(UserError, match=f"ref.pt: {message}"):
        verify(tiny, tmp_path / "ref.pt", {}, 1e-5, 0.0)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("word_embedding.weight", "embeddings"),
        ("bert_layers.1.out_dense.weight", "encoder.layer.1"),
        ("pooler_dense.weight", "pooler"),
    ],
)
def test_the_first_part_that_differs_is_named(tmp_path: Path, part: str, said: str) -> None:
    """Of more than ten layers, whose names in the file are not in the order of their numbers."""
    torch.manual_seed(0)
    model = BertModel(replace(TINY, num_hidden_layers=11)).eval()
    emit_reference(model, tmp_path / "ref.pt", {})
    with torch.no_grad():
        weight = model.get_parameter(part)
        weight.add_(torch.randn_like(weight))
    report = verify(model, tmp_path / "ref.pt", {}, 1e-5, 1e-3)
    assert report["first_diverging"] == said and not report["pass"]


def test_a_tensor_s_line_says_how_far_apart_and_where(tiny: BertModel, tmp_path: Path) -> None:
    """Of the real tokens alone."""
    ids, mask = torch.tensor([[1, 2, 9, 9], [5, 6, 7, 8]]), torch.tensor([[1, 1, 0, 0], [1] * 4])
    hidden = tiny(ids, attention_mask=mask).last_hidden_state.detach()
    hidden[1, 2, 5] += 0.5
    hidden[0, 3] += 9
    reference = {"input_ids": ids, "attention_mask": mask, "last_hidden_state": hidden}
    torch.save(reference, tmp_path / "ref.pt")
    row = verify(tiny, tmp_path / "ref.pt", {}, 1e-5, 0.0)["tensors"]["last_hidden_state"]
    size = 6 * TINY.hidden_size
    assert row["worst"] == [1, 2, 5] and row["max"] == pytest.approx(0.5, rel=1e-4)
    assert row["mean"] == pytest.approx(0.5 / size, rel=1e-4)
    assert row["outside"] == pytest.approx(1 / size)
