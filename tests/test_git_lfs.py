"""What a clone without Git LFS has in place of a file is named, wherever the file would be read."""

from collections.abc import Callable
from pathlib import Path

import pytest

from minbert import BertModel, BertTokenizer, UserError
from minbert.data.corpus import corpus_texts
from minbert.data.tables import Dialect, column_names
from minbert.tensors import load_tensors
from minbert.weights.verify import read_reference


def names(path: Path) -> list[str]:
    return column_names(path, Dialect())


def parquet_names(path: Path) -> list[str]:
    pytest.importorskip("pyarrow")
    return names(path)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("model.safetensors", lambda path: BertModel.from_pretrained(path.parent)),
        ("pytorch_model.bin", lambda path: BertModel.from_pretrained(path.parent)),
        ("config.json", lambda path: BertModel.from_pretrained(path.parent)),
        ("vocab.txt", lambda path: BertTokenizer.from_pretrained(path.parent)),
        ("tokenizer.json", lambda path: BertTokenizer.from_pretrained(path.parent)),
        ("heads.safetensors", load_tensors),
        ("a.safetensors", read_reference),
        ("a.npz", read_reference),
        ("a.pt", read_reference),
        ("a.parquet", parquet_names),
        ("a.tsv", names),
        ("a.tsv.gz", names),
        ("a.jsonl.gz", names),
        ("a.txt.gz", lambda path: list(corpus_texts([path]))),
    ],
)
def test_a_pointer_is_named(
    tiny: BertModel, tmp_path: Path, name: str, read: Callable[[Path], object]
) -> None:
    tiny.save_pretrained(tmp_path)
    if name == "pytorch_model.bin":
        (tmp_path / "model.safetensors").unlink()
    path = tmp_path / name
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(UserError, match=f"{name}: a Git LFS pointer, not the file; run `git lfs"):
        read(path)
