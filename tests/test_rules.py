"""Update rules: their equations against independent statements, clipping, schedules, and what is wrong with a rule."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from search import rules
from search.base.randomness import epoch_order
from search.engines import Engine
from search.errors import UserError
from search.rules import POSITIVE, Rule, Schedule
from search.rules.trace import trace
from search.tasks import Task
from tests.conftest import make_member
from tests.test_cells import ELEMENTWISE, ODD, OPERATIONS

# Hyperparameters of each rule, and the optimizer of torch that has the same equations.
TORCHS: dict[str, tuple[dict[str, float], Callable[..., torch.optim.Optimizer]]] = {
    "rmsprop": (dict(rho=0.8, eps=1e-3), lambda p, lr, rho, eps: torch.optim.RMSprop(p, lr, rho, eps)),
    "adam": (
        dict(beta1=0.7, beta2=0.9, eps=1e-3),
        lambda p, lr, beta1, beta2, eps: torch.optim.Adam(p, lr, (beta1, beta2), eps),
    ),
    "adamw": (
        dict(beta1=0.0, beta2=0.9, eps=1e-3, decay=0.3),
        lambda p, lr, beta1, beta2, eps, decay: torch.optim.AdamW(p, lr, (beta1, beta2), eps, decay),
    ),
    "adagrad": (dict(eps=1e-3), lambda p, lr, eps: torch.optim.Adagrad(p, lr, eps=eps)),
}


@pytest.mark.parametrize("name", TORCHS)
def test_a_rule_is_as_torchs(name: str) -> None:
    rng = np.random.default_rng()
    hyper, make = TORCHS[name]
    update = rules.update({"rule": name}, {"lr": 0.05} | hyper)
    w = rng.normal(size=20)
    theirs = torch.tensor(w, requires_grad=True)
    optimizer = make([theirs], lr=0.05, **hyper)
    slots = {slot: np.zeros(20) for slot in update.program.slots}
    for shared in update.shared_values(0, 30):
        g = rng.normal(size=20)
        w, *new = update.program.evaluate(g, w, slots, shared)
        slots = dict(zip(slots, new, strict=True))
        theirs.grad = torch.tensor(g)
        optimizer.step()
    np.testing.assert_allclose(w, theirs.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_operations_of_a_rule_are_as_torchs(name: str) -> None:
    operation = OPERATIONS[name]
    n_operands = len(inspect.signature(operation).parameters)

    class One(Rule):
        slots: ClassVar = ("s",)

        def step(self, g: Any, w: Any, slots: Any, t: Any, h: Any) -> dict[str, Any]:
            return {"w": operation(*(g, w, slots.s)[:n_operands]), "s": slots.s}

    rng = np.random.default_rng()
    g, w, s = (rng.permutation([*ODD, *rng.normal(0, 3, 100)]) for _ in range(3))
    ours = trace(One()).evaluate(g, w, {"s": s}, np.zeros((110, 0)))[0]
    theirs = operation(*map(torch.tensor, (g, w, s)[:n_operands]))
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-14, atol=1e-14)


def lion(w: float, gs: list[float], lr: float, beta1: float, beta2: float, decay: float) -> float:
    m = 0.0
    for g in gs:
        w -= lr * (np.sign(beta1 * m + (1 - beta1) * g) + decay * w)
        m = beta2 * m + (1 - beta2) * g
    return w


def rprop(w: float, gs: list[float], lr: float, up: float, down: float, least: float, most: float) -> float:
    size, before = lr, 0.0
    for g in gs:
        if g * before > 0:
            size = min(up * size, most)
        elif g * before < 0:
            size = max(down * size, least)
        w, before = w - np.sign(g) * size, g
    return w


def standard(w: float, gs: list[float], lr: float, momentum: float, momentum_type: str) -> float:
    v = 0.0
    for g in gs:
        v = momentum * v - lr * (1 - momentum) * g
        w += v
    return w


def nesterov(w: float, gs: list[float], lr: float, momentum: float, momentum_type: str) -> float:
    """What is kept is the point ahead, at which the gradients are (Sutskever et al. 2013, equations 3 and 4)."""
    v, behind = 0.0, w
    for g in gs:
        v = momentum * v - lr * (1 - momentum) * g
        behind += v
    return behind + momentum * v


@pytest.mark.parametrize(
    "name, rule, hyper",
    [
        ("lion", lion, dict(lr=0.1, beta1=0.6, beta2=0.9, decay=0.2)),
        ("rprop", rprop, dict(lr=0.1, up=1.3, down=0.4, least=0.05, most=0.3)),
        ("sgd", nesterov, dict(lr=0.1, momentum=0.7, momentum_type="nesterov")),
        ("sgd", standard, dict(lr=0.1, momentum=0.7, momentum_type="standard")),
        (
            "tests.sign_decay.SignDecay",
            lambda w, gs, lr, decay: lion(w, gs, lr, 0.0, 0.0, decay),
            dict(lr=0.1, decay=0.2),
        ),
    ],
)
def test_a_rule_is_as_stated_by_hand(name: str, rule: Callable[..., float], hyper: dict[str, Any]) -> None:
    rng = np.random.default_rng()
    update = rules.update({"rule": name}, hyper)
    w, gs = rng.normal(), rng.normal(size=40).tolist()
    new = np.array([w])
    slots = {slot: np.zeros(1) for slot in update.program.slots}
    for g, shared in zip(gs, update.shared_values(0, 40), strict=True):
        new, *kept = update.program.evaluate(np.array([g]), new, slots, shared)
        slots = dict(zip(slots, kept, strict=True))
    assert new[0] == pytest.approx(rule(w, gs, **hyper), rel=1e-12)


def test_schedules_are_as_stated() -> None:
    n, times = 10, np.arange(1.0, 61.0)
    e = (times - 1) / n
    np.testing.assert_array_equal(Schedule().factors(times, n), np.ones(60))
    step = Schedule("step", period=2, decay=0.5).factors(times, n)
    np.testing.assert_allclose(step, np.repeat([1, 0.5, 0.25], 20))
    cosine = Schedule("cosine", period=4).factors(times, n)
    np.testing.assert_allclose(cosine[:40], (1 + np.cos(np.pi * e[:40] / 4)) / 2, atol=1e-15)
    np.testing.assert_allclose(cosine[40:], 0, atol=1e-15)
    root = Schedule("inverse_sqrt", warmup=2, period=2).factors(times, n)
    np.testing.assert_allclose(root[:20], times[:20] / 20)
    np.testing.assert_allclose(root[20:], (2 / e[20:]) ** 0.5)


def test_a_schedule_goes_on_where_the_last_epoch_ended() -> None:
    update = rules.update(
        {"rule": "adam", "eps": 1e-8, "schedule": "cosine", "period": 3.0}, dict(lr=1, beta1=0.9, beta2=0.99)
    )
    whole = update.shared_values(0, 30)
    np.testing.assert_allclose(np.concatenate([update.shared_values(k, 10) for k in range(3)])[:, 0], whole[:, 0])
    (times, hyper), (_, later) = update.scheduled(0, 10), update.scheduled(2, 10)
    assert times[0] == 1 and hyper["lr"][0] == 1 and later["lr"][0] == pytest.approx(0.25)


@pytest.mark.parametrize(
    "clipping", [{"clip_value": 0.003}, {"clip_norm": 0.05}, {"clip_value": 0.003, "clip_norm": 0.05}]
)
def test_gradients_are_clipped(engine: Engine, echo: Task, clipping: dict[str, float]) -> None:
    """One update by plain gradient descent, its gradient taken from one that is not clipped."""
    few = Task("few", {k: type(s)(s.inputs[:1], s.targets[:1]) for k, s in echo.splits.items()}, echo.loss, echo.score)
    settings = {"lr": 1.0, "momentum": 0.0, "input_noise": 0.0}
    steps = []
    for more in ({}, clipping):
        member = make_member(few, "vanilla", 5, 3, "float64", optimizer={"rule": "sgd", **more}, **settings)
        before = member.weights.copy()
        engine.trainer(few, "float64", 1).train_epoch([member], [epoch_order(0, 0, 1)])
        steps.append(before - member.weights)
    g = steps[0] * min(1.0, clipping.get("clip_norm", np.inf) / np.linalg.norm(steps[0]))
    bound = clipping.get("clip_value", np.inf)
    assert (g != steps[0]).any() or (abs(g) > bound).any()
    np.testing.assert_allclose(steps[1], g.clip(-bound, bound), rtol=1e-6, atol=1e-12)


@dataclass(frozen=True)
class Loud(Rule):
    """Moves weights that have no gradient."""

    hyperparameters: ClassVar = {"lr": POSITIVE}

    def step(self, g: Any, w: Any, slots: Any, t: Any, h: Any) -> dict[str, Any]:
        return {"w": w - h.lr * (g + 1.0)}


@dataclass(frozen=True)
class Undeclared(Rule):
    hyperparameters: ClassVar = {"lr": POSITIVE}

    def step(self, g: Any, w: Any, slots: Any, t: Any, h: Any) -> dict[str, Any]:
        return {"w": w - h.rate * g}


@dataclass(frozen=True)
class Forgetful(Rule):
    hyperparameters: ClassVar = {"lr": POSITIVE}
    slots: ClassVar = ("m",)

    def step(self, g: Any, w: Any, slots: Any, t: Any, h: Any) -> dict[str, Any]:
        return {"w": w - h.lr * g}


@pytest.mark.parametrize(
    "definition, expected",
    [
        ({"rule": "sgdm"}, "optimizer.rule=sgdm: expected one of sgd, rmsprop"),
        ({"rule": 3}, "optimizer.rule=3"),
        ({"rule": "tests.test_rules.lion"}, "expected a subclass of search.rules.Rule"),
        ({"rule": "tests.absent.Rule"}, "package.module.Class"),
        ({"rule": "adam", "momentum": 0.9}, "optimizer.momentum=0.9: expected keys among rule, lr, beta1, beta2"),
        ({"rule": "adam", "beta1": 1.0}, "optimizer.beta1=1.0: expected a number of at least 0 and below 1"),
        ({"rule": "sgd", "momentum_type": "heavy"}, "momentum_type=heavy: expected one of nesterov, standard"),
        ({"rule": "sgd", "schedule": "linear"}, "optimizer.schedule=linear: expected one of constant, step"),
        ({"rule": "sgd", "clip_norm": -1}, "optimizer.clip_norm=-1: expected a number above 0, or null"),
        ({"rule": "sgd", "warmup": "long"}, "optimizer.warmup=long: expected a number of at least 0"),
        ({"rule": "tests.test_rules.Loud"}, "expected that a weight of 0 without gradient stays 0"),
        ({"rule": "tests.test_rules.Undeclared"}, "rate is not declared in `hyperparameters`, which has: lr"),
        ({"rule": "tests.test_rules.Forgetful"}, "returns w; expected w, m"),
        ({"rule": "adam"}, "beta1=(absent): expected a number of at least 0 and below 1"),
    ],
)
def test_what_is_wrong_with_a_rule_is_one_line(definition: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        rules.update(definition, {"lr": 0.1, "momentum": 0.5})
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_equal_equations_have_one_signature() -> None:
    def signature(definition: dict[str, Any], **settings: Any) -> str:
        return rules.update({"rule": "sgd"} | definition, {"lr": 0.1, "momentum": 0.5} | settings).signature

    assert signature({}) == signature({"momentum_type": "nesterov"}, lr=0.2)
    assert len({signature({}), signature({"momentum_type": "standard"}), signature({"clip_norm": 1.0})}) == 3
    assert signature({}, gradient_clipping=True) == signature({"clip_value": 7.0})
