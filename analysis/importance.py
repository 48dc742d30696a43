"""What the score and the training time depend on: frames for every variant and over all, or what these would need.

A forest that predicts unseen trials no better than their mean knows nothing of what they depend on, so that nothing is
offered from one; `Importance.needs` says what is missing.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from analysis import ablation, fanova, forked
from analysis.frames import best_trials, has_result, reference_of, scored, variants_of
from analysis.ped_anova import ped_anova
from search.errors import UserError, expect
from search.study.plan import Plan
from search.study.space import REQUIRED, Dimension, parse

SCORES: tuple[fanova.Score, ...] = ("test_score", "train_seconds")
PAIR = ("lr", "hidden_size")
NAMES = {
    "test_score": "test score",
    "train_seconds": "training time",
    "diverged": "divergence",
}
BY: tuple[fanova.By, ...] = ("variant", "toggles")
MIN_EACH = 5  # trials of each variant that a forest over all variants takes
Key = tuple[str, str] | tuple[str, str, str]  # of what, the score, and of one variant what diverged trials count as
DEBIASED = ["debiased", "se", "debiased_finished", "se_finished", "differs", "noise", "noise_se"]


class Importance:
    """What one task of one study tells of importance, each part computed when it is first asked for.

    Frames have rows only of what is known well enough to be shown; they may be empty.

    Attributes:
        trials: of the task, as of `analysis.load`.
        plan: of the study.
        reference: the variant that single-variant figures show: vanilla, or the first.
    """

    def __init__(self, trials: pd.DataFrame, plan: Plan):
        self.trials, self.plan = trials, plan
        self.variants = variants_of(trials)
        self.reference = reference_of(trials)
        self._fits: dict[Key, fanova.Fanova | str] = {}

    def begin(self, note: Callable[[str], None]) -> None:
        """Grows the forests of all figures and of the page, as many at a time as there are cores; `note` is told of
        each."""
        keys: list[Key] = [(variant, score, "cutoff") for score in NAMES for variant in self.variants]
        keys += [(variant, "test_score", "left out") for variant in self.variants if self._has_diverged(variant)]
        keys = [key for key in (*keys, *((by, score) for by in BY for score in NAMES)) if key not in self._fits]
        processes = min(len(keys), len(os.sched_getaffinity(0)))
        if processes < 2:
            return
        with forked.pool(processes, _inherit, self) as pool:
            for place, (key, fitted) in enumerate(zip(keys, pool.map(_fit_inherited, keys), strict=True), 1):
                self._fits[key] = fitted
                note(f"forest {place} of {len(keys)}")

    @property
    def settings(self) -> tuple[str, ...]:
        """The settings that the study varies."""
        return tuple(dimension.name for dimension in self._dimensions)

    def fit(self, score: fanova.Score, variant: str, diverged: fanova.Diverged = "cutoff") -> "fanova.Fanova | None":
        """Over the settings of one variant; None if `why` says why."""
        found = self._fitted(score, variant, diverged)
        return found if isinstance(found, fanova.Fanova) else None

    def why(self, score: fanova.Score, variant: str) -> str:
        """What keeps `fit` from it, and what it needs; empty if nothing does."""
        found = self._fitted(score, variant, "cutoff")
        return found if isinstance(found, str) else ""

    def over(self, by: fanova.By, score: fanova.Score = "test_score") -> "fanova.Fanova | None":
        """Over the settings and the architecture, all variants together; None if `why_over` says why."""
        found = self._over(by, score)
        return found if isinstance(found, fanova.Fanova) else None

    def why_over(self, by: fanova.By, score: fanova.Score = "test_score") -> str:
        """What keeps `over` from it, and what it needs; empty if nothing does."""
        found = self._over(by, score)
        return found if isinstance(found, str) else ""

    @cached_property
    def marginals(self) -> pd.DataFrame:
        """`marginals_of` the test score and the training time."""
        return self.marginals_of(*SCORES)

    def marginals_of(self, *scores: fanova.Score) -> pd.DataFrame:
        """One row a score, variant, dimension and point: score, variant, dimension, value, mean, sd (over trees)."""
        frames = []
        for score, variant, fitted in self._sound(scores):
            for name in fitted.dimensions:
                curve = fitted.marginal(name).rename(columns={name: "value"}).astype({"value": object})
                frames.append(curve.assign(score=score, variant=variant, dimension=name))
        return _stack(frames, ["score", "variant", "dimension", "value", "mean", "sd"])

    @cached_property
    def shares(self) -> pd.DataFrame:
        """`shares_of` the test score and the training time."""
        return self.shares_of(*SCORES)

    def shares_of(self, *scores: fanova.Score) -> pd.DataFrame:
        """One row a score, variant and set of dimensions.

        score, variant, n, r2, dimensions (``a x b``), order (1, 2; 3 for all higher ones together), mean, sd (over the
        trees); debiased, se: its share of the variance of E[score | settings], diverged trials counting as the cutoff,
        and its standard error over the trials; debiased_finished, se_finished: the same over the trials that did not
        diverge (NaN if all are), and differs: whether the two differ by more than their error; noise, noise_se: share
        of the variance of the scores that no setting explains, the same for all rows of a variant.
        """
        frames = []
        for score, variant, fitted in self._sound(scores):
            noise, error = fitted.noise()
            own = fitted.shares().assign(score=score, variant=variant, n=fitted.n, r2=fitted.r2)
            own = own.assign(debiased_finished=np.nan, se_finished=np.nan, noise=noise, noise_se=error)
            finished = self.fit(score, variant, "left out") if score == "test_score" else None
            if finished is not None and finished.n < fitted.n:
                other = finished.shares().set_index("dimensions").reindex(own["dimensions"])
                own["debiased_finished"], own["se_finished"] = other["debiased"].to_numpy(), other["se"].to_numpy()
            gap = (own["debiased"] - own["debiased_finished"]).abs()
            frames.append(own.assign(differs=gap > own[["se", "se_finished"]].max(axis=1)))
        return _stack(frames, ["score", "variant", "n", "r2", "dimensions", "order", "mean", "sd", *DEBIASED])

    @cached_property
    def architecture(self) -> pd.DataFrame:
        """`architecture_of` the test score."""
        return self.architecture_of("test_score")

    def architecture_of(self, score: fanova.Score) -> pd.DataFrame:
        """One row a choice of architecture dimensions (``variant`` or ``toggles``) and set of dimensions: by, n, r2,
        dimensions, order, mean, sd, debiased, se of its share of the variance of a score over all variants."""
        frames = [
            fitted.shares().assign(by=by, n=fitted.n, r2=fitted.r2) for by in BY if (fitted := self.over(by, score))
        ]
        return _stack(frames, ["by", "n", "r2", "dimensions", "order", "mean", "sd", "debiased", "se"])

    @cached_property
    def surface(self) -> pd.DataFrame:
        """The lr x hidden_size surface of the reference variant, one row a grid point: lr, hidden_size, mean, sd (the
        total marginal), interaction, interaction_sd. Empty unless both are dimensions."""
        return self.surface_of(*PAIR)

    def surface_of(self, name_a: str, name_b: str, points: int = 32) -> pd.DataFrame:
        """The same of any two settings, by their names."""
        fitted = self.fit("test_score", self.reference)
        if fitted is None or not {name_a, name_b} <= set(fitted.dimensions):
            return pd.DataFrame(columns=[name_a, name_b, "mean", "sd", "interaction", "interaction_sd"])
        total = fitted.marginal(name_a, name_b, points=points)
        alone = fitted.interaction(name_a, name_b, points=points)
        alone = alone.rename(columns={"mean": "interaction", "sd": "interaction_sd"})
        return total.merge(alone, on=[name_a, name_b])

    @cached_property
    def ped_anova(self) -> pd.DataFrame:
        """What gets a trial into the best tenth, one row a variant and setting: variant, and what `ped_anova` says."""
        return _stack(
            [
                table.assign(variant=variant)
                for variant, table in self._divergences.items()
                if not isinstance(table, str)
            ],
            ["variant", "dimension", "divergence", "share", "chance", "p", "matters"],
        )

    @cached_property
    def ablation(self) -> pd.DataFrame:
        """From the reference's best settings to each other variant's, one row a variant and step: variant, and what
        `ablation.path` says; ``variant`` is one of the dimensions."""
        fitted, best = self.over("variant"), self._best_settings
        columns = ["variant", "step", "dimension", "before", "after", "mean", "sd", "change", "change_sd"]
        if fitted is None or self.reference not in best:
            return pd.DataFrame(columns=columns)
        others = [variant for variant in best if variant != self.reference]
        paths = (ablation.path(fitted, best[self.reference], best[v]).assign(variant=v) for v in others)
        return _stack(list(paths), columns)

    @cached_property
    def tunability(self) -> pd.DataFrame:
        """What tuning one setting gains over the reference's best settings, one row a variant and setting: variant, and
        what `ablation.tunability` says."""
        fitted, best = self.over("variant"), self._best_settings
        columns = ["variant", "dimension", "default", "best", "gain", "sd"]
        if fitted is None or self.reference not in best:
            return pd.DataFrame(columns=columns)
        settings = tuple(name for name in fitted.dimensions if name != "variant")
        default = best[self.reference]
        tables = (
            ablation.tunability(fitted, {**default, "variant": v}, settings).assign(variant=v) for v in self.variants
        )
        return _stack(list(tables), columns)

    @cached_property
    def needs(self) -> dict[str, str]:
        """{panel: what it needs, or what parts of it do}; panels that have everything are not in it.

        The panels are the names of the frames: marginals, shares, architecture, surface, ped_anova, ablation,
        tunability.
        """
        of_fits = _joined({f"{v} ({NAMES[s]})": self.why(s, v) for s in SCORES for v in self.variants})
        over = _joined({f"over {by}": self.why_over(by) for by in BY})
        surface = self.why("test_score", self.reference)
        if not surface and self.surface.empty:
            surface = f"The study does not vary both {' and '.join(PAIR)}."
        unpicked = _joined({v: table for v, table in self._divergences.items() if isinstance(table, str)})
        paths = self.why_over("variant")
        if not paths and self.reference not in self._best_settings:
            paths = f"No trial of {self.reference} has finished."
        found = {"marginals": of_fits, "shares": of_fits, "architecture": over, "surface": surface}
        found |= {"ped_anova": unpicked, "ablation": paths, "tunability": paths}
        return {panel: text for panel, text in found.items() if text}

    def _sound(self, scores: Sequence[fanova.Score]) -> "Iterator[tuple[fanova.Score, str, fanova.Fanova]]":
        for score in scores:
            for variant in self.variants:
                if fitted := self.fit(score, variant):
                    yield score, variant, fitted

    def _fitted(self, score: fanova.Score, variant: str, diverged: fanova.Diverged) -> "fanova.Fanova | str":
        if diverged == "left out" and not self._has_diverged(variant):
            diverged = "cutoff"  # is the same
        return self._fit_of((variant, score, diverged))

    def _over(self, by: fanova.By, score: fanova.Score) -> "fanova.Fanova | str":
        return self._fit_of((by, score))

    def _fit_of(self, key: Key) -> "fanova.Fanova | str":
        if key not in self._fits:
            self._fits[key] = self._grown(*key)
        return self._fits[key]

    def _grown(self, of: str, score: str, diverged: str = "") -> "fanova.Fanova | str":
        """Of a variant, a score and what diverged trials count as; or, without that, over all variants by their names
        or toggles."""
        if diverged:
            trials = self.trials[self.trials["variant"] == of]
            return _attempt(trials, self.plan, score=score, diverged=diverged)
        few = self.trials[has_result(self.trials)].groupby("variant", observed=True)
        counts = few.size().reindex(self.variants, fill_value=0)
        if counts.min() < MIN_EACH:
            return f"{counts.min()} trials of {counts.idxmin()} have ended: needs at least {MIN_EACH} of each variant."
        return _attempt(self.trials, self.plan, score=score, by=of)

    def _has_diverged(self, variant: str) -> bool:
        return bool(((self.trials["variant"] == variant) & (self.trials["status"] == "diverged")).any())

    @cached_property
    def _best_settings(self) -> dict[str, dict[str, Any]]:
        """{variant: settings, the variant among them, of its trial of the best validation score}"""
        fitted = self.over("variant")
        names = [name for name in fitted.dimensions if name != "variant"] if fitted else []
        found = {}
        finished = self.trials[scored(self.trials)]
        for variant, own in finished.groupby("variant", observed=True):
            best = own.sort_values("valid_score", kind="stable").iloc[0]
            found[str(variant)] = {name: best[name] for name in names} | {"variant": str(variant)}
        return found

    @cached_property
    def _divergences(self) -> "dict[str, pd.DataFrame | str]":
        """{variant: as of `ped_anova`, or what it needs}"""
        best = best_trials(self.trials, "valid")
        found: dict[str, pd.DataFrame | str] = {}
        for variant in self.variants:
            chosen = has_result(self.trials) & (self.trials["variant"] == variant)
            columns = [self.trials.loc[chosen, dimension.name] for dimension in self._dimensions]
            try:
                expect(not self.plan.learns, "sampler", self.plan.sampler, "settings drawn whatever the scores")
                found[variant] = ped_anova(columns, best[chosen], self._dimensions)
            except UserError as error:
                found[variant] = f"{error}."
        return found

    @cached_property
    def _dimensions(self) -> list[Dimension]:
        dimensions = parse(self.plan.space, (*REQUIRED, *self.plan.space))
        return [d for d in dimensions if len(d.values) > 1 or d.low < d.high]


def between(one: Importance, other: Importance) -> pd.DataFrame:
    """How much more of the variance of the test score each setting explains in one study than in another.

    Args:
        one, other: of the same task.

    Returns:
        One row a variant of both and single setting of either: variant, dimension; share, se, against, against_se: the
        debiased shares in both and their standard errors (NaN where a study does not sample it, or the forest of its
        variant explains nothing); difference, low, high: of the first less the other, with a 95 % interval for studies
        that are independent of each other, which is wider than need be for studies of the same settings.
    """
    sides = []
    for side in (one, other):
        shares = side.shares
        single = shares[(shares["score"] == "test_score") & (shares["order"] == 1)]
        sides.append(single.rename(columns={"dimensions": "dimension"})[["variant", "dimension", "debiased", "se"]])
    found = sides[0].merge(sides[1], on=["variant", "dimension"], how="outer", suffixes=("", "_other"), sort=False)
    found = found[found["variant"].isin({*sides[0]["variant"]} & {*sides[1]["variant"]})]
    found = found.rename(columns={"debiased": "share", "debiased_other": "against", "se_other": "against_se"})
    found["difference"] = found["share"] - found["against"]
    half = norm.ppf(0.975) * np.hypot(found["se"], found["against_se"])
    found["low"], found["high"] = found["difference"] - half, found["difference"] + half
    columns = ["variant", "dimension", "share", "se", "against", "against_se", "difference", "low", "high"]
    return found[columns].reset_index(drop=True)


_inherited: Importance


def _inherit(importance: Importance) -> None:
    global _inherited
    _inherited = importance


def _fit_inherited(key: Key) -> "fanova.Fanova | str":
    return _inherited._fit_of(key)


def _attempt(trials: pd.DataFrame, plan: Plan, **options: Any) -> "fanova.Fanova | str":
    try:
        fitted = fanova.fit(trials, plan, **options)
    except UserError as error:
        return f"{error}."
    if fitted.r2 > 0:
        return fitted
    if np.isnan(fitted.r2):
        return "All scores are equal."
    known = f"out-of-bag R\N{SUPERSCRIPT TWO} {fitted.r2:.2f} of {fitted.n} trials"
    return f"A forest predicts unseen trials no better than their mean ({known}): needs more of them."


def _joined(needs: dict[str, str]) -> str:
    """``a, b: what they need. c: what it needs.``"""
    who: dict[str, list[str]] = {}
    for name, text in needs.items():
        if text:
            who.setdefault(text, []).append(name)
    return " ".join(f"{', '.join(names)}: {text}" for text, names in who.items())


def _stack(frames: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)
