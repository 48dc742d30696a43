"""Analysis: what a study's folder holds, read, compared and reported."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from optuna.trial import TrialState, create_trial
from scipy.stats import t as student_t
from scipy.stats import ttest_ind

import analysis
from analysis import best_fraction, stats
from analysis.compare import contrast_of
from analysis.frames import best_trials, is_paired, selecting, upper_limit
from analysis.simulation import Truth
from analysis.summaries import axis_end, boxes
from search.errors import UserError

optuna.logging.set_verbosity(optuna.logging.WARNING)

VARIANTS = ("vanilla", "nig", "nfg", "nog", "niaf", "noaf", "np", "cifg", "fgr")
SPACE = {
    "hidden_size": {"distribution": "log_uniform_int", "low": 20, "high": 200},
    "lr": {"distribution": "log_uniform", "low": 1e-6, "high": 1e-2},
    "momentum": {"distribution": "one_minus_log_uniform", "low": 0.01, "high": 1.0},
    "input_noise": {"distribution": "uniform", "low": 0.0, "high": 1.0},
}
WORSE = {"nfg": 1.2, "noaf": 0.9, "fgr": 0.2}
Finish = Callable[[str, int], str]


def definition(variant: str) -> dict[str, Any]:
    """Of the config group, or a plain LSTM for a name that is not in it."""
    path = Path(__file__).parents[1] / "configs" / "variant" / f"{variant}.yaml"
    return yaml.safe_load(path.read_text()) if path.exists() else {"cell": "lstm"}


def outcome(variant: str, number: int, status: str) -> dict[str, Any]:
    """A made-up result with the shape of real ones: a basin over lr, a gain from size, a cost of noise."""
    rng = np.random.default_rng([number, *variant.encode()])
    hidden_size = round(np.exp(rng.uniform(np.log(20), np.log(200))))
    lr, noise = float(10 ** rng.uniform(-6, -2)), float(rng.uniform())
    score = (
        8.6 + WORSE.get(variant, 0.0) + 0.6 * (np.log10(lr) + 3) ** 2 + 30 / hidden_size + noise**2 + rng.normal(0, 0.1)
    )
    result = {
        "hidden_size": hidden_size,
        "lr": lr,
        "momentum": float(1 - 10 ** rng.uniform(-2, 0)),
        "input_noise": noise,
        "forget_bias": float(number % 3),
        "seed": 2**62 + 1 + number,
        "n_parameters": 4 * hidden_size * (88 + hidden_size) * (2 if variant == "fgr" else 1),
        "valid_score": float(score - 0.1),
        "test_score": float(score),
        "best_epoch": 17,
        "epochs": 20,
        "train_seconds": 3.5 + hidden_size / 20,
        "engine": "reference",
        "device": "cpu",
        "dtype": "float32",
        "data_hash": "9f" * 32,
        "git_revision": "4127015",
        "versions": {"python": "3.12.4", "torch": "2.13.0"},
        "last_valid_score": None if status == "diverged" else float(score),
        "finished": "2026-03-01T10:00:09.5+00:00",
        "status": status,
    }
    return result | ({"error": "OSError: disk <full>"} if status == "failed" else {})


def make_study(
    runs: Path,
    name: str = "bach",
    variants: tuple[str, ...] = VARIANTS,
    trials: int = 12,
    tasks: tuple[str, ...] = ("jsb",),
    status: Finish = lambda variant, number: "finished",
    **settings: Any,
) -> Path:
    """A study's folder as a sweep leaves it; `status` says how each trial ended, ``absent`` leaves it out."""
    folder = runs / (re.sub(r"\W", "_", name))
    folder.mkdir(parents=True)
    plan = {
        "study": name,
        "task": {"name": tasks[0], "source": "music21"},
        "variants": {variant: definition(variant) for variant in variants},
        "trials": trials,
        "epochs": 20,
        "patience": 15,
        "seed": 0,
        "sampler": "random",
        "space": SPACE,
        "dtype": "float32",
        "data_hash": "9f" * 32,
        "storage": None,
        "score": "negative log-likelihood [nats per step]",
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(plan | settings, sort_keys=False))
    states = {
        "waiting": TrialState.WAITING,
        "running": TrialState.RUNNING,
        "finished": TrialState.COMPLETE,
        "diverged": TrialState.PRUNED,
        "failed": TrialState.FAIL,
    }
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'study.db'}")
    for task in tasks:
        for variant in variants:
            study = optuna.create_study(study_name=f"{name}/{task}/{variant}", storage=storage)
            for number in range(trials):
                ended = status(variant, number)
                if ended == "absent":
                    continue
                result = None if ended in ("waiting", "running") else outcome(variant, number, ended)
                study.add_trial(
                    create_trial(
                        state=states[ended],
                        value=result["valid_score"] if result and ended == "finished" else None,
                        user_attrs={"result": result} if result else {},
                    )
                )
    storage.engine.dispose()
    return folder


def ended(variant: str, number: int) -> str:
    return {("noaf", 3): "diverged", ("noaf", 5): "diverged", ("np", 2): "failed"}.get((variant, number), "finished")


def under_way(variant: str, number: int) -> str:
    return ["finished", "diverged", "running", "waiting", "absent"][min(number, 4)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Studies for tests that only read: `bach` has ended, `begun` is under way, `empty` has not finished a trial."""

    runs = tmp_path_factory.mktemp("runs")
    make_study(runs, status=ended, trials=24)
    make_study(runs, "begun", variants=("vanilla", "cifg"), trials=6, status=under_way)
    make_study(runs, "empty", variants=("vanilla", "cifg"), trials=2, status=lambda variant, number: "running")
    return runs


@pytest.fixture(scope="module")
def frame(runs: Path) -> pd.DataFrame:
    return analysis.load("bach", runs)


def test_frame_has_a_row_a_trial_and_the_documented_columns(frame: pd.DataFrame) -> None:
    assert len(frame) == 9 * 24
    assert list(frame) == [
        *("study", "task", "variant", "trial", "status", "hidden_size", "lr", "momentum", "input_noise", "forget_bias"),
        *("seed", "n_parameters", "valid_score", "test_score", "best_epoch", "epochs", "last_valid_score"),
        *("train_seconds", "engine", "device", "dtype", "data_hash", "git_revision", "python_version", "torch_version"),
        *("started", "finished", "error"),
    ]
    for name in frame.columns.astype(str):
        assert name in str(analysis.load.__doc__) or name.endswith("_version"), name
    assert list(frame["variant"].cat.categories) == list(VARIANTS)
    assert list(frame["trial"][:3]) == [0, 1, 2]
    assert frame["hidden_size"].dtype == frame["seed"].dtype == "Int64"
    assert str(frame["finished"].dt.tz) == "UTC"
    row = frame[(frame["variant"] == "cifg") & (frame["trial"] == 7)].iloc[0]
    expected = outcome("cifg", 7, "finished")
    for name in ("hidden_size", "lr", "momentum", "seed", "test_score", "train_seconds", "forget_bias"):
        assert row[name] == expected[name]


def test_frame_tells_how_each_trial_ended(runs: Path, frame: pd.DataFrame) -> None:
    assert frame["status"].value_counts().to_dict() == {"finished": 213, "diverged": 2, "failed": 1}
    assert list(frame.loc[frame["status"] == "failed", "error"]) == ["OSError: disk <full>"]
    begun = analysis.load("begun", runs)
    assert list(begun["status"]) == ["finished", "diverged", "running", "waiting", "waiting", "waiting"] * 2
    assert begun.loc[~begun["status"].isin(["finished", "diverged"]), ["lr", "test_score"]].isna().all(axis=None)
    assert list(begun["trial"]) == [*range(6), *range(6)]


def test_a_study_is_found_by_name_and_by_path(runs: Path, frame: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(analysis.load(runs / "bach"), frame)
    assert len(analysis.load(str(runs / "empty"))) == 4


def test_loading_writes_nothing(tmp_path: Path) -> None:
    folder = make_study(tmp_path, variants=("vanilla",), trials=2)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    analysis.load("bach", tmp_path)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_studies_that_share_a_storage_are_kept_apart(tmp_path: Path) -> None:
    url = f"sqlite:///{make_study(tmp_path, 'one', variants=('vanilla',), trials=3) / 'study.db'}"
    make_study(tmp_path, "two", variants=("vanilla",), trials=2, storage=url)
    assert list(analysis.load("one", tmp_path)["status"]) == ["finished"] * 3
    assert list(analysis.load("two", tmp_path, url)["status"]) == ["waiting"] * 2
    with pytest.raises(UserError, match="expected storage=URL"):
        analysis.load("two", tmp_path)


def test_curves_have_a_row_an_epoch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = make_study(tmp_path, variants=("vanilla", "cifg"), trials=2)
    assert analysis.load_curves("bach", tmp_path).empty
    for variant, number in (("cifg", 1), ("vanilla", 0)):
        path = folder / "curves" / "jsb" / variant / f"{number:04}.parquet"
        path.parent.mkdir(parents=True)
        epochs = range(1, 21)
        curve = {"epoch": epochs, "train_loss": [9 - 0.1 * e for e in epochs], "valid_score": [float(number)] * 20}
        pd.DataFrame(curve).to_parquet(path)
    caplog.clear()
    curves = analysis.load_curves("bach", tmp_path)
    assert list(curves) == ["study", "task", "variant", "trial", "epoch", "train_loss", "valid_score"]
    assert list(curves["variant"]) == ["vanilla"] * 20 + ["cifg"] * 20
    assert list(curves["epoch"]) == [*range(1, 21)] * 2
    assert list(curves["valid_score"]) == [0.0] * 20 + [1.0] * 20
    (said,) = caplog.messages
    assert "2 trials" in said and "jsb/vanilla/0001" in said and "jsb/cifg/0000" in said
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"0000\.parquet: expected a trial's curve"):
        analysis.load_curves("bach", tmp_path)


def test_bad_studies_get_one_line_that_names_the_file(tmp_path: Path) -> None:
    def error(name: str) -> str:
        with pytest.raises(UserError) as caught:
            analysis.report(name, tmp_path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "none in" in error("nothing")
    folder = make_study(tmp_path, variants=("vanilla",), trials=1)
    assert error("bahc") == f"study=bahc: no study in {tmp_path / 'bahc'}; expected one of bach"
    plan = (folder / "study.yaml").read_text()
    for broken in ("a: [1", "just text", "study: bach", plan.replace("trials: 1", "trials: many"), "\x00"):
        (folder / "study.yaml").write_text(broken)
        assert error("bach").startswith(f"{folder / 'study.yaml'}: ")
    (folder / "study.yaml").write_text(plan)
    (folder / "study.db").write_bytes(b"no database" * 1000)
    assert error("bach").startswith(f"storage=sqlite:///{folder / 'study.db'}: expected a readable Optuna storage")
    (folder / "study.db").unlink()
    assert error("bach").startswith(f"storage={folder / 'study.db'}: expected a file")
    assert not (folder / "study.db").exists()
    (folder / "study.yaml").write_text(plan.replace("storage: null", "storage: postgresql+none://me:secret@host/db"))
    assert "secret" not in error("bach")


def test_best_trials_are_picked_by_the_score_asked_for(frame: pd.DataFrame) -> None:
    frame = frame.copy()
    vanilla = frame.index[frame["variant"] == "vanilla"]
    frame.loc[vanilla[5], "valid_score"] = 1.0
    frame.loc[vanilla[9], "test_score"] = 1.0
    valid, test = best_trials(frame, "valid"), best_trials(frame, "test")
    assert valid[vanilla[5]] and not valid[vanilla[9]]
    assert test[vanilla[9]] and not test[vanilla[5]]
    assert valid[vanilla].sum() == test[vanilla].sum() == 2
    with pytest.raises(UserError, match="select=train: expected valid or test"):
        analysis.compare(frame, "train")  # type: ignore[arg-type]


def test_comparison_agrees_with_the_trials(frame: pd.DataFrame) -> None:
    table = analysis.compare(frame).set_index("variant")
    assert list(table.index) == list(VARIANTS)
    best = {v: rows.nsmallest(2, "valid_score") for v, rows in frame[frame["status"] == "finished"].groupby("variant")}
    p = ttest_ind(best["nfg"]["test_score"], best["vanilla"]["test_score"], equal_var=False).pvalue
    row = table.loc["nfg"]
    assert row["p_as_paper"] == pytest.approx(8 * p)
    assert row["best_mean"] == pytest.approx(best["nfg"]["test_score"].mean())
    assert row["best_sd"] == pytest.approx(best["nfg"]["test_score"].std())
    assert row["difference"] == pytest.approx(row["best_mean"] - table["best_mean"]["vanilla"])
    assert row["lr"] == best["nfg"]["lr"].iloc[0]
    assert row["best_test_score"] == best["nfg"]["test_score"].iloc[0]
    counts = ["n_planned", "n_finished", "n_diverged", "n_failed", "n_unfinished", "n_best"]
    assert list(table.loc["noaf", counts]) == [24, 22, 2, 0, 0, 2]
    assert list(table.loc["np", counts]) == [24, 23, 0, 1, 0, 2]
    assert table.loc["vanilla", "test"] == "baseline"


def test_tasks_and_variants_keep_their_planned_order(tmp_path: Path) -> None:
    make_study(tmp_path, tasks=("timit", "jsb"), variants=("vanilla", "cifg"), trials=1)
    frame = analysis.load("bach", tmp_path)
    table = analysis.compare(frame)
    expected = [(task, variant) for task in ("timit", "jsb") for variant in ("vanilla", "cifg")]
    assert list(frame[["task", "variant"]].itertuples(index=False, name=None)) == expected
    assert list(table[["task", "variant"]].itertuples(index=False, name=None)) == expected
    assert [str(task) for task, _ in table.groupby("task", observed=True)] == ["timit", "jsb"]


def test_what_is_not_tested_says_why(runs: Path, frame: pd.DataFrame) -> None:
    begun = analysis.compare(analysis.load("begun", runs)).set_index("variant")
    assert list(begun["test"]) == ["baseline", "not tested: needs 45 trials"]
    assert begun["more_trials"]["cifg"] == 43  # two have ended in both
    assert begun.loc["cifg", ["p", "difference_low", "improvement", "effect_size", "p_first"]].isna().all()
    without = analysis.compare(frame[frame["variant"] != "vanilla"])
    assert set(without["test"]) == {"not tested: no vanilla"}
    assert not without["significant"].any()
    drawn = analysis.simulate(trials=60)
    same = analysis.compare(drawn.assign(test_score=0.0))
    assert set(same["test"]) == {"baseline", "not tested: no spread"}
    diverging = drawn.assign(status=drawn["status"].where(drawn["trial"] < 4, "diverged"))
    assert set(analysis.compare(diverging)["test"]) == {"baseline", "not tested: too few finished"}


def test_an_axis_is_cut_only_above_the_bulk_and_the_count_above_it_is_kept(frame: pd.DataFrame) -> None:
    assert upper_limit(pd.Series(np.linspace(8, 12, 50))) == 12
    outlier = pd.Series([8.0, 9.0, 9.0, 10.0, 500.0])
    assert upper_limit(outlier) == 13  # q3 = 10, q1 = 9
    assert axis_end(outlier) == 10
    assert axis_end(pd.Series([0.0, 9.0, 9.5, 10.0, 13.5])) == 13.5  # the fence is at 13, but would spare little
    runaways = pd.Series([*np.linspace(9, 12, 14), *np.geomspace(100, 13_000, 6)])  # of which Tukey's fence is at 600
    assert axis_end(runaways) == 12
    assert axis_end(pd.Series([0.001] * 3 + [0.003] * 8 + [0.16] * 9)) == 0.16  # what did not learn is no runaway
    assert np.isnan(axis_end(pd.Series(dtype=float)))
    assert np.isnan(upper_limit(pd.Series(dtype=float)))
    frame = frame.copy()
    frame.loc[frame["trial"] == 7, "test_score"] = 500.0
    drawn = boxes(frame, analysis.compare(frame))
    everything = drawn[drawn["panel"] == "all"]
    assert (everything["limit"] < 100).all()
    assert (everything["n_beyond"] == 1).all()


def test_paired_designs_are_told_from_the_trials(frame: pd.DataFrame) -> None:
    assert not is_paired(frame)  # the same seeds, but settings of their own
    drawn = analysis.simulate(trials=6)
    assert is_paired(drawn) and not is_paired(analysis.simulate(trials=6, paired=False))
    toggle = drawn.copy()
    toggle.insert(
        list(drawn).index("seed"), "peephole_i", np.where(drawn["variant"] == "nig", drawn["trial"] % 2, np.nan)
    )
    assert is_paired(toggle)
    once = drawn.copy()
    once.loc[once.index[-1], "lr"] *= 1.001
    assert not is_paired(once)
    once.loc[once.index[-1], "status"] = "failed"  # it is no partner then
    assert is_paired(once)
    assert not is_paired(drawn[drawn["variant"] == "vanilla"])


def test_a_paired_difference_is_over_the_trials_that_ended_in_both() -> None:
    drawn = analysis.simulate(trials=70)
    whole = analysis.compare(drawn).set_index("variant")
    assert set(whole["design"]) == {"paired"} and (whole["n_compared"].drop("vanilla") == 70).all()
    assert whole["difference"].to_numpy() == pytest.approx(whole["best_mean"] - whole["best_mean"]["vanilla"])
    gone = drawn.copy()
    gone.loc[(gone["variant"] == "nfg") & (gone["trial"] < 5), "status"] = "failed"
    partly = analysis.compare(gone).set_index("variant")
    assert partly["n_compared"]["nfg"] == 65 and partly["n_compared"]["nig"] == 70
    without = analysis.compare(drawn[drawn["trial"] >= 5]).set_index("variant")
    columns = ["difference", "difference_se", "p", "effect_size", "improvement"]
    assert list(partly.loc["nfg", columns]) == pytest.approx(list(without.loc["nfg", columns]))
    assert partly["best_mean"]["vanilla"] == whole["best_mean"]["vanilla"]
    diverged = drawn.copy()
    picked = best_trials(drawn) & (drawn["variant"] == "nfg")
    diverged.loc[picked, "status"] = "diverged"  # these stay in
    worse = analysis.compare(diverged).set_index("variant")
    assert worse["n_compared"]["nfg"] == 70 and worse["difference"]["nfg"] > whole["difference"]["nfg"]


def test_comparison_gives_what_the_functions_of_the_best_fraction_give() -> None:
    for paired in (True, False):
        drawn = analysis.simulate(Truth({"nfg": 0.8, "cifg": 0.0}), 90, paired)
        table = analysis.compare(drawn).set_index("variant")
        vanilla, nfg, _ = (
            best_fraction.best(selecting(own, "valid"), own["test_score"]) for _, own in drawn.groupby("variant")
        )
        difference = best_fraction.difference(nfg, vanilla, paired)
        row = table.loc["nfg"]
        assert (row["difference_low"], row["difference_high"]) == pytest.approx(difference.interval()[1:])
        assert row["p"] == pytest.approx(difference.p) and row["p_adjusted"] == pytest.approx(2 * difference.p)
        assert row["equivalent_within"] == pytest.approx(
            difference.value + student_t(difference.freedom).ppf(0.95) * difference.error
        )
        assert contrast_of(row) == difference
        assert row["best_se"] == pytest.approx(best_fraction.mean(nfg).error)
        assert row["significant"] and row["rank"] == 3 and (row["rank_low"], row["rank_high"]) == (3, 3)
        assert np.isnan(row["more_trials"]) and table["more_trials"]["cifg"] > 1
        assert table["p_first"].isna().all()
    enough = analysis.compare(analysis.simulate(Truth({"nfg": 0.8, "cifg": 0.0}), 195))
    assert enough["p_first"].sum() == pytest.approx(1)


def test_divergence_is_compared_by_exact_tests() -> None:
    fragile = Truth({"noaf": 0.0}, fragile={"noaf": 0.5})
    for paired in (True, False):
        drawn = analysis.simulate(fragile, 100, paired)
        table = analysis.compare(drawn).set_index("variant")
        failed = drawn["status"].eq("diverged").to_numpy().reshape(2, 100)
        assert table["divergence"]["noaf"] == failed[1].mean() > 0.1
        assert table["divergence_low"]["noaf"] < failed[1].mean() < table["divergence_high"]["noaf"]
        p = stats.same_rate(failed[1], failed[0], paired)
        assert table["p_divergence"]["noaf"] == pytest.approx(p)
        assert np.isnan(table["p_divergence"]["vanilla"])


def test_studies_are_compared_as_variants_are() -> None:
    drawn = analysis.simulate(Truth({"nfg": 0.3}), 60)
    expected = analysis.compare(drawn).set_index("variant").loc["nfg"]
    gru = pd.Categorical(["gru"] * len(drawn), ["gru"])
    studies = drawn.assign(study=drawn["variant"].astype("str"), variant=gru)
    (row,) = analysis.compare_studies(studies).to_dict("records")
    assert (row["study"], row["against"], row["design"]) == ("nfg", "vanilla", "paired")
    for name in (
        "difference",
        "difference_low",
        "difference_high",
        "effect_size_low",
        "p",
        "n_compared",
        "significant",
    ):
        assert row[name] == expected[name]
