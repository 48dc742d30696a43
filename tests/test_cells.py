import inspect
import itertools
import operator
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest
import torch

from search import cells, ops, unroll
from search.cells import LSTM, Cell, Preactivations
from search.engines.cuda.engine import CudaEngine
from search.errors import UserError
from search.ops import tanh
from tests.cuda_emulator import Emulator, installed
from tests.mut3 import MUT3

VARIANTS = sorted(cells.variants())
OPERATIONS: dict[str, Callable[..., typing.Any]] = {name: getattr(ops, name) for name in ops.__all__}
OPERATIONS |= {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": lambda v, w: v / (2.0 + w * w),
    "neg": operator.neg,
    "log": lambda v: ops.log(0.5 + v * v),
    "sqrt": lambda v: ops.sqrt(0.5 + v * v),
    "leaky_relu": lambda v: ops.leaky_relu(v, 0.2),
    "floor": lambda v: v * ops.floor(3.0 * v),
    "sign": lambda v: v * ops.sign(v),
    "a number with": lambda v: ops.maximum(0.25, v) * ops.minimum(v, 0.5) - ops.where(v, 1.0, v),
    "square": lambda v: v**2,
    "numbers": lambda v: np.float32(0.25) * v + np.int64(3) - 1 / (2 + np.float64(0.5) * v),
}
ELEMENTWISE = [name for name in OPERATIONS if name not in ("identity", "numbers", "mean")]
ODD = [0.0, -0.0, 1.0, -1.0, 0.5, 80.0, -80.0, float("inf"), -float("inf"), float("nan")]  # what an operation may be of
HINTS = typing.get_type_hints(LSTM)
CHOICES = {name: typing.get_args(HINTS[name]) or (False, True) for name in cells.toggles(LSTM) if name != "forget_bias"}


def random_params(cell: Cell, n_inputs: int, n_units: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    shapes = cell.parameters(n_inputs, n_units)
    return {name: torch.tensor(rng.normal(0, 0.5, shape), requires_grad=True) for name, shape in shapes.items()}


@pytest.mark.parametrize("variant", [*VARIANTS, "tests.mut3.MUT3"])
def test_gradients_equal_finite_differences(variant: str) -> None:
    rng = np.random.default_rng()
    cell = cells.get(variant)
    params = random_params(cell, 2, 3, rng)
    x = torch.tensor(rng.normal(size=(4, 2, 2)), requires_grad=True)

    def outputs(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return unroll(cell, dict(zip(params, values, strict=True)), x)

    assert torch.autograd.gradcheck(outputs, (x, *params.values()), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("n_inputs, n_units", [(88, 20), (3, 1), (39, 200)])
def test_parameter_counts_equal_the_closed_form(n_inputs: int, n_units: int) -> None:
    m, n = n_inputs, n_units
    block = n * (m + n + 1)  # one W, R and b
    expected = {
        "vanilla": 4 * block + 3 * n,
        "nig": 3 * block + 2 * n,
        "nfg": 3 * block + 2 * n,
        "nog": 3 * block + 2 * n,
        "niaf": 4 * block + 3 * n,
        "noaf": 4 * block + 3 * n,
        "np": 4 * block,
        "cifg": 3 * block + 2 * n,
        "fgr": 4 * block + 3 * n + 9 * n * n,
        "gru": 3 * block,
        "rnn": block,
        "irnn": block,
    }
    for name, count in expected.items():
        shapes = cells.get(name).parameters(m, n)
        assert sum(int(np.prod(shape)) for shape in shapes.values()) == count, name


@pytest.mark.slow
def test_every_toggle_combination_runs_and_learns() -> None:
    x = torch.tensor(np.random.default_rng(1).normal(size=(3, 1, 2)))
    seen = set()
    for values in itertools.product(*CHOICES.values()):
        cell = cells.get("lstm", **dict(zip(CHOICES, values, strict=True)))
        params = random_params(cell, 2, 3, np.random.default_rng(0))
        y = unroll(cell, params, x)
        y.square().sum().backward()
        assert y.shape == (3, 1, 3) and y.isfinite().all()
        for name, param in params.items():
            assert param.grad is not None and param.grad.isfinite().all(), (values, name)
        seen.add((*values,))
    assert len(seen) == 2 * 3 * 2 * 2 * 2 * 2 * 2 * 2 * 2 * 2


def test_vanilla_follows_the_equations_of_the_protocol() -> None:
    """docs/protocol.md, 1, written out again in NumPy."""
    rng = np.random.default_rng()
    p = {name: value.detach().numpy() for name, value in random_params(LSTM(), 3, 4, rng).items()}
    x = rng.normal(size=(6, 1, 3))
    got = unroll(LSTM(), {name: torch.tensor(value) for name, value in p.items()}, torch.tensor(x)).numpy()

    def logistic(v: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-v))

    y, c = np.zeros(4), np.zeros(4)
    for t in range(6):
        a = {k: p[f"W_{k}"] @ x[t, 0] + p[f"R_{k}"] @ y + p[f"b_{k}"] for k in "zifo"}
        i, f = logistic(a["i"] + p["p_i"] * c), logistic(a["f"] + p["p_f"] * c)
        c = np.tanh(a["z"]) * i + c * f
        y = np.tanh(c) * logistic(a["o"] + p["p_o"] * c)
        np.testing.assert_allclose(got[t, 0], y, rtol=1e-12)


def test_gate_recurrence_hears_the_gates_of_the_step_before() -> None:
    rng = np.random.default_rng()
    cell = cells.get("fgr")
    p = {name: value.detach().numpy() for name, value in random_params(cell, 3, 4, rng).items()}
    x = rng.normal(size=(5, 1, 3))
    got = unroll(cell, {name: torch.tensor(value) for name, value in p.items()}, torch.tensor(x)).numpy()
    y, c, gates = np.zeros(4), np.zeros(4), dict.fromkeys("ifo", np.zeros(4))
    for t in range(5):
        a = {k: p[f"W_{k}"] @ x[t, 0] + p[f"R_{k}"] @ y + p[f"b_{k}"] for k in "zifo"}
        for k in "ifo":
            a[k] = a[k] + sum(p[f"R_{s}{k}"] @ gates[s] for s in "ifo")
        i, f = 1 / (1 + np.exp(-(a["i"] + p["p_i"] * c))), 1 / (1 + np.exp(-(a["f"] + p["p_f"] * c)))
        c = np.tanh(a["z"]) * i + c * f
        o = 1 / (1 + np.exp(-(a["o"] + p["p_o"] * c)))
        y, gates = np.tanh(c) * o, {"i": i, "f": f, "o": o}
        np.testing.assert_allclose(got[t, 0], y, rtol=1e-12)


def test_removed_or_coupled_gates_have_no_weights() -> None:
    assert not {name for name in cells.get("cifg").parameters(2, 2) if name.endswith("_f")}
    fgr = cells.get("fgr", forget_gate="coupled", output_gate="one").parameters(2, 2)
    assert {name for name in fgr if name.startswith("R_")} == {"R_z", "R_i", "R_ii"}


def test_forget_bias_is_added_at_initialisation_only() -> None:
    normal = np.zeros(3)
    assert (cells.get("lstm", forget_bias=2).initial("b_f", normal) == 2).all()
    assert (cells.get("lstm", forget_bias=2).initial("b_i", normal) == 0).all()
    assert cells.get("lstm", forget_bias=2).signature == cells.get("lstm").signature


def test_irnn_starts_as_the_identity() -> None:
    cell = cells.get("irnn")
    assert (cell.initial("R", np.ones((3, 3))) == np.eye(3)).all()
    assert (cell.initial("b", np.ones(3)) == 0).all()


@pytest.mark.parametrize(
    "name, toggles, expected",
    [
        ("vanila", {}, "vanilla"),
        ("lstm", {"forget_gate": "closed"}, "sigmoid, one, coupled"),
        ("lstm", {"peephole_i": "yes"}, "true or false"),
        ("lstm", {"forget_bias": float("nan")}, "finite number"),
        ("gru", {"forget_gate": "one"}, "no such toggle"),
        ("tests.mut3.Absent", {}, "package.module.Class"),
        ("no_such_module.Cell", {}, "package.module.Class"),
        ("tests.echo.load", {}, "subclass"),
    ],
)
def test_bad_cells_are_explained_in_one_line(name: str, toggles: dict[str, typing.Any], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        cells.get(name, **toggles)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_a_cell_from_the_users_own_module_is_found_by_its_path() -> None:
    assert cells.get("tests.mut3.MUT3") == MUT3()


@pytest.mark.usefixtures("fresh_cache")
@pytest.mark.parametrize("engine", ["reference", "cpu"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_derivative_of_every_operation_equals_finite_differences(name: str, engine: str) -> None:
    operation = OPERATIONS[name]
    n_operands = len(inspect.signature(operation).parameters)

    class One(Cell):
        units = ("p",)

        def affine(self) -> dict[str, str]:
            return {"a": "W x + R y + b"}

        def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
            return {"y": operation(*(pre("a"), p.p * past.y, p.p + past.y)[:n_operands])}

    rng = np.random.default_rng(3)
    cell = cells.check(One())
    params = random_params(cell, 2, 3, rng)
    x = torch.tensor(rng.normal(size=(3, 1, 2)), requires_grad=True)

    def outputs(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return unroll(cell, dict(zip(params, values, strict=True)), x, engine)

    assert torch.autograd.gradcheck(outputs, (x, *params.values()), atol=1e-7, rtol=1e-5)


def test_all_that_search_ops_defines_is_among_its_operations() -> None:
    defined = {name for name, _ in inspect.getmembers(ops, inspect.isfunction) if not name.startswith("_")}
    assert defined == set(ops.__all__)


@pytest.mark.usefixtures("fresh_cache")
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name not in ("identity", "numbers")])
def test_operations_of_machine_code_are_as_torchs(name: str, dtype: torch.dtype, tolerance: float) -> None:
    """Over the range, at the kinks, for infinities and NaN."""
    operation = OPERATIONS[name]
    n_operands = len(inspect.signature(operation).parameters)

    class One(Cell):
        units = ("p", "q", "r")

        def affine(self) -> dict[str, str]:
            return {"a": "W x"}

        def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
            return {"y": operation(*(p.p, p.q, p.r)[:n_operands]) + pre("a")}

    rng = np.random.default_rng()
    units = {
        k: torch.tensor(np.concatenate([ODD, rng.normal(0, 3, 100)])[rng.permutation(110)]).to(dtype) for k in "pqr"
    }
    params = {"W": torch.zeros(110, 1, dtype=dtype)} | units
    ours, theirs = (unroll(One(), params, torch.ones(1, 1, 1, dtype=dtype), e)[0, 0] for e in ("cpu", "reference"))
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.skipif(not installed(), reason="needs g++, and an x86-64 processor")
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.float64, 1e-14)])
def test_operations_of_cuda_are_as_torchs(dtype: torch.dtype, tolerance: float) -> None:
    """As above, all in one cell, each on units of its own, for to compile one takes as long as to compile all."""

    class All(Cell):
        units = ("p", "q", "r", *(f"chosen_{k}" for k in range(len(ELEMENTWISE))))

        def affine(self) -> dict[str, str]:
            return {"a": "W x"}

        def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
            y = pre("a")
            for k, name in enumerate(ELEMENTWISE):
                n_operands = len(inspect.signature(OPERATIONS[name]).parameters)
                y = ops.where(getattr(p, f"chosen_{k}"), OPERATIONS[name](*(p.p, p.q, p.r)[:n_operands]), y)
            return {"y": y}

    rng = np.random.default_rng()
    n = len(ELEMENTWISE) * 20
    units = {
        k: torch.tensor(np.concatenate([rng.permutation([*ODD, *rng.normal(0, 3, 10)]) for _ in ELEMENTWISE])).to(dtype)
        for k in "pqr"
    }
    units |= {f"chosen_{k}": (torch.arange(n) // 20 == k).to(dtype) for k in range(len(ELEMENTWISE))}
    params = {"W": torch.zeros(n, 1, dtype=dtype)} | units
    x = torch.ones(1, 1, 1, dtype=dtype)
    ours, theirs = CudaEngine(Emulator()).unroll(All(), params, x)[0, 0], unroll(All(), params, x)[0, 0]
    for k, name in enumerate(ELEMENTWISE):
        own = slice(20 * k, 20 * (k + 1))
        torch.testing.assert_close(
            ours[own],
            theirs[own],
            rtol=tolerance,
            atol=tolerance,
            equal_nan=True,
            msg=lambda m, name=name: f"{name}: {m}",
        )


@dataclass(frozen=True)
class Leaky(Cell):
    """A cell in several versions, as edits of its module would make them."""

    rate: float = 0.5
    order: int = 1
    start: Literal[0, 1, 2] = 0
    unused: bool = False

    @property
    def units(self) -> tuple[str, ...]:
        return ("p", "q") if self.order == 1 else ("q", "p")

    def affine(self) -> dict[str, str]:
        return {"a": "W x + R y + b"}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        return {"y": self.rate * past.y + p.p * tanh(pre("a")) + p.q}

    def initial(self, name: str, normal: np.ndarray) -> np.ndarray:
        return normal + self.start if name == "b" else normal


class Commented(Leaky):
    """The same, said otherwise."""

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        """Leaks."""
        kept = self.rate * past.y  # what stays
        return {"y": kept + p.p * tanh(pre("a")) + p.q}


class OtherEquation(Leaky):
    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        return {"y": self.rate * past.y - p.p * tanh(pre("a")) + p.q}


class OtherMatrices(Leaky):
    def affine(self) -> dict[str, str]:
        return {"a": "W x + R y"}


class OtherStart(Leaky):
    def initial(self, name: str, normal: np.ndarray) -> np.ndarray:
        return np.linalg.qr(normal)[0] if name == "R" else normal


def test_fingerprint_changes_with_whatever_changes_the_training() -> None:
    edited = [Leaky(), Leaky(rate=0.51), Leaky(order=2), Leaky(start=1), OtherEquation(), OtherMatrices(), OtherStart()]
    prints = [cells.check(cell).fingerprint for cell in edited]
    assert len(set(prints)) == len(edited) and all(len(text) == 16 and int(text, 16) >= 0 for text in prints)
    assert Leaky(start=1).signature == Leaky().signature == OtherStart().signature, "compiled once"
    assert len({cells.get(name).fingerprint for name in (*VARIANTS, "irnn")}) == len(VARIANTS)


def test_fingerprint_stays_with_comments_and_toggles_that_change_nothing() -> None:
    assert Leaky(unused=True).fingerprint == Leaky().fingerprint == Commented().fingerprint
    assert cells.get("lstm", output_gate="one", peephole_o=False).fingerprint == cells.get("nog").fingerprint
    assert cells.get("lstm", forget_bias=1).fingerprint == cells.get("vanilla_bias1").fingerprint
    assert cells.get("lstm", forget_bias=1).fingerprint != cells.get("vanilla").fingerprint


@pytest.mark.parametrize(
    "toggles, expected",
    [({"order": 1.5}, "order=1.5: expected a whole number"), ({"start": 3}, "start=3: expected one of 0, 1, 2")],
)
def test_toggles_of_a_users_cell_are_checked(toggles: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        cells.get(f"{__name__}.Leaky", **toggles)
