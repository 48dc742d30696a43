"""What a storage holds of a study: its plan, its layout, and that it is noticed when the storage is lost."""

import dataclasses
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
import yaml
from optuna.storages._rdb import models
from sqlalchemy.dialects import postgresql, sqlite

from analysis import load, load_curves
from search import engines, tasks
from search.engines import Member
from search.errors import UserError
from search.run.status import status_of
from search.study import register, storage, sweep, tables, worker, working
from search.study.plan import Plan, read_plan
from search.study.progress import Progress
from search.study.reader import StudyReader
from search.study.study import Study
from search.study.tables import PLANS
from search.tasks import Task
from tests.test_study import plan, same
from tests.test_workers import Faulty, run

LAYOUTS = Path(__file__).parent / "layouts"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "TICK", 0.2)


def refused(act: Callable[[], object], *words: str) -> None:
    with pytest.raises(UserError) as caught:
        act()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


# Plans.


@pytest.mark.slow
def test_of_two_plans_at_once_one_is_made_and_the_other_told_the_difference(
    echo: Task, tmp_path: Path, url: str | None
) -> None:
    start = threading.Barrier(8)
    said: dict[int, list[str]] = {2: [], 5: []}

    def create(epochs: int) -> None:
        start.wait()
        try:
            Study.create(tmp_path / "s", plan(echo, epochs=epochs, storage=url))
            said[epochs].append("")
        except UserError as error:
            said[epochs].append(str(error))

    threads = [threading.Thread(target=create, args=(epochs,)) for epochs in (2, 5) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = read_plan(tmp_path / "s").epochs
    assert said[made] == [""] * 4
    assert all(f"epochs: {made} -> {7 - made}" in text for text in said[7 - made]), said
    study = StudyReader.open(tmp_path / "s", storage=url)
    assert study.plan.epochs == made and sum(map(len, study.trials().values())) == 6


@pytest.mark.slow
def test_a_name_in_a_shared_storage_belongs_to_one_folder(echo: Task, tmp_path: Path, url: str | None) -> None:
    shared = url or f"sqlite:///{tmp_path / 'shared.db'}"
    mine = plan(echo, storage=shared)
    run(tmp_path / "a" / "s", echo, storage=shared)
    refused(lambda: Study.create(tmp_path / "b" / "s", mine), "study=s", "another folder", "another study=NAME")
    assert not (tmp_path / "b" / "s").exists()
    os.rename(tmp_path / "a", tmp_path / "c")  # the same folder, moved
    run(tmp_path / "c" / "s", echo, storage=shared)
    assert Study.open(tmp_path / "c" / "s", storage=shared).counts()["rnn"]["finished"] == 3


@pytest.mark.slow
def test_a_lost_study_yaml_is_made_again_from_the_same_plan_alone(echo: Task, tmp_path: Path, url: str | None) -> None:
    run(tmp_path / "s", echo, storage=url)
    before = load(tmp_path / "s", storage=url)
    (tmp_path / "s" / "study.yaml").unlink()
    refused(lambda: Study.create(tmp_path / "s", plan(echo, seed=1, storage=url)), "seed: 0 -> 1")
    elsewhere = plan(echo, storage=f"sqlite:///{tmp_path / 'new.db'}")
    refused(lambda: Study.create(tmp_path / "s", elsewhere), "its plan is lost")
    assert not (tmp_path / "s" / "study.yaml").exists()
    run(tmp_path / "s", echo, storage=url)
    same(before, load(tmp_path / "s", storage=url), exact=True)


def test_a_worker_records_nothing_under_another_plan(echo: Task, tmp_path: Path, url: str | None) -> None:
    study = Study.create(tmp_path / "s", plan(echo, storage=url))
    study.leases.join("w", "host", "boot", 1, "device")
    claims, _ = study.leases.exchange("w", want=1)
    other = Study.open(tmp_path / "s", storage=url)
    engine = study.engine
    with tables.writing(engine) as db:
        db.execute(sqlalchemy.update(PLANS).values(hash="another's"))
    outcome = study.failure(study.key(claims[0]), UserError("x"))
    refused(lambda: study.leases.exchange("w", [outcome]), "study=s", "another plan")
    refused(lambda: other.leases.join("v", "host", "boot", 1, "device"), "another plan")
    with tables.writing(engine) as db:
        db.execute(sqlalchemy.delete(PLANS))
    refused(lambda: study.leases.exchange("w", [outcome]), "lost the study's plan")
    assert study.counts()["vanilla"]["failed"] == 0


def test_an_edited_study_yaml_is_told_from_the_plan_of_its_trials(echo: Task, tmp_path: Path) -> None:
    run(tmp_path / "s", echo)
    path = tmp_path / "s" / "study.yaml"
    path.write_text(path.read_text().replace("patience: 2", "patience: 7"))
    for kind in (StudyReader, Study):
        refused(lambda kind=kind: kind.open(tmp_path / "s"), "patience: 7 -> 2")
    refused(lambda: load(tmp_path / "s"), "patience: 7 -> 2")


def test_an_extension_that_died_half_way_is_found_by_the_next(echo: Task, tmp_path: Path) -> None:
    run(tmp_path / "s", echo)
    before = (tmp_path / "s" / "study.yaml").read_text()
    Study.create(tmp_path / "s", plan(echo, trials=5))
    (tmp_path / "s" / "study.yaml").write_text(before)  # the storage had it, the folder not yet
    assert StudyReader.open(tmp_path / "s").plan.trials == 5
    refused(lambda: Study.create(tmp_path / "s", plan(echo)), "trials: 5 -> 3")
    assert Study.open(tmp_path / "s").plan.trials == read_plan(tmp_path / "s").trials == 5


# Layouts.


def older(layout: str, folder: Path) -> Path:
    """A study that a revision of this program has left when it was killed, as it is in `tests/layouts`."""
    shutil.copytree(LAYOUTS / layout, folder)
    with sqlite3.connect(folder / "study.db") as db:
        db.executescript((folder / "study.sql").read_text())
    db.close()
    return folder


def finish(folder: Path, plan: Plan) -> None:
    task, study = tasks.load(plan.task), Study.create(folder, plan)
    engine = engines.choose("cpu", "cpu")
    with Progress(study.counts(), plan.epochs) as progress:
        assert sweep.run(
            study, task, engine, population=2, threads=1, progress=progress, lease=1.0, trial_timeout=600.0
        )


@pytest.mark.slow
@pytest.mark.parametrize("layout", sorted(path.name for path in LAYOUTS.iterdir()))
def test_a_study_of_an_older_layout_is_read_and_goes_on(tmp_path: Path, layout: str) -> None:
    folder = older(layout, tmp_path / "old")
    before = load(folder)
    assert before.status.tolist() == ["finished", "running"] * 2
    assert "2 of 4 planned trials have ended" in status_of(StudyReader.open(folder))
    plan = read_plan(folder)
    finish(folder, plan)
    after = load(folder)
    assert set(after.status) == {"finished"} and len(load_curves(folder)) == 4 * 30
    same(before.query("status == 'finished'"), after.query("trial == 0"), exact=True)
    finish(tmp_path / "new", plan)
    same(after, load(tmp_path / "new"))
    assert yaml.safe_load((folder / "study.yaml").read_text())["layout"] == tables.LAYOUT


def test_a_study_of_a_newer_layout_is_refused(echo: Task, tmp_path: Path) -> None:
    study = Study.create(tmp_path / "s", plan(echo))
    newer = tables.LAYOUT + 1
    with tables.writing(study.engine) as db:
        db.execute(sqlalchemy.update(PLANS).values(layout=newer))
    refused(lambda: StudyReader.open(tmp_path / "s"), f"layout {newer}", "newer odyssey")
    path = tmp_path / "s" / "study.yaml"
    path.write_text(path.read_text().replace(f"layout: {tables.LAYOUT}", f"layout: {newer}"))
    refused(lambda: Study.create(tmp_path / "s", plan(echo)), str(path), "newer odyssey")


def test_a_storage_of_an_older_layout_is_its_folders_alone(tmp_path: Path) -> None:
    folder = older("61504cf", tmp_path / "old")
    settings = dataclasses.asdict(read_plan(folder))
    (folder / "study.yaml").unlink()
    refused(lambda: Study.create(folder, Plan(**settings)), "its plan is lost")


def test_optunas_tables_are_those_that_are_read_and_written_past_it() -> None:
    advice = (
        "Optuna lays its tables out anew: look through search/study/leases.py, then set search.study.tables.REVISION"
    )
    theirs = models.BaseModel.metadata.tables
    assert theirs.keys() | {"alembic_version"} == tables.OPTUNA, advice
    for table in (tables.STUDIES, tables.TRIALS, tables.ATTRIBUTES, tables.PARAMS, tables.VALUES):
        for dialect in (sqlite.dialect(), postgresql.dialect()):
            laid_out = [
                [(c.name, c.type.compile(dialect), c.nullable, c.primary_key) for c in each.columns]
                for each in (table, theirs[table.name])
            ]
            assert laid_out[0] == laid_out[1], advice
    states = {state.name: state for state in optuna.trial.TrialState}
    assert states == dict(tables.TrialState.__members__), advice
    assert models.TrialValueModel.value_to_stored_repr(1.5) == (
        1.5,
        models.TrialValueModel.TrialValueType[tables.FINITE],
    )
    assert models.SCHEMA_VERSION == 12, advice
    newest = optuna.storages.RDBStorage("sqlite://")._version_manager.get_head_version()
    assert newest == tables.REVISION, advice


# Lost storages.


def delete(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    os.truncate(path, 0)


def cut(path: Path) -> None:
    os.truncate(path, 8192)


def replace(path: Path) -> None:
    """With a storage of nothing."""
    path.unlink()
    working.connect(f"sqlite:///{path}").engine.dispose()


@pytest.mark.slow
@pytest.mark.parametrize("lose", [delete, empty, cut, replace])
def test_a_storage_that_is_lost_while_a_sweep_runs_ends_it_with_one_line(
    echo: Task, tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    lost: list[float] = []

    def act(members: Sequence[Member]) -> None:
        if not lost:
            for name in ("study.db-wal", "study.db-shm"):
                (tmp_path / "s" / name).unlink(missing_ok=True)
            lose(tmp_path / "s" / "study.db")
        lost.append(time.monotonic())

    refused(lambda: run(tmp_path / "s", echo, engine=Faulty(act), population=1), "stud")
    refused(lambda: Study.create(tmp_path / "s", plan(echo)))
    refused(lambda: load(tmp_path / "s"))
    if lose is delete:
        assert not (tmp_path / "s" / "study.db").exists()


def test_a_storage_that_is_mixed_with_another_is_told_in_one_line(echo: Task, tmp_path: Path, url: str | None) -> None:
    """As where a copy was put in the place of a database whose log of changes stayed."""
    study = Study.create(tmp_path / "s", plan(echo, storage=url))
    study.leases.join("w", "host", "boot", 1, "device")
    (claim,), _ = study.leases.exchange("w", want=1)
    with tables.writing(study.engine) as db:
        row = {"trial_id": claim.trial_id, "key": "result", "value_json": "{}"}
        db.execute(sqlalchemy.insert(tables.ATTRIBUTES).values(row))
    outcome = study.failure(study.key(claim), UserError("x"))
    refused(lambda: study.leases.exchange("w", [outcome]), "study=s", "mixed with another")
    assert study.counts()["vanilla"]["failed"] == 0


def test_trials_that_are_gone_from_the_storage_are_no_complete_study(echo: Task, tmp_path: Path) -> None:
    def act(members: Sequence[Member]) -> None:
        with sqlite3.connect(tmp_path / "s" / "study.db", timeout=60) as db:
            db.execute("DELETE FROM odyssey_queue")
            db.execute("DELETE FROM trials WHERE number = 2")
        db.close()

    refused(lambda: run(tmp_path / "s", echo, engine=Faulty(act), population=1), "6 trials", "lost")


def test_a_shared_storage_that_is_lost_is_not_made_anew(echo: Task, tmp_path: Path) -> None:
    shared = plan(echo, storage=f"sqlite:///{tmp_path / 'shared.db'}")
    Study.create(tmp_path / "s", shared).close()
    for path in tmp_path.glob("shared.db*"):
        path.unlink()
    refused(lambda: Study.create(tmp_path / "s", shared), "shared.db", "does not exist")
    assert not list(tmp_path.glob("shared.db*"))


def test_an_empty_file_is_no_storage_and_stays_empty(echo: Task, tmp_path: Path) -> None:
    study, _ = run(tmp_path / "s", echo)
    study.close()
    for path in tmp_path.glob("s/study.db*"):
        path.unlink()
    path = tmp_path / "s" / "study.db"
    path.touch()
    for act in (lambda: load(tmp_path / "s"), lambda: Study.open(tmp_path / "s")):
        refused(act, str(path), "empty")
    refused(lambda: Study.create(tmp_path / "s", plan(echo)), str(path), "empty")
    assert path.stat().st_size == 0


# Reading.


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("opened", [storage.reader, partial(working.connect, make=False)])
def test_a_database_of_others_is_left_as_it_is(tmp_path: Path, opened: Callable[[str], object]) -> None:
    with sqlite3.connect(tmp_path / "theirs.db") as db:
        db.execute("CREATE TABLE accounts (name)")
        db.execute("INSERT INTO accounts VALUES ('me')")
    db.close()
    before = contents(tmp_path)
    refused(lambda: opened(f"sqlite:///{tmp_path / 'theirs.db'}"), "theirs.db", "Optuna")
    assert contents(tmp_path) == before


def test_reading_makes_no_table_in_postgresql(postgres: Any) -> None:
    url = postgres.database(f"bare{time.time_ns()}")
    refused(lambda: storage.reader(url), "Optuna", "tables are missing")
    engine = working.connect(url).engine
    reader = storage.reader(url)
    with pytest.raises(sqlalchemy.exc.InternalError, match="read-only"), reader.begin() as db:
        db.exec_driver_sql("CREATE TABLE mine (x integer)")
    names = set(sqlalchemy.inspect(engine).get_table_names())
    assert names == tables.OPTUNA


def test_reading_a_study_writes_nothing(echo: Task, tmp_path: Path) -> None:
    study, _ = run(tmp_path / "s", echo)
    study.close()
    before = contents(tmp_path / "s" / "curves" / "echo" / "rnn") | {"db": (tmp_path / "s" / "study.db").read_bytes()}
    found = StudyReader.open(tmp_path / "s")
    status_of(found)
    load(tmp_path / "s")
    assert register.find(found.engine, "s") is not None
    after = contents(tmp_path / "s" / "curves" / "echo" / "rnn") | {"db": (tmp_path / "s" / "study.db").read_bytes()}
    assert before == after
