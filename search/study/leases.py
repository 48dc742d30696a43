"""Who trains what: the queue of a study's trials, and the leases under which workers hold them.

Optuna's heartbeats belong to ``optimize()``: a stale trial becomes a failed one, its copy gets a new number, and a
worker that wakes up late still writes its result. Here a trial keeps its number and its row for life, and every
transaction of a worker, whether it claims, renews or records, first renews its lease: one that has lost it can do
nothing. A result and the lease under which it was won are one transaction, which Optuna's interface, a commit for each
attribute, cannot give; hence Optuna's tables are written here as Optuna lays them out, and read by it everywhere else.

A trial may be what kills its worker. The deaths of workers are counted for each trial that was on their hands, in the
transaction that takes it from them, and no longer once a checkpoint shows that it got further. After two the trial is
under suspicion: it waits until a worker has nothing else to do, and has it for itself alone. After the third, which
is nobody's fault but its own, it fails.

A lease is a counter that its worker raises. Who sees a counter stand still for the length of a lease, by a clock of
its own, may dismiss the worker; so no clock is compared with another, and none may jump and do harm.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, DateTime, Engine, func, select

from search.base.locks import LastWords
from search.errors import UserError, one_line
from search.study.claims import DEATHS_UNTIL_ALONE, ENDED, Claim, Outcome, Peer, Planned, Record, Stint
from search.study.storage import sweep_name
from search.study.tables import (
    ATTRIBUTES,
    PARAMS,
    PLANS,
    QUEUE,
    STINTS,
    STUDIES,
    TRIALS,
    VALUES,
    WORKERS,
    TrialState,
    put_results,
    writing,
)

TRIES = 2  # of a trial that raises


class LeaseLost(Exception):
    """Others hold this worker for dead, and its trials may be theirs by now."""


def process_name(host: str, pid: int) -> str:
    """How the names of the workers begin that a process is, one after another."""
    return f"{host}-{pid}-"


class Leases:
    """The queue of one sweep (a study on a task) in its storage.

    Every method is one transaction; an error of the database leaves all as it was, and the call may be repeated.

    Args:
        engine: of the storage.
        study, task: whose queue it is.
        batch: if given, trials of a variant are begun so many at a time, once all of lower number have ended.

    Attributes:
        hash: of the study's plan in the storage (`search.study.register`), under which whoever works here has joined.
    """

    def __init__(self, engine: Engine, study: str, task: str, batch: int | None = None):
        self._engine, self._study, self._sweep, self._batch = engine, study, sweep_name(study, task), batch
        self.hash: str | None = None

    def plan(self, trials: Iterable[Planned]) -> None:
        """Puts into the queue what is not in the storage yet, and what is there but neither ended nor queued."""
        with writing(self._engine) as db:
            wanted = list(trials)
            studies = sorted({trial.study_id for trial in wanted})
            # Held until the end, so that of two processes that plan at once the second finds the work done.
            db.execute(select(STUDIES.c.study_id).where(STUDIES.c.study_id.in_(studies)).with_for_update())
            # In one statement, for between two a worker could record a trial: gone from the queue, and not yet ended.
            present = select(TRIALS.c.study_id, TRIALS.c.number, TRIALS.c.trial_id, TRIALS.c.state, QUEUE.c.place)
            present = present.outerjoin(QUEUE, QUEUE.c.trial_id == TRIALS.c.trial_id)
            rows = db.execute(present.where(TRIALS.c.study_id.in_(studies))).all()
            found = {(row.study_id, row.number): row.trial_id for row in rows}
            settled = {row.trial_id for row in rows if row.state in ENDED or row.place is not None}
            new = [trial for trial in wanted if (trial.study_id, trial.number) not in found]
            if new:
                insert = sqlalchemy.insert(TRIALS).returning(TRIALS.c.trial_id, sort_by_parameter_order=True)
                values = [{"study_id": t.study_id, "number": t.number, "state": TrialState.WAITING} for t in new]
                made = list(db.scalars(insert, values))
                found |= {(trial.study_id, trial.number): i for trial, i in zip(new, made, strict=True)}
                params = [
                    {"trial_id": i, "param_name": name, "param_value": value, "distribution_json": distribution}
                    for trial, i in zip(new, made, strict=True)
                    for name, (value, distribution) in trial.params().items()
                ]
                if params:
                    db.execute(sqlalchemy.insert(PARAMS), params)
            places = {found[trial.study_id, trial.number]: trial.place for trial in wanted}
            missing = [
                {"trial_id": i, "sweep": self._sweep, "place": place, "failures": 0}
                for i, place in places.items()
                if i not in settled
            ]
            if missing:
                db.execute(sqlalchemy.insert(QUEUE), missing)

    def join(self, worker: str, host: str, boot: str, pid: int, device: str) -> None:
        """Makes a worker known, with a lease of its own.

        Raises:
            UserError: the plan in the storage is not the one under which it would work.
        """
        with writing(self._engine) as db:
            self._check_plan(db)
            known = db.scalar(select(WORKERS.c.worker).where(WORKERS.c.worker == worker))
            if known is None:  # else the answer to an earlier call was lost
                row = {"worker": worker, "sweep": self._sweep, "host": host, "boot": boot, "pid": pid}
                row |= {"device": device, "beat": 0, "ended": 0}
                db.execute(sqlalchemy.insert(WORKERS).values(**row, joined=func.now(), seen=func.now()))

    def exchange(
        self, worker: str, outcomes: Sequence[Outcome] = (), want: int = 0, saved: Mapping[int, int] | None = None
    ) -> tuple[list[Claim], int]:
        """Renews the lease of a worker, records what has come of its trials, and claims more.

        Args:
            worker: its name.
            outcomes: of trials that it holds; of others they are passed over.
            want: how many more trials it would like. If there are only such as are to be trained alone, it is given
                one, and only when it holds nothing.
            saved: the epochs of checkpoints by trial; one that got further than ever is no longer under suspicion.

        Returns:
            all trials that the worker now holds, those from before included; and how many trials have not ended,
            of all workers.

        Raises:
            LeaseLost: nothing was done.
            UserError: nothing was done, for the plan in the storage is not the one under which the worker has joined,
                or there are results of trials that have not ended.
        """
        with writing(self._engine) as db:
            self._check_plan(db)
            sign_of_life = {"beat": WORKERS.c.beat + 1, "seen": func.now()}
            renewal = sqlalchemy.update(WORKERS).where(WORKERS.c.worker == worker).values(sign_of_life)
            if not db.execute(renewal).rowcount:
                raise LeaseLost
            try:
                recorded = sum(self._record(db, worker, outcome) for outcome in outcomes)
            except sqlalchemy.exc.IntegrityError as error:
                what = "holds results already of trials that are under way: it is damaged, or mixed with another"
                raise UserError(f"study={self._study}: its storage {what} ({one_line(error)})") from error
            if recorded:
                more = sqlalchemy.update(WORKERS).where(WORKERS.c.worker == worker)
                db.execute(more.values(ended=WORKERS.c.ended + recorded))
            for trial_id, epoch in (saved or {}).items():
                further = (QUEUE.c.trial_id == trial_id) & (QUEUE.c.worker == worker) & (QUEUE.c.epoch < epoch)
                db.execute(sqlalchemy.update(QUEUE).where(further).values(deaths=0, epoch=epoch, cause=None))
            if want > 0:
                self._claim(db, worker, want)
            held = select(QUEUE.c.trial_id, TRIALS.c.study_id, TRIALS.c.number, QUEUE.c.deaths, QUEUE.c.cause)
            held = held.join(TRIALS, TRIALS.c.trial_id == QUEUE.c.trial_id)
            claims = [Claim(*row) for row in db.execute(held.where(QUEUE.c.worker == worker).order_by(QUEUE.c.place))]
            return claims, self._count(db)

    def _claim(self, db: Connection, worker: str, want: int) -> None:
        free = select(QUEUE.c.trial_id).where(QUEUE.c.sweep == self._sweep, QUEUE.c.worker.is_(None))
        free = free.join(TRIALS, TRIALS.c.trial_id == QUEUE.c.trial_id).where(self._open(db))
        # PostgreSQL passes over rows that another worker is claiming; SQLite has one writer at a time anyway.
        free = free.order_by(QUEUE.c.place).with_for_update(skip_locked=True, of=QUEUE)
        alone = QUEUE.c.deaths == DEATHS_UNTIL_ALONE
        held = list(db.execute(select(QUEUE.c.trial_id, alone).where(QUEUE.c.worker == worker)))
        if any(suspect for _, suspect in held):
            return
        ids = list(db.scalars(free.where(~alone).limit(want)))
        if not ids and not held:
            ids = list(db.scalars(free.where(alone).limit(1)))
        if ids:
            db.execute(sqlalchemy.update(QUEUE).where(QUEUE.c.trial_id.in_(ids)).values(worker=worker))
            begun = sqlalchemy.update(TRIALS).where(TRIALS.c.trial_id.in_(ids))
            start = func.coalesce(TRIALS.c.datetime_start, _utc_now())
            db.execute(begun.values(state=TrialState.RUNNING, datetime_start=start))

    def _open(self, db: Connection) -> sqlalchemy.ColumnElement[bool]:
        """Which trials may be begun: with batches, those of the first of each variant that has not ended."""
        if self._batch is None:
            return sqlalchemy.true()
        first = select(TRIALS.c.study_id, func.min(TRIALS.c.number)).group_by(TRIALS.c.study_id)
        first = first.join(QUEUE, QUEUE.c.trial_id == TRIALS.c.trial_id).where(QUEUE.c.sweep == self._sweep)
        ends = {study_id: (number // self._batch + 1) * self._batch for study_id, number in db.execute(first)}
        each = [(TRIALS.c.study_id == study_id) & (TRIALS.c.number < end) for study_id, end in ends.items()]
        return sqlalchemy.or_(sqlalchemy.false(), *each)

    def _record(self, db: Connection, worker: str, outcome: Outcome) -> bool:
        """Whether the trial has ended with this call."""
        mine = (QUEUE.c.trial_id == outcome.trial_id) & (QUEUE.c.worker == worker)
        failures = db.scalar(select(QUEUE.c.failures).where(mine))
        if failures is None:
            return False  # recorded before, only the answer was lost
        state = outcome.state
        if state is None and failures + 1 < TRIES:
            db.execute(sqlalchemy.update(QUEUE).where(mine).values(worker=None, failures=failures + 1))
            again = sqlalchemy.update(TRIALS).where(TRIALS.c.trial_id == outcome.trial_id)
            db.execute(again.values(state=TrialState.WAITING))
            return False
        db.execute(sqlalchemy.delete(QUEUE).where(mine))
        put_results(db, [(outcome.trial_id, outcome.attributes, outcome.score)])
        end = sqlalchemy.update(TRIALS).where(TRIALS.c.trial_id == outcome.trial_id)
        db.execute(end.values(state=state or TrialState.FAIL, datetime_complete=_utc_now()))
        return True

    def leave(self, worker: str, died: LastWords | None = None) -> None:
        """Ends a worker's lease and puts back the trials it holds. One that is unknown has nothing to put back.

        Args:
            worker: its name.
            died: what is known of its end, if that is to be counted as a death.
        """
        with writing(self._engine) as db:
            self._remember(db, WORKERS.c.worker == worker, died is not None)
            db.execute(sqlalchemy.delete(WORKERS).where(WORKERS.c.worker == worker))
            self._put_back(db, worker, died)

    def dismiss(self, worker: str, beat: int, died: LastWords) -> bool:
        """Puts back the trials of a worker that has not renewed its lease since `beat`, and counts its death; whether
        there was one."""
        with writing(self._engine) as db:
            same = (WORKERS.c.worker == worker) & (WORKERS.c.beat == beat)
            self._remember(db, same, True)
            if not db.execute(sqlalchemy.delete(WORKERS).where(same)).rowcount:
                return False
            self._put_back(db, worker, died)
            return True

    def explain(self, host: str, pid: int, cause: str) -> bool:
        """Adds what has ended a process to the deaths that were counted of it; whether all have been counted by now."""
        begin = process_name(host, pid)
        mine = (QUEUE.c.sweep == self._sweep) & (func.substr(QUEUE.c.died, 1, len(begin)) == begin)
        uncounted = select(WORKERS.c.worker).where(func.substr(WORKERS.c.worker, 1, len(begin)) == begin)
        with writing(self._engine) as db:
            db.execute(sqlalchemy.update(QUEUE).where(mine).values(cause=cause))
            return db.execute(uncounted).first() is None

    def _put_back(self, db: Connection, worker: str, died: LastWords | None) -> None:
        mine = QUEUE.c.worker == worker
        if died:
            guilty = mine if died.trials is None else mine & QUEUE.c.trial_id.in_(died.trials)
            cause = func.coalesce(died.cause, QUEUE.c.cause)
            count = {"deaths": QUEUE.c.deaths + 1, "died": worker, "cause": cause}
            db.execute(sqlalchemy.update(QUEUE).where(guilty).values(count))
        held = select(QUEUE.c.trial_id).where(mine)
        db.execute(sqlalchemy.update(TRIALS).where(TRIALS.c.trial_id.in_(held)).values(state=TrialState.WAITING))
        db.execute(sqlalchemy.update(QUEUE).where(mine).values(worker=None))

    def _remember(self, db: Connection, which: sqlalchemy.ColumnElement[bool], died: bool) -> None:
        """Keeps what is known of the worker, if there is one, that is about to be forgotten."""
        row = db.execute(select(WORKERS, func.now(type_=DateTime).label("now")).where(which)).one_or_none()
        if row is None:
            return
        held = db.scalar(select(func.count()).select_from(QUEUE).where(QUEUE.c.worker == row.worker))
        last = row.seen if died else row.now.replace(tzinfo=None)
        values = {"sweep": row.sweep, "device": row.device, "ended": row.ended, "held": held, "died": died}
        values |= {"left": _utc_now() - (row.now.replace(tzinfo=None) - last)}
        values |= {"seconds": (last - row.joined).total_seconds()}
        db.execute(sqlalchemy.insert(STINTS).values(values))

    def stints(self) -> list[Stint]:
        """What workers did in the sweep, those that are still there included, in the order in which they left."""
        query = select(STINTS).where(STINTS.c.sweep == self._sweep).order_by(STINTS.c.stint)
        with self._engine.connect() as db:
            known = sqlalchemy.inspect(db).has_table(STINTS.name)  # else it was last run by an older version
            gone = db.execute(query).all() if known else ()
        found = [
            Stint(r.device, _utc(r.left) - timedelta(seconds=r.seconds), _utc(r.left), r.ended, r.held, r.died)
            for r in gone
        ]
        now = datetime.now(UTC)
        for peer in self.peers():
            joined, seen = (now - timedelta(seconds=seconds) for seconds in (peer.joined, peer.age))
            found.append(Stint(peer.device, joined, seen, peer.ended, 0, False))
        return found

    def peers(self) -> list[Peer]:
        """The workers of the sweep, this one included, the oldest first."""
        held = select(QUEUE.c.worker, func.count().label("held")).where(QUEUE.c.sweep == self._sweep)
        each = held.group_by(QUEUE.c.worker).subquery()
        now = func.now(type_=DateTime)
        query = select(WORKERS, func.coalesce(each.c.held, 0).label("held"), now.label("now"))
        query = query.outerjoin(each, each.c.worker == WORKERS.c.worker).where(WORKERS.c.sweep == self._sweep)
        with self._engine.connect() as db:
            if not sqlalchemy.inspect(db).has_table(WORKERS.name):
                return []  # a study that was last run by an older version
            rows = db.execute(query.order_by(WORKERS.c.joined, WORKERS.c.worker)).all()
        return [
            Peer(
                *(row.worker, row.host, row.boot, row.pid, row.device, row.beat, row.ended),
                joined=(row.now.replace(tzinfo=None) - row.joined).total_seconds(),
                age=(row.now.replace(tzinfo=None) - row.seen).total_seconds(),
                held=row.held,
            )
            for row in rows
        ]

    def counts(self) -> dict[str, dict[TrialState, int]]:
        """For each Optuna study of the sweep, by name, the number of trials by state."""
        query = select(STUDIES.c.study_name, TRIALS.c.state, func.count())
        query = query.join(TRIALS, TRIALS.c.study_id == STUDIES.c.study_id)
        query = query.where(_begins(STUDIES.c.study_name, self._sweep))
        found: dict[str, dict[TrialState, int]] = {}
        with self._engine.connect() as db:
            for name, state, count in db.execute(query.group_by(STUDIES.c.study_name, TRIALS.c.state)):
                found.setdefault(name, {})[state] = count
        return found

    def records(self, states: Collection[TrialState] = tuple(TrialState)) -> dict[str, list[Record]]:
        """For each Optuna study of the study, on whatever task, its trials in some states, by their number."""
        attributes: dict[int, dict[str, Any]] = {}
        found: dict[str, list[Record]] = {}
        trials = select(
            TRIALS.c.trial_id, STUDIES.c.study_name, TRIALS.c.number, TRIALS.c.state, TRIALS.c.datetime_start
        )
        trials = trials.join(STUDIES, STUDIES.c.study_id == TRIALS.c.study_id)
        trials = trials.where(_begins(STUDIES.c.study_name, self._study), TRIALS.c.state.in_(states))
        chosen = trials.subquery()
        stored = select(ATTRIBUTES.c.trial_id, ATTRIBUTES.c.key, ATTRIBUTES.c.value_json)
        stored = stored.join(chosen, chosen.c.trial_id == ATTRIBUTES.c.trial_id)
        with self._engine.connect() as db:
            for trial_id, key, value in db.execute(stored):
                attributes.setdefault(trial_id, {})[key] = json.loads(value)
            for trial_id, name, number, state, started in db.execute(trials.order_by(TRIALS.c.number)):
                start = started and _utc(started)
                found.setdefault(name, []).append(Record(number, state, start, attributes.get(trial_id, {})))
        return found

    def pace(self, period: timedelta) -> tuple[int, float]:
        """How many trials ended in the last `period`, and the seconds since the first of them began or since then."""
        start = _utc_now() - period
        ended = select(func.count(), func.min(TRIALS.c.datetime_start))
        ended = ended.join(STUDIES, STUDIES.c.study_id == TRIALS.c.study_id)
        ended = ended.where(TRIALS.c.datetime_complete >= start, _begins(STUDIES.c.study_name, self._sweep))
        with self._engine.connect() as db:
            count, first = db.execute(ended).one()
        return count, min(period, _utc_now() - max(first or start, start)).total_seconds()

    def best(self) -> dict[str, float]:
        """For each Optuna study of the sweep in which a trial has finished, by name, the lowest of their scores."""
        query = select(STUDIES.c.study_name, func.min(VALUES.c.value))
        query = query.join(TRIALS, TRIALS.c.study_id == STUDIES.c.study_id)
        query = query.join(VALUES, VALUES.c.trial_id == TRIALS.c.trial_id)
        query = query.where(TRIALS.c.state == TrialState.COMPLETE, _begins(STUDIES.c.study_name, self._sweep))
        with self._engine.connect() as db:
            return {name: score for name, score in db.execute(query.group_by(STUDIES.c.study_name))}

    def _check_plan(self, db: Connection) -> None:
        held = db.scalar(select(PLANS.c.hash).where(PLANS.c.study == self._study))
        if held != self.hash:
            what = "has lost the study's plan" if held is None else "has another plan by now under the study's name"
            raise UserError(f"study={self._study}: its storage {what}; nothing more is recorded there")

    def _count(self, db: Connection) -> int:
        return db.scalar(select(func.count()).select_from(QUEUE).where(QUEUE.c.sweep == self._sweep)) or 0


def _begins(name: sqlalchemy.ColumnElement[str], with_this: str) -> sqlalchemy.ColumnElement[bool]:
    """Whether an Optuna study's name is one of those of a study or a sweep."""
    return func.substr(name, 1, len(with_this) + 1) == f"{with_this}/"


def _utc(stored: datetime) -> datetime:
    return stored.replace(tzinfo=UTC)


def _utc_now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)  # as Optuna stores it
