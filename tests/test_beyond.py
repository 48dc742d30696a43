"""Toggles that are drawn beside the settings: which value is worse is found, of trials of which it is known."""

import numpy as np
import pandas as pd

from analysis import beyond


def trials(n: int) -> pd.DataFrame:
    """As of `analysis.load`: without its output activation a cell is worse by 1, a peephole changes nothing."""
    rng = np.random.default_rng(0)
    linear, peephole = rng.random(n) < 0.5, rng.random(n) < 0.5
    settings = rng.exponential(1.0, n) + rng.normal(0.0, 0.05, n) + linear
    frame = pd.DataFrame(
        {"study": "factorial", "task": "t", "variant": "vanilla", "trial": range(n), "status": "finished"}
        | {"valid_score": settings, "test_score": settings + rng.normal(0.0, 0.05, n), "epochs": 5, "best_epoch": 5}
        | {"n_parameters": 10, "train_seconds": 1.0, "hidden_size": 4, "lr": 0.1, "seed": range(n)}
        | {"output_activation": np.where(linear, "identity", "tanh"), "peephole_o": peephole, "input_gate": "sigmoid"}
    )
    return frame.astype({"variant": pd.CategoricalDtype(["vanilla"], ordered=True), "trial": "Int64"})


def test_of_toggles_the_one_that_matters_is_found() -> None:
    found = beyond.by_toggle(trials(600)).set_index(["toggle", "value"])
    assert set(found.index) == {
        *(("output_activation", value) for value in ("tanh", "identity")),
        *(("peephole_o", value) for value in ("True", "False")),
    }
    worse, none = found.loc["output_activation", "identity"], found.loc["peephole_o", "False"]
    assert worse["significant"] and worse["difference_low"] < 1.0 < worse["difference_high"]
    assert abs(none["difference"]) < 0.3 and not none["significant"]
    assert np.isclose(worse["p_adjusted"], min(1.0, 2 * worse["p"])), "two tests"
    assert found["trials"].groupby("toggle").sum().eq(600).all()
    table = beyond.toggles(trials(600), "toggles")
    assert [row[:2] for row in table.rows][:2] == [["output_activation", "tanh"], ["output_activation", "identity"]]
