"""Statistics against formulas written out here: interquartile means, intervals, contrasts, the verdict."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import mannwhitneyu

from dreamerjax.experiment import statistics
from dreamerjax.experiment.design import Arm, Contrast
from dreamerjax.experiment.statistics import Estimate, judge, log_rank

NUMBERS = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=8).map(np.array)
LEVELS = list(itertools.product(("1", "2", "3"), ("x", "y")))
GRID = [Arm(a + b, (), levels=(("a", a), ("b", b))) for a, b in LEVELS]


@given(NUMBERS)
def test_interquartile_mean_is_the_mean_of_what_is_left(values: np.ndarray) -> None:
    cut = len(values) // 4
    kept = sorted(values)[cut : len(values) - cut]
    assert statistics.interquartile_mean(values) == pytest.approx(sum(kept) / len(kept))


def test_interquartile_mean_by_hand() -> None:
    assert statistics.interquartile_mean([9.0, 1.0]) == 5
    assert statistics.interquartile_mean([9.0, 1.0, 2.0]) == 4
    assert statistics.interquartile_mean([100.0, 2.0, 4.0, -100.0]) == 3
    assert statistics.interquartile_mean([0.1] * 7) == 0.1  # not a rounding error beside it
    np.testing.assert_array_equal(statistics.interquartile_mean([[1.0, 5.0], [3.0, 9.0]], axis=0), [2, 7])
    assert np.isnan(statistics.interquartile_mean([]))


@pytest.mark.parametrize(("seeds", "least", "most"), [(5, 0.83, 0.97), (12, 0.89, 0.99)])
def test_the_interval_of_one_arm_holds_the_truth_about_as_often_as_it_says(seeds: int, least: float, most: float) -> None:
    experiments = np.random.default_rng(1).normal(3, 2, size=(seeds, 400))
    _, low, high = statistics.estimate(experiments.T, 0.95)
    assert least < np.mean((low < 3) & (high > 3)) < most


def test_a_higher_confidence_is_a_wider_interval_and_repeats_exactly() -> None:
    values = np.random.default_rng(2).normal(size=8)
    wide, narrow = statistics.estimate(values, 0.99), statistics.estimate(values, 0.5)
    assert values.min() <= wide.low < narrow.low < narrow.value == wide.value < narrow.high < wide.high <= values.max()
    assert statistics.estimate(values, 0.99) == wide


@pytest.mark.parametrize("values", [[], [3.0], [3.0, 3.0], [0.1] * 5])
def test_degenerate_values_give_a_plain_answer(values: list[float]) -> None:
    estimate = statistics.estimate(np.array(values), 0.95)
    few = len(values) < 2
    assert np.isnan([estimate.low, estimate.high]).tolist() == [few, few]
    assert np.isnan(estimate.value) if not values else estimate.value == values[0]
    if not few:
        assert (estimate.low, estimate.high) == (values[0], values[0])


@settings(max_examples=30)
@given(NUMBERS, NUMBERS)
def test_probability_of_improvement_counts_pairs(x: np.ndarray, y: np.ndarray) -> None:
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in x for b in y]
    estimate = statistics.improvement([x], [y], 0.95)
    assert estimate.value == pytest.approx(np.mean(pairs))
    if len({*x, *y}) > 1:  # scipy's p-value is undefined otherwise
        assert estimate.value == pytest.approx(mannwhitneyu(x, y, method="asymptotic").statistic / (len(x) * len(y)))
    if min(len(x), len(y)) > 1:
        assert 0 <= estimate.low <= estimate.high <= 1
    else:
        assert np.isnan(estimate.low)


def test_probability_of_improvement_over_several_arms_is_the_mean_over_pairs_of_arms() -> None:
    x, y, z = np.array([1.0, 2.0]), np.array([0.0, 5.0]), np.array([1.0, 1.0, 9.0])
    whole = statistics.improvement([x], [y, z], 0.95).value
    parts = [statistics.improvement([x], [other], 0.95).value for other in (y, z)]
    assert whole == pytest.approx(np.mean(parts))


def test_contrast_is_the_difference_of_the_means_over_arms() -> None:
    rng = np.random.default_rng(3)
    values = {name: rng.normal(place, 0.1, size=6) for place, name in enumerate("abcd")}
    arms = [Arm(name, ()) for name in "abcde"]  # nothing is asked of e
    contrast = Contrast(treatment=("c", "d"), control=("a", "b"))
    estimate = statistics.contrast_estimate(values, arms, contrast, 0.95)
    middle = {name: np.sort(numbers)[1:-1].mean() for name, numbers in values.items()}
    expected = (middle["c"] + middle["d"]) / 2 - (middle["a"] + middle["b"]) / 2
    assert estimate.value == pytest.approx(expected)
    assert 1.7 < estimate.low < estimate.value < estimate.high < 2.3


def test_every_arm_is_resampled_on_its_own() -> None:
    """If the two arms shared one resampling, equal values would give a difference of exactly zero each time."""
    values = {"a": np.arange(6.0), "b": np.arange(6.0)}
    contrast = Contrast(treatment=("a",), control=("b",))
    estimate = statistics.contrast_estimate(values, [Arm("a", ()), Arm("b", ())], contrast, 0.95)
    assert estimate.low < -1 < estimate.value == 0 < 1 < estimate.high


def test_contrast_of_two_factors_compares_their_ranges() -> None:
    rng = np.random.default_rng(4)
    effect = {"1": 0.0, "2": 10.0, "3": 4.0, "x": 0.0, "y": 3.0}
    values = {a + b: effect[a] + effect[b] + rng.normal(0, 0.01, size=4) for a, b in LEVELS}
    forward = statistics.contrast_estimate(values, GRID, Contrast(factor="a", against="b"), 0.95)
    backward = statistics.contrast_estimate(values, GRID, Contrast(factor="b", against="a"), 0.95)
    assert forward.value == pytest.approx(7, abs=0.05)
    assert 6.9 < forward.low < forward.high < 7.1
    assert backward.value == pytest.approx(-forward.value)
    means = statistics.level_means({name: numbers.mean() for name, numbers in values.items()}, GRID, "a")
    assert list(means) == ["1", "2", "3"]
    assert means["2"] == pytest.approx(11.5, abs=0.05)


def test_a_contrast_with_one_seed_has_no_interval() -> None:
    values = {"a": np.array([5.0]), "b": np.array([1.0, 2.0])}
    contrast = Contrast(treatment=("a",), control=("b",))
    estimate = statistics.contrast_estimate(values, [Arm("a", ()), Arm("b", ())], contrast, 0.95)
    assert estimate.value == 3.5
    assert judge(estimate, higher=True, by=1).name == "inconclusive"


@pytest.mark.parametrize(
    ("value", "low", "high", "by", "name", "reason"),
    [
        (75, 60, 90, 50, "supported", "[60, 90] lies above 0 and the estimate 75 reaches 50"),
        (50, 1, 90, 50, "supported", "reaches 50"),
        (49, 1, 90, 50, "inconclusive", "lies above 0 and holds 50, which the estimate does not reach"),
        (75, 0, 90, 50, "inconclusive", "[0, 90] excludes neither 0 nor 50"),
        (20, -20, 50, 50, "inconclusive", "[-20, 50] excludes neither 0 nor 50"),
        (10, -20, 49, 50, "refuted", "holds 0 and lies below 50"),
        (25, 10, 40, 50, "refuted", "an effect, but smaller than expected"),
        (-60, -90, -30, 50, "refuted", "the opposite of what was expected"),
        (1, -1, 3, 0, "inconclusive", "[-1, 3] does not exclude 0"),
        (2, 1, 3, 0, "supported", "lies above 0"),
        (np.nan, np.nan, np.nan, 5, "inconclusive", "fewer than 2 seeds"),
    ],
)
@pytest.mark.parametrize("higher", [True, False])
def test_verdicts(value: float, low: float, high: float, by: float, name: str, reason: str, higher: bool) -> None:
    taken = Estimate(value, low, high)
    verdict = judge(taken if higher else taken.negated(), higher=higher, by=by)
    assert verdict.name == name
    shown = reason if higher else reason.replace("] ", "] of the decrease ")
    assert shown in verdict.reason


def test_log_rank_counts_runs_that_never_got_there_as_censored() -> None:
    fast, slow = np.array([100.0, 200.0, 300.0, 400.0]), np.array([900.0, 1_000.0, 1_000.0, 1_000.0])
    ranked = stats.logrank(fast, stats.CensoredData(uncensored=[900.0], right=[1_000.0] * 3)).pvalue
    assert log_rank(fast, slow, 1_000) == pytest.approx(ranked)
    assert ranked < 0.05
    assert log_rank(fast, slow, 1_000) == pytest.approx(log_rank(slow, fast, 1_000))
    assert log_rank(slow[1:], slow[1:], 1_000) == log_rank(fast, np.empty(0), 1_000) == 1.0


def test_curves_meet_on_a_grid_within_every_one_of_them() -> None:
    line = np.array([0.0, 10.0, 20.0, 30.0])
    shifted = np.array([5.0, 15.0, 25.0])
    grid, curves = statistics.common_grid([(line, 2 * line), (shifted, -shifted)])
    np.testing.assert_array_equal(grid, [5, 10, 15, 20, 25])
    np.testing.assert_allclose(curves, [2 * grid, -grid])


def test_a_grid_never_extrapolates_averages_ties_and_leaves_out_what_is_not_finite() -> None:
    grid, curves = statistics.common_grid([(np.array([1.0, 1.0, 2.0, 3.0]), np.array([4.0, 6.0, 0.0, np.nan]))])
    np.testing.assert_array_equal(grid, [1, 2])
    np.testing.assert_array_equal(curves, [[5, 0]])
    apart = [(np.array([0.0, 1.0]), np.zeros(2)), (np.array([2.0, 3.0]), np.zeros(2))]
    assert statistics.common_grid(apart)[1].shape == (2, 0)
    assert statistics.common_grid([(np.zeros(1), np.full(1, np.nan))])[0].shape == (0,)
    many = np.arange(5_000.0)
    assert statistics.common_grid([(many, many)])[0].shape == (statistics.GRID,)


def test_a_band_is_the_interval_of_every_point() -> None:
    curves = np.random.default_rng(5).normal(size=(6, 3))
    middle, low, high = statistics.estimate(curves.T, 0.9)
    for point in range(3):
        estimate = statistics.estimate(curves[:, point], 0.9)
        assert middle[point] == pytest.approx(estimate.value)
        assert low[point] == pytest.approx(estimate.low, abs=0.15)
        assert high[point] == pytest.approx(estimate.high, abs=0.15)
    assert np.isnan(statistics.estimate(curves[:1].T, 0.9)[1]).all()
    assert statistics.estimate(curves[:, :0].T, 0.9)[0].shape == (0,)
