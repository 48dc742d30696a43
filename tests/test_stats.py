"""Statistics against SciPy and closed forms, and what they say of samples too small for them."""

import itertools
from collections.abc import Iterable

import numpy as np
import pytest
from scipy.stats import fisher_exact, ttest_ind
from scipy.stats import t as student_t

from analysis import stats

EDGES = ([], [1.0], [1.0, 1.0], [1.0, 2.0], [np.nan], [np.inf, 1.0], [1.0, np.nan, 2.0])


@pytest.mark.parametrize(
    ("n", "picked"), [(0, 0), (1, 1), (2, 1), (8, 1), (14, 1), (15, 2), (24, 2), (25, 3), (200, 20)]
)
def test_best_fraction_picks_a_tenth_to_the_nearest_trial_and_at_least_one(n: int, picked: int) -> None:
    scores = np.random.default_rng(0).permutation(n)
    assert list(scores[stats.best_fraction(scores)]) == list(range(picked))


def test_best_fraction_counts_diverged_trials_but_never_picks_them() -> None:
    assert list(stats.best_fraction([3.0, np.inf, 1.0, np.inf], 0.5)) == [2, 0]
    assert list(stats.best_fraction([3.0, np.nan, 1.0, np.nan], 0.5)) == [2]
    assert list(stats.best_fraction([np.inf, np.nan])) == []
    assert list(stats.best_fraction([1.0, 1.0, 1.0], 0.7)) == [0, 1]
    with pytest.raises(ValueError, match="fraction=0"):
        stats.best_fraction([1.0], 0)


def test_welch_by_hand_and_by_scipy() -> None:
    # means 2 and 5, variances 1 and 4: t = -3 / sqrt(1/3 + 4/3) with 25/8.5 degrees of freedom
    t, freedom = -3 / np.sqrt(5 / 3), (5 / 3) ** 2 / ((1 / 3) ** 2 / 2 + (4 / 3) ** 2 / 2)
    assert stats.welch([1, 2, 3], [3, 5, 7]) == pytest.approx(2 * student_t(freedom).cdf(t))
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 20), rng.normal(0.5, 3, 15)
    assert stats.welch(a, b) == pytest.approx(ttest_ind(a, b, equal_var=False).pvalue, rel=1e-12)
    assert stats.welch([*a, np.nan], b) == stats.welch(a, b) == stats.welch(b, a)


@pytest.mark.filterwarnings("error")
def test_welch_tests_nothing_without_two_values_or_any_spread() -> None:
    for a, b in (([], [1, 2]), ([1], [1, 2]), ([1, np.nan], [1, 2]), ([1, 1], [2, 2]), ([1, 1], [1, 1])):
        assert np.isnan(stats.welch(a, b))
    assert stats.welch([1, 1], [2, 3]) < 1


def test_bonferroni_counts_the_tests_made() -> None:
    np.testing.assert_array_equal(stats.bonferroni([0.01, np.nan, 0.4, 0.02]), [0.03, np.nan, 1.0, 0.06])


@pytest.mark.filterwarnings("error")
def test_summaries_of_few_values() -> None:
    assert stats.box([4, 1, 2, 3, np.nan, np.inf]) == dict(n=4, low=1, q1=1.75, median=2.5, q3=3.25, high=4, mean=2.5)
    assert stats.box([])["n"] == 0
    assert np.isnan([stats.box([])["mean"], stats.mean([]), stats.sd([]), stats.sd([1.0])]).all()
    assert stats.sd([1, 3]) == pytest.approx(np.sqrt(2))


def test_holm_by_hand_is_between_no_adjustment_and_bonferroni() -> None:
    p = [0.01, np.nan, 0.04, 0.03, 0.005]
    np.testing.assert_allclose(stats.holm(p), [0.03, np.nan, 0.06, 0.06, 0.02])  # 4 x .005, 3 x .01, 2 x .03, then .06
    assert (stats.holm(p)[[0, 2, 3, 4]] <= stats.bonferroni(p)[[0, 2, 3, 4]]).all()
    assert stats.holm([]).shape == (0,)
    assert np.isnan(stats.holm([np.nan])).all()
    np.testing.assert_array_equal(stats.holm([0.9, 0.8]), [1, 1])


def test_expected_best_is_the_mean_over_all_subsets() -> None:
    rng = np.random.default_rng(0)
    select, report = rng.normal(size=7), rng.normal(size=7)
    curve = stats.expected_best(select, report)
    assert list(curve[:, 0]) == [1, 2, 3]
    for n in range(1, 4):
        assert curve[n - 1, 1] == pytest.approx(mean_of_best(select, report, range(7), n))


def mean_of_best(select: np.ndarray, report: np.ndarray, of: Iterable[int], n: int) -> float:
    chosen = [min(subset, key=lambda i: select[i]) for subset in itertools.combinations(of, n)]
    return float(report[chosen].mean())


def test_band_of_expected_best_is_the_jackknifes() -> None:
    rng = np.random.default_rng(0)
    select, report = rng.normal(size=7), rng.normal(size=7)
    for n, estimate, low, high in stats.expected_best(select, report, level=0.9):
        without = [mean_of_best(select, report, [i for i in range(7) if i != out], int(n)) for out in range(7)]
        reach = student_t(14 / n - 1).ppf(0.95) * np.sqrt(6 / 7 * np.sum((without - np.mean(without)) ** 2))
        assert (low, high) == pytest.approx((estimate - reach, estimate + reach))
    # of the mean, n = 1, it is Student's interval
    of_mean = stats.expected_best(report)[0]
    assert of_mean[3] - of_mean[1] == pytest.approx(student_t(13).ppf(0.975) * report.std(ddof=1) / np.sqrt(7))


def test_band_of_expected_best_covers_up_to_half_of_the_trials() -> None:
    rng = np.random.default_rng(0)
    covered = np.zeros(20)
    for _ in range(400):  # of exponential draws the best of n has the mean 1 / n
        n, _, low, high = stats.expected_best(rng.exponential(size=40)).T
        covered += (low <= 1 / n) & (1 / n <= high)
    assert (covered / 400 > 0.9).all() and (covered / 400 < 0.99).all()


def test_expected_best_counts_a_diverged_trial_as_the_worst() -> None:
    assert stats.expected_best([3.0, np.inf, 1.0, np.nan, 2.0])[:, 1] == pytest.approx([9 / 4, 5 / 3])
    np.testing.assert_array_equal(stats.expected_best([4.0]), [[1, 4, np.nan, np.nan]])
    assert stats.expected_best([np.inf, np.nan]).shape == stats.expected_best([]).shape == (0, 4)
    np.testing.assert_allclose(stats.expected_best([2.0] * 200)[:, 1:], 2)


def test_rates_are_compared_by_mcnemar_and_by_fisher() -> None:
    a, b = [True] * 5 + [False] * 15, [False] * 20
    assert stats.same_rate(a, b, paired=True) == pytest.approx(2 / 32)  # five of five discordant pairs
    assert stats.same_rate(a, b, paired=False) == pytest.approx(fisher_exact([[5, 15], [0, 20]]).pvalue)
    assert stats.same_rate(a, a[::-1], paired=True) == stats.same_rate(a, a, paired=True) == 1
    assert stats.same_rate(a, a[:10], paired=False) < 1 == stats.same_rate(b, b[:3], paired=False)


def test_pareto_front_leaves_no_better_point_out() -> None:
    cost, score = [3, 1, 2, 2, 5, np.nan, 0], [5, 9, 7, 6, 5, 0, np.inf]
    assert list(stats.pareto_front(cost, score)) == [1, 3, 0]
    assert len(stats.pareto_front([], [])) == len(stats.pareto_front([np.nan], [1])) == 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("a", "b"), list(itertools.product(EDGES, EDGES)))
def test_no_sample_is_too_small_to_be_asked(a: list[float], b: list[float]) -> None:
    n = min(np.isfinite(a).sum(), np.isfinite(b).sum())
    spread = any(np.ptp(np.array(x)[np.isfinite(x)]) > 0 for x in (a, b) if np.isfinite(x).any())
    assert np.isnan(stats.welch(a, b)) == (n < 2 or not spread)
