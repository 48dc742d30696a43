import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from search import engines
from search.base.randomness import epoch_order
from search.cells import get
from search.engines import Engine, Epoch, Interrupted, Member
from search.tasks import Task
from search.training.trial import Trial, listed, train
from tests.conftest import make_member

SETTINGS = [
    {"hidden_size": 3, "lr": 0.02, "momentum": 0.9, "input_noise": 0.3},
    {"hidden_size": 17, "lr": 0.05, "momentum": 0.0, "input_noise": 0.0},
    {"hidden_size": 8, "lr": 0.01, "momentum": 0.99, "input_noise": 1.0},
]


def run(
    engine: Engine,
    task: Task,
    settings: list[dict[str, Any]],
    variants: list[str],
    *,
    dtype: str = "float64",
    epochs: int = 3,
    population: int = 8,
    threads: int = 1,
) -> dict[int, Trial]:
    trials = [
        Trial.new(k, get(variant), values, 100 + k, task, dtype)
        for k, (values, variant) in enumerate(zip(settings, variants, strict=True))
    ]
    rounds = train(
        listed(trials),
        engine.trainer(task, dtype, threads),
        len(task.splits["train"].inputs),
        epochs=epochs,
        patience=epochs,
        population=population,
        seed=0,
    )
    return {trial.key: trial for round in rounds for trial in round.ended}


@pytest.mark.parametrize(
    "variant, dtype, epochs, tolerance",
    [
        ("vanilla", "float64", 3, 1e-9),
        *(
            pytest.param(variant, "float64", 3, 1e-9, marks=pytest.mark.slow)
            for variant in ("fgr", "gru", "tests.mut3.MUT3")
        ),
        pytest.param("vanilla", "float32", 20, 1e-3, marks=pytest.mark.slow),
    ],
)
def test_trial_is_the_same_alone_and_in_a_population(
    engine: Engine, echo: Task, variant: str, dtype: str, epochs: int, tolerance: float
) -> None:
    together = run(engine, echo, SETTINGS, [variant] * 3, dtype=dtype, epochs=epochs)
    for k, values in enumerate(SETTINGS):
        alone = run(
            engine, echo, [*SETTINGS[:k], values], [variant] * (k + 1), dtype=dtype, epochs=epochs, population=1
        )
        np.testing.assert_allclose(alone[k].curve, together[k].curve, rtol=tolerance)
        assert abs(alone[k].test_score / together[k].test_score - 1) < tolerance


@pytest.mark.slow
def test_variants_train_side_by_side(engine: Engine, echo: Task) -> None:
    settings, variants = [SETTINGS[0]] * 3, ["vanilla", "cifg", "rnn"]
    mixed = run(engine, echo, settings, variants)
    for k in range(3):
        alone = run(engine, echo, settings[: k + 1], variants[: k + 1], population=1)
        np.testing.assert_allclose(alone[k].curve, mixed[k].curve, rtol=1e-9)


@pytest.mark.slow
def test_a_population_that_is_refilled_gives_the_same_results(engine: Engine, echo: Task) -> None:
    wide = run(engine, echo, SETTINGS, ["vanilla"] * 3, population=3)
    narrow = run(engine, echo, SETTINGS, ["vanilla"] * 3, population=2)
    for k in range(3):
        np.testing.assert_allclose(wide[k].curve, narrow[k].curve, rtol=1e-9)


def test_a_diverged_trial_stops_and_disturbs_no_neighbour(engine: Engine, echo: Task) -> None:
    wild = {"hidden_size": 5, "lr": 1e308, "momentum": 0.0, "input_noise": 0.5}
    trials = run(engine, echo, [SETTINGS[0], wild, SETTINGS[2]], ["noaf"] * 3, epochs=5)
    assert trials[1].status == "diverged" and trials[1].member.epoch < 5
    assert all(math.isfinite(score) for pair in trials[1].curve for score in pair)
    assert len(trials[1].curve) == trials[1].member.epoch - 1
    for k in (0, 2):
        calm = run(engine, echo, [SETTINGS[0], SETTINGS[1], SETTINGS[2]], ["noaf"] * 3, epochs=5)[k]
        np.testing.assert_allclose(trials[k].curve, calm.curve, rtol=1e-9)
        assert trials[k].status == "finished"


def test_update_follows_the_protocol(engine: Engine, echo: Task) -> None:
    """One sequence, two presentations: Nesterov's update of docs/protocol.md, 3, with finite-difference gradients."""
    one = dataclasses.replace(
        echo, splits={name: type(s)(s.inputs[:1], s.targets[:1]) for name, s in echo.splits.items()}
    )
    trainer = engine.trainer(one, "float64", 1)
    m = make_member(one, "vanilla", 2, 5, "float64", lr=0.1, momentum=0.8, input_noise=0.0)
    w, v, e = m.weights.copy(), m.slots["velocity"].copy(), 0.1 * (1 - 0.8)

    def loss(weights: np.ndarray) -> float:
        probe = dataclasses.replace(m, weights=weights)
        return float(trainer.evaluate([probe], "train")[0]) * one.splits["train"].n_predicted

    for _ in range(2):
        g, h = np.empty_like(w), 1e-5
        for k in range(len(w)):
            step = np.eye(len(w))[k] * h
            g[k] = (loss(w + step) - loss(w - step)) / (2 * h)
        v = 0.8 * v - e * g
        w = w + 0.8 * v - e * g
        trainer.train_epoch([m], [np.zeros(1, np.int32)])
    np.testing.assert_allclose(m.weights, w, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(m.slots["velocity"], v, rtol=1e-5, atol=1e-8)


def test_the_score_is_total_loss_over_predicted_steps(engine: Engine, echo: Task) -> None:
    m = make_member(echo, "vanilla", 4, 1, "float64")
    m.weights[:] = 0  # every probability is a half
    score = engine.trainer(echo, "float64", 1).evaluate([m], "valid")
    np.testing.assert_allclose(score, echo.n_outputs * math.log(2), rtol=1e-12)


@pytest.mark.slow
def test_training_learns_the_task(engine: Engine, echo: Task) -> None:
    good = {"hidden_size": 24, "lr": 0.1, "momentum": 0.5, "input_noise": 0.0}
    trial = run(engine, echo, [good], ["vanilla"], dtype="float32", epochs=60)[0]
    assert trial.test_score < 0.25 * echo.n_outputs * math.log(2)


def test_stop_leaves_members_as_they_were(engine: Engine, echo: Task) -> None:
    trainer = engine.trainer(echo, "float64", 1)
    m = make_member(echo, "vanilla", 4, 1, "float64")
    weights = m.weights.copy()
    trainer.stop()
    with pytest.raises(Interrupted):
        trainer.train_epoch([m], [epoch_order(0, 0, len(echo.splits["train"].inputs))])
    np.testing.assert_array_equal(m.weights, weights)
    assert m.epoch == 0


class Scripted:
    """A trainer whose validation scores are given, to see what the loop makes of them."""

    def __init__(self, scores: dict[int, list[float]]):
        self.scores, self.tested, self.alive = scores, {}, []

    def train_epoch(self, members: list[Member], orders: list[np.ndarray]) -> Epoch:
        self.alive.append(len(members))
        for m in members:
            m.epoch += 1
            m.weights = np.full_like(m.weights, m.epoch)
        return Epoch(np.ones(len(members)), np.ones(len(members)))

    def evaluate(self, members: list[Member], split: str) -> np.ndarray:
        if split == "test":
            self.tested |= {m.seed: m.weights[0] for m in members}
            return np.array([m.weights[0] for m in members])
        return np.array([self.scores[m.seed][m.epoch - 1] for m in members])

    def stop(self) -> None:
        raise NotImplementedError


def scripted(
    scores: dict[int, list[float]], population: int, task: Task, **limits: int
) -> tuple[dict[int, Trial], Scripted]:
    trainer = Scripted(scores)
    trials = [Trial.new(seed, get("rnn"), SETTINGS[0], seed, task, "float64") for seed in scores]
    rounds = train(listed(trials), trainer, 4, population=population, seed=0, **limits)
    return {t.key: t for round in rounds for t in round.ended}, trainer


def test_training_stops_after_patience_without_a_new_best(echo: Task) -> None:
    ended, trainer = scripted({1: [5, 4, 6, 6, 6, 1]}, 1, echo, epochs=6, patience=3)
    assert ended[1].member.epoch == 5 and ended[1].best_epoch == 2
    assert ended[1].valid_score == 4
    assert trainer.tested[1] == 2 and ended[1].test_score == 2  # the weights of epoch 2


def test_training_stops_at_the_last_epoch(echo: Task) -> None:
    ended, _ = scripted({1: [5, 4, 3, 2]}, 1, echo, epochs=3, patience=9)
    assert ended[1].member.epoch == 3 and ended[1].best_epoch == 3 and ended[1].train_seconds == 3


def test_an_equal_score_is_no_new_best(echo: Task) -> None:
    ended, _ = scripted({1: [5, 5, 5, 5]}, 1, echo, epochs=4, patience=9)
    assert ended[1].best_epoch == 1


def test_a_trial_that_ends_makes_room_for_the_next(echo: Task) -> None:
    ended, trainer = scripted({1: [1, 2, 2], 2: [3, 2, 1], 3: [3, 2, 1]}, 2, echo, epochs=3, patience=1)
    assert set(ended) == {1, 2, 3}
    assert trainer.alive == [2, 2, 2, 1, 1]


def test_divergence_in_the_first_epoch_has_no_scores(echo: Task) -> None:
    ended, trainer = scripted({1: [math.nan]}, 1, echo, epochs=3, patience=3)
    assert ended[1].status == "diverged" and ended[1].curve == () and ended[1].best_epoch == 0
    assert math.isnan(ended[1].test_score) and not trainer.tested


def test_divergence_keeps_the_best_finite_epoch(echo: Task) -> None:
    ended, _ = scripted({1: [3, 2, 4, math.inf]}, 1, echo, epochs=9, patience=9)
    assert ended[1].status == "diverged" and ended[1].member.epoch == 4
    assert ended[1].curve[-1] == (1, 4) and ended[1].valid_score == 2 and ended[1].test_score == 2


@pytest.mark.parametrize("bad", [{"engine": "warp"}, {"device": "tpu"}, {"engine": "cpu", "device": "cuda"}])
def test_an_engine_that_is_not_there_is_named(bad: dict[str, str]) -> None:
    with pytest.raises(engines.UserError, match="expected one of"):
        engines.choose(**bad)
