"""The emulator of a GPU finds what it is for, and every barrier of the kernels is needed."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from search import rules
from search.cells import get
from search.engines.cuda import kernels
from search.engines.cuda.engine import CudaEngine
from search.engines.cuda.layout import Tiles
from search.engines.cuda.source import epoch_source, unroll_source
from search.engines.plan import make_plan
from tests.conftest import make_member
from tests.contract import CUDA, Odd
from tests.cuda_emulator import Emulator, Finding, installed
from tests.cuda_emulator.emulator import EmulatedCode

pytestmark = pytest.mark.skipif(not installed(), reason="needs g++, and an x86-64 processor")

SIGNATURE = {"g": "Write<real>", "count": "Write<int>", "given": "Read<real>"}
N = 128


def run(body: str, *, grid: int = 1, order: int = 0, given: int = N) -> torch.Tensor:
    """Runs a kernel of these statements in a block of `N` threads; what it leaves in `g`."""
    device = Emulator(order=order)
    source = f"KERNEL test(Write<real> g, Write<int> count, Read<real> given) {{\n    SHARED(sm);\n{body}\n}}\n"
    code = EmulatedCode(device, source, ["test"], "float32", N, {"test": SIGNATURE})
    g = device.empty(2 * N, torch.float32)
    code.launch("test", grid, 4 * N, [g, torch.zeros(1, dtype=torch.int32), torch.arange(float(given))])
    return g


def test_a_kernel_runs_with_all_its_threads() -> None:
    body = "sm[thread()] = given[thread()]; barrier(); g[block() * THREADS + thread()] = sm[THREADS - 1 - thread()];"
    for order in range(3):
        assert run(body, grid=2, order=order).tolist() == 2 * list(range(N - 1, -1, -1))


@pytest.mark.parametrize(
    "body, found",
    [
        ("sm[thread()] = 0; barrier(); sm[thread()] = 1; g[thread()] = sm[(thread() + 1) % THREADS];", "race on shared"),
        ("g[thread()] = given[0]; g[(thread() + 1) % THREADS] = 2;", "race on g"),
        ("sm[0] = thread();", "race on shared memory"),
        ("sm[thread()] = 0; barrier(); if (sm[3] == 0) sm[3] = 1;", "race on shared memory"),
        ("if (thread() == 0) count[0] = 1;\nfetch_and_add(count, 0, 1);", "race on count"),
        ("g[thread()] = sm[thread()];", "is read before it is written"),
        ("if (thread() == 0) sm[0] = g[1];", "g.1. of 256 is read before it is written"),
        ("g[thread()] = given[thread() + 1];", "given.128. of 128 is out of bounds"),
        ("sm[thread() - 1] = 0;", "shared memory.-1. of 128 is out of bounds"),
        ("if (thread() < 64) barrier();", "do not come to the same barrier"),
        ("if (thread() < 64) barrier();\nelse\nbarrier();", "do not come to the same barrier"),
    ],
)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_what_a_kernel_must_not_do_is_found(body: str, found: str, order: int) -> None:
    with pytest.raises(Finding, match=found) as told:
        run(body, order=order)
    assert "line 3" in str(told.value)


def test_blocks_that_meet_in_memory_are_found() -> None:
    with pytest.raises(Finding, match="race on g.0.: written by thread 0 of block 1, written by thread 0 of block 0"):
        run("if (thread() == 0) g[0] = 1;", grid=2)
    with pytest.raises(Finding, match="race on g.0.: read by thread 0 of block 1"):
        run("if (block() == 0 && thread() == 0) g[0] = 1;\nbarrier();\nif (block() && thread() == 0) g[1] = g[0];", grid=2)


def test_atomics_of_several_threads_are_no_race() -> None:
    body = "const int old = fetch_and_add(count, 0, 1); barrier(); g[old] = thread();"
    assert sorted(run(body).tolist()[:N]) == list(range(N))


@pytest.mark.parametrize("order", [1, 2])
def test_the_order_of_threads_changes_nothing(order: int) -> None:
    task, rows = CUDA.task(bidirectional=True), []
    for device in (Emulator(), Emulator(order=order, blocks=3), Emulator(checked=False)):
        members = [make_member(task, "fgr", n, 0, "float32") for n in (17, 5, 4, 3)]
        CUDA.curves(CudaEngine(device), task, members, "float32")
        rows.append(np.concatenate([member.weights for member in members]))
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_allclose(rows[0], rows[2], rtol=1e-4, atol=1e-4)
