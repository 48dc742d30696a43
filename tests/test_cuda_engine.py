"""What is of the CUDA engine alone: its layout in shared and global memory, sizes of block, and what it says without a
GPU. That it computes right is in `tests.test_engines`."""

import ctypes
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from search import engines
from search.cells import Cell, get
from search.engines.cuda.engine import CudaEngine
from search.engines.cuda.layout import HARDWARE, JOB, Layout, Tiles
from search.engines.cuda.source import STOP, epoch_source
from search.engines.plan import make_plan
from search.errors import UserError
from search.network import Network
from search.rules import SGD
from tests.conftest import assert_same_state, make_member
from tests.contract import CUDA, Odd, assert_unrolls_like, make_engine
from tests.cuda_emulator import Emulator, installed

pytest.importorskip("cuda.bindings", reason="needs cuda-bindings, as by pip install odyssey[dev]")
emulated = pytest.mark.skipif(not installed(), reason="needs g++, as by apt-get install g++, and an x86-64 processor")


@emulated
def test_the_kernel_obeys_the_stop_flag() -> None:
    from search.engines.cuda.epoch import DeviceSequences, Launch, Place
    from search.engines.cuda.kernels import CudaCompiler

    device, task = Emulator(), CUDA.task()
    member = make_member(task, "rnn", 2, 0, "float64")
    code = CudaCompiler(device).kernels(member.network.cell, "float64", "bernoulli", member.update)
    data = DeviceSequences.of(task.splits["train"], "float64", device.torch)
    for stop in (0, 1):
        trained = member.copy()
        launch = Launch(device, code, [trained], [Place.of(member, code, device, data.n_steps)], train=True)
        control = torch.tensor([0, 0], dtype=torch.int32)
        control[STOP] = stop
        launch.start(data, [np.arange(3)], control, queue=1)
        launch.commit()
        assert np.array_equal(trained.weights, member.weights) == bool(stop)


@emulated
def test_a_member_takes_the_time_of_its_own_block() -> None:
    """Of two of a cell, in one launch, as the device's clock has it: not by their numbers of parameters."""
    task = CUDA.task()
    members = [make_member(task, "rnn", n, 0, "float64") for n in (24, 1)]
    trainer, start = CudaEngine(Emulator()).trainer(task, "float64"), time.perf_counter()
    seconds = trainer.train_epoch(members, [np.arange(len(task.splits["train"].inputs))] * 2).seconds
    parameters = [member.network.n_parameters for member in members]
    assert time.perf_counter() - start > seconds[0] > seconds[1] > 0
    assert not np.isclose(seconds[0] / seconds[1], parameters[0] / parameters[1], rtol=1e-3)


# One thread a unit and less, and blocks of every size that there is on a GPU.
BLOCKS = [Tiles(16, 4, ((threads, float("inf")),)) for threads in (64, 128, 256, 512)]


@pytest.mark.slow
@emulated
@pytest.mark.parametrize("tiles", BLOCKS, ids=lambda tiles: f"{tiles.threads[0][0]} threads")
def test_blocks_of_every_size_compute_the_same(tiles: Tiles) -> None:
    engine, reference = CudaEngine(Emulator(tiles=tiles, shared_bytes=100_000)), engines.choose("reference", "cpu")
    assert_unrolls_like(engine, reference, get("gru"), n_units=90, n_steps=3, dtype="float32")
    task = replace(CUDA, lengths=(1, 20)).task(n_outputs=70)
    rows = []
    for each in (engine, reference):
        members = [make_member(task, "vanilla", n, n, "float64", n_layers=layers) for n, layers in ((90, 1), (7, 2))]
        rows.append((CUDA.curves(each, task, members, "float64"), members))
    (a, ours), (b, theirs) = rows
    np.testing.assert_allclose(a, b, rtol=1e-9)
    assert_same_state(ours, theirs, 1e-9, CUDA.epochs)


@emulated
def test_tensors_of_another_type_are_named() -> None:
    cell = get("rnn")
    params = {name: torch.zeros(*shape).half() for name, shape in cell.parameters(2, 3).items()}
    with pytest.raises(UserError, match="W is float16 on cpu"):
        make_engine("cuda").unroll(cell, params, torch.zeros(1, 1, 2))


def elsewhere(program: str, **environment: str) -> str:
    """What a program prints in a process of its own."""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_engine_says_what_is_missing() -> None:
    with pytest.raises(UserError, match=r"^engine=cuda: "):
        CudaEngine()


def test_without_the_compiler_the_engine_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from search.engines.cuda import nvrtc

    nvrtc._library.cache_clear()
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(UserError, match="cuda-bindings is not installed"):
        nvrtc.machine_code("", "float32", 128, (9, 0))


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


def hopper_layout(cell: Cell, n_units: int, itemsize: int = 4, n_layers: int = 1, n_steps: int = 160) -> Layout:
    network = Network(cell, 88, n_units, 88, n_layers=n_layers)
    return Layout(make_plan(cell), network, n_steps, itemsize, 227 * 1024, HARDWARE)


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


def test_a_member_that_32_bits_cannot_index_is_refused() -> None:
    assert hopper_layout(get("vanilla"), 200, n_steps=100_000).layers.shape == (1,)
    with pytest.raises(UserError, match="hidden size of 200"):
        _ = hopper_layout(get("vanilla"), 200, n_steps=2_000_000).layers


@pytest.mark.parametrize("n_layers, skip", [(1, False), (3, False), (3, True)])
def test_every_parameter_has_a_place_of_its_own_in_the_slot(n_layers: int, skip: bool) -> None:
    for cell in (get("fgr"), get("gru"), Odd()):
        task = CUDA.task(bidirectional=True)
        network = make_member(task, cell, 4, 0, "float64", n_layers=n_layers, skip=skip).network
        layout = Layout(make_plan(cell), network, 4, 8, 48 * 1024, HARDWARE)
        places = [
            (copy["source"] + r * copy["source_stride"] + c, copy["target"] + c * copy["target_stride"] + r)
            for copy in layout.copies
            for r in range(copy["n_rows"])
            for c in range(copy["n_columns"])
        ]
        for side in zip(*places, strict=True):
            assert sorted(side) == list(range(network.n_parameters))
        assert set(layout.job) < set(JOB.names or ()) and layout.job["n_parameters"] == network.n_parameters


def test_the_driver_is_asked_for_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """With functions that a driver would have, which tell what they are given."""
    from cuda.bindings import driver

    from search.engines.cuda.gpu import Driver

    asked: dict[str, tuple[Any, ...]] = {}

    def answers(name: str, *values: Any) -> None:
        assert hasattr(driver, name)

        def call(*given: Any) -> tuple[Any, ...]:
            asked[name] = given
            return driver.CUresult.CUDA_SUCCESS, *values

        monkeypatch.setattr(driver, name, call)

    for name in ("cuInit", "cuCtxSetCurrent", "cuFuncSetAttribute"):
        answers(name)
    for name in ("cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuModuleLoadData", "cuModuleGetFunction"):
        answers(name, name)
    answers("cuDeviceGetAttribute", 132)
    answers("cuOccupancyMaxActiveBlocksPerMultiprocessor", 4)

    def launched(function: Any, *given: Any) -> tuple[Any]:
        words = (ctypes.c_void_p * 2).from_address(given[-2])
        asked["words"] = tuple(ctypes.c_int64.from_address(word or 0).value for word in words)
        asked["shape"] = given[:-2]
        return (driver.CUresult.CUDA_SUCCESS,)

    monkeypatch.setattr(driver, "cuLaunchKernel", launched)
    ours = Driver(0)
    assert ours.attribute("MULTIPROCESSOR_COUNT") == ours.attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN") == 132
    function = ours.function(ours.load(b"code"), "epoch", 1000)
    assert asked["cuModuleGetFunction"][1] == b"epoch" and asked["cuFuncSetAttribute"][2] == 1000
    assert ours.occupancy(function, 128, 1000) == 4
    ours.launch(function, 3, 128, 1000, 7, [2**40, -1])
    assert asked["words"] == (2**40, -1) and asked["shape"] == (3, 1, 1, 128, 1, 1, 1000, 7)
    monkeypatch.setattr(driver, "cuInit", lambda flags: (driver.CUresult.CUDA_ERROR_NO_DEVICE,))
    with pytest.raises(RuntimeError, match="cuInit: CUDA_ERROR_NO_DEVICE"):
        Driver(0)


@emulated
def test_the_gpu_check_runs_in_the_emulator(tmp_path: Path) -> None:
    from tests.gpu_check import main

    main(["--out", str(tmp_path / "check.json"), "--tiny"])
    assert (tmp_path / "check.json").stat().st_size > 0
