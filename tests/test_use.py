"""What of a cell's products counts, and that the CPU engine, which computes no more, finds the same numbers."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from search import cells, engines
from search.base.randomness import epoch_order
from search.cells import Cell, Preactivations
from search.cells.cell import Names
from search.cells.clockwork import Clockwork
from search.engines import Engine, Member
from search.engines.cpu import windows
from search.engines.cpu.layout import PARTS, WINDOW, Layout
from search.engines.cpu.llvm import Target
from search.engines.plan import Plan, make_plan
from search.engines.use import Use, counted, use
from search.network import Network
from search.ops import floor, sigmoid, tanh, where
from search.run.bench import flops_per_step
from search.tasks import Split, Task
from tests.clockwork import Clockwork as Interleaved
from tests.conftest import assert_same_state, make_member
from tests.contract import TOLERANCE, assert_unrolls_like, make_engine

pytestmark = pytest.mark.usefixtures("fresh_cache")


class Blocks(Cell):
    """Three blocks of units. What the middle one gives is heard within the step, so that rows before and after it do
    not count; of two pre-activations side by side one counts for the first block; the blocks move at periods of 1, 3
    and 5, from steps of their own on; and a product counts nowhere."""

    def affine(self) -> dict[str, str]:
        return {"a": "W_a x + R_a y + b_a", "g": "W_g x + R_g y", "m": "W_m x + Q inner + b_m", "n": "R_n s + b_n"}

    def constants(self, n_units: int) -> dict[str, np.ndarray]:
        block = np.arange(n_units) * 3 // n_units
        return {"first": (block == 0) * 1.0, "inner": (block == 1) * 1.0, "period": 1.0 + 2.0 * block, "phase": block}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        turn = p.t + p.phase
        since = turn - p.period * floor(turn / p.period)
        moved = tanh(pre("a") + p.first * sigmoid(pre("g")) + (p.first - p.first) * pre("n"))
        m = pre("m", inner=p.inner * moved)
        return {"y": where(since, past.y, 0.5 * moved + (1.0 - p.first) * m), "s": p.inner * m}


CELLS = [Clockwork(1), Clockwork(2), Clockwork(), Clockwork(8), Interleaved(), Blocks()]
ids = [f"{type(cell).__name__}{k}" for k, cell in enumerate(CELLS)]
NAMED = list(zip(CELLS, ids, strict=True))


@pytest.fixture(autouse=True)
def fresh_numbers() -> None:
    torch.manual_seed(time.time_ns() % 2**31)
    print("torch seed:", torch.initial_seed())


@pytest.fixture
def reference() -> Engine:
    return engines.choose("reference", "cpu")


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All products are computed whole."""

    def whole(plan: Plan, constants: dict[str, np.ndarray], steps: np.ndarray) -> Use:
        n_units = len(next(iter(constants.values())))
        return Use(dict.fromkeys(plan.preactivations, np.ones((len(steps), n_units), bool)), {})

    monkeypatch.setattr(windows, "use", whole)
    windows._windows.cache_clear()
    yield
    windows._windows.cache_clear()


def task_of(lengths: tuple[int, ...], bidirectional: bool = False) -> Task:
    rng = np.random.default_rng(time.time_ns())
    inputs = [rng.normal(size=(n, 5)).astype(np.float32) for n in lengths]
    split = Split(inputs, [(rng.random((n, 4)) < 0.3).astype(np.float32) for n in lengths])
    return Task(
        "small", dict.fromkeys(("train", "valid", "test"), split), "bernoulli", "nats", bidirectional=bidirectional
    )


def trained(engine: Engine, task: Task, members: list[Member], dtype: str, threads: int = 1) -> np.ndarray:
    """Losses and scores of two epochs, [4, K]"""
    trainer, rows = engine.trainer(task, dtype, threads), []
    for epoch in range(2):
        order = epoch_order(0, epoch, len(task.splits["train"].inputs))
        rows += [trainer.train_epoch(members, [order] * len(members)).losses, trainer.evaluate(members, "valid")]
    return np.array(rows)


@pytest.mark.parametrize("cell", CELLS, ids=ids)
def test_what_is_not_read_changes_nothing_and_what_is_not_heard_is_zero(cell: Cell) -> None:
    """By the step itself: numbers of any size in place of pre-activations that do not count."""
    n_units, n_steps = 13, 31
    constants = cell.constant_values(n_units)
    found = use(make_plan(cell), constants, np.arange(n_steps, dtype=np.float64))
    kept = {name: torch.tensor(value) for name, value in constants.items()}
    for t in range(n_steps):
        past = Names({name: torch.randn(n_units, dtype=torch.float64) for name in cell.traced.state})
        counts = {name: torch.randn(n_units, dtype=torch.float64) for name in cell.preactivations}
        given = []
        for scale in (0.0, 1e3):
            other = {name: scale * torch.randn(n_units, dtype=torch.float64) for name in cell.preactivations}
            given.append({k: torch.where(torch.tensor(found.read[k][t]), counts[k], v) for k, v in other.items()})
        states = []
        for sums in given:

            def pre(name: str, /, sums: dict[str, torch.Tensor] = sums, **operands: torch.Tensor) -> torch.Tensor:
                for operand, value in operands.items():
                    assert not value[torch.tensor(~found.heard[f"{name}.{operand}"])].any()
                return sums[name]

            states.append(cell.step(past, pre, Names(kept | {"t": torch.tensor(float(t), dtype=torch.float64)})))
        for name in cell.traced.state:
            torch.testing.assert_close(states[0][name], states[1][name], rtol=0, atol=0)


def test_a_group_is_read_when_it_moves_and_hears_itself_and_the_slower_ones() -> None:
    n_units, n_steps, group = 22, 40, np.arange(22) * 4 // 22
    found = use(make_plan(Clockwork()), Clockwork().constant_values(n_units), np.arange(n_steps, dtype=np.float32))
    moves = np.arange(n_steps)[:, None] % 2**group == 0
    np.testing.assert_array_equal(found.read["a"], moves)
    for k in range(4):
        np.testing.assert_array_equal(found.read[f"r_{k}"], moves & (group == k))
        np.testing.assert_array_equal(found.heard[f"r_{k}.y_{k}"], group >= k)


def test_the_arithmetic_that_counts_is_the_papers_and_the_cpu_computes_no_more() -> None:
    """64 units in groups of 16, whose ends are those of vectors and tiles: 0.383 N² of 4 N², 0.469 N M of N M."""
    per_group = [16 * 64, 16 * 48 / 2, 16 * 32 / 4, 16 * 16 / 8]
    found = counted(Clockwork(), 88, 64)
    assert found == {"W": 64 * 88 * 15 / 32} | {f"R_{k}": per_group[k] for k in range(4)}
    network = Network(Clockwork(), 88, 64, 3)
    assert flops_per_step(network) == 2 * (2 * found["W"] + 3 * sum(per_group) + 3 * 3 * 64)
    layout = Layout(make_plan(Clockwork()), Target.host("float32"), 88, 64)
    tables = windows.windows(layout, Clockwork(), 1024)
    assert tables is not None
    of_step = tables.steps.reshape(1024, len(layout.plan.products), len(WINDOW))
    for p, product in enumerate(layout.plan.products):
        words = dict(zip(PARTS, tables.parts[p].T, strict=True))
        n = -(-(1024 - words["first"]) // words["every"])
        assert (words["rows"] * words["width"] * n).sum() * layout.target.lanes == found[product.matrices[0]] * 1024
        if product.operand != "x":
            _, width, _, rows = of_step[:, p].T
            assert (rows * width).sum() * layout.target.lanes == found[product.matrices[0]] * 1024


def test_cells_without_constants_are_computed_whole() -> None:
    for name in ("vanilla", "gru", "slstm"):
        layout = Layout(make_plan(cells.get(name)), Target.host("float32"), 5, 20)
        assert windows.windows(layout, cells.get(name), 9) is None
        assert counted(cells.get(name), 5, 20).keys() == {
            k for k, s in cells.get(name).parameters(5, 20).items() if len(s) == 2
        }


@pytest.mark.parametrize("cell", CELLS, ids=ids)
def test_parts_make_up_the_matrix_and_tables_do_not_depend_on_how_they_are_found(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n_units in (1, 7, 41):
        layout = Layout(make_plan(cell), Target.host("float64"), 5, n_units)
        windows._windows.cache_clear()
        tables = windows.windows(layout, cell, 23)
        assert tables is not None
        for product, parts in zip(layout.plan.products, tables.parts, strict=True):
            times = np.zeros((layout.product_rows(product), layout.product_columns(product) // layout.target.lanes))
            for row, rows, column, width, *_ in parts:
                times[row : row + rows, column // layout.target.lanes :][:, :width] += 1
            assert (times == 1).all()
        with monkeypatch.context() as patch:
            patch.setattr(windows, "_AT_ONCE", 5)
            windows._windows.cache_clear()
            again = windows.windows(layout, cell, 23)
        assert again is not None
        for ours, theirs in zip((tables.steps, *tables.parts), (again.steps, *again.parts), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    "cell", [pytest.param(each, id=i, marks=[] if each in CELLS[2::3] else pytest.mark.slow) for each, i in NAMED]
)
def test_a_layer_that_computes_what_counts_unrolls_like_the_reference(
    cell: Cell, dtype: str, reference: Engine
) -> None:
    for n_units, n_steps in ((1, 2), (21, 5), (40, 67)):
        size = {"n_units": n_units, "n_steps": n_steps, "spread": 0.7 * n_units**-0.5}
        assert_unrolls_like(make_engine("cpu"), reference, cell, **size, dtype=dtype)


OPTIMIZERS: list[dict[str, Any]] = [
    {"rule": "sgd"},
    {"rule": "sgd", "clip_norm": 0.5},
    {"rule": "adamw", "beta1": 0.9, "beta2": 0.99, "eps": 1e-4, "decay": 0.1},  # by which what never counts decays
]


@pytest.mark.parametrize("bidirectional", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "optimizer",
    [OPTIMIZERS[0], *(pytest.param(o, marks=pytest.mark.slow) for o in OPTIMIZERS[1:])],
    ids=lambda o: o["rule"],
)
def test_what_counts_trains_like_the_reference(
    optimizer: dict[str, Any], bidirectional: bool, reference: Engine
) -> None:
    task = task_of((66, 1, 9, 40), bidirectional)
    rows = []
    for each in (make_engine("cpu"), reference):
        members = [make_member(task, Clockwork(8), 70, 0, "float64", optimizer, n_layers=2, skip=True)]
        members += [make_member(task, cell, 29, k, "float64", optimizer) for k, cell in enumerate(CELLS[2:])]
        rows.append((trained(each, task, members, "float64"), members))
    (a, ours), (b, theirs) = rows
    np.testing.assert_allclose(a, b, rtol=1e-9)
    assert_same_state(ours, theirs, 1e-9, 2)


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 1e-5)])
def test_what_counts_and_everything_give_the_same(dtype: str, tolerance: float, request: pytest.FixtureRequest) -> None:
    """The same kernels with tables that say that all counts."""
    task = task_of((70, 3, 33))
    rows = []
    for whole in (False, True):
        if whole:
            request.getfixturevalue("everything")
        members = [make_member(task, cell, 53, k, dtype) for k, cell in enumerate(CELLS)]
        rows.append((trained(make_engine("cpu"), task, members, dtype), members))
    (a, ours), (b, theirs) = rows
    np.testing.assert_allclose(a, b, rtol=tolerance)
    assert_same_state(ours, theirs, tolerance, 2)


def test_what_counts_is_the_same_to_the_bit_in_any_company_and_on_any_number_of_threads() -> None:
    task, engine = task_of((70, 3, 33), bidirectional=True), make_engine("cpu")
    sizes = [(cell, n) for n in (5, 37, 64) for cell in CELLS]

    def members() -> list[Member]:
        return [make_member(task, cell, n, k, "float32") for k, (cell, n) in enumerate(sizes)]

    together, threaded = members(), members()
    rows = trained(engine, task, together, "float32")
    np.testing.assert_array_equal(trained(engine, task, threaded[::-1], "float32", threads=3)[:, ::-1], rows)
    for k in (3, 11):
        (alone,) = members()[k : k + 1]
        np.testing.assert_array_equal(trained(engine, task, [alone], "float32")[:, 0], rows[:, k])
        np.testing.assert_array_equal(alone.weights, together[k].weights)
        np.testing.assert_array_equal(threaded[k].weights, together[k].weights)


@pytest.mark.slow
@pytest.mark.parametrize("vector_bytes", [32, 16])
def test_narrower_vectors_compute_what_counts(
    vector_bytes: int, reference: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def narrow(dtype: str) -> Target:
        return Target(dtype, vector_bytes, 16, True)

    if not Target.host("float32").x86:
        pytest.skip("needs an x86 processor")
    monkeypatch.setattr(Target, "host", narrow)
    for cell in CELLS:
        assert_unrolls_like(make_engine("cpu"), reference, cell, n_units=41, n_steps=70, dtype="float32", spread=0.1)
