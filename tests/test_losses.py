"""The losses of the CPU engine by themselves, against torch in float64, and the scores."""

import ctypes
from typing import Any

import numpy as np
import pytest
import torch

from search import losses, rules
from search.cells import get
from search.engines.cpu import loss_kernels
from search.engines.cpu.ctc import ctc_scratch
from search.engines.cpu.kernels import kernels
from search.engines.cpu.layout import GUARD
from search.errors import UserError
from search.tasks import Split

pytestmark = pytest.mark.usefixtures("fresh_cache")
POINTER, NUMBER = ctypes.c_void_p, ctypes.c_int64


def compiled(loss: str, logits: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Loss, derivatives [T, O] and their sums over time, by the compiled function."""
    code = kernels(get("rnn"), str(logits.dtype), loss, rules.update(rules.DEFAULT, {"lr": 0.1, "momentum": 0.5}))
    kind = ctypes.CFUNCTYPE(ctypes.c_double, POINTER, NUMBER, POINTER, NUMBER, NUMBER, NUMBER, POINTER, POINTER)
    function = kind(
        code.code._engine.get_function_address(f"odyssey_{loss if loss in loss_kernels.LOSSES else 'loss'}")
    )
    (n_steps, n_outputs), lanes = logits.shape, code.target.lanes
    stride = -(-n_outputs // 16) * 16 + 16
    rows = np.full((n_steps + 2 * GUARD, stride), 7.0, logits.dtype)[GUARD:]
    rows[:n_steps, :n_outputs] = logits
    padded = np.concatenate([targets.ravel(), np.zeros(64, targets.dtype)])
    sums = np.full(stride, 7.0, logits.dtype)
    size = ctc_scratch(n_steps, len(targets), n_outputs, lanes)
    scratch = np.full(size + 64, np.nan, logits.dtype)
    scratch[size:] = 5.0
    addresses = [array.ctypes.data for array in (rows, padded, sums, scratch)]
    loss_ = function(addresses[0], stride, addresses[1], len(targets), n_steps, n_outputs, *addresses[2:])
    assert (scratch[size:] == 5.0).all(), "it wrote past its memory"
    vectors = -(-n_outputs // lanes) * lanes
    assert not rows[:n_steps, n_outputs:vectors].any() and (rows[:n_steps, vectors:] == 7.0).all()
    return loss_, rows[:n_steps, :n_outputs], sums[:n_outputs]


def expected(loss: str, logits: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    a = torch.tensor(logits.astype(np.float64), requires_grad=True)
    value = losses.find(loss).total(a[None], torch.tensor(targets)).sum()
    (gradient,) = torch.autograd.grad(value, a)
    return value.item(), gradient.numpy()


def room(classes: np.ndarray) -> int:
    """Steps that an alignment of classes takes at least."""
    return len(classes) + int((classes[1:] == classes[:-1]).sum())


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-10), ("float32", 3e-5)])
@pytest.mark.parametrize("scale", [0.0, 1.0, 8.0, 60.0])
def test_ctc_equals_torch(dtype: str, tolerance: float, scale: float) -> None:
    """Lengths from one step to two thousand, logits from undecided to certain and wrong."""
    rng = np.random.default_rng()
    cases = [(1, 1, 3), (2, 1, 2), (3, 2, 5), (9, 4, 17), (40, 20, 4), (300, 60, 82), (2000, 120, 82)]
    for n_steps, n_classes, n_outputs in cases:
        classes = rng.integers(0, n_outputs - 1, n_classes, np.int32)
        while room(classes) > n_steps:
            classes = classes[:-1]
        logits = (scale * rng.standard_normal((n_steps, n_outputs))).astype(dtype)
        value, gradient, sums = compiled("ctc", logits, classes)
        true_value, true_gradient = expected("ctc", logits, classes)
        assert abs(value - true_value) <= tolerance * max(1.0, abs(true_value)), (n_steps, n_classes)
        np.testing.assert_allclose(gradient, true_gradient, atol=tolerance * max(1.0, scale))
        np.testing.assert_allclose(sums, true_gradient.sum(0), atol=n_steps * tolerance * max(1.0, scale))


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-10), ("float32", 1e-5)])
@pytest.mark.parametrize("loss", ["bernoulli", "squared", "categorical", "tests.huber.Huber"])
def test_losses_equal_torch(loss: str, dtype: str, tolerance: float) -> None:
    rng = np.random.default_rng()
    for n_steps, n_outputs in [(1, 1), (1, 2), (5, 16), (30, 17), (200, 61)]:
        targets: Any = {
            "bernoulli": (rng.random((n_steps, n_outputs)) < 0.3).astype(dtype),
            "squared": np.where(rng.random((n_steps, 1)) < 0.4, np.nan, rng.normal(size=(n_steps, n_outputs))).astype(
                dtype
            ),
            "categorical": rng.integers(-1, n_outputs, n_steps, np.int32),
        }
        targets = targets.get(loss, targets["squared"])
        logits = (3.0 * rng.standard_normal((n_steps, n_outputs))).astype(dtype)
        value, gradient, sums = compiled(loss, logits, targets)
        true_value, true_gradient = expected(loss, logits, targets.astype(np.float64) if targets.ndim > 1 else targets)
        assert abs(value - true_value) <= tolerance * max(1.0, abs(true_value))
        np.testing.assert_allclose(gradient, true_gradient, atol=tolerance)
        np.testing.assert_allclose(sums, true_gradient.sum(0), atol=n_steps * tolerance)


def test_classes_without_room_are_impossible() -> None:
    value, _, _ = compiled("ctc", np.zeros((2, 3)), np.array([0, 0], np.int32))
    assert value == np.inf


def test_edits_are_those_of_the_best_path() -> None:
    """Repetitions once, blanks (3) not at all, sequences apart."""
    best = np.array([0, 0, 3, 0, 1, 3, 3, 2, 2, 2, 3, 3], np.int32)
    lengths = np.array([7, 3, 2])
    read = [[0, 0, 1], [2], []]
    for targets, n in [(read, 0), ([[0, 1], [2], [1]], 2), ([[1, 0, 0], [0, 2], [0, 1, 2]], 2 + 1 + 3)]:
        arrays = [np.array(target, np.int32) for target in targets]
        assert losses.CTC().errors(best, Split([np.zeros((n, 1)) for n in lengths], arrays), 4) == n


def test_wrong_steps_are_counted_where_there_is_something_to_predict() -> None:
    targets = [np.array([1, -1, 2], np.int32), np.array([0], np.int32)]
    split = Split([np.zeros((3, 1)), np.zeros((1, 1))], targets)
    assert losses.Categorical().errors(np.array([1, 5, 1, 2], np.int32), split, 3) == 2


def test_a_loss_of_ones_own_is_differentiated() -> None:
    """By finite differences, on both sides of its kinks."""
    a, step = np.array([[-3.0, -0.4], [0.3, 2.0]]), 1e-6
    t = np.array([[0.1, 0.2], [0.9, np.nan]])

    def value(a: np.ndarray) -> float:
        far = abs(a - t)
        return float(np.nansum(np.where(far > 1.0, far - 0.5, 0.5 * far**2)))

    got, gradient, _ = compiled("tests.huber.Huber", a, t)
    assert got == pytest.approx(value(a))
    for index in np.ndindex(a.shape):
        bump = np.zeros_like(a)
        bump[index] = step
        assert gradient[index] == pytest.approx((value(a + bump) - value(a - bump)) / (2 * step), abs=1e-6)


@pytest.mark.parametrize(
    "name, told",
    [
        ("tests.huber.NUMBERS", "^loss=tests.huber.NUMBERS: expected a subclass of search.losses.Elementwise"),
        ("tests.huber.Absent", "^loss=tests.huber.Absent: expected one of bernoulli"),
        ("absent.Loss", "^loss=absent.Loss: expected one of bernoulli"),
        ("tests.huber.Deaf", r"^tests/huber.py:\d+: Deaf.step: does not depend on the output"),
        ("hinge", "^loss=hinge: expected one of bernoulli, squared, categorical, ctc, or package.module.Class"),
    ],
)
def test_what_is_no_loss_is_told_in_one_line(name: str, told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        losses.find(name)
    assert "\n" not in str(caught.value)
