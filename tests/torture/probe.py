"""A script for the tests: load a model directory as all scripts do and print what comes out."""

import json
from pathlib import Path

import torch

from minbert.data.tokenizer import BertTokenizer
from minbert.errors import UserError
from minbert.model.encoder import BertModel

TEXTS = ["red cat runs", "Old dog sleeps here, slowly [MASK]"]


def main(argv: list[str]) -> int:
    """Print the ids and the pooled outputs of two texts. Raises UserError as a script does."""
    directory = Path(argv[0])
    model = BertModel.from_pretrained(directory)
    tokenizer = BertTokenizer.from_directory(directory)
    tokenizer.check_fits(model.config.vocab_size)
    positions = model.config.max_position_embeddings
    if positions < 4:
        raise UserError(f"{directory}: {positions} positions are no model")
    rows = [encoding.ids for encoding in tokenizer.encode_batch(TEXTS, None, positions)]
    with torch.no_grad():
        outputs = [model(torch.tensor([ids]), torch.ones(1, len(ids)).long()) for ids in rows]
    pooled = [output["pooler_output"] for output in outputs]
    if not all(torch.isfinite(vector).all() for vector in pooled):
        print("NOT FINITE")
    print(json.dumps({"ids": rows, "sums": [float(vector.double().sum()) for vector in pooled]}))
    return 0
