import contextlib
import dataclasses
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml

from analysis import load, load_curves
from search.engines.reference import ReferenceEngine
from search.errors import UserError
from search.study.plan import Plan, find
from search.study.progress import Progress
from search.study.reader import StudyReader
from search.study.space import BATCH
from search.study.study import Study
from search.study.sweep import run
from search.study.tables import LAYOUT
from search.tasks import Task
from tests.test_space import PAPER

ROOT = Path(__file__).parents[1]
SPACE = PAPER | {"hidden_size": {"distribution": "uniform_int", "low": 2, "high": 9}}
SPACE["lr"] = {"distribution": "log_uniform", "low": 1e-3, "high": 1e-1}


def plan(task: Task, /, **changes: Any) -> Plan:
    values: dict[str, Any] = {
        "study": "s",
        "task": {"name": "echo"},
        "score": task.score,
        "variants": {"vanilla": {"cell": "lstm"}, "rnn": {"cell": "rnn"}},
        "trials": 3,
        "epochs": 2,
        "patience": 2,
        "seed": 0,
        "sampler": "random",
        "space": SPACE,
        "dtype": "float64",
        "data_hash": task.hash,
    }
    return Plan(**(values | changes))


def sweep(folder: Path, task: Task, /, *, population: int = 4, **changes: Any) -> Study:
    study = Study.create(folder, plan(task, **changes))
    with Progress(study.counts(), study.plan.epochs) as progress:
        assert run(
            study,
            task,
            ReferenceEngine(),
            population=population,
            threads=1,
            progress=progress,
            lease=60.0,
            trial_timeout=600.0,
        )
    return study


def same(one: pd.DataFrame, other: pd.DataFrame, exact: bool = False) -> None:
    """Asserts that two studies have the same trials with the same results: to the bit, or to 1e-9 of them."""
    volatile = ["study", "train_seconds", "started", "finished", "git_revision"]
    left, right = (f.drop(columns=volatile, errors="ignore").reset_index(drop=True) for f in (one, other))
    pd.testing.assert_frame_equal(left, right, check_exact=exact, **({} if exact else {"rtol": 1e-9}))


def test_a_sweep_trains_exactly_the_planned_trials(echo: Task, tmp_path: Path) -> None:
    study = sweep(tmp_path / "s", echo)
    frame = load(tmp_path / "s")
    assert len(frame) == 6 and set(frame.status) == {"finished"}
    assert frame.groupby("variant", observed=True).trial.apply(list).to_dict() == {
        "vanilla": [0, 1, 2],
        "rnn": [0, 1, 2],
    }
    assert study.counts()["rnn"]["finished"] == 3
    curves = load_curves(tmp_path / "s")
    assert len(curves) == 12 and curves.valid_score.notna().all()
    merged = curves.groupby(["variant", "trial"], observed=True).valid_score.min()
    np.testing.assert_allclose(merged.sort_index(), frame.set_index(["variant", "trial"]).valid_score.sort_index())


def test_a_finished_study_is_left_alone(echo: Task, tmp_path: Path) -> None:
    sweep(tmp_path / "s", echo)
    before = load(tmp_path / "s")
    sweep(tmp_path / "s", echo)
    pd.testing.assert_frame_equal(before, load(tmp_path / "s"))


def test_results_do_not_depend_on_the_population(echo: Task, tmp_path: Path) -> None:
    sweep(tmp_path / "a", echo, population=1)
    sweep(tmp_path / "b", echo, population=6)
    same(load(tmp_path / "a"), load(tmp_path / "b"))


def test_random_plans_depend_on_seed_task_variant_and_number_alone(echo: Task, tmp_path: Path) -> None:
    sweep(tmp_path / "a", echo)
    sweep(tmp_path / "b", echo, trials=1, variants={"rnn": {"cell": "rnn"}})
    a, b = load(tmp_path / "a"), load(tmp_path / "b")
    columns = ["hidden_size", "lr", "momentum", "input_noise", "seed"]
    first = a[(a.variant == "rnn") & (a.trial == 0)][columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(first, b[columns].reset_index(drop=True))
    assert a.lr.nunique() == len(a)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["qmc", "tpe", "grid"])
def test_other_samplers_meet_the_planned_total(echo: Task, tmp_path: Path, sampler: str) -> None:
    space = {name: {**spec, "points": 2} for name, spec in SPACE.items()}
    sweep(tmp_path / "s", echo, sampler=sampler, space=space, population=2)
    frame = load(tmp_path / "s")
    assert len(frame) == 6 and not frame.duplicated(["variant", "hidden_size", "lr", "momentum", "input_noise"]).any()


def test_a_toggle_in_the_space_is_recorded_and_used(echo: Task, tmp_path: Path) -> None:
    space = SPACE | {"forget_gate": {"distribution": "choice", "values": ["one", "sigmoid"]}}
    fixed = {"hidden_size": {"distribution": "uniform_int", "low": 4, "high": 4}}
    sweep(tmp_path / "s", echo, variants={"vanilla": {"cell": "lstm"}}, trials=8, epochs=1, space=space | fixed)
    frame = load(tmp_path / "s")
    sizes = frame.groupby("forget_gate").n_parameters.unique()
    assert len(sizes) == 2 and (sizes.map(len) == 1).all() and sizes["one"][0] < sizes["sigmoid"][0]


def test_a_changed_plan_is_refused_with_the_difference(echo: Task, tmp_path: Path) -> None:
    sweep(tmp_path / "s", echo)
    with pytest.raises(UserError, match=r"epochs: 2 -> 5; space.lr.low: 0.001 -> 0.01") as caught:
        lr = SPACE["lr"] | {"low": 0.01}
        Study.create(tmp_path / "s", plan(echo, epochs=5, space=SPACE | {"lr": lr}))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="data_hash"):
        Study.create(tmp_path / "s", plan(echo, data_hash="other"))


def test_a_study_grows_by_trials_and_by_variants_and_in_nothing_else(echo: Task, tmp_path: Path) -> None:
    sweep(tmp_path / "s", echo, variants={"rnn": {"cell": "rnn"}})
    with pytest.raises(UserError, match="trials: 3 -> 2"):
        Study.create(tmp_path / "s", plan(echo, trials=2))
    with pytest.raises(UserError, match=r"another plan: seed: 0 -> 1; use"):
        Study.create(tmp_path / "s", plan(echo, trials=4, seed=1))
    with pytest.raises(UserError, match=r"another plan: variants.rnn.cell: rnn -> gru; use"):
        Study.create(tmp_path / "s", plan(echo, variants={"rnn": {"cell": "gru"}}))
    with pytest.raises(UserError, match=r"another plan: variants.rnn.cell: rnn -> \(absent\)"):
        Study.create(tmp_path / "s", plan(echo, variants={"vanilla": {"cell": "lstm"}}))
    sweep(tmp_path / "s", echo, trials=4)
    sweep(tmp_path / "all", echo, trials=4)
    same(by_variant(tmp_path / "s"), by_variant(tmp_path / "all"))


def by_variant(folder: Path) -> pd.DataFrame:
    return load(folder).astype({"variant": str}).sort_values(["variant", "trial"])


def test_the_storage_is_one_optuna_study_per_task_and_variant(echo: Task, tmp_path: Path) -> None:
    sweep(tmp_path / "s", echo)
    url = f"sqlite:///{tmp_path / 's' / 'study.db'}"
    assert set(optuna.get_all_study_names(url)) == {"s/echo/vanilla", "s/echo/rnn"}
    study = optuna.load_study(study_name="s/echo/rnn", storage=url)
    assert study.best_value == study.best_trial.user_attrs["result"]["valid_score"]
    assert study.direction == optuna.study.StudyDirection.MINIMIZE


def test_diverged_trials_are_recorded_with_their_last_finite_scores(echo: Task, tmp_path: Path) -> None:
    wild = SPACE | {"lr": {"distribution": "uniform", "low": 1e308, "high": 1e308}}
    study = sweep(
        tmp_path / "s", echo, space=wild, variants={"noaf": {"cell": "lstm", "output_activation": "identity"}}
    )
    frame = load(tmp_path / "s")
    assert set(frame.status) == {"diverged"} and study.counts()["noaf"]["diverged"] == 3
    assert (frame.epochs == 1).all() and frame.test_score.isna().all()


def test_a_broken_checkpoint_is_set_aside_and_the_trial_retrained(
    echo: Task, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sweep(tmp_path / "whole", echo)
    study = Study.create(tmp_path / "s", plan(echo))
    study.leases.join("w", "host", "boot", 1, "device")
    claims, remaining = study.leases.exchange("w", want=1)
    assert remaining == 6
    trial = study.prepare(study.key(claims[0]), echo)
    study.save([dataclasses.replace(trial, curve=((1.0, 1.0),))])
    study.leases.leave("w")
    path = tmp_path / "s" / "checkpoints" / "echo" / "vanilla" / "0000.npz"
    path.write_bytes(path.read_bytes()[:-200])
    sweep(tmp_path / "s", echo)
    assert "set aside" in caplog.text and path.with_suffix(".broken").exists()
    same(load(tmp_path / "s"), load(tmp_path / "whole"))


def test_an_absent_study_is_named_with_those_that_exist(echo: Task, tmp_path: Path) -> None:
    Study.create(tmp_path / "known", plan(echo))
    with pytest.raises(UserError, match="known"):
        find("unknown", tmp_path)


def command(runs: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "tests.killable", "sweep", "--config-dir", str(ROOT / "tests" / "conf")),
        *("task=echo", "task.n_sequences=240", "study=s", f"runs={runs}", "variants=[vanilla,gru,no_forgetting]"),
        *("trials=4", "epochs=150", "patience=150", "population=5", "space.hidden_size.high=60", *more),
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    runs = tmp_path_factory.mktemp("undisturbed")
    subprocess.run(command(runs), cwd=ROOT, check=True, capture_output=True)
    return load("s", runs)


def _checkpoints(runs: Path) -> set[tuple[str, int]]:
    """Those there are, each with the moment of its writing; any may go meanwhile."""
    found = set()
    for path in (runs / "s").glob("checkpoints/*/*/*.npz"):
        with contextlib.suppress(FileNotFoundError):
            found.add((path.name, path.stat().st_mtime_ns))
    return found


@pytest.mark.slow
def test_kill_9_at_random_moments_loses_and_repeats_nothing(undisturbed: pd.DataFrame, tmp_path: Path) -> None:
    for _ in range(3):
        before = _checkpoints(tmp_path)
        process = subprocess.Popen(command(tmp_path), cwd=ROOT, stderr=subprocess.DEVNULL)
        while _checkpoints(tmp_path) <= before:  # it has not trained yet
            assert process.poll() is None, "the study ended before it was killed"
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
    killed = load("s", tmp_path)
    subprocess.run(command(tmp_path), cwd=ROOT, check=True, capture_output=True)
    frame = load("s", tmp_path)
    assert len(frame) == 12 and set(frame.status) == {"finished"}
    assert "running" in set(killed.status)
    same(frame, undisturbed, exact=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(undisturbed: pd.DataFrame, tmp_path: Path, number: int) -> None:
    process = subprocess.Popen(command(tmp_path), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not _checkpoints(tmp_path):
        time.sleep(0.01)
    asked = time.monotonic()
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - asked < 10 and process.returncode == 130
    assert "odyssey sweep" in said and "study=s" in said and "Traceback" not in said
    assert _checkpoints(tmp_path)
    subprocess.run(command(tmp_path), cwd=ROOT, check=True, capture_output=True)
    same(load("s", tmp_path), undisturbed, exact=True)


def test_the_plan_is_plain_yaml(echo: Task, tmp_path: Path) -> None:
    Study.create(tmp_path / "s", plan(echo))
    values = yaml.safe_load((tmp_path / "s" / "study.yaml").read_text())
    assert values.pop("layout") == LAYOUT and Plan(**values) == plan(echo)


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_paired_trials_share_settings_and_seed(echo: Task, tmp_path: Path, sampler: str) -> None:
    sweep(tmp_path / "s", echo, paired=True, sampler=sampler)
    drawn = load(tmp_path / "s").set_index(["variant", "trial"])[
        ["hidden_size", "lr", "momentum", "input_noise", "seed"]
    ]
    pd.testing.assert_frame_equal(drawn.loc["vanilla"], drawn.loc["rnn"])
    assert drawn.loc["rnn"].nunique().min() == 3  # over the trials


@pytest.mark.slow
@pytest.mark.parametrize("population", [1, 3, 40])
def test_a_sampler_that_learns_gives_the_same_study_whatever_trains_beside_it(
    echo: Task, tmp_path: Path, population: int
) -> None:
    sweep(tmp_path / "whole", echo, sampler="tpe", trials=2 * BATCH + 3, population=8)
    sweep(tmp_path / "s", echo, sampler="tpe", trials=BATCH + 5, population=population)
    sweep(tmp_path / "s", echo, sampler="tpe", trials=2 * BATCH + 3, population=population)  # which has grown
    whole = load(tmp_path / "whole")
    same(load(tmp_path / "s"), whole)
    late = whole.query(f"trial >= {2 * BATCH}")
    assert late.lr.nunique() == 6 and set(late.lr).isdisjoint(whole.query(f"trial < {BATCH}").lr)
    best = whole.query(f"trial < {2 * BATCH}").nsmallest(10, "valid_score").lr
    assert late.lr.map(math.log).mean() == pytest.approx(best.map(math.log).mean(), abs=1.2)  # it has learned


def test_unpaired_variants_are_drawn_apart(echo: Task, tmp_path: Path) -> None:
    sweep(tmp_path / "s", echo)
    drawn = load(tmp_path / "s").set_index(["variant", "trial"])
    assert set(drawn.loc["vanilla"].lr).isdisjoint(drawn.loc["rnn"].lr)
    assert set(drawn.loc["vanilla"].seed).isdisjoint(drawn.loc["rnn"].seed)


@pytest.mark.slow
def test_studies_of_one_seed_are_paired_in_what_they_share(echo: Task, tmp_path: Path) -> None:
    sweep(tmp_path / "s", echo, paired=True)
    bias = {"forget_bias": {"distribution": "uniform", "low": 0.0, "high": 5.0}}
    lstm = {"vanilla": {"cell": "lstm"}}
    sweep(tmp_path / "t", echo, study="t", paired=True, variants=lstm, space=SPACE | bias)
    one, other = (load(tmp_path / name).query("variant == 'vanilla'").reset_index() for name in ("s", "t"))
    shared = ["hidden_size", "lr", "momentum", "input_noise", "seed"]
    pd.testing.assert_frame_equal(one[shared], other[shared])


def test_a_paired_study_can_be_extended(echo: Task, tmp_path: Path) -> None:
    sweep(tmp_path / "s", echo, paired=True)
    before = load(tmp_path / "s")
    sweep(tmp_path / "s", echo, paired=True, trials=5)
    after = load(tmp_path / "s")
    assert len(after) == 10
    same(before, after.query("trial < 3"), exact=True)


def test_a_plan_of_before_pairing_reads_as_unpaired(echo: Task, tmp_path: Path) -> None:
    study = sweep(tmp_path / "s", echo)
    path = study.folder / "study.yaml"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("paired")))
    assert StudyReader.open(tmp_path / "s").plan.draws.startswith("unpaired")
    sweep(tmp_path / "s", echo)  # and the same command goes on
