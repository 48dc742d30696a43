"""What several test modules share."""

import ctypes
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search import engines, rules
from search.cells import Cell, get
from search.engines import Engine, Member
from search.network import Network
from search.tasks import Task
from tests.echo import load
from tests.postgres import Postgres, installed

BENCHMARK = Path(__file__).parents[2] / "shared" / "data" / "jsb-chorales-quarter.json"


@pytest.fixture(scope="session")
def echo() -> Task:
    return load()


@pytest.fixture(params=["reference", "cpu"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn: what holds for one must hold for all."""
    return engines.choose(request.param, "cpu")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    if not installed():
        pytest.skip("needs PostgreSQL's server, as by apt-get install postgresql")
    with Postgres() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str | None:
    """A storage of each kind."""
    if request.param == "sqlite":
        return None
    return request.getfixturevalue("postgres").database(f"test{time.time_ns()}")


@pytest.fixture
def modes_hold() -> Iterator[None]:
    """The modes of files hold for root as for everyone: without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH of Linux."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the third version of capset(2); this thread
    before, now = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice 32 bits
    for sets in (before, now):
        assert libc.capget(header, sets) == 0, os.strerror(ctypes.get_errno())
    now[0] &= ~0b110
    assert libc.capset(header, now) == 0, os.strerror(ctypes.get_errno())
    yield
    assert libc.capset(header, before) == 0, os.strerror(ctypes.get_errno())


@pytest.fixture
def benchmark_file() -> Path:
    if not BENCHMARK.exists():
        pytest.skip(f"needs {BENCHMARK.name}, the published benchmark, in {BENCHMARK.parent}")
    return BENCHMARK


@pytest.fixture(scope="module")
def fresh_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Machine code is made anew, and left in no folder of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ODYSSEY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def make_member(
    task: Task,
    cell: str | Cell,
    n_units: int,
    seed: int,
    dtype: str,
    optimizer: dict[str, Any] | None = None,
    **settings: Any,
) -> Member:
    """A member before its first epoch, with settings under which every cell learns."""
    settings = {"lr": 0.02, "momentum": 0.8, "input_noise": 0.3} | settings
    cell = get(cell) if isinstance(cell, str) else cell
    layers = {name: settings[name] for name in ("n_layers", "skip") if name in settings}
    network = Network(cell, task.n_inputs, n_units, task.n_outputs, task.bidirectional, **layers)
    update = rules.update(optimizer or {"rule": "sgd"}, settings)
    return Member.new(network, update, settings["input_noise"], seed, dtype)


def assert_same_state(ours: Sequence[Member], theirs: Sequence[Member], tolerance: float, epochs: int) -> None:
    """Asserts that members trained on two engines have come to the same weights and slots."""
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.epoch == other.epoch == epochs
        for own, others in zip(mine.vectors, other.vectors, strict=True):
            np.testing.assert_allclose(own, others, rtol=tolerance, atol=tolerance)
