"""What ``odyssey status`` says."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy

from search.errors import UserError, one_line, visible
from search.run.status import status_of
from search.study.claims import Outcome
from search.study.study import Study
from search.study.tables import TrialState
from search.tasks import Task
from tests.on_terminal import plan

EVIL = "\x1b[2J\x1b]0;owned\x07\r\u202egnp.exe\u200b\x9b31m\udc80\n"


@pytest.fixture
def study(echo: Task, tmp_path: Path) -> Study:
    """With a worker that holds three trials, of which one has finished and one has failed."""
    study = Study.create(tmp_path / "s", plan(echo))
    study.leases.join("w", "host", "boot", 1, "device")
    claims, _ = study.leases.exchange("w", want=3)
    result = {"result": {"status": "failed", "error": EVIL}, "traceback": f"Traceback:\n{EVIL}"}
    outcomes = [
        Outcome(claims[0].trial_id, TrialState.COMPLETE, 7.25, {"result": {}}),
        Outcome(claims[1].trial_id, TrialState.FAIL, None, result),
    ]
    study.leases.exchange("w", outcomes)
    return study


def test_nothing_in_a_study_reaches_the_terminal_as_a_control_character(study: Study) -> None:
    said = status_of(study, tracebacks=True)
    assert all(line.isprintable() for line in said.split("\n"))
    assert said.count(r"\x1b[2J\x1b]0;owned\x07") == 2 and r"\u202egnp.exe\u200b\x9b31m\udc80" in said


def test_errors_show_control_characters() -> None:
    shown = r"\x1b[2J\x1b]0;owned\x07\r\u202egnp.exe\u200b\x9b31m\udc80\n"
    assert visible(EVIL) == shown == visible(shown)
    assert str(UserError(f"cell={EVIL}")) == f"cell={shown}"
    assert one_line(ValueError(EVIL)).isprintable()
    assert visible("größer, 猫, naïve: 10 %") == "größer, 猫, naïve: 10 %"


def test_what_is_running_is_held_by_a_worker_and_the_best_score_is_told(study: Study) -> None:
    said = status_of(study)
    assert re.search(r"vanilla +1 +0 +0 +1 +3 +7\.25", said) and "2 of 10 planned trials have ended" in said
    assert "in training, or, at most one a worker, ready to be" in said


@pytest.mark.parametrize("days", [12, -12])
def test_a_clock_that_was_set_gives_no_negative_times(study: Study, days: int) -> None:
    with study.leases._engine.begin() as db:
        moment = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=days, minutes=-1)
        update = "UPDATE odyssey_workers SET joined = :moment, seen = :moment"
        db.execute(sqlalchemy.text(update), {"moment": str(moment)})
    said = status_of(study)
    assert "-" not in said.split("sign of life")[1]
    assert said.count("clock set back") == (2 if days > 0 else 0) and said.count("12 days") == (0 if days > 0 else 2)


def test_the_pace_is_not_told_from_a_moment(study: Study) -> None:
    """A trial has ended within milliseconds of its beginning."""
    assert "trials/h" not in status_of(study)
    with study.leases._engine.begin() as db:
        moment = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=120)
        update = "UPDATE trials SET datetime_start = :moment WHERE datetime_complete IS NOT NULL"
        db.execute(sqlalchemy.text(update), {"moment": str(moment)})
    assert re.search(r"\d\d trials/h lately, 0:08:\d\d left", status_of(study))
