"""The contract of compiled engines, for the CUDA engine in numba-cuda's simulator, at sizes that suit it.

The simulator takes the place of a GPU where the variable below is set before numba.cuda is first imported. It is set
here as the module is collected, before any test runs, so no order of tests matters; nothing else imports numba.cuda.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from search import engines
from search.cells import Cell, get
from search.compiler.cuda_layout import HARDWARE, JOB, Layout
from search.compiler.cuda_source import STOP, epoch_source
from search.compiler.plan import make_plan
from search.engines import Engine, Interrupted, Member
from search.engines.cuda import CudaEngine
from search.errors import UserError
from search.randomness import epoch_order
from search.tasks import Split, Task
from tests.conftest import assert_same_state, make_member
from tests.test_cpu_engine import CELLS, Odd, assert_unrolls_like, lstms

os.environ["NUMBA_ENABLE_CUDASIM"] = "1"

pytest.importorskip("cuda.bindings", reason="needs numba-cuda and cuda-bindings, as by pip install odyssey[dev]")
pytest.importorskip("numba_cuda", reason="needs numba-cuda, as by pip install odyssey[dev]")

# Shared memory for all recurrent matrices, for some of their rows, and for none.
SHARED_BYTES = [48 * 1024, 1800, 0]


@pytest.fixture(params=SHARED_BYTES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return simulated(request.param)


@pytest.fixture
def reference() -> Engine:
    return engines.choose("reference", "cpu")


def simulated(shared_bytes: int = SHARED_BYTES[0]) -> CudaEngine:
    from search.compiler.cuda_native import Simulator

    return CudaEngine(Simulator(shared_bytes=shared_bytes))


def small_task(*, bidirectional: bool = False, n_inputs: int = 3, n_outputs: int = 2) -> Task:
    rng = np.random.default_rng(0)

    def split() -> Split:
        inputs = [rng.normal(size=(n, n_inputs)).astype(np.float32) for n in (3, 1, 4)]
        return Split(inputs, [(rng.random((len(x), n_outputs)) < 0.3).astype(np.float32) for x in inputs])

    splits = {name: split() for name in ("train", "valid", "test")}
    return Task("small", splits, "bernoulli", "nats", bidirectional=bidirectional)


def population(task: Task, dtype: str) -> list[Member]:
    """Mixed cells and sizes, below, at and above the number of threads; of one cell more than run at a time."""
    cells = ["vanilla", "fgr", "gru", "tests.mut3.MUT3", "vanilla", "vanilla"]
    sizes = [5, 3, 2, 4, 1, 2]
    return [make_member(task, cell, n, k, dtype) for k, (cell, n) in enumerate(zip(cells, sizes, strict=True))]


def curves(engine: Engine, task: Task, members: Sequence[Member], dtype: str, epochs: int = 2) -> np.ndarray:
    """Training losses and validation scores, [2 * epochs, K]"""
    trainer = engine.trainer(task, dtype, 1)
    rows = []
    for epoch in range(epochs):
        order = epoch_order(0, epoch, len(task.splits["train"].inputs))
        rows += [trainer.train_epoch(members, [order] * len(members)).losses, trainer.evaluate(members, "valid")]
    return np.array(rows)


def state(members: Sequence[Member]) -> list[np.ndarray]:
    return [vector.copy() for member in members for vector in (member.weights, member.velocity)]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CELLS)
def test_unroll_equals_the_reference(engine: Engine, reference: Engine, name: str, dtype: str) -> None:
    for n_units, n_steps, n_batch in [(1, 1, 1), (2, 4, 1), (5, 3, 3)]:
        shape = {"n_units": n_units, "n_steps": n_steps, "n_batch": n_batch}
        assert_unrolls_like(engine, reference, get(name), **shape, dtype=dtype)


def test_a_cell_of_any_structure_unrolls_like_the_reference(engine: Engine, reference: Engine) -> None:
    for n_units in (1, 5):
        assert_unrolls_like(engine, reference, Odd(), n_units=n_units, n_steps=3, dtype="float64")


def test_some_toggle_combinations_equal_the_reference(reference: Engine) -> None:
    """A sample that changes from run to run."""
    cells = lstms()
    for k in torch.randperm(len(cells))[:20].tolist():
        assert_unrolls_like(simulated(), reference, cells[k], n_units=3, n_steps=3, dtype="float64")


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-9), ("float32", 1e-4)])
def test_training_equals_the_reference(
    engine: Engine, reference: Engine, bidirectional: bool, dtype: str, tolerance: float
) -> None:
    task = small_task(bidirectional=bidirectional)
    ours, theirs = population(task, dtype), population(task, dtype)
    a, b = (curves(e, task, members, dtype) for e, members in ((engine, ours), (reference, theirs)))
    np.testing.assert_allclose(a, b, rtol=tolerance)
    assert_same_state(ours, theirs, tolerance, epochs=2)


def test_a_cell_of_any_structure_trains_like_on_the_cpu(engine: Engine) -> None:
    task = small_task(bidirectional=True)
    rows = []
    for each in (engine, engines.choose("cpu", "cpu")):
        members = [make_member(task, Odd(), n, n, "float64") for n in (2, 5)]
        rows.append([curves(each, task, members, "float64"), *state(members)])
    for ours, theirs in zip(*rows, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n_inputs, n_outputs", [(1, 1), (5, 9)])
def test_widths_of_input_and_output_need_not_fit_the_tiles(reference: Engine, n_inputs: int, n_outputs: int) -> None:
    task = small_task(n_inputs=n_inputs, n_outputs=n_outputs)
    a, b = (curves(e, task, [make_member(task, "gru", 3, 1, "float64")], "float64") for e in (simulated(), reference))
    np.testing.assert_allclose(a, b, rtol=1e-9)


def test_a_result_is_the_same_to_the_bit_in_any_company() -> None:
    task = small_task(bidirectional=True)
    together, backwards = population(task, "float32"), population(task, "float32")
    rows = curves(simulated(), task, together, "float32")
    np.testing.assert_array_equal(curves(simulated(), task, backwards[::-1], "float32")[:, ::-1], rows)
    np.testing.assert_array_equal(np.concatenate(state(backwards)), np.concatenate(state(together)))
    for k in (0, 3):
        alone = population(task, "float32")[k]
        np.testing.assert_array_equal(curves(simulated(), task, [alone], "float32")[:, 0], rows[:, k])
        np.testing.assert_array_equal(alone.weights, together[k].weights)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_diverged_member_shows_and_disturbs_no_neighbour() -> None:
    task = small_task()
    calm = curves(simulated(), task, population(task, "float32")[-2:], "float32")
    members = population(task, "float32")[-2:]
    members.insert(1, make_member(task, "irnn", 2, 3, "float32", lr=1e6))
    members.insert(2, make_member(task, "vanilla", 2, 3, "float32"))
    members[2].weights[:] = np.nan
    rows = curves(simulated(), task, members, "float32")
    assert not np.isfinite(rows[:, 1]).all() and np.isnan(rows[:, 2]).all()
    np.testing.assert_array_equal(np.delete(rows, [1, 2], axis=1), calm)


def test_stop_leaves_members_as_they_were() -> None:
    task = small_task()
    members = population(task, "float64")
    before = state(members)
    trainer = simulated().trainer(task, "float64")
    trainer.stop()
    with pytest.raises(Interrupted):
        trainer.train_epoch(members, [np.arange(3)] * len(members))
    with pytest.raises(Interrupted):
        trainer.evaluate(members, "valid")
    np.testing.assert_array_equal(np.concatenate(state(members)), np.concatenate(before))
    assert not any(member.epoch for member in members)


def test_the_kernel_obeys_the_stop_flag() -> None:
    from search.compiler.cuda_epoch import DeviceSequences, Launch, Place
    from search.compiler.cuda_native import Simulator

    device, task = Simulator(), small_task()
    member = make_member(task, "rnn", 2, 0, "float64")
    network = member.network
    code = CudaEngine(device).compile(network.cell, "float64", "bernoulli")
    data = DeviceSequences.of(task.splits["train"], "float64", device.torch)
    layout = Layout(code.plan, 3, 2, 2, 1, data.n_steps, 8, device.shared_bytes, device.tiles)
    place = Place(layout, np.array(list(layout.copies(network.shapes, network.directions))))
    for stop in (0, 1):
        trained = replace(member, weights=member.weights.copy(), velocity=member.velocity.copy())
        launch = Launch(device, code, [trained], [place], train=True)
        control = torch.tensor([0, 0], dtype=torch.int32)
        control[STOP] = stop
        launch.start(data, [np.arange(3)], control, queue=1)
        launch.commit()
        assert np.array_equal(trained.weights, member.weights) == bool(stop)


def test_what_cannot_be_run_is_named() -> None:
    cell = get("rnn")
    params = {name: torch.zeros(*shape).half() for name, shape in cell.parameters(2, 3).items()}
    with pytest.raises(UserError, match="W is float16 on cpu"):
        simulated().unroll(cell, params, torch.zeros(1, 1, 2))
    with pytest.raises(UserError, match="loss=hinge: expected one of bernoulli"):
        simulated().compile(cell, "float32", "hinge")


def elsewhere(program: str, **environment: str) -> str:
    """What a program prints in a process of its own, without the simulator."""
    clean = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=clean | environment, check=True, capture_output=True, text=True)
    return done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_engine_says_what_is_missing() -> None:
    lines = elsewhere("""
import sys
from search.engines.cuda import CudaEngine
from search.errors import UserError
print(any(name.startswith("numba") for name in sys.modules))
try:
    CudaEngine()
except UserError as error:
    print(error)
""").splitlines()
    assert lines[0] == "False"
    assert lines[1].startswith("engine=cuda: ") and len(lines) == 2


def test_without_numba_cuda_the_engine_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="numba-cuda is not installed"):
        CudaEngine()


def test_the_simulator_is_the_device_where_it_is_switched_on() -> None:
    assert CudaEngine().device == "CUDA simulator"


SOURCE = """
import hashlib
from search.cells import get
from search.compiler.cuda_layout import HARDWARE
from search.compiler.cuda_source import epoch_source
from search.compiler.plan import make_plan
print(hashlib.sha256(epoch_source(make_plan(get("fgr")), "bernoulli", HARDWARE).encode()).hexdigest())
"""


def test_source_depends_on_the_equations_alone() -> None:
    assert elsewhere(SOURCE, PYTHONHASHSEED="1") == elsewhere(SOURCE, PYTHONHASHSEED="2")
    plan, other = make_plan(get("vanilla", input_gate="one")), make_plan(get("nig", peephole_i=False))
    assert epoch_source(plan, "bernoulli", HARDWARE) == epoch_source(other, "bernoulli", HARDWARE)


def hopper_layout(cell: Cell, n_units: int, itemsize: int = 4) -> Layout:
    return Layout(make_plan(cell), 88, n_units, 88, 1, 160, itemsize, 227 * 1024, HARDWARE)


def test_recurrent_matrices_stay_in_shared_memory_where_they_fit() -> None:
    for cell in (get("vanilla"), get("fgr"), get("rnn"), Odd()):
        for n_units in (1, 20, 63, 110, 200, 1000):
            for itemsize in (4, 8):
                layout = hopper_layout(cell, n_units, itemsize)
                assert layout.shared_used <= layout.shared_bytes and layout.threads in (128, 256, 512)
                room = layout.shared_bytes - layout.shared_used
                assert layout.chip == n_units or room < layout.row_width * itemsize
    assert hopper_layout(get("vanilla"), 112).chip == 112
    assert 0 < hopper_layout(get("vanilla"), 200).chip < 200


def test_every_parameter_has_a_place_of_its_own_in_the_slot() -> None:
    for cell in (get("fgr"), get("gru"), Odd()):
        task = small_task(bidirectional=True)
        network = make_member(task, cell, 4, 0, "float64").network
        layout = Layout(make_plan(cell), 3, 4, 2, 2, 4, 8, 48 * 1024, HARDWARE)
        places = [
            (source + r * source_stride + c, target + c * target_stride + r)
            for source, source_stride, n_rows, n_columns, target, target_stride in layout.copies(
                network.shapes, network.directions
            )
            for r in range(n_rows)
            for c in range(n_columns)
        ]
        for side in zip(*places, strict=True):
            assert sorted(side) == list(range(network.n_parameters))
        assert set(layout.job) < set(JOB) and layout.job["n_parameters"] == network.n_parameters


COMPILE = """
from search.cells import get
from search.compiler.cuda_layout import HARDWARE
from search.compiler.cuda_native import machine_code
from search.compiler.cuda_source import epoch_source
from search.compiler.plan import make_plan
from search.errors import UserError
try:
    source = epoch_source(make_plan(get("rnn")), "bernoulli", HARDWARE)
    print(machine_code(source, ["epoch"], "float32", (9, 0))[:4])
except UserError as error:
    print(error)
"""


@pytest.mark.slow
def test_kernels_compile_to_machine_code_where_the_compilers_are_installed() -> None:
    printed = elsewhere(COMPILE).strip()
    if printed.startswith("engine=cuda: a compiler is missing"):
        pytest.skip(printed)
    assert printed == "b'\\x7fELF'"


def test_the_gpu_check_runs_in_the_simulator(tmp_path: Path) -> None:
    from tests.gpu_check import main

    main(["--out", str(tmp_path / "check.json"), "--tiny"])
    assert (tmp_path / "check.json").stat().st_size > 0
