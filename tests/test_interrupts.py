"""Ctrl-C in the few lines where an evaluation changes weights and counters."""

from pathlib import Path

import pytest

import train_multitask
from minbert.training import averaging
from tests.conftest import run
from tests.processes import assert_same_run


def test_the_mean_is_never_saved_as_the_weights(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C comes when the mean is scored and the weights are about to be put back."""
    options = ["--epochs", "1", "--average", "0.5", "--lr", "1e-2", "--skip-predictions"]
    run(world, "--name", "whole", *options)

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(averaging, "put_back", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(world, "--name", "cut", *options)
    train_multitask.main(["--resume", str(world / "runs/cut")])
    assert_same_run(world, "whole", "cut")
