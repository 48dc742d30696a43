"""Simulated studies have the truth they were given, and the numbers of the calibration are those that stand in it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis import calibrate, calibrate_findings, findings
from analysis.frames import selecting
from analysis.simulation import PAPERS, Truth, draw
from analysis.worlds import Searches, World
from tests.test_analysis import make_study

DOCS = Path(__file__).parents[1] / "docs"


def test_simulated_study_is_a_frame_as_loaded(tmp_path: Path) -> None:
    make_study(tmp_path, variants=("vanilla",), trials=2)
    loaded, drawn = analysis.load("bach", tmp_path), analysis.simulate(trials=30)
    versions = [name for name in loaded if name.endswith("_version")]
    assert list(drawn) == [name for name in loaded if name not in (*versions, "forget_bias")]
    assert len(drawn) == 9 * 30 and list(drawn["variant"].cat.categories) == ["vanilla", *PAPERS]
    for name in ("trial", "hidden_size", "seed", "lr", "test_score", "status"):
        assert drawn[name].dtype == loaded[name].dtype
    pd.testing.assert_frame_equal(drawn, analysis.simulate(trials=30))
    assert not drawn["test_score"].equals(analysis.simulate(trials=30, seed=1)["test_score"])


def test_paired_draws_share_settings_and_some_luck() -> None:
    for paired in (True, False):
        drawn = analysis.simulate(Truth({"nig": 0.0}, divergence_lr=0.0), 500, paired)
        vanilla, other = (own.reset_index(drop=True) for _, own in drawn.groupby("variant"))
        assert vanilla["lr"].equals(other["lr"]) == vanilla["seed"].equals(other["seed"]) == paired
        assert (np.corrcoef(vanilla["test_score"], other["test_score"])[0, 1] > 0.8) == paired


def test_effects_move_the_best_mean_by_as_much() -> None:
    means = Truth({"a": 0.2, "b": 0.0}, shifts={"b": 0.5}, fragile={"b": 0.5}).best_means()
    assert means["a"] - means["vanilla"] == pytest.approx(0.2, abs=0.01)
    assert means["b"] - means["vanilla"] > 0.02  # diverging where it would be best
    world = World.of(Truth({"b": 0.0}, shifts={"b": 0.5}, fragile={"b": 0.5}), {"b": -0.1})
    assert world.differences == pytest.approx([-0.1])


def test_parameters_of_a_truth_do_what_they_say() -> None:
    def drawn(**parameters: float) -> pd.DataFrame:
        return analysis.simulate(Truth({}, **{"luck": 0.0, "score_noise": 0.0, **parameters}), 4000)

    plain = drawn()
    assert plain["test_score"].equals(plain["valid_score"])
    best = plain.loc[plain["test_score"].idxmin()]
    assert 8.5 < best["test_score"] < 8.7 and -3.3 < np.log10(best["lr"]) < -2.3
    assert set(plain.loc[plain["lr"] < 10**-2.6, "status"]) == {"finished"}
    assert set(plain.loc[plain["lr"] > 10**-2.02, "status"]) >= {"diverged"}
    for name in ("momentum", "input_noise"):
        cost = (
            drawn(momentum_cost=1.0, noise_cost=1.0)["test_score"]
            - drawn(momentum_cost=0.0, noise_cost=0.0)["test_score"]
        )
        assert np.corrcoef(cost, plain[name])[0, 1] > 0.3
    gain = drawn(size_gain=0.0)["test_score"] - plain["test_score"]
    assert gain.to_numpy() == pytest.approx(-0.9 * 20 / plain["hidden_size"].to_numpy(float))


@pytest.mark.parametrize("paired", [True, False])
def test_calibration_judges_by_the_numbers_of_the_comparison(paired: bool) -> None:
    drawn = analysis.simulate(Truth({"nig": 0.1, "nfg": 0.3}), 60, paired)
    table = analysis.compare(drawn)
    own = [trials for _, trials in drawn.groupby("variant")]
    study = Searches.of(
        np.array([selecting(trials, "valid") for trials in own]),
        np.array([trials["test_score"] for trials in own]),
        paired,
    )
    found = study.evidence(Truth({"nig": 0.1, "nfg": 0.3})).comparison
    tested = table["variant"] != "vanilla"
    pd.testing.assert_frame_equal(
        found[tested], table.loc[tested, list(found)], check_dtype=False, check_categorical=False
    )
    assert found["best_mean"][0] == table["best_mean"][0]


def test_a_verdict_is_wrong_where_the_world_says_otherwise() -> None:
    def world(**effects: float) -> World:
        means = [0.0, *effects.values()]
        return World(Truth(effects), np.array([[10 + mean, 10 + mean] for mean in means]))

    def holds(name: str, effect: float) -> bool:
        variants = {} if name == "none_better" else {"variants": ["nfg"]}
        return world(nig=0.0, nfg=effect).holds(findings.NamedTest(name, ("jsb",), {"margin": 0.01, **variants}))

    assert [holds("worse", effect) for effect in (0.0, 0.09, 0.11)] == [False, False, True]
    assert [holds("no_difference", effect) for effect in (-0.11, -0.09, 0.09, 0.11)] == [False, True, True, False]
    assert [holds("none_better", effect) for effect in (-0.11, -0.09, 0.3)] == [False, True, True]
    truth = Truth(dict.fromkeys(PAPERS, 0.0) | {"cifg": 1.0})
    study = draw(truth, 200, True, np.random.default_rng(0))
    seen = Searches.of(study.select[0], study.test[0], True)
    assert not any(calibrate.wrong_verdicts(World.of(truth), seen))
    assert sum(calibrate.wrong_verdicts(World.of(Truth()), seen)) == 2  # cifg-free is contradicted, on two tasks


def test_cases_of_a_finding_lie_on_either_side_of_its_bound() -> None:
    margin = 0.01 * Truth({}).best_means()["vanilla"]
    for case in calibrate_findings.cases():
        if case.finding in calibrate_findings.SETTINGS:
            continue
        means = np.array([0.0, *case.truth.effects.values()]) + 100 * margin
        world = World(case.truth, means[:, None])
        (finding,) = (finding for finding in findings.read() if finding.id == case.finding)
        assert all(world.holds(test) == case.holds for test in finding.tests if case.task in test.tasks), case


def test_committed_calibration_is_within_its_bounds_and_on_its_page() -> None:
    table = pd.read_csv(DOCS / "calibration.csv")
    bound = table.dropna(subset=["low"])
    outside = bound[(bound["share"] < bound["low"]) | (bound["share"] > bound["high"])]
    assert outside.empty, outside.to_string()
    assert set(table["measure"]) == set(calibrate.MEASURES) and set(table["n"]) == {25, 50, 100, 200}
    page = (DOCS / "calibration.md").read_text()
    assert calibrate.markdown(table) in page
    paired = table[(table["design"] == "paired") & (table["n"] == 200)].set_index("measure")["share"]
    assert paired["power"] > 0.3


def test_committed_verdicts_are_seldom_wrong_and_on_their_page() -> None:
    table = pd.read_csv(DOCS / "calibration_findings.csv", keep_default_na=False, dtype={"is": str})
    cases = [calibrate_findings._key(case) for case in calibrate_findings.cases()]
    measured = list(table[list(calibrate_findings.COLUMNS[:5])].itertuples(index=False, name=None))
    assert sorted(map(str, measured)) == sorted(map(str, cases))
    page = (DOCS / "calibration.md").read_text()
    assert (table["studies"] >= 200).all() and (table["wrong"] < 0.05).all()
    assert calibrate_findings.markdown(table) in page
