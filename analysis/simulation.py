"""Whole studies drawn from a known truth, to try every test on: error rates, coverage and power.

The score of a trial is modelled on what LSTMs do on JSB Chorales (nats per step). Of variant w, at log10 lr = u, N
units, input noise s and momentum m::

    f = base + effect_w + lr_depth z^2 / (1 + z^2) + size_gain 20 / N + noise_cost s^1.5 + momentum_cost m + luck
    z = (u - c) / lr_width below c, (u - c) / (0.43 lr_width) above;   c = lr_best + shift_w - interaction log10(N / 63)

Luck is normal, larger away from the best learning rates, and in paired draws partly common to all variants. The
validation and the test score have the same luck, and each a little of its own. Above a learning rate trials diverge.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from analysis.best_fraction import best
from analysis.frames import BASELINE
from analysis.load import ENDING, FLOATS, INTEGERS, KEYS, OUTCOMES, PROVENANCE
from analysis.stats import Floats
from search.base.randomness import derive_seed
from search.study.plan import Plan

PAPERS = ("nig", "nfg", "nog", "niaf", "noaf", "np", "cifg", "fgr")
SPACE = {
    "hidden_size": {"distribution": "log_uniform_int", "low": 20, "high": 200},
    "lr": {"distribution": "log_uniform", "low": 1e-6, "high": 1e-2},
    "momentum": {"distribution": "one_minus_log_uniform", "low": 0.01, "high": 1.0},
    "input_noise": {"distribution": "uniform", "low": 0.0, "high": 1.0},
}


@dataclass(frozen=True)
class Truth:
    """What studies are drawn from. Variants that a mapping does not name are as vanilla in it.

    Attributes:
        effects: by variant, what is added to the score of each of its trials; its keys are the variants beside
            vanilla, in order. By default the paper's eight, all equal to vanilla.
        shifts: by variant, decades by which its best learning rates are higher.
        fragile: by variant, decades by which the learning rate from which it diverges is lower.
        luck_of: by variant, the factor on the luck of its trials.
        base: score of the best trial that could be, without luck.
        lr_depth, lr_best, lr_width: cost of a wrong learning rate; log10 of the best; decades to half of that cost.
        size_gain: score of 20 units less that of very many.
        noise_cost, momentum_cost: score of input noise 1, or of momentum 1, less that of 0.
        interaction: decades by which the best learning rate falls for ten times the units.
        luck: standard deviation of the luck at the best learning rate.
        luck_growth: the luck far away from it is this many times more on top.
        luck_shared: share of the variance of the luck that trials of one seed have in common.
        score_noise: standard deviation of what the validation and the test score each have for themselves.
        divergence_lr: log10 of the learning rate at which half of the trials diverge.
    """

    effects: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(PAPERS, 0.0))
    shifts: Mapping[str, float] = field(default_factory=dict)
    fragile: Mapping[str, float] = field(default_factory=dict)
    luck_of: Mapping[str, float] = field(default_factory=dict)
    base: float = 8.5
    lr_depth: float = 3.0
    lr_best: float = -2.8
    lr_width: float = 1.4
    size_gain: float = 0.9
    noise_cost: float = 0.7
    momentum_cost: float = 0.0
    interaction: float = 0.3
    luck: float = 0.1
    luck_growth: float = 4.0
    luck_shared: float = 0.2
    score_noise: float = 0.02
    divergence_lr: float = -2.1

    @property
    def variants(self) -> tuple[str, ...]:
        """Vanilla, and those of `effects`."""
        return (BASELINE, *self.effects)

    def best_scores(self, fraction: float = 0.1, n: int = 200_000, seed: int = 0) -> dict[str, Floats]:
        """The test scores of the best fraction by validation score, of n simulated trials of each variant."""
        drawn = draw(self, n, paired=True, rng=np.random.default_rng(seed))
        bests = (best(*both, fraction) for both in zip(drawn.select[0], drawn.test[0], strict=True))
        return {variant: one.scores for variant, one in zip(self.variants, bests, strict=True)}

    def best_means(self, fraction: float = 0.1) -> dict[str, float]:
        """Their means: what a comparison of the best fraction estimates."""
        return {variant: float(scores.mean()) for variant, scores in self.best_scores(fraction).items()}


@dataclass(frozen=True)
class Draws:
    """Trials of S studies of V variants; where draws are paired, settings and seeds have one variant for all.

    Attributes:
        settings: by name, [S, 1 or V, n].
        valid, test: scores [S, V, n].
        diverged: [S, V, n].
        seconds: of training [S, V, n].
    """

    settings: Mapping[str, Floats]
    valid: Floats
    test: Floats
    diverged: NDArray[np.bool_]
    seconds: Floats

    @property
    def select(self) -> Floats:
        """The scores that pick the best: infinite for a trial that diverged. [S, V, n]"""
        return np.where(self.diverged, np.inf, self.valid)


def draw(truth: Truth, trials: int, paired: bool, rng: np.random.Generator, studies: int = 1) -> Draws:
    """Draws S studies of n trials a variant.

    Args:
        truth: what they are drawn from.
        trials: n, of each variant.
        paired: whether trial k of every variant has the same settings and seed.
        rng: what everything is drawn with.
        studies: S.
    """
    shape = (studies, 1 if paired else len(truth.variants), trials)
    units = np.rint(10 ** rng.uniform(np.log10(19.5), np.log10(200.5), shape))
    u = rng.uniform(-6, -2, shape)
    momentum = 1 - 10 ** rng.uniform(-2, 0, shape)
    noise = rng.uniform(0, 1, shape)
    settings = {"hidden_size": units, "lr": 10**u, "momentum": momentum, "input_noise": noise}
    return train(truth, settings, paired, rng)


def replicate(truth: Truth, draws: Draws, seeds: int, paired: bool, rng: np.random.Generator) -> Draws:
    """Trains each variant's best setting by validation score in S studies again, with R new seeds.

    Args:
        truth: what the studies were drawn from.
        draws: of the studies.
        seeds: R.
        paired: whether seed r is the same for all variants.
        rng: what everything is drawn with.
    """
    best = draws.select.argmin(axis=2)[:, :, None]  # [S, V, 1]
    own = {name: np.broadcast_to(values, draws.valid.shape) for name, values in draws.settings.items()}
    settings = {name: np.repeat(np.take_along_axis(values, best, 2), seeds, 2) for name, values in own.items()}
    return train(truth, settings, paired, rng)


def train(truth: Truth, settings: Mapping[str, Floats], paired: bool, rng: np.random.Generator) -> Draws:
    """The outcomes of trials with these settings, [S, 1 or V, n].

    Args:
        truth: what they are drawn from.
        settings: by name.
        paired: whether trial k of every variant has the same seed.
        rng: what they are drawn with.
    """
    variants = truth.variants
    studies, _, trials = settings["lr"].shape
    own = (studies, len(variants), trials)
    common = (studies, 1, trials) if paired else own
    units, momentum, noise = (settings[name] for name in ("hidden_size", "momentum", "input_noise"))
    u = np.log10(settings["lr"])

    def of(values: Mapping[str, float], otherwise: float = 0.0) -> Floats:
        return np.array([values.get(variant, otherwise) for variant in variants])[:, None]

    distance = u - (truth.lr_best + of(truth.shifts) - truth.interaction * np.log10(units / 63))
    z = distance / np.where(distance > 0, 0.43 * truth.lr_width, truth.lr_width)
    basin = z**2 / (1 + z**2)
    shared, alone = truth.luck_shared**0.5, (1 - truth.luck_shared) ** 0.5
    luck = shared * rng.standard_normal(common) + alone * rng.standard_normal(own)
    score = truth.base + of(truth.effects) + truth.lr_depth * basin + truth.size_gain * 20 / units
    score = score + truth.noise_cost * noise**1.5 + truth.momentum_cost * momentum
    score = score + luck * truth.luck * of(truth.luck_of, 1.0) * (1 + truth.luck_growth * basin)
    valid, test = (score + truth.score_noise * rng.standard_normal(own) for _ in range(2))

    # Whether a trial diverges is its own luck in half of the cases, and that of its seed in the others.
    chance = np.where(rng.uniform(size=own) < 0.5, rng.uniform(size=common), rng.uniform(size=own))
    diverged = chance < expit((u - truth.divergence_lr + of(truth.fragile)) / 0.05)
    seconds = (2 + units / 10) * np.exp(0.2 * rng.standard_normal(own))
    return Draws(settings, valid, test, diverged, seconds)


def simulate(
    truth: Truth | None = None, trials: int = 200, paired: bool = True, seed: int = 0, task: str = "jsb"
) -> pd.DataFrame:
    """A whole study drawn from a known truth, as a frame of `analysis.load`.

    Args:
        truth: what it is drawn from; by default nine variants that are all equal.
        trials: of each variant.
        paired: whether trial k of every variant has the same settings and seed.
        seed: of the draws.
        task: name of the task.
    """
    truth = Truth() if truth is None else truth
    rng = np.random.default_rng(derive_seed("simulated", seed))
    return frames(truth, draw(truth, trials, paired, rng), paired, task)[0]


def frames(truth: Truth, draws: Draws, paired: bool, task: str = "jsb") -> list[pd.DataFrame]:
    """One frame as of `analysis.load` of each study of `draw`."""
    studies, n_variants, trials = draws.valid.shape
    variants = pd.CategoricalDtype(list(truth.variants), ordered=True)
    own = np.arange(n_variants * trials)
    made = []
    for study in range(studies):
        settings = {
            name: np.broadcast_to(values[study], (n_variants, trials)).ravel()
            for name, values in draws.settings.items()
        }
        diverged = draws.diverged[study].ravel()
        units = settings["hidden_size"]
        columns = {
            "study": "simulated",
            "task": task,
            "variant": np.repeat(truth.variants, trials),
            "trial": own % trials,
            "status": np.where(diverged, "diverged", "finished"),
            **settings,
            "seed": own % trials if paired else own,
            "n_parameters": 4 * units * (units + 91) + 88 * (units + 1),
            "valid_score": draws.valid[study].ravel(),
            "test_score": draws.test[study].ravel(),
            "best_epoch": 85,
            "epochs": 100,
            "last_valid_score": np.where(diverged, np.nan, draws.valid[study].ravel()),
            "train_seconds": draws.seconds[study].ravel(),
        }
        frame = pd.DataFrame(columns).reindex(columns=[*KEYS, *SPACE, *OUTCOMES, *PROVENANCE, *ENDING])
        floats = (*FLOATS, *(name for name in SPACE if name not in INTEGERS))
        frame = frame.astype(dict.fromkeys(INTEGERS, "Int64") | dict.fromkeys(floats, "float64"))
        made.append(frame.astype({"variant": variants, "task": pd.CategoricalDtype([task], ordered=True)}))
    return made


def plan(truth: Truth, trials: int, paired: bool = True, task: str = "jsb") -> Plan:
    """The plan that a study of `simulate` is as if of."""
    return Plan(
        study="simulated",
        task={"name": task},
        score="simulated score [nats]",
        variants={variant: {"cell": "lstm"} for variant in truth.variants},
        trials=trials,
        epochs=100,
        patience=15,
        seed=0,
        sampler="random",
        space=SPACE,
        dtype="float32",
        data_hash="0",
        paired=paired,
    )
