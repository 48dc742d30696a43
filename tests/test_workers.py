"""Workers and their leases, and each fault that a study must survive. The longer form is `tests.faults`."""

import dataclasses
import errno
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import sqlalchemy
import torch

from analysis import load, load_curves
from search.base import clock
from search.base.locks import LastWords
from search.cells import get
from search.engines import Epoch, Member
from search.engines.reference import ReferenceEngine
from search.errors import UserError
from search.run.status import status_of
from search.study import checkpoint, storage, sweep, tables, worker, working
from search.study.claims import Key, Outcome
from search.study.leases import LeaseLost, Leases
from search.study.progress import Progress
from search.study.reader import StudyReader
from search.study.study import Study
from search.study.tables import QUEUE, WORKERS, TrialState
from search.study.worker import Worker
from search.tasks import Task
from search.training.trial import Trial
from tests import faults
from tests.faults import Scene
from tests.postgres import Postgres
from tests.test_study import plan, same

N_TRIALS = 6  # of the plan of test_study


class Notes(list[str]):
    """What a worker said."""

    def __call__(self, text: str) -> None:
        self.append(text)

    def about(self, *words: str) -> list[str]:
        return [text for text in self if all(word in text for word in words)]


def run(
    folder: Path, task: Task, /, *, engine: Any = None, population: int = 4, lease: float = 60.0, **changes: Any
) -> tuple[Study, Notes]:
    study = Study.create(folder, plan(task, **changes))
    notes = Notes()
    with Progress(study.counts(), study.plan.epochs) as progress:
        progress.note = notes  # type: ignore[method-assign]
        engine = engine or ReferenceEngine()
        settings: dict[str, Any] = {"population": population, "threads": 1, "lease": lease, "trial_timeout": 600.0}
        assert sweep.run(study, task, engine, progress=progress, **settings)
    return study, notes


@pytest.fixture(scope="module")
def echo() -> Task:
    from tests import echo as module

    return module.load()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, echo: Task) -> Path:
    """A study that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "s"
    run(folder, echo)
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "TICK", 0.2)


class Faulty(ReferenceEngine):
    """The reference engine, with something that happens before each epoch."""

    def __init__(self, before: Callable[[Sequence[Member]], None]):
        super().__init__()
        self._before = before

    def trainer(self, task: Task, dtype: str, threads: int = 1) -> Any:
        trainer = super().trainer(task, dtype, threads)
        train_epoch, before = trainer.train_epoch, self._before

        def faulty(members: Sequence[Member], orders: Sequence[np.ndarray]) -> Epoch:
            before(members)
            return train_epoch(members, orders)

        trainer.train_epoch = faulty  # type: ignore[method-assign]
        return trainer


def seed_of(study: Study, variant: str, number: int) -> int:
    frame = load(study.folder)
    return int(frame[(frame.variant == variant) & (frame.trial == number)].seed.iloc[0])


# Leases.


def leases(folder: Path, task: Task, url: str | None = None, **changes: Any) -> Leases:
    return Study.create(folder, plan(task, storage=url, **changes)).leases


@pytest.mark.slow
def test_no_trial_is_claimed_twice_however_many_claim_at_once(echo: Task, tmp_path: Path, url: str | None) -> None:
    study = Study.create(tmp_path / "s", plan(echo, trials=60, storage=url))
    claimed: list[int] = []

    def claim(name: str) -> None:
        own = Study.open(tmp_path / "s", storage=url).leases
        own.join(name, "host", "boot", 1, "device")
        mine: set[int] = set()
        while True:
            claims, _ = own.exchange(name, want=3)
            if len(claims) == len(mine):
                break
            mine |= {c.trial_id for c in claims}
        claimed.extend(mine)

    threads = [threading.Thread(target=claim, args=(f"w{k}",)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == 120
    assert sum(peer.held for peer in study.leases.peers()) == 120
    assert study.counts()["rnn"]["running"] == 60


@pytest.mark.slow
def test_a_new_storage_is_made_by_one_of_many_that_open_it_at_once(tmp_path: Path, url: str | None) -> None:
    where = url or storage.default_url(tmp_path)
    start = threading.Barrier(8)
    failed: list[Exception] = []

    def begin() -> None:
        try:
            start.wait()
            opened = working.connect(where)
            start.wait()
            tables.create(opened.engine)
        except Exception as error:
            failed.append(error)
            start.abort()

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert Leases(working.connect(where).engine, "s", "t").peers() == []


def test_trials_are_claimed_in_their_order_the_variants_in_turn(echo: Task, tmp_path: Path, url: str | None) -> None:
    study = Study.create(tmp_path / "s", plan(echo, storage=url))
    study.leases.join("w", "host", "boot", 1, "device")
    claims, _ = study.leases.exchange("w", want=5)
    keys = [study.key(claim) for claim in claims]
    expected = [("vanilla", 0), ("rnn", 0), ("vanilla", 1), ("rnn", 1), ("vanilla", 2)]
    assert [(key.variant, key.number) for key in keys] == expected


def test_a_lost_answer_costs_no_trial(echo: Task, tmp_path: Path, url: str | None) -> None:
    """The commit went through but its answer did not: the same call again finds all done."""
    study = Study.create(tmp_path / "s", plan(echo, storage=url))
    own = study.leases
    for _ in range(2):
        own.join("w", "host", "boot", 1, "device")
    lost, _ = own.exchange("w", want=2)
    claims, remaining = own.exchange("w")
    assert claims == lost and remaining == N_TRIALS
    outcome = study.failure(study.key(claims[0]), UserError("no such cell"))
    for _ in range(2):
        claims, remaining = own.exchange("w", [outcome])
        assert [c.trial_id for c in claims] == [lost[1].trial_id] and remaining == N_TRIALS - 1
    assert own.peers()[0].ended == 1


def test_who_has_lost_the_lease_can_do_nothing(echo: Task, tmp_path: Path, url: str | None) -> None:
    study = Study.create(tmp_path / "s", plan(echo, storage=url))
    own = study.leases
    own.join("w", "host", "boot", 1, "device")
    claims, _ = own.exchange("w", want=1)
    beat = own.peers()[0].beat
    assert not own.dismiss("w", beat - 1, LastWords()), "it has shown a sign of life since"
    assert own.dismiss("w", beat, LastWords())
    assert study.counts()["vanilla"] == {"waiting": 3, "running": 0, "finished": 0, "diverged": 0, "failed": 0}
    for call in ({"want": 1}, {"outcomes": [study.failure(study.key(claims[0]), UserError("x"))]}, {}):
        with pytest.raises(LeaseLost):
            own.exchange("w", **call)  # type: ignore[arg-type]
    own.join("v", "host", "boot", 1, "device")
    assert own.exchange("v", want=1)[0] == [dataclasses.replace(claims[0], deaths=1)]
    assert study.counts()["vanilla"]["running"] == 1 and study.counts()["vanilla"]["failed"] == 0


def test_what_workers_did_is_kept_when_they_have_gone(echo: Task, tmp_path: Path, url: str | None) -> None:
    study = Study.create(tmp_path / "s", plan(echo, storage=url))
    leases = study.leases
    assert leases.stints() == []
    begun = datetime.now(UTC)
    for name, want in (("a", 2), ("b", 1), ("c", 0), ("d", 0)):
        leases.join(name, "host", "boot", 1, f"device {name}")
        claims, _ = leases.exchange(name, want=want)
        if name == "a":
            leases.exchange("a", [study.failure(study.key(claims[0]), UserError("no such cell"))])
    leases.leave("a")
    leases.dismiss("b", 1, LastWords())
    leases.leave("c")
    leases.leave("c")
    assert not leases.dismiss("b", 1, LastWords())
    found = leases.stints()
    assert [(s.device, s.ended, s.held, s.died) for s in found] == [
        ("device a", 1, 1, False),
        ("device b", 0, 1, True),
        ("device c", 0, 0, False),
        ("device d", 0, 0, False),  # is still there
    ]
    for stint in found:  # a database's clock may go by whole seconds
        assert begun - timedelta(seconds=2) < stint.joined <= stint.left < datetime.now(UTC) + timedelta(seconds=2)


def test_a_study_that_died_in_the_making_is_made_whole(echo: Task, tmp_path: Path) -> None:
    study = Study.create(tmp_path / "s", plan(echo))
    engine = study._storage.engine
    with engine.begin() as db:  # the plan is written, the storage half filled
        db.execute(sqlalchemy.delete(QUEUE).where(QUEUE.c.place > 2))
        db.exec_driver_sql("DELETE FROM trial_params WHERE trial_id > 4")
        db.exec_driver_sql("DELETE FROM trials WHERE trial_id > 4")
    run(tmp_path / "s", echo)
    assert set(load(tmp_path / "s").status) == {"finished"} and len(load(tmp_path / "s")) == N_TRIALS


@pytest.mark.slow
def test_joining_a_study_disturbs_none_that_is_being_recorded(echo: Task, tmp_path: Path, url: str | None) -> None:
    """Whoever opens a study queues what the storage lacks, which no trial is that ends at this moment."""
    study = Study.create(tmp_path / "s", plan(echo, trials=60, storage=url))
    done = threading.Event()

    def join() -> None:
        while not done.is_set():
            Study.open(tmp_path / "s", storage=url)

    threads = [threading.Thread(target=join) for _ in range(3)]
    for thread in threads:
        thread.start()
    study.leases.join("w", "host", "boot", 1, "device")
    claims, remaining = study.leases.exchange("w", want=1)
    for left in range(120, 0, -1):
        assert remaining == left
        outcome = study.failure(study.key(claims[0]), UserError("no such cell"))
        claims, remaining = study.leases.exchange("w", [outcome], want=1)
    done.set()
    for thread in threads:
        thread.join()
    assert remaining == 0 and study.leases.exchange("w") == ([], 0)
    assert study.counts()["rnn"]["failed"] == 60


HALF = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("PRAGMA journal_mode=DELETE")
db.execute("PRAGMA cache_size=1")
db.execute("CREATE TABLE half (x)")
db.execute("BEGIN")
db.executemany("INSERT INTO half VALUES (?)", [(os.urandom(1000),) for _ in range(1000)])
os.kill(os.getpid(), 9)
"""


def test_a_study_can_be_read_after_its_writer_was_killed(echo: Task, tmp_path: Path) -> None:
    """In the middle of a transaction that has reached the file: the next to open it must be able to undo that."""
    study = Study.create(tmp_path / "s", plan(echo))
    study._storage.engine.dispose()
    subprocess.run([sys.executable, "-c", HALF, str(tmp_path / "s" / "study.db")])
    assert (tmp_path / "s" / "study.db-journal").exists()
    assert StudyReader.open(tmp_path / "s").counts()["rnn"]["waiting"] == 3
    assert len(load(tmp_path / "s")) == N_TRIALS


def add_peer(own: Leases, name: str, boot: str) -> None:
    own.join(name, "elsewhere", boot, 1, "device")
    assert own.exchange(name, want=2)[0]


@pytest.mark.slow
def test_trials_of_a_worker_elsewhere_are_taken_over_when_its_lease_is_over(
    echo: Task, tmp_path: Path, url: str | None, whole: Path
) -> None:
    add_peer(leases(tmp_path / "s", echo, url), "gone", "another boot")
    start = time.monotonic()
    _, notes = run(tmp_path / "s", echo, lease=2.0, storage=url)
    assert time.monotonic() - start >= 2.0
    assert notes.about("gone", "no sign of life for 2 s")
    same(load(tmp_path / "s", storage=url), load(whole))


def test_trials_of_a_dead_process_here_are_taken_over_at_once(echo: Task, tmp_path: Path, whole: Path) -> None:
    own = leases(tmp_path / "s", echo)
    add_peer(own, "dead", clock.boot())
    (tmp_path / "s" / "workers").mkdir()
    (tmp_path / "s" / "workers" / "dead.lock").touch()
    start = time.monotonic()
    _, notes = run(tmp_path / "s", echo)
    assert time.monotonic() - start < 30 and notes.about("dead is dead", "2 trials are free")
    same(load(tmp_path / "s"), load(whole))


@pytest.mark.slow
def test_a_living_worker_is_left_alone_whatever_the_clocks_say(
    echo: Task, tmp_path: Path, url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its signs of life come, by the database's clock, now an hour late and now a day early; ours jumps as well."""
    study = Study.create(tmp_path / "s", plan(echo, storage=url))
    other = Study.open(tmp_path / "s", storage=url)
    add_peer(other.leases, "alive", "another boot")
    stop = threading.Event()

    def live() -> None:
        moments = ["2001-01-01 00:00:00", "2199-01-01 00:00:00"]
        while not stop.wait(0.2):
            other.leases.exchange("alive")
            moments.reverse()
            with other._storage.engine.connect().execution_options(immediate=True) as db, db.begin():
                jumped = sqlalchemy.update(WORKERS).where(WORKERS.c.worker == "alive")
                db.execute(jumped.values(seen=sqlalchemy.literal_column(f"'{moments[0]}'")))

    thread = threading.Thread(target=live)
    thread.start()
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 1e6 * np.random.default_rng().standard_normal())
    notes = Notes()
    with Worker(study, echo, ReferenceEngine(), 2.0, notes, lambda standing: None) as own:
        taken: list[Trial] = []
        while len(taken) < 4:
            taken = own.refill(taken, 10)
        time.sleep(5)
        assert {peer.worker: peer.held for peer in study.leases.peers()}["alive"] == 2
    stop.set()
    thread.join()
    assert not notes


@pytest.mark.slow
def test_a_worker_that_slept_through_its_lease_drops_its_trials(echo: Task, tmp_path: Path, whole: Path) -> None:
    """And takes them up again, or what others left of them, under a new lease."""
    study = Study.create(tmp_path / "s", plan(echo))
    slept: list[bool] = []

    def sleep(members: Sequence[Member]) -> None:
        if not slept:
            slept.append(True)
            (peer,) = study.leases.peers()
            while not study.leases.dismiss(peer.worker, study.leases.peers()[0].beat, LastWords()):
                pass  # as another worker would after the time of the lease

    _, notes = run(tmp_path / "s", echo, engine=Faulty(sleep), lease=1.0)
    assert notes.about("lease of this worker ran out")
    same(load(tmp_path / "s"), load(whole))
    assert len(load_curves(tmp_path / "s")) == 2 * N_TRIALS


@pytest.mark.slow
def test_training_rests_while_the_lease_is_in_doubt(
    echo: Task, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage is away for longer than the lease: no epoch is begun that another worker might train as well."""
    epochs: list[float] = []
    away: list[float] = []
    exchange = Leases.exchange

    def failing(self: Leases, *arguments: Any, **more: Any) -> Any:
        if epochs and (not away or time.monotonic() - away[0] < 4):
            away.append(time.monotonic())
            raise sqlalchemy.exc.OperationalError("", {}, Exception("server closed the connection"))
        return exchange(self, *arguments, **more)

    def slow(members: Sequence[Member]) -> None:
        epochs.append(time.monotonic())
        time.sleep(0.15)

    monkeypatch.setattr(Leases, "exchange", failing)
    _, notes = run(tmp_path / "s", echo, engine=Faulty(slow), lease=1.5, population=1)
    assert max(np.diff(epochs)) > 2, "it rested"
    assert len(notes.about("trouble", "server closed the connection")) == 1 and len(notes.about("is back")) == 1
    same(load(tmp_path / "s"), load(whole))


def test_a_storage_that_stays_away_ends_the_sweep_with_one_line(
    echo: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "PATIENCE", 1.0)
    monkeypatch.setattr(worker, "FAREWELL", 1.0)

    def away(self: Leases, *arguments: Any, **more: Any) -> Any:
        raise sqlalchemy.exc.OperationalError("", {}, Exception("no route to host"))

    def cut(members: Sequence[Member]) -> None:
        monkeypatch.setattr(Leases, "exchange", away)

    with pytest.raises(UserError, match=r"storage has been in trouble .*no route to host") as caught:
        run(tmp_path / "s", echo, engine=Faulty(cut), lease=1.0, epochs=500, patience=500)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert any((tmp_path / "s" / "checkpoints").glob("*/*/*.npz"))


# Disks and locks.


def test_a_full_disk_is_waited_out(echo: Task, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "CHECKPOINT_INTERVAL", 0.0)
    fsync = os.fsync
    left = 4

    def full(descriptor: int) -> None:
        nonlocal left
        if left:
            left -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    def fill(members: Sequence[Member]) -> None:
        monkeypatch.setattr(os, "fsync", full)

    _, notes = run(tmp_path / "s", echo, engine=Faulty(fill))
    assert notes.about("checkpoints cannot be written", "No space left") and notes.about("can be written again")
    assert notes.about("trouble", "No space left") and notes.about("is back")
    same(load(tmp_path / "s"), load(whole))
    assert not list((tmp_path / "s").rglob(".*")), "no half-written files"


def test_a_database_without_room_is_trouble_that_may_pass(echo: Task, tmp_path: Path) -> None:
    """SQLite's own limit of pages stands for the disk's."""
    engine = Study.create(tmp_path / "s", plan(echo))._storage.engine
    with pytest.raises(working.TROUBLE, match="disk is full"), engine.begin() as db:
        db.exec_driver_sql("PRAGMA max_page_count=1")
        db.exec_driver_sql("CREATE TABLE large AS SELECT randomblob(1000000)")


@pytest.mark.slow
def test_a_locked_database_is_waited_for(
    echo: Task, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "SQLITE_TIMEOUT", 0.2)
    Study.create(tmp_path / "s", plan(echo))
    holders: list[threading.Thread] = []

    def hold() -> None:
        connection = sqlite3.connect(tmp_path / "s" / "study.db")
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(1.5)
        connection.rollback()
        connection.close()

    def lock(members: Sequence[Member]) -> None:
        if not holders:
            holders.append(threading.Thread(target=hold))
            holders[0].start()
            time.sleep(0.1)

    _, notes = run(tmp_path / "s", echo, engine=Faulty(lock), population=1)
    assert len(notes.about("trouble", "database is locked")) == 1 and notes.about("is back")
    same(load(tmp_path / "s"), load(whole))


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_checkpoint_is_noticed(echo: Task, tmp_path: Path, damage: str) -> None:
    study = Study.create(tmp_path / "s", plan(echo))
    study.leases.join("w", "host", "boot", 1, "device")
    trial = study.prepare(study.key(study.leases.exchange("w", want=1)[0][0]), echo)
    path = tmp_path / "c.npz"
    checkpoint.save(path, trial)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes({"cut": content[:-100], "flip": content, "empty": b""}[damage])
    assert checkpoint.load(path, trial) is None and path.with_suffix(".broken").exists()


def test_checkpoints_that_a_killed_worker_left_are_removed_once_their_trials_have_ended(
    echo: Task, tmp_path: Path, whole: Path
) -> None:
    """A worker may die when it has recorded a trial and not yet removed the checkpoint."""
    study = Study.create(tmp_path / "s", plan(echo))
    study.leases.join("w", "host", "boot", 1, "device")
    one, other = (study.key(claim) for claim in study.leases.exchange("w", want=2)[0])
    for key in (one, other):
        checkpoint.save(study._checkpoint(key), study.prepare(key, echo))
    ended = Outcome(one.trial_id, TrialState.COMPLETE, 1.0, {"result": {"status": "finished"}})
    study.leases.exchange("w", [ended])
    study.forget_ended()
    assert not study._checkpoint(one).exists() and study._checkpoint(other).exists()

    left = Study.open(whole)
    path = left._checkpoint(Key("rnn", 0, 0))
    checkpoint.save(path, study.prepare(other, echo))
    run(whole, echo)
    assert not path.exists()


def test_a_checkpoint_that_cannot_be_read_now_is_not_taken_for_damaged(
    echo: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study.create(tmp_path / "s", plan(echo))
    study.leases.join("w", "host", "boot", 1, "device")
    trial = study.prepare(study.key(study.leases.exchange("w", want=1)[0][0]), echo)
    path = tmp_path / "c.npz"
    checkpoint.save(path, trial)

    def stale(self: Path) -> bytes:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", stale)
        with pytest.raises(OSError, match="Stale"):
            checkpoint.load(path, trial)
    assert checkpoint.load(path, trial) is not None


# Trials that raise, and memory.


def test_a_trial_that_raises_is_tried_again_and_disturbs_no_other(echo: Task, tmp_path: Path, whole: Path) -> None:
    seed = seed_of(StudyReader.open(whole), "rnn", 1)
    raised: list[int] = []

    def once(members: Sequence[Member]) -> None:
        if not raised and seed in [m.seed for m in members] and len(members) == 1:
            raised.append(1)
            raise ZeroDivisionError("bad luck")
        if not raised and seed in [m.seed for m in members]:
            raise ZeroDivisionError("bad luck")

    _, notes = run(tmp_path / "s", echo, engine=Faulty(once))
    assert raised and len(notes.about("rnn trial 1", "ZeroDivisionError: bad luck")) == 1
    same(load(tmp_path / "s"), load(whole))


@pytest.mark.slow
def test_a_trial_that_raises_twice_has_failed_with_its_traceback(echo: Task, tmp_path: Path, whole: Path) -> None:
    seed = seed_of(StudyReader.open(whole), "rnn", 1)

    def always(members: Sequence[Member]) -> None:
        if seed in [m.seed for m in members]:
            raise ZeroDivisionError("see postgresql://me:secret@host/db")

    study, notes = run(tmp_path / "s", echo, engine=Faulty(always))
    assert len(notes.about("rnn trial 1")) == 2
    frame, expected = load(tmp_path / "s"), load(whole)
    failed = (frame.variant == "rnn") & (frame.trial == 1)
    assert frame[failed].status.item() == "failed" and frame[failed].error.item().startswith("see postgresql")
    columns = ["variant", "trial", "status", "test_score", "seed", "epochs"]
    same(frame[~failed][columns], expected[~failed][columns])
    said = status_of(study, tracebacks=True)
    assert "rnn 1: see" in said and "in always" in said and "secret" not in said
    assert not frame.columns.str.contains("traceback").any()


def test_bad_settings_fail_at_once_and_are_not_tried_again(echo: Task, tmp_path: Path) -> None:
    def complain(variant: str, settings: Any) -> Any:
        if variant == "rnn":
            raise UserError("rnn: expected something else")
        return get("vanilla")

    study = Study.create(tmp_path / "s", plan(echo))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Study, "cell", lambda self, variant, settings: complain(variant, settings))
        run(tmp_path / "s", echo)
    assert study.counts()["rnn"]["failed"] == 3 and study.counts()["vanilla"]["finished"] == 3


@pytest.mark.slow
def test_without_memory_the_population_halves_and_goes_on(echo: Task, tmp_path: Path, whole: Path) -> None:
    sizes: list[int] = []

    def small(members: Sequence[Member]) -> None:
        sizes.append(len(members))
        if len(members) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    _, notes = run(tmp_path / "s", echo, engine=Faulty(small), population=6)
    assert sizes[:3] == [6, 3, 1] and max(sizes[2:]) == 1
    assert notes.about("out of memory with 6", "going on with 3") and notes.about("with 3 trials", "with 1")
    same(load(tmp_path / "s"), load(whole))


# Signals.


def begun(scene: Scene, process: subprocess.Popen[bytes], n_epochs: int = 3) -> None:
    faults.until(lambda: scene.log.exists() and scene.log.read_text().count("end") >= n_epochs, scene)
    assert process.poll() is None


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_saves_and_leaves_and_no_epoch_is_trained_again(tmp_path: Path, number: int) -> None:
    scene = Scene(tmp_path, faults.settings(8))
    process = scene.sweep()
    begun(scene, process)
    process.send_signal(number)
    assert process.wait(120) == 130
    assert scene.study().leases.peers() == [] and "the same command goes on" in scene.said()
    assert scene.sweep().wait(600) == 0
    ended = [line.split()[3].split(",") for line in scene.log.read_text().splitlines() if line.startswith("end")]
    epochs = [seed for seeds in ended for seed in seeds]
    # An epoch that a signal cut short may have been computed, but it does not count.
    assert 8 * 60 <= len(epochs) <= 8 * 60 + 4
    assert load("s", tmp_path).epochs.tolist() == [60] * 8


@pytest.mark.slow
def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path) -> None:
    scene = Scene(tmp_path, ["variants=[vanilla]", "trials=4"], stub=30)  # seconds an epoch
    process = scene.sweep()
    faults.until(lambda: scene.log.exists() and "begin" in scene.log.read_text(), scene)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None, "it is still in its epoch"
    process.send_signal(signal.SIGINT)
    assert process.wait(2) == 130 and "at once" in scene.said()
    assert scene.study().counts()["vanilla"]["finished"] == 0


@pytest.mark.slow
def test_a_worker_that_is_stopped_and_wakes_up_late_does_no_harm(tmp_path: Path) -> None:
    whole = faults.undisturbed(tmp_path / "whole", 20)
    scene = Scene(tmp_path / "s", faults.settings(20))
    faults.begin(scene)
    first = scene.worker()
    begun(scene, first)
    first.send_signal(signal.SIGSTOP)
    second = scene.worker()
    study = scene.study()
    faults.until(lambda: "no sign of life" in scene.said(), scene)
    faults.until(lambda: scene.ended(study) > 8, scene)
    first.send_signal(signal.SIGCONT)
    scene.wait([first, second])
    assert "ran out" in scene.said()
    ours, theirs = load("s", scene.runs), load("s", whole.runs)
    volatile = ["study", "train_seconds", "started", "finished"]
    same(ours.drop(columns=volatile), theirs.drop(columns=volatile), exact=True)


# The short form of the script.


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return faults.undisturbed(tmp_path_factory.mktemp("scenes") / "whole", 30)


@pytest.mark.slow
def test_kills_on_sqlite(scenes: Scene, tmp_path: Path) -> None:
    faults.kills(scenes, tmp_path, 30, 6)


@pytest.mark.slow
def test_kills_on_postgresql(scenes: Scene, tmp_path: Path, postgres: Postgres) -> None:
    faults.kills(scenes, tmp_path, 30, 6, storage=postgres.database("kills"))


@pytest.mark.slow
def test_the_server_goes_and_comes(scenes: Scene, tmp_path: Path, postgres: Postgres) -> None:
    faults.server(scenes, tmp_path, 30, postgres, [1, 6, 2])


@pytest.mark.slow
def test_many_workers_and_short_trials_lock_nothing(tmp_path: Path) -> None:
    faults.throughput(tmp_path, 200)
    faults.resume(tmp_path, 200)


def test_optuna_reads_what_is_written_past_it(whole: Path) -> None:
    url = f"sqlite:///{whole / 'study.db'}"
    study = optuna.load_study(study_name="s/echo/vanilla", storage=url)
    frame = load(whole).query("variant == 'vanilla'")
    for trial, row in zip(study.trials, frame.itertuples(), strict=True):
        assert trial.state == optuna.trial.TrialState.COMPLETE and trial.number == row.trial
        assert trial.value == row.valid_score and trial.params["lr"] == row.lr
        assert 1 - trial.params["1 - momentum"] == row.momentum and trial.params["hidden_size"] == row.hidden_size
        assert trial.duration is not None and trial.duration.total_seconds() > 0
    assert isinstance(trial.distributions["hidden_size"], optuna.distributions.IntDistribution)
    assert study.best_value == frame.valid_score.min()
