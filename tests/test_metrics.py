"""Metrics against scipy and scikit-learn; schedules and losses against their formulas."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch

from minbert import losses, metrics
from minbert.metrics import RESAMPLES
from minbert.task.task import has_2024_form
from minbert.training.schedule import learning_rate, warmup_steps
from tasks import TASKS

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 2, 300).astype(np.float32)
GUESSES = np.where(RNG.random(300) < 0.7, LABELS, 1 - LABELS)
SCORES = RNG.integers(0, 11, 300) / 2.0  # with ties
OUTPUTS = np.round(SCORES + RNG.normal(0, 2, 300), 1)


def test_a_form_of_2024_is_shown_for_the_course_s_tasks_with_a_correlation() -> None:
    sst, sts = TASKS["sst"], TASKS["sts"]
    own = replace(sts, columns=replace(sts.columns, course=False))
    assert has_2024_form([sst, sts])
    assert not has_2024_form([sst]) and not has_2024_form([own]) and not has_2024_form([sst, own])


def test_same_as_the_libraries() -> None:
    import sklearn.metrics  # slow

    assert metrics.accuracy(GUESSES, LABELS) == sklearn.metrics.accuracy_score(LABELS, GUESSES)
    assert metrics.f1(GUESSES, LABELS) == pytest.approx(sklearn.metrics.f1_score(LABELS, GUESSES))
    pearson = scipy.stats.pearsonr(OUTPUTS, SCORES).statistic
    assert metrics.pearson(OUTPUTS, SCORES) == pytest.approx(pearson, abs=1e-12)
    spearman = scipy.stats.spearmanr(OUTPUTS, SCORES).statistic
    assert metrics.spearman(OUTPUTS, SCORES) == pytest.approx(spearman, abs=1e-12)


def test_macro_f1_is_scikit_learn_s() -> None:
    """Also with classes that are never predicted, and predicted ones that are not there."""
    labels, guesses = RNG.integers(0, 5, 200) * 2.0, RNG.integers(2, 8, 200) * 1.0
    import sklearn.metrics

    expected = sklearn.metrics.f1_score(labels, guesses, average="macro")
    assert metrics.macro_f1(guesses, labels) == pytest.approx(expected, abs=1e-12)


def test_nan_where_nothing_is_defined() -> None:
    """NaN for constants, however their mean is rounded, and for a NaN among the numbers."""
    for value in (2.5, 0.1, 4.2):
        for n in (2, 3, 7, 300):
            constant, other = np.full(n, value), np.arange(n)
            for a, b in ((constant, other), (other, constant), (constant, constant)):
                assert math.isnan(metrics.pearson(a, b)) and math.isnan(metrics.spearman(a, b))
    broken = np.array([1.0, np.nan, 3.0])
    assert math.isnan(metrics.pearson(broken, np.arange(3)))
    assert math.isnan(metrics.spearman(np.arange(3), broken))
    assert math.isnan(metrics.spearman(broken, np.arange(3)))
    assert math.isnan(metrics.pearson(np.ones(1), np.ones(1)))
    low, high = metrics.bootstrap_interval(metrics.pearson, np.ones(9), np.arange(9))
    assert math.isnan(low) and math.isnan(high)
    assert metrics.f1(np.zeros(5), np.zeros(5)) == 0.0


@pytest.mark.parametrize("factor", [1e200, 1e-200, 1e-320, 1e300])
def test_numbers_near_the_ends_of_a_float(factor: float) -> None:
    x, y = np.array([1.0, 2.0, 4.0, 3.0]), np.array([2.0, 1.0, 5.0, 4.0])
    assert metrics.pearson(x * factor, y) == pytest.approx(metrics.pearson(x, y), rel=1e-3)


def test_overall_in_both_forms() -> None:
    raw, form_2024 = metrics.overall({"sst": 0.5, "quora": 0.8, "sts": 0.6}, {"sts"})
    assert raw == pytest.approx(1.9 / 3) and form_2024 == pytest.approx((0.5 + 0.8 + 0.8) / 3)


def test_bootstrap_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """About 1.96 standard errors of a share on either side; the same one every time."""
    monkeypatch.setattr(metrics, "RESAMPLES", RESAMPLES)  # as it was before few_resamples
    low, high = metrics.bootstrap_interval(metrics.accuracy, GUESSES, LABELS)
    value = metrics.accuracy(GUESSES, LABELS)
    half = 1.96 * math.sqrt(value * (1 - value) / 300)
    assert low == pytest.approx(value - half, abs=0.01)
    assert high == pytest.approx(value + half, abs=0.01)
    assert (low, high) == metrics.bootstrap_interval(metrics.accuracy, GUESSES, LABELS)


def test_losses_are_their_formulas() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(6, 5), torch.tensor([0, 4, 2, 2, 1, 3])
    p = x.double().softmax(-1)[torch.arange(6), y]
    assert losses.cross_entropy(x, y.float()).item() == pytest.approx(-p.log().mean().item(), 1e-6)
    x, y = torch.randn(6, 1), torch.tensor([0.0, 1, 1, 0, 1, 0])
    s = x.double().squeeze(1).sigmoid()
    expected = -(y * s.log() + (1 - y) * (1 - s).log()).mean().item()
    assert losses.binary_cross_entropy(x, y).item() == pytest.approx(expected, 1e-6)
    expected = (x.double().squeeze(1) - y).square().mean().item()
    assert losses.mean_squared_error(x, y).item() == pytest.approx(expected, 1e-6)


def test_learning_rates() -> None:
    def curve(schedule: str, warmup: float) -> list[float]:
        return [learning_rate(step, 10, 1.0, schedule, warmup) for step in range(10)]

    assert curve("constant", 0) == [1.0] * 10
    assert curve("constant", 4)[:5] == [0.25, 0.5, 0.75, 1.0, 1.0] == curve("constant", 0.4)[:5]
    assert curve("linear", 0) == pytest.approx([1 - i / 10 for i in range(10)])
    assert curve("linear", 5)[5:] == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    cosine = [0.5 * (1 + math.cos(math.pi * i / 10)) for i in range(10)]
    assert curve("cosine", 0) == pytest.approx(cosine)
    assert warmup_steps(1.0, 100) == 1  # a number of steps, no share
    assert [warmup_steps(share, 100) for share in (0.29, 0.57, 0.1, 0.999)] == [29, 57, 10, 99]


def test_scores_over_seeds_have_their_ends() -> None:
    summary = metrics.summarize_seeds([{"a": 2.0}, {"a": 1.0}, {"a": 6.0}])["a"]
    assert summary == {"mean": 3.0, "spread": pytest.approx(7**0.5), "lowest": 1.0, "highest": 6.0}
    assert metrics.summarize_seeds([{"a": 2.0}])["a"]["spread"] is None


def test_an_interval_leaves_out_a_fortieth_of_the_resamples_at_each_end(monkeypatch) -> None:
    monkeypatch.setattr(metrics, "RESAMPLES", 1000)
    values = iter(range(1, 1001))
    ends = metrics.bootstrap_interval(lambda *_: float(next(values)), np.zeros(3), np.zeros(3))
    assert ends == pytest.approx((25.975, 975.025))


def test_an_interval_leaves_out_resamples_without_a_score() -> None:
    """In a small set some resamples have one label only, and no correlation."""
    values = iter([math.nan, *range(1, 20)])  # 20 resamples, see few_resamples
    ends = metrics.bootstrap_interval(lambda *_: float(next(values)), np.zeros(3), np.zeros(3))
    assert ends == pytest.approx((1.45, 18.55))
