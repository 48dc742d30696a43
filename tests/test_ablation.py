"""Ablation paths and tunability: by hand on a known function, and against a search over the forest itself."""

from typing import Any

import numpy as np
import pytest

from analysis import _growing, ablation
from analysis.fanova import from_arrays
from tests.test_fanova import CUBE, MIXED, forests, mixed

__all__ = ["forests"]  # a fixture


def test_a_path_takes_the_largest_gains_first_and_ends_at_the_end() -> None:
    """Of 4 [a < 1/2] + 2 [b < 1/2] - 3 [c < 1/2], which a forest of many trials knows."""
    x = np.random.default_rng(0).random((2000, 3))
    y = (x < 0.5) @ np.array([4.0, 2.0, -3.0])
    fitted = from_arrays(x, y, CUBE, n_trees=10)
    low, high = dict.fromkeys("abc", 0.2), dict.fromkeys("abc", 0.8)
    table = ablation.path(fitted, low, high)
    assert table["dimension"].tolist() == ["", "a", "b", "c"]
    np.testing.assert_allclose(table["mean"], [3, -1, -3, 0], atol=1e-9)
    np.testing.assert_allclose(table["change"][1:], [-4, -2, 3], atol=1e-9)
    np.testing.assert_allclose(table["sd"], 0, atol=1e-9)
    assert table["before"].tolist()[1:] == [0.2] * 3 and table["after"].tolist()[1:] == [0.8] * 3
    assert ablation.path(fitted, low, low | {"b": 0.9})["dimension"].tolist() == ["", "b"]
    gains = ablation.tunability(fitted, low).set_index("dimension")["gain"]
    np.testing.assert_allclose(gains[["a", "b", "c"]], [4, 2, 0], atol=1e-9)
    assert list(gains.index) == ["a", "b", "c"]


def test_predictions_and_lowest_values_are_those_of_the_forest(forests: list[_growing.Forest]) -> None:
    columns, y = mixed()
    fitted = from_arrays(columns, y, MIXED, n_trees=5)
    forest = forests[0]

    axes = {axis.dimension.name: axis for axis in fitted._axes}

    def codes(settings: dict[str, Any], name: str, values: list[Any]) -> np.ndarray:
        columns = [axes[d.name].encode(values if d.name == name else [settings[d.name]] * len(values)) for d in MIXED]
        return np.column_stack(columns).astype(np.float32)

    at = {"size": 5, "rate": 2e-3, "inertia": 0.4, "gate": "one"}
    expected = [tree.predict(codes(at, "size", [5]))[0] for tree in forest.trees]
    np.testing.assert_allclose(fitted.predict(at), expected, rtol=0, atol=1e-12)
    for d in MIXED:
        every = list(d.values) or [d.value(d.at(u)) for u in np.linspace(0, 1, 2001)]
        lowest = forest.predict(codes(at, d.name, every)).min()
        found = fitted.predict(at | {d.name: fitted.lowest(d.name, at)}).mean()
        assert found == pytest.approx(lowest, abs=1e-12), d.name
