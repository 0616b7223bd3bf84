"""Shared fixtures: a tiny random encoder, the real MiniLM weights, the real data when it is at
hand.
"""

from pathlib import Path

import pytest
import torch

from minbert import BertConfig, BertModel

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

TINY = BertConfig(
    vocab_size=200,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=64,
)


@pytest.fixture
def tiny() -> BertModel:
    torch.manual_seed(0)
    return BertModel(TINY).eval()


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not SHARED_DATA.is_dir():
        pytest.skip("the real data sets are not beside this checkout (../shared/data)")
    return SHARED_DATA
