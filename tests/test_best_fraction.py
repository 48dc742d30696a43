"""The mean of the best fraction: its errors against closed forms, against simulated searches, and by hand."""

import numpy as np
import pytest
from scipy.stats import t as student_t

from analysis import best_fraction, stats
from analysis.best_fraction import Best, Estimate
from analysis.simulation import Truth, draw


def search(n: int, seed: int, paired_with: int | None = None) -> Best:
    """Scores whose validation and test part go together, partly those of another search."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n) if paired_with is None else np.random.default_rng(paired_with).normal(size=n)
    return best_fraction.best(score + 0.2 * rng.normal(size=n), score + 0.2 * rng.normal(size=n))


def test_variance_of_the_influence_has_a_term_for_the_threshold() -> None:
    n, k = 2000, 200
    scores = np.random.default_rng(0).normal(size=n)
    one = best_fraction.best(scores, scores)
    mean, psi = one.influence(scores)
    picked = np.sort(scores)[:k]
    a, m, s = scores[one.near].mean(), picked.mean(), picked.std()
    assert a == pytest.approx(picked[-1], abs=0.03)
    assert psi.mean() == pytest.approx(0, abs=1e-9) and mean == pytest.approx(m)
    assert psi.var() / n == pytest.approx((s**2 + 0.9 * (a - m) ** 2) / k)


def test_value_at_the_threshold_is_the_mean_on_either_side_of_it() -> None:
    select = np.arange(100.0)
    report = np.where(select < 10, 1.0, 3.0)
    one = best_fraction.best(select, report)
    assert list(one.picked) == list(range(10)) and sorted(one.near) == list(range(5, 15))
    mean, psi = one.influence(report)
    assert mean == 1
    np.testing.assert_allclose(psi[:10], (1 - 2) / 0.1 + 2 - 1)
    np.testing.assert_allclose(psi[10:], 1)


def test_diverged_trials_count_but_are_never_picked_nor_next_to_the_threshold() -> None:
    select, report = np.arange(100.0), np.arange(100.0)
    select[::2], report[::2] = np.inf, np.nan
    one = best_fraction.best(select, report)
    assert list(one.picked) == list(range(1, 20, 2)) and sorted(one.near) == list(range(11, 30, 2))
    assert np.isfinite(one.influence(one.report)[1]).all()
    select[14:] = np.inf  # seven are left, of whom all are picked: their threshold is that they finished
    few = best_fraction.best(select, report)
    assert len(few.picked) == 7 and len(few.near) == 0
    expected = np.where(np.isin(np.arange(100), few.picked), (report - 7) * 100 / 7, 0.0)
    np.testing.assert_allclose(few.influence(few.report)[1], expected)
    with pytest.raises(ValueError, match="no NaN"):
        best_fraction.best([1.0, np.nan], [1.0, 1.0])


def test_standard_error_of_pairs_is_that_of_the_differenced_influence() -> None:
    a, b = search(100, 1, paired_with=0), search(100, 2, paired_with=0)
    (mean_a, psi_a), (mean_b, psi_b) = a.influence(a.report), b.influence(b.report)
    found = best_fraction.difference(a, b, paired=True)
    assert found.value == pytest.approx(mean_a - mean_b)
    assert found.error == pytest.approx((psi_a - psi_b).std(ddof=1) / 10)
    assert found.freedom == len(set(a.picked) | set(b.picked))
    assert found.p == pytest.approx(2 * student_t(found.freedom).sf(abs(found.value) / found.error))
    low, high = found.interval()[1:]
    assert Estimate(found.value - low, found.error, found.freedom, 100).p == pytest.approx(0.05)
    assert (found.lower(0.025), found.upper(0.025)) == (low, high)
    apart = best_fraction.difference(a, b, paired=False)
    assert apart.error == pytest.approx(np.hypot(best_fraction.mean(a).error, best_fraction.mean(b).error))
    assert 9 < apart.freedom <= 18 and apart.error > found.error


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("n", [50, 100])
def test_intervals_cover_and_tests_keep_their_level(paired: bool, n: int) -> None:
    truth = Truth(effects={"a": 0.0, "b": 0.2}, shifts={"a": 0.2, "b": -0.2}, luck_of={"a": 1.5})
    means = truth.best_means()
    drawn = draw(truth, n, paired, np.random.default_rng(n), studies=400)
    covered, error, spread = [], [], []
    for select, test in zip(drawn.select, drawn.test, strict=True):
        vanilla, *others = (best_fraction.best(*both) for both in zip(select, test, strict=True))
        for variant, other in zip(("a", "b"), others, strict=True):
            found = best_fraction.difference(other, vanilla, paired)
            true = means[variant] - means["vanilla"]
            covered.append(found.lower(0.025) <= true <= found.upper(0.025))
            error.append(found.error)
            spread.append(found.value - true)
    assert 0.92 <= np.mean(covered) <= 0.98
    assert np.sqrt(np.mean(np.square(error))) == pytest.approx(np.std(spread), rel=0.12)


def test_pairs_make_the_error_as_small_as_several_times_the_trials_would() -> None:
    means = {}
    for paired in (True, False):
        drawn = draw(Truth({"a": 0.0}), 200, paired, np.random.default_rng(0), studies=50)
        bests = [
            [best_fraction.best(s, t) for s, t in zip(*one, strict=True)]
            for one in zip(drawn.select, drawn.test, strict=True)
        ]
        means[paired] = np.mean([best_fraction.difference(b, a, paired).error for a, b in bests])
    assert (means[False] / means[True]) ** 2 > 4


def test_effect_size_and_probability_of_improvement_by_hand() -> None:
    scores = np.arange(50.0)
    a, b = best_fraction.best(scores, scores), best_fraction.best(scores, scores + 2)  # best: 0 ... 4 and 2 ... 6
    assert best_fraction.effect_size(a, b, True).estimate == pytest.approx(-2 / np.sqrt(2.5) * (1 - 3 / 31))
    assert best_fraction.probability_of_improvement(a, b, True).estimate == pytest.approx((22 - 3 / 2) / 25)
    reverse = best_fraction.probability_of_improvement(b, a, True)
    forth = best_fraction.probability_of_improvement(a, b, True)
    assert (reverse.estimate, reverse.low, reverse.high) == pytest.approx(
        (1 - forth.estimate, 1 - forth.high, 1 - forth.low)
    )
    far = best_fraction.probability_of_improvement(a, best_fraction.best(scores, scores + 100), True)
    reach = student_t(4).ppf(0.975) ** 2 / 5
    assert far == pytest.approx((1, 1 / (1 + reach), 1))  # Wilson's interval of 5 of 5


def test_below_five_best_there_is_an_estimate_and_no_error() -> None:
    a, b = search(44, 1), search(44, 2)
    assert len(a.picked) == 4 and best_fraction.min_trials() == 45 and len(search(45, 1).picked) == 5
    found = best_fraction.difference(a, b, paired=False)
    assert np.isfinite(found.value) and np.isnan([found.error, found.p, *found.interval()[1:]]).all()
    assert np.isnan(best_fraction.effect_size(a, b, False)).all()
    assert np.isnan(best_fraction.probability_of_improvement(a, b, True)).all()
    nothing = best_fraction.best([np.inf], [np.nan])
    assert np.isnan(best_fraction.mean(nothing).value) and np.isnan(best_fraction.difference(a, nothing, False).value)


def test_power_by_the_textbook() -> None:
    estimate = Estimate(0.5, np.sqrt(2 / 64), 126, 64)  # Cohen (1988), table 2.4.1: d = 0.5, n = 64, 80 %
    assert best_fraction.power_to_show(estimate, 0, 0.025) == pytest.approx(0.8, abs=0.005)
    assert best_fraction.power_to_show(estimate, 1.0, 0.025) == pytest.approx(0.8, abs=0.005)
    assert best_fraction.power_to_show(Estimate(0.0, 1.0, 20, 50), 0, 0.05) == pytest.approx(0.05)
    sure = Estimate(0.5, np.sqrt(2 / 50), 1e6, 50)
    assert best_fraction.more_to_show(sure, 0, 0.025) == 13  # 63 by the normal distribution
    more = [best_fraction.more_to_show(Estimate(0.5, 0.2, freedom, 50), 0, 0.025) for freedom in (5, 10, 40, 1e6)]
    assert more == sorted(more, reverse=True) and more[0] > 1.5 * more[-1]  # the less is known of the error
    assert best_fraction.more_to_show(Estimate(5.0, 0.001, 10, 50), 0, 0.025) == 1
    assert best_fraction.more_to_show(Estimate(0.0, 1.0, 20, 50), 0, 0.025) == np.inf
    assert np.isnan(best_fraction.more_to_show(Estimate(0.5), 0, 0.025))
    assert best_fraction.more_to_equivalence(Estimate(0.6, 0.1, 20, 50), 0.5, 0.05) == np.inf


def test_power_is_that_of_simulation() -> None:
    rng = np.random.default_rng(0)
    estimate = Estimate(0.3, 0.1, 10, 50)
    errors = 0.1 * np.sqrt(rng.chisquare(10, 20_000) / 10)
    drawn = [Estimate(value, error, 10, 50) for value, error in zip(rng.normal(0.3, 0.1, 20_000), errors, strict=True)]
    shown = np.mean([one.lower(0.025) > 0 for one in drawn[:2000]])
    assert best_fraction.power_to_show(estimate, 0, 0.025) == pytest.approx(shown, abs=0.03)
    near = [Estimate(one.value - 0.3, one.error, 10, 50) for one in drawn[:2000]]
    equal = np.mean([one.lower(0.05) > -0.3 and one.upper(0.05) < 0.3 for one in near])
    assert best_fraction.power_of_equivalence(Estimate(0.0, 0.1, 10, 50), 0.3, 0.05) == pytest.approx(equal, abs=0.06)


def test_probability_of_being_first_takes_what_pairs_share_into_account() -> None:
    numbers = np.arange(200)
    scores = np.random.default_rng(0).normal(size=200)
    a, b = (best_fraction.best(scores, scores + shift) for shift in (0.0, 0.001))
    together = best_fraction.first_probabilities([a, b], [numbers, numbers])
    apart = best_fraction.first_probabilities([a, b], [numbers, numbers + 200])
    assert together[0] == 1 and apart[0] == pytest.approx(0.5, abs=0.02)
    few = best_fraction.best(scores[:190], scores[:190])
    assert np.isnan(best_fraction.first_probabilities([a, few], [numbers, numbers[:190]])).all()
    assert np.isnan(best_fraction.first_probabilities([a, few, b], [numbers, numbers[:190], numbers])).tolist() == [
        0,
        1,
        0,
    ]
    assert best_fraction.first_probabilities([], []).shape == (0,)


def test_min_trials_is_the_fewest_that_pick_five() -> None:
    for fraction in (0.05, 0.1, 0.25, 1.0):
        n = best_fraction.min_trials(fraction)
        assert len(stats.best_fraction(np.arange(n), fraction)) == 5
        assert len(stats.best_fraction(np.arange(n - 1), fraction)) == 4
