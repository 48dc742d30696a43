"""What the score and the training time depend on: frames from functional ANOVA, for every variant and over all."""

from functools import cached_property
from typing import Any

import pandas as pd

from analysis import fanova
from analysis.compare import BASELINE, variants_of
from search.errors import UserError
from search.study import Plan

SCORES: tuple[fanova.Score, ...] = ("test_score", "train_seconds")
PAIR = ("lr", "hidden_size")
BY: tuple[fanova.By, ...] = ("variant", "toggles")


class Importance:
    """The functional ANOVAs of one task of one study, each fitted when it is first asked for.

    Attributes:
        trials: of the task, as of `analysis.load`.
        plan: of the study.
        reference: the variant that single-variant figures show: vanilla, or the first.
        missing: {what could not be fitted: why}.
    """

    def __init__(self, trials: pd.DataFrame, plan: Plan):
        self.trials, self.plan = trials, plan
        self.variants = variants_of(trials)
        self.reference = BASELINE if BASELINE in self.variants else self.variants[0]
        self.missing: dict[str, str] = {}
        self._fits: dict[tuple[Any, ...], fanova.Fanova | None] = {}

    def fit(self, score: fanova.Score, variant: str) -> "fanova.Fanova | None":
        """Over the settings of one variant; None if it has too few trials."""
        trials = self.trials[self.trials["variant"] == variant]
        return self._fit((score, variant), variant, trials, score, None)

    def over(self, by: fanova.By) -> "fanova.Fanova | None":
        """Over the settings and the architecture, all variants together."""
        if len(self.variants) < 2:
            return None
        return self._fit(("test_score", None, by), f"over {by}", self.trials, "test_score", by)

    def _fit(self, key: tuple[Any, ...], what: str, trials: pd.DataFrame, score: fanova.Score, by: Any) -> Any:
        if key not in self._fits:
            try:
                self._fits[key] = fanova.fit(trials, self.plan, score=score, by=by)
            except UserError as error:
                self._fits[key] = None
                self.missing[what] = str(error)
        return self._fits[key]

    @cached_property
    def marginals(self) -> pd.DataFrame:
        """One row a score, variant, dimension and point: score, variant, dimension, value, mean, sd (over trees)."""
        frames = []
        for score in SCORES:
            for variant in self.variants:
                fitted = self.fit(score, variant)
                for name in fitted.dimensions if fitted else ():
                    assert fitted
                    curve = fitted.marginal(name).rename(columns={name: "value"}).astype({"value": object})
                    frames.append(curve.assign(score=score, variant=variant, dimension=name))
        columns = ["score", "variant", "dimension", "value", "mean", "sd"]
        return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)

    @cached_property
    def shares(self) -> pd.DataFrame:
        """One row a score, variant and set of dimensions: score, variant, n, r2, dimensions (``a x b``), order (1, 2; 3
        for all higher ones together), mean, sd (over the trees), debiased, se (over the trials) of its share of the
        variance."""
        frames = [
            fitted.shares().assign(score=score, variant=variant, n=fitted.n, r2=fitted.r2)
            for score in SCORES
            for variant in self.variants
            if (fitted := self.fit(score, variant))
        ]
        columns = ["score", "variant", "n", "r2", "dimensions", "order", "mean", "sd", "debiased", "se"]
        return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)

    @cached_property
    def architecture(self) -> pd.DataFrame:
        """One row a choice of architecture dimensions (``variant`` or ``toggles``) and set of dimensions: by, n, r2,
        dimensions, order, mean, sd, debiased, se of its share of the variance of the test score over all variants."""
        frames = [fitted.shares().assign(by=by, n=fitted.n, r2=fitted.r2) for by in BY if (fitted := self.over(by))]
        columns = ["by", "n", "r2", "dimensions", "order", "mean", "sd", "debiased", "se"]
        return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)

    @cached_property
    def surface(self) -> pd.DataFrame:
        """The lr x hidden_size surface of the reference variant, one row a grid point: lr, hidden_size, mean, sd (the
        total marginal), interaction, interaction_sd. Empty unless both are dimensions."""
        fitted = self.fit("test_score", self.reference)
        if fitted is None or not set(PAIR) <= set(fitted.dimensions):
            return pd.DataFrame(columns=[*PAIR, "mean", "sd", "interaction", "interaction_sd"])
        total = fitted.marginal(*PAIR, points=32)
        alone = fitted.interaction(*PAIR, points=32)
        alone = alone.rename(columns={"mean": "interaction", "sd": "interaction_sd"})
        return total.merge(alone, on=list(PAIR))
