import math
import os
from pathlib import Path

import numpy as np
import pytest

from search.base.memory import memory
from search.cells import Cell, get
from search.errors import UserError
from search.network import Network
from search.tasks import Task
from search.training.trial import Trial

SETTINGS = {"lr": 0.01, "momentum": 0.9, "input_noise": 0.0}


@pytest.mark.parametrize("dtype, n_bytes", [("float32", 4), ("float64", 8)])
@pytest.mark.parametrize("n_units", [10**6, 10**12, 10**30])
def test_a_network_beyond_the_memory_is_refused_before_it_is_made(
    n_units: int, dtype: str, n_bytes: int, echo: Task
) -> None:
    n = 4 * n_units * (echo.n_inputs + n_units + 1) + 3 * n_units + (n_units + 1) * echo.n_outputs
    with pytest.raises(UserError) as caught:
        Trial.new(0, get("vanilla"), SETTINGS | {"hidden_size": n_units}, 0, echo, dtype)
    assert str(caught.value) == (
        f"hidden_size={n_units}: a network of {n} parameters needs about {11 * n_bytes * n >> 30} GiB to train; "
        f"this machine has {memory() >> 30} GiB"
    )


def test_initial_values_of_another_shape_are_refused_at_every_size() -> None:
    class FiveUnits(Cell):
        def affine(self) -> dict[str, str]:
            return {"a": "W x + R y + b"}

        def initial(self, name: str, normal: np.ndarray) -> np.ndarray:
            return np.eye(5) if name == "R" else normal

    Network(FiveUnits(), 3, 5, 1).initial(0, "float32")
    with pytest.raises(UserError, match=r"gives an array \[5, 5\] for R; expected an array \[6, 6\]"):
        Network(FiveUnits(), 3, 6, 1).initial(0, "float32")


def test_checkpoints_know_a_network_by_the_text_that_they_always_had() -> None:
    text = "Network(cell=RNN(), n_inputs=3, n_units=5, n_outputs=2, bidirectional=False)"
    assert repr(Network(get("rnn"), 3, 5, 2)) == text
    deep = Network(get("rnn"), 3, 5, 2, n_layers=2)  # which its trial's settings say
    assert repr(deep) == text and deep != Network(get("rnn"), 3, 5, 2)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("skip", [False, True])
def test_a_network_hears_what_its_layers_say(bidirectional: bool, skip: bool) -> None:
    n_directions = 1 + bidirectional
    network = Network(get("rnn"), 3, 5, 2, bidirectional, n_layers=3, skip=skip)
    prefixes = ("forward.", "backward.") if bidirectional else ("",)
    expected = {f"{prefix}{name}": n for prefix in prefixes for name, n in (("W", 15), ("R", 25), ("b", 5))}
    for level in (2, 3):
        sizes = (("W", 25 * n_directions), ("R", 25), ("b", 5))
        expected |= {f"{level}.{prefix}{name}": n for prefix in prefixes for name, n in sizes}
    expected |= {"W_out": 2 * 5 * n_directions * (3 if skip else 1), "b_out": 2}
    assert {name: math.prod(shape) for name, shape in network.shapes.items()} == expected
    vector = network.initial(0, "float64")
    assert len(vector) == network.n_parameters == sum(expected.values())
    parts = network.unpack(vector)
    assert parts[f"{prefixes[0]}R"].std() > 0 and not np.allclose(parts[f"{prefixes[0]}R"], parts[f"2.{prefixes[0]}R"])
    alone = Network(get("rnn"), 3, 5, 2, bidirectional).initial(0, "float64")
    below = sum(n for name, n in expected.items() if name[0] not in "23" and "out" not in name)
    np.testing.assert_array_equal(vector[:below], alone[:below])  # the first layer is the same whatever is above it


@pytest.mark.parametrize(
    "groups, files, expected",
    [
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "4096", "memory.max": "8192"}, 4096),
        ("0::/\n", {"memory.max": "4096"}, 4096),
        ("4:cpu,memory:/a\n0::/\n", {"memory/a/memory.limit_in_bytes": "4096"}, 4096),
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": str(2**63 - 4096)}, None),
        ("0::/../outside\n", {"memory.max": "4096"}, 4096),
        ("", {}, None),
    ],
)
def test_memory_is_that_of_the_machine_or_the_lowest_limit(
    groups: str, files: dict[str, str], expected: int | None, tmp_path: Path
) -> None:
    for name, text in {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{k}": v for k, v in files.items()}}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory(tmp_path) == (expected or machine)
