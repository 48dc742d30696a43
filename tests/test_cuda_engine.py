"""What is of the CUDA engine alone: its kernels, its layout in shared memory, and what it says without a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from search.cells import Cell, get
from search.engines.cuda.engine import CudaEngine
from search.engines.cuda.layout import HARDWARE, JOB, Layout
from search.engines.cuda.source import STOP, epoch_source
from search.engines.plan import make_plan
from search.errors import UserError
from search.rules import SGD
from tests.conftest import make_member
from tests.contract import SIMULATOR, Odd, simulated

pytest.importorskip("cuda.bindings", reason="needs numba-cuda and cuda-bindings, as by pip install odyssey[dev]")
pytest.importorskip("numba_cuda", reason="needs numba-cuda, as by pip install odyssey[dev]")


def test_the_kernel_obeys_the_stop_flag() -> None:
    from search.engines.cuda.epoch import DeviceSequences, Launch, Place
    from search.engines.cuda.native import Simulator

    device, task = Simulator(), SIMULATOR.task()
    member = make_member(task, "rnn", 2, 0, "float64")
    network = member.network
    code = CudaEngine(device).compile(network.cell, "float64", "bernoulli", member.update)
    data = DeviceSequences.of(task.splits["train"], "float64", device.torch)
    layout = Layout(code.plan, 3, 2, 2, 1, data.n_steps, 8, device.shared_bytes, device.tiles, n_slots=1)
    place = Place(layout, np.array(list(layout.copies(network.shapes, [layer.prefix for layer in network.layers]))))
    for stop in (0, 1):
        trained = member.copy()
        launch = Launch(device, code, [trained], [place], train=True)
        control = torch.tensor([0, 0], dtype=torch.int32)
        control[STOP] = stop
        launch.start(data, [np.arange(3)], control, queue=1)
        launch.commit()
        assert np.array_equal(trained.weights, member.weights) == bool(stop)


def test_tensors_of_another_type_are_named() -> None:
    cell = get("rnn")
    params = {name: torch.zeros(*shape).half() for name, shape in cell.parameters(2, 3).items()}
    with pytest.raises(UserError, match="W is float16 on cpu"):
        simulated().unroll(cell, params, torch.zeros(1, 1, 2))


def elsewhere(program: str, **environment: str) -> str:
    """What a program prints in a process of its own, without the simulator."""
    clean = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=clean | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_engine_says_what_is_missing() -> None:
    lines = elsewhere("""
import sys
from search.engines.cuda.engine import CudaEngine
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
from search.engines.cuda.layout import HARDWARE
from search.engines.cuda.source import epoch_source
from search.engines.plan import make_plan
from search.rules import Adam
source = epoch_source(make_plan(get("fgr")), "bernoulli", HARDWARE, Adam().program)
print(hashlib.sha256(source.encode()).hexdigest())
"""


def test_source_depends_on_the_equations_alone() -> None:
    assert elsewhere(SOURCE, PYTHONHASHSEED="1") == elsewhere(SOURCE, PYTHONHASHSEED="2")
    plan, other = make_plan(get("vanilla", input_gate="one")), make_plan(get("nig", peephole_i=False))
    one, same = (epoch_source(each, "bernoulli", HARDWARE, SGD().program) for each in (plan, other))
    assert one == same


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
        task = SIMULATOR.task(bidirectional=True)
        network = make_member(task, cell, 4, 0, "float64").network
        layout = Layout(make_plan(cell), 3, 4, 2, 2, 4, 8, 48 * 1024, HARDWARE)
        places = [
            (source + r * source_stride + c, target + c * target_stride + r)
            for source, source_stride, n_rows, n_columns, target, target_stride in layout.copies(
                network.shapes, [layer.prefix for layer in network.layers]
            )
            for r in range(n_rows)
            for c in range(n_columns)
        ]
        for side in zip(*places, strict=True):
            assert sorted(side) == list(range(network.n_parameters))
        assert set(layout.job) < set(JOB) and layout.job["n_parameters"] == network.n_parameters


COMPILE = """
from search.cells import get
from search.engines.cuda.layout import HARDWARE
from search.engines.cuda.native import machine_code
from search.engines.cuda.source import epoch_source
from search.engines.plan import make_plan
from search.errors import UserError
from search.rules import SGD
try:
    source = epoch_source(make_plan(get("rnn")), "bernoulli", HARDWARE, SGD().program)
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
