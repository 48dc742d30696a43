"""What is compared between studies: how much their settings matter."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.importance import Importance, between
from analysis.simulation import SPACE, Truth, plan, simulate


@pytest.fixture(scope="module")
def studies() -> list[Importance]:
    """Of vanilla: one in which the learning rate matters much, one of another seed in which it matters less and that
    does not sample the momentum."""
    truths = [Truth({}), Truth({}, lr_depth=0.6)]
    made = [Importance(simulate(truth, trials=150, seed=k), plan(truth, 150)) for k, truth in enumerate(truths)]
    fewer = {name: spec for name, spec in SPACE.items() if name != "momentum"}
    other = replace(plan(truths[1], 150), space=fewer)
    return [made[0], Importance(made[1].trials.drop(columns="momentum"), other)]


def test_shares_are_compared_between_studies(studies: list[Importance]) -> None:
    table = between(*studies).set_index("dimension")
    assert set(table.index) == {"hidden_size", "lr", "momentum", "input_noise"} and set(table["variant"]) == {"vanilla"}
    lr = table.loc["lr"]
    assert lr["share"] > lr["against"] and lr["low"] > 0  # it does matter more
    assert np.isclose(lr["difference"], lr["share"] - lr["against"]) and lr["low"] < lr["difference"] < lr["high"]
    assert np.isnan(table.loc["momentum", "against"]) and np.isnan(table.loc["momentum", "difference"])
    assert not np.isnan(table.loc["momentum", "share"])


def test_a_study_does_not_differ_from_itself(studies: list[Importance]) -> None:
    table = between(studies[0], studies[0])
    assert (table["difference"] == 0).all() and (table["low"] < 0).all() and (table["high"] > 0).all()
