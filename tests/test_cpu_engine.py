"""What every compiled engine must hold: the numbers of the reference engine, for any cell, in any company."""

import itertools
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from search import engines
from search.cells import LSTM, Cell, Preactivations, get, toggles, variants
from search.compiler import kernels
from search.compiler.llvm import Target
from search.compiler.native import cache_folder
from search.compiler.plan import make_plan
from search.engines import Engine, Interrupted, Member
from search.errors import UserError
from search.ops import exp, relu, sigmoid, tanh
from search.randomness import epoch_order, input_noise
from search.tasks import Split, Task
from tests.conftest import assert_same_state, make_member

ENGINES = ["cpu"]
CELLS = [*sorted(variants()), "gru", "rnn", "irnn", "tests.mut3.MUT3"]
TOLERANCE = {"float64": 1e-10, "float32": 1e-4}

every_engine = pytest.mark.parametrize("engine", ENGINES, indirect=True)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Engine:
    return engines.choose(request.param, "cpu")


@pytest.fixture
def reference() -> Engine:
    return engines.choose("reference", "cpu")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ODYSSEY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@dataclass(frozen=True)
class Odd(Cell):
    """Declares what no other cell does: a state that no matrix hears, one that is a constant, a pre-activation with
    nothing but a product with the state, one that only a passed operand feeds, and one that changes nothing."""

    def affine(self) -> dict[str, str]:
        return {
            "a": "W_a x + R_a y",
            "b": "R_b s",
            "c": "R_c first + Q_c second + b_c",
            "d": "W_d x + R_d third + b_d",
            "e": "W_e x + R_e y + b_e",
        }

    @property
    def units(self) -> tuple[str, ...]:
        return ("p", "unused")

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        a = pre("a")
        c = pre("c", first=tanh(a) * past.quiet, second=a / (1.0 + exp(-past.y)))
        d = sigmoid(pre("d", third=relu(c) - p.p * past.fixed))
        pre("e")
        return {"y": d * pre("b") + 0.5 * a, "s": tanh(c), "quiet": 0.5 * past.quiet + d, "fixed": 0.3}


def unrolled(engine: Engine, cell: Cell, params: dict[str, torch.Tensor], x: torch.Tensor) -> list[torch.Tensor]:
    """y, and the gradients of a weighted sum of it with respect to x and each parameter."""
    inputs = [x, *params.values()]
    y = engine.unroll(cell, params, x)
    weights = torch.cos(torch.arange(y.numel(), dtype=y.dtype)).reshape(y.shape)
    gradients = torch.autograd.grad((y * weights).sum(), inputs, allow_unused=True)
    return [y.detach(), *(torch.zeros_like(v) if g is None else g for v, g in zip(inputs, gradients, strict=True))]


def assert_unrolls_like(
    engine: Engine, reference: Engine, cell: Cell, *, n_units: int, n_steps: int = 6, n_batch: int = 2, dtype: str
) -> None:
    number = getattr(torch, dtype)
    params = {
        name: (0.4 * torch.randn(*shape, dtype=number)).requires_grad_()
        for name, shape in cell.parameters(3, n_units).items()
    }
    x = torch.randn(n_steps, n_batch, 3, dtype=number, requires_grad=True)
    ours, theirs = (unrolled(e, cell, params, x) for e in (engine, reference))
    for name, a, b in zip(["y", "x", *params], ours, theirs, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        worst = (a - b).abs().max() / b.abs().max().clamp(min=1e-3)
        assert worst < TOLERANCE[dtype], f"{name}: {worst:.1e}"


@pytest.fixture(autouse=True)
def fresh_numbers(request: pytest.FixtureRequest) -> None:
    torch.manual_seed(time.time_ns() % 2**31)
    print("torch seed:", torch.initial_seed())


def small_task(*, n_inputs: int = 7, n_outputs: int = 5, bidirectional: bool = False, n_sequences: int = 7) -> Task:
    rng = np.random.default_rng(0)

    def split() -> Split:
        lengths = [1, *rng.integers(2, 23, n_sequences - 1)]
        inputs = [rng.normal(size=(n, n_inputs)).astype(np.float32) for n in lengths]
        return Split(inputs, [(rng.random((n, n_outputs)) < 0.3).astype(np.float32) for n in lengths])

    splits = {name: split() for name in ("train", "valid", "test")}
    return Task("small", splits, "bernoulli", "nats", bidirectional=bidirectional)


def population(task: Task, dtype: str) -> list[Member]:
    sizes = [5, 17, 16, 33, 1, 12]
    names = ["vanilla", "fgr", "gru", "tests.mut3.MUT3", "cifg", "rnn"]
    return [make_member(task, name, n, seed, dtype) for seed, (name, n) in enumerate(zip(names, sizes, strict=True))]


def curves(engine: Engine, task: Task, members: list[Member], dtype: str, threads: int = 1, epochs: int = 3) -> Any:
    """Training losses and validation scores, [2 * epochs, K]"""
    trainer = engine.trainer(task, dtype, threads)
    rows = []
    for epoch in range(epochs):
        order = epoch_order(0, epoch, len(task.splits["train"].inputs))
        rows += [trainer.train_epoch(members, [order] * len(members)).losses, trainer.evaluate(members, "valid")]
    return np.array(rows)


@every_engine
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CELLS)
def test_unroll_equals_the_reference(engine: Engine, reference: Engine, name: str, dtype: str) -> None:
    for n_units, n_steps, n_batch in [(1, 1, 1), (5, 7, 3), (16, 4, 1), (17, 1, 3), (33, 9, 2)]:
        shape = {"n_units": n_units, "n_steps": n_steps, "n_batch": n_batch}
        assert_unrolls_like(engine, reference, get(name), **shape, dtype=dtype)


@every_engine
@pytest.mark.parametrize("n_units", [1, 17])
def test_a_cell_of_any_structure_unrolls_like_the_reference(engine: Engine, reference: Engine, n_units: int) -> None:
    for dtype in TOLERANCE:
        assert_unrolls_like(engine, reference, Odd(), n_units=n_units, dtype=dtype)


def lstms() -> list[LSTM]:
    """The LSTM with every combination of its toggles, each set of equations once."""
    choices = {
        "input_gate": ("sigmoid", "one"),
        "forget_gate": ("sigmoid", "coupled", "one"),
        "output_gate": ("sigmoid", "one"),
        "input_activation": ("tanh", "identity"),
        "output_activation": ("tanh", "identity"),
    } | dict.fromkeys(("peephole_i", "peephole_f", "peephole_o", "gate_recurrence"), (True, False))
    assert choices.keys() == set(toggles(LSTM)) - {"forget_bias"}
    cells = [LSTM(**dict(zip(choices, values, strict=True))) for values in itertools.product(*choices.values())]
    return list({cell.signature: cell for cell in cells}.values())


@pytest.mark.parametrize("vector_bytes", [32, 16])
def test_narrower_vectors_give_the_same(vector_bytes: int, reference: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code for machines with less than the one that runs the tests may have."""

    def narrow(dtype: str) -> Target:
        return Target(dtype, vector_bytes, 16, True)

    if not Target.host("float32").x86:
        pytest.skip("needs an x86 processor")
    monkeypatch.setattr(Target, "host", narrow)
    engine = engines.choose("cpu", "cpu")
    for dtype in TOLERANCE:
        for name in ("vanilla", "tests.mut3.MUT3"):
            assert_unrolls_like(engine, reference, get(name), n_units=17, dtype=dtype)
    task = small_task(n_outputs=19)
    ours, theirs = (curves(e, task, population(task, "float64"), "float64") for e in (engine, reference))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


@every_engine
def test_some_toggle_combinations_equal_the_reference(engine: Engine, reference: Engine) -> None:
    """A sample that changes from run to run; the next test has them all."""
    cells = lstms()
    for k in torch.randperm(len(cells))[:20].tolist():
        assert_unrolls_like(engine, reference, cells[k], n_units=5, n_steps=4, dtype="float64")


@pytest.mark.slow
@every_engine
def test_every_toggle_combination_equals_the_reference(engine: Engine, reference: Engine) -> None:
    for cell in lstms():
        assert_unrolls_like(engine, reference, cell, n_units=5, n_steps=4, dtype="float64")


@every_engine
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("n_outputs", [5, 19])
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-9), ("float32", 1e-4)])
def test_training_equals_the_reference(
    engine: Engine, reference: Engine, bidirectional: bool, n_outputs: int, dtype: str, tolerance: float
) -> None:
    task = small_task(n_outputs=n_outputs, bidirectional=bidirectional)
    ours, theirs = population(task, dtype), population(task, dtype)
    a, b = (curves(e, task, members, dtype) for e, members in ((engine, ours), (reference, theirs)))
    np.testing.assert_allclose(a, b, rtol=tolerance)
    assert_same_state(ours, theirs, tolerance, epochs=3)


@every_engine
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_result_is_the_same_to_the_bit_in_any_company_and_on_any_number_of_threads(
    engine: Engine, dtype: str
) -> None:
    task = small_task(bidirectional=True)
    together, threaded = population(task, dtype), population(task, dtype)
    rows = curves(engine, task, together, dtype)
    np.testing.assert_array_equal(curves(engine, task, threaded[::-1], dtype, threads=3)[:, ::-1], rows)
    for k, other in enumerate(together):
        alone = population(task, dtype)[k]
        np.testing.assert_array_equal(curves(engine, task, [alone], dtype)[:, 0], rows[:, k])
        np.testing.assert_array_equal(alone.weights, other.weights)
        np.testing.assert_array_equal(threaded[k].weights, other.weights)


@every_engine
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_diverged_member_shows_and_disturbs_no_neighbour(engine: Engine, dtype: str) -> None:
    task = small_task()
    calm = curves(engine, task, population(task, dtype), dtype)
    members = population(task, dtype)
    members.insert(1, make_member(task, "irnn", 9, 3, dtype, lr=1e6))
    rows = curves(engine, task, members, dtype)
    assert not np.isfinite(rows[:, 1]).all()
    np.testing.assert_array_equal(np.delete(rows, 1, axis=1), calm)


@every_engine
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 2e-6)])
@pytest.mark.parametrize("n_inputs, n_outputs", [(1, 1), (3, 2), (9, 17)])
def test_input_noise_is_that_of_the_specification(
    engine: Engine, dtype: str, tolerance: float, n_inputs: int, n_outputs: int
) -> None:
    """One unit that hands x on and an output of zero weight: the first update of W is 0.5 lr x, noise and all."""
    task = small_task(n_inputs=n_inputs, n_outputs=n_outputs)
    index, std, seed = 3, 0.7, 2**40 + 5
    x = task.splits["train"].inputs[index]
    member = make_member(task, "irnn", 1, 0, dtype, lr=1.0, momentum=0.0, input_noise=std)
    member.seed, member.epoch = seed, 6
    params = member.network.unpack(member.weights)
    for name, value in {"W": 1e-6, "R": 0.0, "b": 1e3, "W_out": 1e-6, "b_out": 0.0}.items():
        params[name][...] = value
    before = params["W"].copy()
    noisy = x + std * input_noise(np.array([seed]), 6, index, x.shape)[0]
    # y = 1000 + ..., so a logit is 1e-3 wherever it stands: d loss / d y = 1e-6 sum(sigmoid(logit) - target).
    engine.trainer(task, dtype, 1).train_epoch([member], [np.array([index], np.int32)])
    logits = 1e-6 * (1e3 + 1e-6 * noisy.sum(1))
    d = 1e-6 * (1 / (1 + np.exp(-logits))[:, None] - task.splits["train"].targets[index]).sum(1)
    np.testing.assert_allclose((before - params["W"])[0], d @ noisy, atol=tolerance * np.abs(d) @ np.abs(noisy).sum(1))


@every_engine
def test_stop_abandons_the_epoch_soon_and_leaves_members_as_they_were(engine: Engine) -> None:
    task = small_task(n_sequences=400, n_outputs=40, n_inputs=40)
    members = [make_member(task, "vanilla", 150, seed, "float32") for seed in range(40)]
    before = [(m.weights.copy(), m.velocity.copy()) for m in members]
    trainer = engine.trainer(task, "float32", 2)
    trainer.train_epoch(members[:1], [np.zeros(1, np.int32)])
    before[0] = members[0].weights.copy(), members[0].velocity.copy()
    threading.Timer(0.3, trainer.stop).start()
    start = time.perf_counter()
    with pytest.raises(Interrupted):
        trainer.train_epoch(members, [np.arange(400)] * len(members))
    assert time.perf_counter() - start < 3
    for m, (weights, velocity) in zip(members, before, strict=True):
        np.testing.assert_array_equal(m.weights, weights)
        np.testing.assert_array_equal(m.velocity, velocity)
    assert members[1].epoch == 0
    with pytest.raises(Interrupted):
        trainer.evaluate(members, "valid")


@every_engine
def test_what_cannot_be_compiled_is_named(engine: Engine) -> None:
    @dataclass(frozen=True)
    class Twice(Cell):
        def affine(self) -> dict[str, str]:
            return {"a": "W x + V x + R y"}

        def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
            return {"y": tanh(pre("a"))}

    params = {name: torch.zeros(*shape) for name, shape in Twice().parameters(2, 3).items()}
    with pytest.raises(UserError, match=r"Twice: .* a .* x"):
        engine.unroll(Twice(), params, torch.zeros(1, 1, 2))
    with pytest.raises(UserError, match="W_z is float16"):
        params = {name: torch.zeros(*shape).half() for name, shape in get("rnn").parameters(2, 3).items()}
        engine.unroll(get("rnn"), {"W_z": params["W"], **params}, torch.zeros(1, 1, 2).float())


def test_the_plan_keeps_no_more_than_the_backward_step_reads() -> None:
    plan = make_plan(get("vanilla"))
    assert len(plan.forward) == len(plan.backward) == 1
    assert sorted(plan.nodes[i].op for i in plan.tape) == [
        "add",
        "mul",
        "sigmoid",
        "sigmoid",
        "sigmoid",
        "tanh",
        "tanh",
    ]
    assert [p.operand for p in plan.products] == ["x", "y"]


def test_the_gru_has_a_product_in_the_middle_of_its_step() -> None:
    plan = make_plan(get("gru"))
    assert [[p.operand for p in stage.products] for stage in plan.forward] == [[], ["n.ry"]]
    assert [sorted(stage.adjoints) for stage in plan.backward] == [["n", "z"], ["r"]]


COMPILE = """
from search.cells import get
from search.compiler.kernels import kernels
code = kernels(get("gru"), "float32", "bernoulli")
print(code.cached, code.seconds)
"""


def compile_elsewhere(folder: Path) -> bool:
    """Compiles in another process; returns whether the code was cached."""
    environment = os.environ | {"ODYSSEY_CACHE": str(folder)}
    command = [sys.executable, "-c", COMPILE]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.split()[0] == "True"


def test_code_is_cached_across_processes_and_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    assert not compile_elsewhere(tmp_path)
    assert compile_elsewhere(tmp_path)
    folder = tmp_path / "kernels"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = sorted(folder.iterdir())
    assert len(files) == 2  # the library's and the cell's
    for file in files:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    assert not compile_elsewhere(tmp_path)
    files[0].write_bytes(b"")
    files[1].write_bytes(files[1].read_bytes()[:100])
    assert not compile_elsewhere(tmp_path)
    assert compile_elsewhere(tmp_path)


def test_code_of_others_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    assert not compile_elsewhere(tmp_path)
    folder.chmod(0o777)
    assert not compile_elsewhere(tmp_path)


def test_equal_equations_share_their_code() -> None:
    no_gate = get("vanilla", input_gate="one")
    same = get("vanilla", input_gate="one", peephole_i=False)
    assert kernels.kernels(no_gate, "float32", None) is kernels.kernels(same, "float32", None)
    assert len(list(cache_folder().iterdir())) >= 2
