"""What calibrations are made of: a truth with what holds in it, and studies as the tests of a report see them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np
import pandas as pd

from analysis import best_fraction, findings, statements, stats
from analysis.best_fraction import Best, Estimate
from analysis.compare import ALPHA
from analysis.frames import BASELINE, FRACTION
from analysis.importance import Importance
from analysis.simulation import Truth, plan


@dataclass(frozen=True)
class World:
    """A truth, and what is true in it of the best 10 % of each variant.

    Attributes:
        truth: what studies are drawn from.
        scores: [V, k] test scores of the best trials of a very large search.
    """

    truth: Truth
    scores: stats.Floats

    @staticmethod
    def of(truth: Truth, differences: Mapping[str, float] | None = None) -> "World":
        """A world of a truth, its effects changed so that the best means differ from vanilla's as given."""
        if differences is not None:
            means = truth.best_means(FRACTION)
            effects = {v: truth.effects[v] + means[BASELINE] - means[v] + differences[v] for v in truth.effects}
            truth = replace(truth, effects=effects)
        return World(truth, np.array(list(truth.best_scores(FRACTION).values())))

    @cached_property
    def differences(self) -> stats.Floats:
        """[V - 1] of the best means of the other variants, less vanilla's."""
        return np.array(self.scores[1:].mean(axis=1) - self.scores[0].mean())

    def holds(self, test: findings.NamedTest) -> bool:
        """Whether what a finding says of variants is true here."""
        margin = test.parameters["margin"] * self.scores[0].mean()
        of = dict(zip(self.truth.effects, self.differences, strict=True))
        found = np.array([of[variant] for variant in test.parameters.get("variants", of)])
        match test.name:
            case "worse":
                return bool((found >= margin).all())
            case "no_difference":
                return bool((abs(found) < margin).all())
            case _:
                return bool((found > -margin).all())


@dataclass(frozen=True)
class Searches:
    """The trials of one study: the best of each variant, and their differences from vanilla."""

    bests: list[Best]
    paired: bool

    @staticmethod
    def of(select: stats.Floats, test: stats.Floats, paired: bool) -> "Searches":
        """Of scores [V, n]."""
        return Searches([best_fraction.best(*both, FRACTION) for both in zip(select, test, strict=True)], paired)

    @property
    def testable(self) -> bool:
        return all(one.testable for one in self.bests)

    @cached_property
    def differences(self) -> list[Estimate]:
        return [best_fraction.difference(other, self.bests[0], self.paired) for other in self.bests[1:]]

    @property
    def pairs(self) -> dict[tuple[str, str], Estimate]:
        """As of `compare.pairwise`, the variants by number."""
        both = combinations(enumerate(self.bests), 2)
        return {(f"{i}", f"{j}"): best_fraction.difference(a, b, self.paired) for (i, a), (j, b) in both}

    @cached_property
    def p(self) -> stats.Floats:
        return np.array([difference.p for difference in self.differences])

    def evidence(self, truth: Truth) -> statements.Evidence:
        """What verdicts on variants are judged by, with the columns of `analysis.compare` that they look at."""
        adjusted = stats.bonferroni([stats.NAN, *self.p])
        nothing = Estimate(0.0)
        rows = [
            {
                "variant": variant,
                "test": "baseline" if variant == BASELINE else "tested",
                "best_mean": own.scores.mean(),
                "n_best": len(own.picked),
                "difference": difference.value,
                "difference_se": difference.error,
                "difference_df": difference.freedom,
                "n_compared": difference.n,
                "p_adjusted": p,
                "significant": p < ALPHA,
            }
            for variant, own, difference, p in zip(
                truth.variants, self.bests, [nothing, *self.differences], adjusted, strict=True
            )
        ]
        trials = pd.DataFrame({"variant": pd.Categorical(truth.variants)})  # which these verdicts do not look at
        return statements.Evidence(trials, pd.DataFrame(rows), Importance(trials, plan(truth, 1)))
