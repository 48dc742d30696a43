"""Every CUDA kernel compiles for the GPUs that there are, and keeps its numbers in registers. Needs no GPU."""

import re
from collections.abc import Sequence

import pytest

from search import rules
from search.cells import get
from search.engines.cuda import nvrtc
from search.engines.cuda.layout import HARDWARE
from search.engines.cuda.source import epoch_source, unroll_source
from search.engines.plan import make_plan
from search.errors import UserError
from search.losses import LOSSES
from search.rules import SGD, Adam
from tests.contract import CELLS, ZOO

ARCHITECTURES = ((8, 0), (9, 0), (10, 0))
SIZES = [threads for threads, _ in HARDWARE.threads]
REGISTERS = 128  # with which 512 threads are resident on a multiprocessor
STACK = 32  # bytes in which CUDA's sin and cos of a cell may reduce a large argument; the noise's sinpi needs none


@pytest.fixture(autouse=True)
def compiler() -> None:
    try:
        nvrtc._library()
    except UserError as error:
        pytest.skip(str(error))


def assert_fits(
    source: str, kernels: set[str], threads: int, architectures: Sequence[tuple[int, int]] = ARCHITECTURES
) -> None:
    """Asserts that kernels compile, with no number outside of registers."""
    stack = STACK if re.search(r"\b(sin|cos)\(", source) else 0
    for architecture in architectures:
        usage = nvrtc.usage(source, "float32", threads, architecture)
        assert usage.keys() == kernels
        for name, used in usage.items():
            told = f"{name} for sm_{architecture[0]}{architecture[1]}, {threads} threads: {used}"
            assert used.registers <= REGISTERS and not used.spilled and used.stack <= stack, told


def test_a_kernel_fits() -> None:
    plan = make_plan(get("vanilla"))
    assert_fits(unroll_source(plan), {"unroll_forward", "unroll_backward"}, 256)
    assert_fits(epoch_source(plan, "bernoulli", HARDWARE, SGD().program), {"epoch"}, 512, [(9, 0)])


@pytest.mark.slow
@pytest.mark.parametrize("cell", [*CELLS, *ZOO])
def test_no_cell_spills(cell: str) -> None:
    plan = make_plan(get(cell))
    assert_fits(epoch_source(plan, "bernoulli", HARDWARE, SGD().program), {"epoch"}, 512)
    assert_fits(unroll_source(plan), {"unroll_forward", "unroll_backward"}, 512)


@pytest.mark.slow
@pytest.mark.parametrize("threads", SIZES)
def test_no_size_of_block_spills(threads: int) -> None:
    assert_fits(epoch_source(make_plan(get("fgr")), "bernoulli", HARDWARE, SGD().program), {"epoch"}, threads)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "bernoulli"])
def test_no_loss_spills_nor_a_rule_with_more_slots(loss: str) -> None:
    assert_fits(epoch_source(make_plan(get("gru")), loss, HARDWARE, Adam().program), {"epoch"}, 256)


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["gru", "fgr"])
def test_clipping_by_norm_does_not_spill(cell: str) -> None:
    update = rules.update({"rule": "sgd", "clip_norm": 1.0}, {"lr": 0.01, "momentum": 0.9})
    assert_fits(epoch_source(make_plan(get(cell)), "bernoulli", HARDWARE, update.program), {"epoch"}, 512)


@pytest.mark.usefixtures("fresh_cache")
def test_machine_code_is_kept_by_source_size_of_block_and_gpu() -> None:
    source, other = (unroll_source(make_plan(get(name))) for name in ("rnn", "irnn"))
    made, cached = nvrtc.machine_code(source, "float32", 128, (9, 0))
    assert made[:4] == b"\x7fELF" and not cached
    assert nvrtc.machine_code(source, "float32", 128, (9, 0)) == (made, True)
    asked = ((other, "float32", 128, (9, 0)), (source, "float32", 256, (9, 0)), (source, "float32", 128, (8, 0)))
    assert not any(nvrtc.machine_code(*each)[1] for each in asked)
