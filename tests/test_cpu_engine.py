"""What is of the CPU engine alone: its vectors, its threads, and its cache of machine code."""

import os
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from search import engines
from search.cells import get
from search.engines import Engine, Interrupted
from search.engines.code_cache import cache_folder
from search.engines.cpu import kernels
from search.engines.cpu.llvm import Target
from search.engines.plan import make_plan
from tests.conftest import make_member
from tests.contract import CPU, TOLERANCE, assert_unrolls_like, make_engine

pytestmark = pytest.mark.usefixtures("fresh_cache")


@pytest.fixture
def reference() -> Engine:
    return engines.choose("reference", "cpu")


@pytest.mark.slow
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
    task = CPU.task(n_outputs=19)
    ours, theirs = (CPU.curves(e, task, CPU.population(task, "float64"), "float64") for e in (engine, reference))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


@pytest.mark.slow
def test_a_layer_reads_no_memory_behind_a_wide_batch() -> None:
    """In a process of its own, which that would end."""
    code = """
import torch
from search import cells, unroll
cell = cells.get("rnn")
params = {name: torch.zeros(shape) for name, shape in cell.parameters(500, 3).items()}
for _ in range(20):
    x = torch.zeros(1, 4000, 500, requires_grad=True)
    unroll(cell, params, x, "cpu").sum().backward()
"""
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=True)


def test_stop_abandons_the_epoch_soon_and_leaves_members_as_they_were() -> None:
    task = replace(CPU, lengths=(20,) * 400).task(n_outputs=40, n_inputs=40)
    members = [make_member(task, "vanilla", 150, seed, "float32") for seed in range(40)]
    before = [(m.weights.copy(), m.slots["velocity"].copy()) for m in members]
    trainer = make_engine("cpu").trainer(task, "float32", 2)
    trainer.train_epoch(members[:1], [np.zeros(1, np.int32)])
    before[0] = members[0].weights.copy(), members[0].slots["velocity"].copy()
    threading.Timer(0.3, trainer.stop).start()
    start = time.perf_counter()
    with pytest.raises(Interrupted):
        trainer.train_epoch(members, [np.arange(400)] * len(members))
    assert time.perf_counter() - start < 3
    for m, (weights, velocity) in zip(members, before, strict=True):
        np.testing.assert_array_equal(m.weights, weights)
        np.testing.assert_array_equal(m.slots["velocity"], velocity)
    assert members[1].epoch == 0
    with pytest.raises(Interrupted):
        trainer.evaluate(members, "valid")


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
from search.engines.cpu.kernels import kernels
code = kernels(get("gru"), "float32", "bernoulli")
print(code.cached, code.seconds)
"""


def compile_elsewhere(folder: Path) -> bool:
    """Compiles in another process; returns whether the code was cached."""
    environment = os.environ | {"ODYSSEY_CACHE": str(folder)}
    command = [sys.executable, "-c", COMPILE]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.split()[0] == "True"


@pytest.mark.slow
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


def test_equal_equations_share_their_code() -> None:
    no_gate = get("vanilla", input_gate="one")
    same = get("vanilla", input_gate="one", peephole_i=False)
    assert kernels.kernels(no_gate, "float32") is kernels.kernels(same, "float32")
    assert len(list(cache_folder().iterdir())) >= 2
