"""Which rows a share of the training rows takes for the dev set."""

import numpy as np
import pytest

from minbert.task.dev_rows import stratified_share


def test_every_class_has_its_share() -> None:
    labels = np.repeat([0.0, 1.0, 2.0], [900, 90, 10])
    chosen = stratified_share(labels, 0.1)
    assert [int(chosen[labels == label].sum()) for label in (0, 1, 2)] == [90, 9, 1]
    assert not np.array_equal(np.flatnonzero(chosen)[:5], np.arange(5))  # at random in a class


def test_low_and_high_scores_have_their_share() -> None:
    scores = np.random.default_rng(1).permutation(1000) / 10
    chosen = np.sort(scores[stratified_share(scores, 0.05)])
    assert len(chosen) == 50 and np.all(np.diff(chosen) < 2.1) and chosen[0] < 2 < 98 < chosen[-1]


@pytest.mark.parametrize(("count", "share", "wanted"), [(2, 0.01, 1), (2, 0.99, 1), (7, 0.5, 4)])
def test_a_few_rows_are_shared_too(count: int, share: float, wanted: int) -> None:
    assert stratified_share(np.zeros(count), share).sum() == wanted


def test_a_class_of_two_rows_has_one_in_the_share() -> None:
    labels = np.array([0.0] * 60 + [1.0] * 40 + [2.0] * 2 + [3.0])
    chosen = stratified_share(labels, 0.1, of_each=True)
    assert [int(chosen[labels == label].sum()) for label in range(4)][2:] == [1, 0]
    assert not stratified_share(labels, 0.02)[labels == 2].any()
    for share in (0.5, 0.99):  # a class keeps a row to train on
        chosen = stratified_share(labels, share, of_each=True)
        assert {*labels[~chosen]} == {0, 1, 2, 3} and {*labels[chosen]} == {0, 1, 2}
    assert stratified_share(np.arange(4.0), 0.5, of_each=True).sum() == 1
