import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from search import rules
from search.errors import UserError
from search.study.space import REQUIRED, NumberedSampler, Space, check_setting, parse

PAPER: dict[str, dict[str, Any]] = {
    "hidden_size": {"distribution": "log_uniform_int", "low": 20, "high": 200},
    "lr": {"distribution": "log_uniform", "low": 1e-6, "high": 1e-2},
    "momentum": {"distribution": "one_minus_log_uniform", "low": 0.01, "high": 1.0},
    "input_noise": {"distribution": "uniform", "low": 0.0, "high": 1.0},
}
SGD = rules.rule(rules.DEFAULT)
LEGAL = (*REQUIRED, *rules.legal(SGD), "forget_gate", "forget_bias")


def check_rule(key: str, name: str, value: Any) -> None:
    rules.check_value(SGD, key, name, value)


def read(definition: dict[str, dict[str, Any]]) -> Space:
    return parse(definition, LEGAL, (*REQUIRED, *rules.needed(rules.DEFAULT)), check_rule)


def draws(kind: str, definition: dict[str, dict[str, Any]], n: int, seed: int = 0) -> dict[str, list[Any]]:
    space = read(definition)
    sampler = NumberedSampler(kind, space, seed)
    return {d.name: [d.value(sampler.draw(number, d.stored_name)) for number in range(n)] for d in space}


@pytest.mark.parametrize("kind", ["random", "qmc"])
def test_draws_follow_their_distributions(kind: str) -> None:
    got = draws(kind, PAPER, 1024)
    uniform = {
        "lr": (np.log(got["lr"]) - math.log(1e-6)) / math.log(1e4),
        "momentum": np.log(1 - np.array(got["momentum"])) / math.log(0.01),
        "input_noise": np.array(got["input_noise"]),
    }
    for name, values in uniform.items():
        assert stats.kstest(values, "uniform").pvalue > 1e-4, name
    sizes = np.array(got["hidden_size"])
    assert sizes.min() >= 20 and sizes.max() <= 200 and all(isinstance(s, int) for s in got["hidden_size"])
    assert 55 < np.median(sizes) < 72  # the geometric mean of the bounds is 63


def test_a_draw_depends_on_its_number_alone() -> None:
    space = read(PAPER)
    forwards, backwards = (NumberedSampler("random", space, 3) for _ in range(2))
    numbers = range(20)
    assert [forwards.draw(n, "lr") for n in numbers] == [backwards.draw(n, "lr") for n in reversed(numbers)][::-1]
    assert draws("random", PAPER, 5, seed=3)["lr"] != draws("random", PAPER, 5, seed=4)["lr"]


def test_qmc_does_not_depend_on_how_many_were_asked_for() -> None:
    space = read(PAPER)
    late = NumberedSampler("qmc", space, 1)
    far = late.draw(3000, "lr")
    early = NumberedSampler("qmc", space, 1)
    assert early.draw(2, "lr") == late.draw(2, "lr")
    assert early.draw(3000, "lr") == far


def test_grid_visits_every_point_once() -> None:
    grid = {name: {**spec, "points": points} for (name, spec), points in zip(PAPER.items(), (3, 2, 2, 2), strict=True)}
    grid["forget_gate"] = {"distribution": "choice", "values": ["sigmoid", "coupled"]}
    got = draws("grid", grid, 3 * 2 * 2 * 2 * 2)
    points = set(zip(*got.values(), strict=True))
    assert len(points) == 48
    assert set(got["hidden_size"]) == {20, 63, 200} and set(got["lr"]) == {1e-6, 1e-2}


def test_equal_bounds_fix_the_value() -> None:
    fixed = PAPER | {"hidden_size": {"distribution": "log_uniform_int", "low": 64, "high": 64}}
    fixed["lr"] = {"distribution": "log_uniform", "low": 0.01, "high": 0.01}
    for kind in ("random", "qmc"):
        got = draws(kind, fixed, 20)
        assert set(got["hidden_size"]) == {64} and set(got["lr"]) == {0.01}


def test_a_toggle_can_stand_in_a_space() -> None:
    got = draws("random", PAPER | {"forget_gate": {"distribution": "choice", "values": ["one", "coupled"]}}, 50)
    assert set(got["forget_gate"]) == {"one", "coupled"}


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"lr": {"distribution": "log_uniform", "low": 0, "high": 1}}, "space.lr.low=0: .* above 0"),
        ({"lr": {"distribution": "log_uniform", "low": 1, "high": 0.1}}, "space.lr.low=1: expected at most"),
        ({"lr": {"distribution": "gauss", "low": 1, "high": 2}}, "space.lr.distribution=gauss: expected one of"),
        ({"lr": {"distribution": "uniform", "low": "a", "high": 2}}, "space.lr.low=a: expected a number"),
        ({"lr": {"distribution": "uniform", "lo": 1, "high": 2}}, "keys among distribution, low, high"),
        ({"lr": None}, "space.lr.distribution"),
        ({"hidden_size": {"distribution": "uniform", "low": 1, "high": 2}}, "uniform_int"),
        ({"hidden_size": {"distribution": "uniform_int", "low": 0, "high": 2}}, "at least 1"),
        ({"hidden_size": {"distribution": "uniform_int", "low": 1, "high": 2.5}}, "whole number"),
        ({"momentum": {"distribution": "uniform", "low": 0, "high": 1}}, "space.momentum.high=1: .* below 1"),
        ({"forget_gate": {"distribution": "choice", "values": []}}, "a list of values"),
        ({"forgetgate": {"distribution": "choice", "values": [1]}}, "settings among"),
    ],
)
def test_an_impossible_space_names_the_key(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        read(PAPER | change)


def test_a_space_must_have_all_hyperparameters() -> None:
    with pytest.raises(UserError, match=r"space\.momentum"):
        read({name: spec for name, spec in PAPER.items() if name != "momentum"})


@pytest.mark.parametrize(
    "name, good, bad",
    [
        ("hidden_size", [1, 200], [0, -3, 2.5, "x", True, None]),
        ("lr", [1e-9, 3], [0, -1, math.nan, math.inf, "x"]),
        ("momentum", [0, 0.99], [1, -0.1, 1.5]),
        ("gradient_clipping", [False, True], [0, 1, "true"]),
        ("momentum_type", ["standard", "nesterov"], ["heavy", True]),
        ("input_noise", [0, 2.0], [-0.1, None]),
    ],
)
def test_settings_outside_their_limits_are_refused(name: str, good: list[Any], bad: list[Any]) -> None:
    check = check_setting if name in REQUIRED else check_rule
    for value in good:
        check(name, name, value)
    for value in bad:
        with pytest.raises(UserError, match=f"^{name}="):
            check(name, name, value)
