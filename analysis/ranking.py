"""The ranks that tests of all pairs of variants leave open. Pure functions; a lower score is better."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from analysis import stats
from analysis.best_fraction import Estimate
from analysis.stats import ALPHA


def ranks(n_variants: int, differences: Sequence[Estimate]) -> tuple[stats.Floats, stats.Floats]:
    """The lowest and the highest rank of each of V variants that tests of all pairs leave open, after Holm at 5 %.

    They hold for all variants at once with a probability of 95 % (Mogstad et al. 2024).

    Args:
        n_variants: V.
        differences: of the first and the second of each pair, in the order of `itertools.combinations`.

    Returns:
        [V], [V]; NaN for a variant that no test is about.
    """
    low, high, tested = np.ones(n_variants), np.zeros(n_variants), np.zeros(n_variants, bool)
    adjusted = stats.holm([difference.p for difference in differences])
    for pair, difference, p in zip(combinations(range(n_variants), 2), differences, adjusted, strict=True):
        tested[list(pair)] |= not np.isnan(p)
        if p < ALPHA:
            first, second = pair if difference.value < 0 else pair[::-1]
            low[second] += 1
            high[first] -= 1
    return np.where(tested, low, np.nan), np.where(tested, high + tested.sum(), np.nan)
