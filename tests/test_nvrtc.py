"""Every CUDA kernel compiles for the GPUs that there are, and keeps its numbers in registers. Needs no GPU."""

import pytest

from search.cells import get
from search.engines.cuda.layout import HARDWARE
from search.engines.cuda.source import epoch_source, unroll_source
from search.engines.plan import make_plan
from search.losses import LOSSES
from search.rules import SGD, Adam
from tests.contract import CELLS

nvrtc = pytest.importorskip("search.engines.cuda.nvrtc")
pytest.importorskip("cuda.bindings", reason="needs cuda-bindings, as by pip install odyssey[dev]")

ARCHITECTURES = ((8, 0), (9, 0), (10, 0))
REGISTERS = 128  # with which 512 threads are resident on a multiprocessor


@pytest.fixture(autouse=True)
def compiler() -> None:
    from search.errors import UserError

    try:
        nvrtc._library()
    except UserError as error:
        pytest.skip(str(error))


def assert_fits(source: str, kernels: set[str], dtype: str, threads: int, spilled: int = 0) -> None:
    for architecture in ARCHITECTURES:
        usage = nvrtc.usage(source, dtype, threads, architecture)
        assert usage.keys() == kernels
        for name, used in usage.items():
            told = f"{name}, sm_{architecture[0]}{architecture[1]}, {dtype}, {threads} threads: {used}"
            assert used.registers <= REGISTERS and used.spilled <= spilled, told


@pytest.mark.parametrize("cell", ["vanilla", pytest.param("fgr", marks=pytest.mark.slow)])
@pytest.mark.parametrize("threads", [threads for threads, _ in HARDWARE.threads])
def test_no_size_of_block_spills(cell: str, threads: int) -> None:
    assert_fits(epoch_source(make_plan(get(cell)), "bernoulli", HARDWARE, SGD().program), {"epoch"}, "float32", threads)


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_no_cell_spills(cell: str) -> None:
    plan = make_plan(get(cell))
    assert_fits(epoch_source(plan, "bernoulli", HARDWARE, SGD().program), {"epoch"}, "float32", 512)
    assert_fits(unroll_source(plan), {"unroll_forward", "unroll_backward"}, "float32", 512)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "bernoulli"])
def test_no_loss_and_no_rule_spills(loss: str) -> None:
    assert_fits(epoch_source(make_plan(get("vanilla")), loss, HARDWARE, Adam().program), {"epoch"}, "float32", 256)
