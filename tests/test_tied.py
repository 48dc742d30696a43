"""Networks whose layers share parameters: what they have, and that every engine trains them as the reference does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from search import engines
from search.base.randomness import epoch_order
from search.cells import Cell, Preactivations, get
from search.cells.canonical import canonical
from search.engines import Engine, Member
from search.network import Network
from search.ops import sigmoid, tanh
from search.run.bench import flops_per_step
from tests.conftest import assert_same_state, make_member
from tests.contract import ENGINES, Scale, make_engine
from tests.cuda_emulator import installed

pytestmark = pytest.mark.usefixtures("fresh_cache")


@dataclass(frozen=True)
class Tied(Cell):
    """What is not in the Grid LSTM: parameters of the units, a product within the step, one matrix alone."""

    @property
    def layers_tied(self) -> bool:
        return True

    @property
    def units(self) -> tuple[str, ...]:
        return ("p", "q")

    def affine(self) -> dict[str, str]:
        return {"a": "W_a x + R_a y + b_a", "b": "R_b fed + b_b", "c": "W_c x"}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        a = tanh(pre("a") + p.p * past.y)
        return {"y": a * sigmoid(pre("b", fed=a * p.q) + 0.5 * p.below.y) + 0.1 * pre("c")}


def test_tied_layers_have_the_parameters_of_the_second() -> None:
    for bidirectional in (False, True):
        tied = Network(get("grid_tied"), 3, 5, 2, bidirectional, n_layers=4)
        names = {name.rpartition("W_u")[0] for name in tied.shapes if name.endswith("W_u")}
        assert names == ({"forward.", "backward.", "2.forward.", "2.backward."} if bidirectional else {"", "2."})
        assert tied.n_parameters == Network(get("grid"), 3, 5, 2, bidirectional, n_layers=2).n_parameters
        apart = 1 + bidirectional
        assert [layer.owner for layer in tied.layers] == [min(k, apart + k % apart) for k in range(4 * apart)]
        untied = Network(get("grid"), 3, 5, 2, bidirectional, n_layers=4)
        assert [layer.owner for layer in untied.layers] == list(range(4 * apart))
        assert flops_per_step(tied) == flops_per_step(untied)  # each layer multiplies by what they share


def test_a_cell_is_another_once_its_layers_are_tied_and_the_untied_is_what_it_was() -> None:
    grid, tied = get("grid"), get("grid_tied")
    assert grid.signature == tied.signature and grid.fingerprint != tied.fingerprint
    assert canonical(grid) != canonical(tied) and repr(grid) == "GridLSTM()"
    assert grid.fingerprint == "3af2584b295a906b"


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow) if "shared" in name else name for name in ENGINES])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param != "cpu" and not installed():
        pytest.skip("needs g++, as by apt-get install g++, and an x86-64 processor")
    return make_engine(request.param)


RULES: dict[str, dict[str, Any]] = {
    "sgd": {"rule": "sgd"},
    "clipped": {"rule": "sgd", "clip_norm": 0.3},
    "adam": {"rule": "adam", "beta1": 0.9, "beta2": 0.99, "eps": 1e-4, "clip_norm": 0.5},
}


def members_of(task: Any, sizes: Sequence[tuple[str | Cell, int, int]], optimizer: dict[str, Any]) -> list[Member]:
    return [
        make_member(task, cell, n, k, "float64", optimizer, n_layers=n_layers, skip=k % 2 == 1)
        for k, (cell, n_layers, n) in enumerate(sizes)
    ]


@pytest.mark.parametrize("bidirectional", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("optimizer", [pytest.param(k, marks=[] if k == "sgd" else pytest.mark.slow) for k in RULES])
def test_tied_layers_train_like_the_reference(engine: Engine, optimizer: str, bidirectional: bool) -> None:
    scale = Scale.of("cuda")  # for the reference, too, is slow
    task = scale.task(bidirectional=bidirectional)
    sizes = [("grid_tied", 3, 5), (Tied(), 4, 6), ("grid_tied", 2, 9)]
    rows = []
    for each in (engine, engines.choose("reference", "cpu")):
        members = members_of(task, sizes, RULES[optimizer])
        rows.append((scale.curves(each, task, members, "float64", threads=2), members))
    (a, ours), (b, theirs) = rows
    np.testing.assert_allclose(a, b, rtol=1e-9)
    assert_same_state(ours, theirs, 1e-9, scale.epochs)


def test_the_gradient_of_what_layers_share_is_the_sum_of_theirs() -> None:
    """One update of the tied network, and those of an untied one that begins with the same numbers in each layer."""
    scale = Scale.of("cpu")
    task, steps = scale.task(), {}
    settings = {"lr": 0.1, "momentum": 0.0, "input_noise": 0.0}
    tied = make_member(task, "grid_tied", 7, 0, "float64", n_layers=4, **settings)
    apart = make_member(task, "grid", 7, 0, "float64", n_layers=4, **settings)
    own = tied.network.unpack(tied.weights)
    for name, view in apart.network.unpack(apart.weights).items():
        of = {"3": "2.", "4": "2."}.get(name[0]) if name[1:2] == "." else None
        view[...] = own[name if of is None else of + name[2:]]
    for member in (tied, apart):
        before = member.weights.copy()
        trainer = make_engine("cpu").trainer(task, "float64", 1)
        trainer.train_epoch([member], [np.array([1], np.int32)])
        steps[member.network.n_parameters] = member.network.unpack(member.weights - before)
    shared, each = steps[tied.network.n_parameters], steps[apart.network.n_parameters]
    for name, step in shared.items():
        parts = [each[f"{k}.{name[2:]}"] for k in (2, 3, 4)] if name.startswith("2.") else [each[name]]
        np.testing.assert_allclose(step, sum(parts), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tied_layers_give_the_same_bits_in_any_company(engine: Engine, dtype: str) -> None:
    scale = Scale.of(engine.name)
    task = scale.task()

    def members() -> list[Member]:
        sizes = [("grid_tied", 3), ("vanilla", 2), ("grid_tied", 2), ("grid", 3)]
        return [make_member(task, name, 6, k, dtype, n_layers=n) for k, (name, n) in enumerate(sizes)]

    def trained(group: list[Member], threads: int) -> list[np.ndarray]:
        order = epoch_order(0, 0, len(task.splits["train"].inputs))
        engine.trainer(task, dtype, threads).train_epoch(group, [order] * len(group))
        return [member.weights for member in group]

    together, turned = trained(members(), 1), trained(members()[::-1], 3)[::-1]
    (alone,) = trained(members()[:1], 1)
    np.testing.assert_array_equal(alone, together[0])
    for one, other in zip(together, turned, strict=True):
        np.testing.assert_array_equal(one, other)
