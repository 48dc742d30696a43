"""Replicates: the best settings again, with new seeds, that resume like any study and stand in the report."""

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import analysis
from analysis import replicates, words
from search.engines.reference import ReferenceEngine
from search.run.cli import main
from search.study.plan import read_plan
from search.study.progress import Progress
from search.study.replicate import FOLDER
from search.study.study import Study
from search.study.sweep import run
from search.tasks import Task
from tests.at_rest import answer
from tests.test_study import ROOT, plan, same

SPACE = {
    "hidden_size": {"distribution": "uniform_int", "low": 2, "high": 9},
    "lr": {"distribution": "log_uniform", "low": 1e-3, "high": 1e-1},
    "momentum": {"distribution": "one_minus_log_uniform", "low": 0.01, "high": 1.0},
    "input_noise": {"distribution": "uniform", "low": 0.0, "high": 1.0},
    "forget_bias": {"distribution": "choice", "values": [0.0, 1.0]},
}
TASK = {"name": "echo", "module": "tests.echo"}


@pytest.fixture
def searched(echo: Task, tmp_path: Path) -> Path:
    """The folder of studies, with a complete one."""
    variants = {"vanilla": {"cell": "lstm"}, "cifg": {"cell": "lstm", "forget_gate": "coupled"}}
    planned = plan(echo, variants=variants, space=SPACE, trials=3, paired=True)
    study = Study.create(tmp_path / "s", dataclasses.replace(planned, task=TASK))
    with Progress(study.counts(), study.plan.epochs) as progress:
        options = {"population": 4, "threads": 1, "lease": 60.0, "trial_timeout": 600.0}
        assert run(study, echo, ReferenceEngine(), progress=progress, **options)  # type: ignore[arg-type]
    study.close()
    return tmp_path


def replicate(runs: Path, seeds: int, study: str = "s") -> int:
    return main(["replicate", f"study={study}", f"runs={runs}", f"seeds={seeds}", "engine=reference", "threads=1"])


def loaded(runs: Path) -> pd.DataFrame:
    return analysis.load(sorted(path.parent for path in (runs / "s" / FOLDER).glob("*/study.yaml")))


@pytest.mark.slow
def test_replicates_are_of_the_best_setting_with_seeds_of_their_own(searched: Path) -> None:
    assert replicate(searched, 2) == 0
    trials = analysis.load("s", searched)
    again = replicates.of_best(searched / "s", trials)
    best = trials.sort_values("valid_score").groupby("variant", observed=True).first()
    assert list(again["variant"]) == ["vanilla"] * 2 + ["cifg"] * 2 and set(again["status"]) == {"finished"}
    frame = loaded(searched)
    for variant, own in frame.groupby("variant", observed=True):
        for name in SPACE:
            assert set(own[name]) == {best[name][variant]}
    assert frame["seed"].nunique() == 2  # which both variants have
    assert not set(frame["seed"]) & set(trials["seed"]) and frame["test_score"].nunique() == 4
    found = replicates.summary(again).set_index("variant")
    assert found["searched"]["cifg"] == best["test_score"]["cifg"] and found["n_finished"]["cifg"] == 2
    assert found["median"]["cifg"] == pytest.approx(again.loc[again["variant"] == "cifg", "test_score"].median())


@pytest.mark.slow
def test_more_seeds_add_to_what_is_there(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replicate(searched, 1) == 0 and replicate(searched, 3) == 0
    grown = loaded(searched)
    assert replicate(searched, 2) == 2
    assert "seeds=2: expected at least 3, for so many replicates there are in" in capsys.readouterr().err
    for path in (searched / "s" / FOLDER).iterdir():
        path.rename(searched / path.name)  # out of the way
    assert replicate(searched, 3) == 0
    same(grown, loaded(searched))


@pytest.mark.slow
def test_what_cannot_be_replicated_is_one_line(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Study.create(searched / "s", dataclasses.replace(read_plan(searched / "s"), trials=4)).close()
    assert replicate(searched, 2) == 2
    assert "study=s, of which 2 trials have not ended: expected a complete study" in capsys.readouterr().err
    assert not (searched / "s" / FOLDER).exists()
    assert replicate(searched, 0) == 2 and "seeds=0: expected a whole number" in capsys.readouterr().err
    assert replicate(searched, 2, "nowhere") == 2 and "study=nowhere: no study" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_replicates_go_on_to_the_same_numbers(searched: Path) -> None:
    command = [sys.executable, "-m", "tests.killable", "replicate", "study=s", f"runs={searched}", "seeds=6"]
    command += ["engine=reference", "threads=1", "population=2"]

    def ended() -> int:
        return len(list((searched / "s" / FOLDER).glob("*/curves/*/*/*.parquet")))

    for _ in range(3):
        before = ended()
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        while ended() == before:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.01)
        process.kill()
        process.wait()
    assert ended() < 12
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    killed = loaded(searched)
    for path in (searched / "s" / FOLDER).iterdir():
        path.rename(searched / path.name)
    assert replicate(searched, 6) == 0
    same(killed, loaded(searched))


@pytest.mark.slow
def test_report_describes_them_by_the_measured_numbers(searched: Path) -> None:
    calibration = pd.read_csv(ROOT / "docs" / "calibration.csv")
    measured = calibration[calibration["measure"] == "replicates"].set_index(["design", "n"])["share"]
    text = words.replicates(pd.DataFrame({"variant": ["a", "a"]}))
    for design in ("paired", "unpaired"):
        assert f"{100 * measured[design, 200]:.0f} %" in text
    assert replicates.of_best(searched / "s", analysis.load("s", searched)).empty
    assert replicate(searched, 2) == 0
    folder = analysis.report("s", searched)
    assert len(pd.read_csv(folder / "replicates_echo.csv")) == 4
    assert list(pd.read_csv(folder / "replicates_summary_echo.csv")["n_finished"]) == [2, 2]
    page = (folder / "index.html").read_text()
    assert f"odyssey replicate study=s runs={searched} seeds=2" in answer(page, "boot")["commands"]
    (figure,) = (each for each in answer(page, "compare")["figures"] if each["name"] == "replicates")
    assert "They are no test of variants" in figure["caption"] and "up to 2 new seeds" in figure["caption"]
    assert len(figure["data"]["replicates"]["y"]) == 4 and figure["data"]["summary"]["says"] == ["2", "2"]
