"""What is new in a study's storage since one last looked, so that whoever watches never reads the whole again."""

import json
from collections.abc import Mapping
from datetime import UTC
from typing import Any

from sqlalchemy import func, select

from search.study.claims import ENDED, Record
from search.study.reader import StudyReader
from search.study.storage import STATUS
from search.study.tables import ATTRIBUTES, STUDIES, TRIALS, TrialState

_ID = ATTRIBUTES.c.trial_user_attribute_id
Trials = dict[tuple[str, str], dict[int, Record]]


class News:
    """The trials of a study as they stand in its storage, brought up to date by what has been added to it.

    A trial's results are written once, in the transaction that ends it, and their rows are numbered in the order in
    which they are written: what is new has a higher number than all that is known.

    Args:
        study: opened to be read.

    Attributes:
        trials: by task and variant, and by number; those that wait are not in it.
    """

    def __init__(self, study: StudyReader):
        self._study = study
        self._begins = func.substr(STUDIES.c.study_name, 1, len(study.plan.study) + 1) == f"{study.plan.study}/"
        self.trials: Trials = {}
        self._last = -1

    def look(self) -> list[tuple[str, str, int]]:
        """Task, variant and number of every trial that is not as it was at the last look.

        Raises:
            sqlalchemy.exc.SQLAlchemyError, UserError: the storage cannot be read; nothing has changed here.
        """
        if self._last < 0:
            return self._all()
        query = select(_ID, STUDIES.c.study_name, TRIALS.c.number, TRIALS.c.state, TRIALS.c.datetime_start)
        query = query.add_columns(ATTRIBUTES.c.key, ATTRIBUTES.c.value_json)
        query = query.join(TRIALS, TRIALS.c.trial_id == ATTRIBUTES.c.trial_id)
        query = query.join(STUDIES, STUDIES.c.study_id == TRIALS.c.study_id)
        ended: dict[tuple[str, str, int], tuple[Any, dict[str, Any]]] = {}
        states = select(STUDIES.c.study_name, TRIALS.c.number, TRIALS.c.datetime_start)
        states = states.join(STUDIES, STUDIES.c.study_id == TRIALS.c.study_id)
        states = states.where(self._begins, TRIALS.c.state == TrialState.RUNNING)
        counts = select(TRIALS.c.state, func.count()).join(STUDIES, STUDIES.c.study_id == TRIALS.c.study_id)
        with self._study.engine.connect() as db:
            last = self._last
            for row in db.execute(query.where(self._last < _ID, self._begins).order_by(_ID)):
                last = row[0]
                if row.state in ENDED:
                    _, attributes = ended.setdefault(_key(row.study_name, row.number), (row, {}))
                    attributes[row.key] = json.loads(row.value_json)
            running = {_key(row.study_name, row.number): row.datetime_start for row in db.execute(states)}
            found = {state: n for state, n in db.execute(counts.where(self._begins).group_by(TRIALS.c.state))}
        changed = []
        for key, (row, attributes) in ended.items():
            self._set(key, Record(row.number, row.state, _utc(row.datetime_start), attributes))
            changed.append(key)
        changed += self._set_running(running)
        self._last = last
        # Rows of a server may become visible out of order, and a storage may have been put back from a copy.
        if any(self._count(state) != found.get(state, 0) for state in ENDED):
            return self._all()
        return changed

    def counts(self) -> Mapping[tuple[str, str], Mapping[str, int]]:
        """For each task and variant the number of trials by status, without those that wait."""
        table = {}
        for key, trials in self.trials.items():
            row: dict[str, int] = dict.fromkeys(STATUS.values(), 0)
            for record in trials.values():
                row[STATUS[record.state]] += 1
            table[key] = row
        return table

    def _all(self) -> list[tuple[str, str, int]]:
        with self._study.engine.connect() as db:
            last = db.scalar(select(func.max(_ID))) or 0
        found: Trials = {
            key: {record.number: record for record in records if record.state != TrialState.WAITING}
            for key, records in self._study.trials().items()
        }
        changed = [(*key, n) for key, trials in found.items() for n in trials if self._known(key, n) != trials[n]]
        changed += [(*key, n) for key, trials in self.trials.items() for n in trials if n not in found.get(key, {})]
        self.trials, self._last = found, last
        return changed

    def _set_running(self, running: Mapping[tuple[str, str, int], Any]) -> list[tuple[str, str, int]]:
        """Takes over which trials run now; returns those of which it is news."""
        changed = []
        for (task, variant), trials in self.trials.items():
            for number in [n for n, record in trials.items() if record.state == TrialState.RUNNING]:
                if (task, variant, number) not in running:  # its worker has gone, and it waits again
                    del trials[number]
                    changed.append((task, variant, number))
        for key, started in running.items():
            if self._known(key[:2], key[2]) is None:
                self._set(key, Record(key[2], TrialState.RUNNING, _utc(started), {}))
                changed.append(key)
        return changed

    def _known(self, key: tuple[str, str], number: int) -> Record | None:
        return self.trials.get(key, {}).get(number)

    def _set(self, key: tuple[str, str, int], record: Record) -> None:
        self.trials.setdefault(key[:2], {})[key[2]] = record

    def _count(self, state: TrialState) -> int:
        return sum(record.state == state for trials in self.trials.values() for record in trials.values())


def _key(name: str, number: int) -> tuple[str, str, int]:
    _, task, variant = name.rsplit("/", 2)
    return task, variant, number


def _utc(started: Any) -> Any:
    return started and started.replace(tzinfo=UTC)
