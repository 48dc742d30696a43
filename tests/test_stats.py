"""Statistics against SciPy and closed forms, and what they say of samples too small for them."""

import itertools

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, ttest_ind
from scipy.stats import t as student_t

from analysis import stats

NORMAL = np.random.default_rng(1).normal(0, 1, (2, 20))
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


def test_difference_of_means_has_the_interval_of_scipy() -> None:
    a, b = NORMAL[0], 3 * NORMAL[1][:15] + 1
    found = stats.mean_difference(a, b, 0.9)
    expected = ttest_ind(a, b, equal_var=False).confidence_interval(0.9)
    assert found == pytest.approx((a.mean() - b.mean(), expected.low, expected.high))
    # it leaves out 0 just when the test says so
    assert stats.welch(a, b + stats.mean_difference(a, b, 0.95).low) == pytest.approx(0.05)
    assert stats.mean_difference([1.0], [3.0])[0] == -2
    assert np.isnan(stats.mean_difference([1.0], [3.0])[1:]).all()


def test_mann_whitney_is_scipys() -> None:
    assert stats.mann_whitney(*NORMAL) == mannwhitneyu(*NORMAL).pvalue
    assert stats.mann_whitney([1, 2, 3], [4, 5, 6]) == pytest.approx(2 / 20)  # exact: 2 of the 20 orders are as extreme
    assert np.isnan(stats.mann_whitney([], [1.0]))
    assert stats.mann_whitney([2.0, 2.0], [2.0, 2.0]) == 1


def test_hedges_g_by_hand() -> None:
    # means 2 and 5, pooled variance (2 x 1 + 2 x 4) / 4 = 2.5; exact correction for 4 degrees of freedom: 0.797885
    assert stats.hedges_g([1, 2, 3], [3, 5, 7]).estimate == pytest.approx(-3 / np.sqrt(2.5) * 0.7978845608)
    assert np.isnan(stats.hedges_g([1, 2, 3], [3, 5, 7])[1:]).all()  # too few for a bootstrap
    found = stats.hedges_g(*NORMAL)
    assert found.low < found.estimate < found.high
    assert stats.hedges_g(*NORMAL) == found  # seeded
    reverse = stats.hedges_g(*NORMAL[::-1])
    assert reverse.estimate == pytest.approx(-found.estimate)
    assert np.isnan(stats.hedges_g([1, 1], [2, 2]).estimate)


def test_probability_of_improvement_counts_pairs_and_ties() -> None:
    assert stats.probability_of_improvement([1, 3], [2, 3, 4, np.nan]).estimate == pytest.approx(4.5 / 6)
    a, b = NORMAL
    statistic = mannwhitneyu(b, a).statistic
    assert stats.probability_of_improvement(a, b).estimate == pytest.approx(statistic / 400)


def test_probability_of_improvement_has_an_interval_that_covers() -> None:
    rng = np.random.default_rng(0)
    truth = 0.638163  # of N(0, 1) below N(1/2, 1): Phi(1 / (2 sqrt 2))
    intervals = [stats.probability_of_improvement(rng.normal(0, 1, 12), rng.normal(0.5, 1, 12)) for _ in range(400)]
    covered = np.mean([i.low <= truth <= i.high for i in intervals])
    assert 0.93 <= covered <= 0.99
    apart = stats.probability_of_improvement([1, 2, 3], [4, 5, 6])
    assert (apart.estimate, apart.high) == (1, 1) and 0.4 < apart.low < 0.9
    assert stats.probability_of_improvement([4, 5, 6], [1, 2, 3]).high == pytest.approx(1 - apart.low, abs=1e-6)


def test_expected_best_is_the_mean_over_all_subsets() -> None:
    rng = np.random.default_rng(0)
    select, report = rng.normal(size=6), rng.normal(size=6)
    curve = stats.expected_best(select, report)
    assert list(curve[:, 0]) == [1, 2, 3, 4, 5, 6]
    for n in range(1, 7):
        chosen = [min(subset, key=lambda i: select[i]) for subset in itertools.combinations(range(6), n)]
        assert curve[n - 1, 1] == pytest.approx(report[chosen].mean())
    assert (stats.expected_best(select)[:, 2] <= stats.expected_best(select)[:, 3]).all()


def test_expected_best_counts_a_diverged_trial_as_the_worst() -> None:
    assert stats.expected_best([3.0, np.inf, 1.0, np.nan])[:, 1] == pytest.approx([7 / 3, 5 / 3, 1])
    np.testing.assert_array_equal(stats.expected_best([4.0]), [[1, 4, np.nan, np.nan]])
    assert stats.expected_best([np.inf, np.nan]).shape == stats.expected_best([]).shape == (0, 4)
    np.testing.assert_allclose(stats.expected_best([2.0] * 200)[:, 1:], 2)


def test_resampled_best_is_centred_on_the_best_and_spreads_as_theory_says() -> None:
    scores = np.random.default_rng(0).normal(size=400)
    means = stats.resampled_best(scores, scores, fraction=1)
    assert means.mean() == pytest.approx(scores.mean(), abs=0.01)
    assert means.std() == pytest.approx(scores.std() / 20, rel=0.1)
    for few in ([], [1.0], [np.inf, np.inf], [np.nan, 1.0]):
        assert np.isnan(stats.resampled_best(few, few, n_resamples=3)).all()
    assert set(stats.resampled_best([1.0, np.inf], [5.0, 6.0], n_resamples=50)[:50]) >= {5.0}


def test_rank_probabilities_by_hand() -> None:
    found = stats.rank_probabilities([[1, 2, np.nan], [2, 1, np.nan], [1, 3, np.nan], [1, 1, np.nan]])
    np.testing.assert_array_equal(found, [[0.75, 0.25, 0], [0.5, 0.5, 0], [np.nan] * 3])
    assert stats.rank_probabilities(np.empty((0, 2))).shape == (2, 2)


def test_power_of_welch_is_that_of_the_textbook_and_of_simulation() -> None:
    assert stats.n_to_settle(0.5, 1, 1) == 64  # Cohen (1988), table 2.4.1: d = 0.5, 80 %
    assert stats.n_to_settle(0.8, 1, 1) == 26
    assert stats.welch_power(0, 1, 1, 20) == pytest.approx(0.05)
    rng = np.random.default_rng(0)
    draws = [stats.welch(rng.normal(1, 1, 15), rng.normal(0, 2, 15)) < 0.05 for _ in range(800)]
    assert stats.welch_power(1, 1, 2, 15) == pytest.approx(np.mean(draws), abs=0.05)
    assert stats.n_to_settle(0, 1, 1) == stats.n_to_settle(1e-9, 1, 1) == np.inf
    assert stats.n_to_settle(500, 1, 1) == 2
    for sds in ((0, 0), (np.nan, 1)):
        assert np.isnan(stats.n_to_settle(1, *sds))
        assert np.isnan(stats.n_to_equivalence(1, *sds, margin=1))


def test_power_of_equivalence_is_that_of_simulation() -> None:
    rng = np.random.default_rng(0)

    def equal() -> bool:
        interval = stats.mean_difference(rng.normal(0.1, 1, 60), rng.normal(0, 1, 60), 0.9)
        return interval.low > -0.5 and interval.high < 0.5

    share = np.mean([equal() for _ in range(400)])
    assert stats.equivalence_power(0.1, 1, 1, 60, margin=0.5) == pytest.approx(share, abs=0.06)
    assert stats.n_to_equivalence(0.6, 1, 1, margin=0.5) == np.inf


def test_pareto_front_leaves_no_better_point_out() -> None:
    cost, score = [3, 1, 2, 2, 5, np.nan, 0], [5, 9, 7, 6, 5, 0, np.inf]
    assert list(stats.pareto_front(cost, score)) == [1, 3, 0]
    assert len(stats.pareto_front([], [])) == len(stats.pareto_front([np.nan], [1])) == 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("a", "b"), list(itertools.product(EDGES, EDGES)))
def test_no_sample_is_too_small_to_be_asked(a: list[float], b: list[float]) -> None:
    n = min(np.isfinite(a).sum(), np.isfinite(b).sum())
    spread = any(np.ptp(np.array(x)[np.isfinite(x)]) > 0 for x in (a, b) if np.isfinite(x).any())
    assert np.isnan(stats.welch(a, b)) == np.isnan(stats.hedges_g(a, b).estimate) == (n < 2 or not spread)
    assert np.isnan(stats.mean_difference(a, b).low) == (n < 2 or not spread)
    assert np.isnan(stats.mean_difference(a, b).estimate) == (n < 1)
    assert np.isnan(stats.probability_of_improvement(a, b).low) == np.isnan(stats.mann_whitney(a, b)) == (n < 1)
