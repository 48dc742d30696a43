"""What several test modules share."""

from pathlib import Path

import numpy as np
import pytest

from search import engines
from search.cells import get
from search.engines import Engine, Member
from search.network import Network
from search.tasks import Task
from tests.echo import load

BENCHMARK = Path(__file__).parents[2] / "shared" / "data" / "jsb-chorales-quarter.json"


@pytest.fixture(scope="session")
def echo() -> Task:
    return load()


@pytest.fixture(params=["reference", "cpu"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn: what holds for one must hold for all."""
    return engines.choose(request.param, "cpu")


@pytest.fixture
def benchmark_file() -> Path:
    if not BENCHMARK.exists():
        pytest.skip(f"needs {BENCHMARK.name}, the published benchmark, in {BENCHMARK.parent}")
    return BENCHMARK


def member(
    task: Task,
    hidden_size: int,
    seed: int,
    *,
    variant: str = "vanilla",
    dtype: str = "float64",
    lr: float = 0.02,
    momentum: float = 0.9,
    input_noise: float = 0.1,
) -> Member:
    network = Network(get(variant), task.n_inputs, hidden_size, task.n_outputs, task.bidirectional)
    weights = network.initial(seed).astype(dtype)
    return Member(network, lr, momentum, input_noise, seed, weights, np.zeros_like(weights))
