"""Variants over several tasks: a difference is shown only where every task shows it."""

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis import over_tasks
from analysis.best_fraction import Estimate
from analysis.simulation import Truth


def estimates(value: float, other: float = 0.0) -> dict[tuple[str, str], Estimate]:
    own = {("a", "b"): value, ("a", "c"): other, ("b", "c"): other}
    return {pair: Estimate(each, 1.0, 50.0, 100) for pair, each in own.items()}


def test_variants_differ_only_where_they_do_on_every_task() -> None:
    for tasks, better in (((-9, -9, -9), "a"), ((9, 9), "b"), ((-9, -9, 0.5), None), ((-9, 9), None), ((-9,), "a")):
        table = over_tasks.everywhere([estimates(value) for value in tasks]).set_index(["a", "b"])
        assert table.loc[("a", "b"), "better"] == better or (
            better is None and pd.isna(table.loc[("a", "b"), "better"])
        )
    least = over_tasks.everywhere([estimates(-9.0), estimates(-3.0)]).iloc[0]
    assert least["p"] == pytest.approx(estimates(-3.0)["a", "b"].p)
    assert least["p_adjusted"] == pytest.approx(3 * least["p"])


def test_what_cannot_be_tested_on_a_task_is_not_shown_to_differ() -> None:
    unknown = estimates(-9.0) | {("a", "b"): Estimate(-9.0)}
    table = over_tasks.everywhere([estimates(-9.0), unknown])
    assert np.isnan(table["p"][0]) and pd.isna(table["better"][0])


def test_bars_join_every_pair_that_is_not_shown_to_differ() -> None:
    pairs = pd.DataFrame({"a": ["a", "a", "b", "a", "b", "c"], "b": ["b", "c", "c", "d", "d", "d"]})
    apart = pairs.assign(better=[None, "a", None, "a", "b", None])
    assert over_tasks.groups(list("abcd"), apart) == [(0, 1), (1, 2), (2, 3)]
    assert over_tasks.groups(list("abcd"), pairs.assign(better=["a"] * 6)) == []
    assert over_tasks.groups(list("abcd"), pairs.assign(better=[None] * 6)) == [(0, 3)]
    inside = pairs.assign(better=[None, "a", None, None, None, None])  # a and c differ, a and d may not
    assert over_tasks.groups(list("abcd"), inside) == [(0, 3)]


def test_critical_difference_is_that_of_the_paper() -> None:
    assert over_tasks.critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)  # Demsar 2006, section 3.2.4
    assert over_tasks.smallest_sign_p(3) == 0.25


def test_ranks_and_differences_of_simulated_tasks() -> None:
    truth = Truth({"nig": 0.0, "nfg": 0.5})
    frames = {task: analysis.simulate(truth, 60, seed=seed, task=task) for seed, task in enumerate(("timit", "jsb"))}
    ranks = over_tasks.ranks({task: analysis.compare(frame) for task, frame in frames.items()})
    assert list(ranks["task"]) == ["timit", "jsb"] * 3 and ranks["mean_rank"].is_monotonic_increasing
    assert list(ranks.loc[ranks["variant"] == "nfg", "rank"]) == [3.0, 3.0]
    variants = list(dict.fromkeys(ranks["variant"]))
    pairs = over_tasks.differences(list(frames.values()), variants)
    worse = pairs[(pairs["a"] == "nfg") | (pairs["b"] == "nfg")]
    assert len(pairs) == 3 and worse["better"].notna().all() and "nfg" not in set(worse["better"])
    own = analysis.compare(frames["jsb"]).set_index("variant")
    direct = over_tasks.differences([frames["jsb"]], ["vanilla", "nig", "nfg"]).set_index(["a", "b"])["p"]
    assert direct["vanilla", "nig"] == pytest.approx(own["p"]["nig"])
