"""The emulator of a GPU finds what it is for, and every barrier of the kernels is needed."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from search import rules
from search.cells import get
from search.engines.cuda.engine import CudaEngine
from search.engines.cuda.layout import HARDWARE
from search.engines.cuda.source import epoch_source, unroll_source
from search.engines.plan import make_plan
from search.rules import SGD
from tests.conftest import make_member
from tests.contract import CUDA, Scale, unrolled
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
        (
            "sm[thread()] = 0; barrier(); sm[thread()] = 1; g[thread()] = sm[(thread() + 1) % THREADS];",
            "race on shared",
        ),
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
    with pytest.raises(Finding, match=r"race on g.0.: written by thread 0 of block 1, written by thread 0 of block 0"):
        run("if (thread() == 0) g[0] = 1;", grid=2)
    with pytest.raises(Finding, match=r"race on g.0.: read by thread 0 of block 1"):
        run(
            "if (block() == 0 && thread() == 0) g[0] = 1;\nbarrier();\nif (block() && thread() == 0) g[1] = g[0];",
            grid=2,
        )


def test_atomics_of_several_threads_are_no_race() -> None:
    body = "const int old = fetch_and_add(count, 0, 1); barrier(); g[old] = thread();"
    assert sorted(run(body).tolist()[:N]) == list(range(N))


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, 2])
def test_the_order_of_threads_changes_nothing(order: int) -> None:
    task, rows = CUDA.task(bidirectional=True), []
    for device in (Emulator(), Emulator(order=order, blocks=3), Emulator(checked=False)):
        members = [make_member(task, "fgr", n, 0, "float32") for n in (17, 5, 4, 3)]
        CUDA.curves(CudaEngine(device), task, members, "float32")
        rows.append(np.concatenate([member.weights for member in members]))
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_allclose(rows[0], rows[2], rtol=1e-4, atol=1e-4)


BARRIER = re.compile(r"^ *barrier\(\);  // (.*)$", re.MULTILINE)
# With a product in the middle of its step; with CTC, and with clipping by norm, whose own barriers are in no other.
CLIPPED = rules.update({"rule": "sgd", "clip_norm": 0.1}, {"lr": 0.02, "momentum": 0.8})
SOURCES = {
    "bernoulli": epoch_source(make_plan(get("gru")), "bernoulli", HARDWARE, SGD().program),
    "ctc": epoch_source(make_plan(get("rnn")), "ctc", HARDWARE, SGD().program),
    "clipped": epoch_source(make_plan(get("gru")), "bernoulli", HARDWARE, CLIPPED.program),
    "unroll": unroll_source(make_plan(get("gru"))),
}


class Without(Emulator):
    """An emulator that leaves a barrier of each source out."""

    def __init__(self, number: int, order: int):
        super().__init__(order=order)
        self.number = number

    def code(self, source: str, kernels: Sequence[str], dtype: str, threads: int) -> EmulatedCode:
        found = list(BARRIER.finditer(source))[self.number]
        return super().code(source[: found.start()] + source[found.end() :], kernels, dtype, threads)


def exercise(engine: CudaEngine, kind: str) -> None:
    """Comes to every barrier of a source, in every way that matters."""
    if kind == "unroll":
        params = {name: torch.randn(*shape).requires_grad_() for name, shape in get("gru").parameters(3, 40).items()}
        unrolled(engine, get("gru"), params, torch.randn(3, 2, 3, requires_grad=True))
        return
    scale = Scale((), (1, 18), 20, (35,), (), 1)
    clipped = kind == "clipped"
    task = scale.task(bidirectional=True, loss="bernoulli" if clipped else kind)
    cell, optimizer = "rnn" if kind == "ctc" else "gru", {"rule": "sgd", "clip_norm": 0.1 if clipped else None}
    members = [make_member(task, cell, 12, 0, "float32", optimizer, n_layers=2, skip=skip) for skip in (True, False)]
    members += [make_member(task, cell, n, n, "float32", optimizer) for n in (1, 40, 10)]
    scale.curves(engine, task, members, "float32")


@pytest.mark.parametrize("kind", SOURCES)
def test_the_kernels_run_without_a_finding(kind: str) -> None:
    exercise(CudaEngine(Emulator(order=1)), kind)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, number",
    [
        pytest.param(kind, number, id=f"{kind}: {found[1]}")
        for kind, source in SOURCES.items()
        for number, found in enumerate(BARRIER.finditer(source))
        if kind == "bernoulli" or not SOURCES["bernoulli"].count(found[1])
    ],
)
def test_every_barrier_is_needed(kind: str, number: int) -> None:
    with pytest.raises(Finding):
        for order in range(3):
            exercise(CudaEngine(Without(number, order)), kind)
