"""A split's ids on the disk: a file that has not changed is tokenized once."""

import hashlib
import json
from functools import partial
from pathlib import Path

import numpy as np

from minbert.data.encoded import EncodedSplit, encode_files
from minbert.data.examples import Columns, Files, paths_of
from minbert.data.long_texts import HEAD_ONLY
from minbert.data.tables import file_ending
from minbert.data.tokenizer import BertTokenizer
from minbert.files import has_its_hash, remove_unfinished, replaced_file, write_hash
from minbert.manifest import check_unchanged, sha256_of

CACHE = ".ids"  # in --output-dir: the ids of data files and corpora, for all runs
CACHE_VERSION = b"9"  # change it when the same files give other arrays, or of another meaning


def load_split(
    files: Files,
    columns: Columns,
    labelled: bool,
    tokenizer: BertTokenizer,
    max_length: int,
    cache_dir: Path | None = None,
    siamese: bool = False,
    long: str = HEAD_ONLY,
) -> EncodedSplit:
    """Read and tokenize a split's files, or take its arrays from the cache of the same files."""
    paths = paths_of(files)
    encode = partial(
        encode_files, files, columns, labelled, tokenizer, max_length, siamese, long
    )  # fmt: skip
    if cache_dir is None or not all(path.is_file() for path in paths):
        return encode()
    hashes = {path: sha256_of(path) for path in paths}
    key = hashlib.sha256(CACHE_VERSION + "".join(hashes[path] for path in paths).encode())
    key.update(tokenizer.fingerprint)
    kinds = [file_ending(path) for path in paths]
    named = list(map(str, paths)) if len(paths) > 1 else []  # `left_out` names the files
    read_as = (columns, labelled, max_length, siamese, long, kinds, named)
    key.update(repr(read_as).encode())
    cache = cache_dir / f"{paths[0].stem}-{key.hexdigest()[:16]}.npz"
    if split := read_cache(cache):
        return split
    split = encode()
    check_unchanged(hashes)  # else a changed file's ids would be kept under its earlier hash
    write_cache(split, cache)
    return split


def write_cache(split: EncodedSplit, path: Path) -> None:
    """Write a split's arrays, whole or not at all, and beside them their file's hash."""
    remove_unfinished(path.parent)
    arrays = {name: x for name, x in vars(split).items() if x is not None}
    arrays["left_out_counts"] = json.dumps(split.left_out_counts)
    with replaced_file(path) as file:
        np.savez(file, **arrays)
    write_hash(path)


def read_cache(path: Path) -> EncodedSplit | None:
    """Read what `write_cache` wrote; None if it is not there or has another hash.

    A damaged cache costs only time: it is written anew. Nothing of it is read before its hash.
    """
    if not has_its_hash(path):
        return None
    with np.load(path) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    values["left_out"] = str(values["left_out"])
    values["left_out_counts"] = json.loads(str(values["left_out_counts"]))
    return EncodedSplit(**values)
