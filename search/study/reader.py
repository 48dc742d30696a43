"""A study as it stands: its plan, its folder, its storage, and the trials in it. Nothing is written.

Apart from what works on a study, for that takes longer to load than to read one.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine

from search.errors import expect, masked
from search.study import curves, register
from search.study.archive import Archive, Trials
from search.study.claims import Record
from search.study.leases import Leases
from search.study.plan import REGISTERED, Plan, checked, read, refuse_unless_grown, storage_url
from search.study.storage import STATUS, default_url, reader, study_name
from search.study.tables import TrialState
from search.training.status import Status

if TYPE_CHECKING:
    import pyarrow as pa  # else only where it is needed: `odyssey status` does without

LOST = "this one has lost it, and its trials with it, unless you restore them; a new study=NAME begins anew"


class StudyReader:
    """A study on disk and in its storage.

    In the storage there is one Optuna study for each task and variant, named ``STUDY/TASK/VARIANT``, with all planned
    trials: WAITING, RUNNING, COMPLETE (finished), PRUNED (diverged) or FAIL, with the attributes ``result`` and
    ``curve_sha256`` once they have ended; beside them the queue of `search.study.leases`, and the plan once more
    (`search.study.register`).
    In the folder are ``study.yaml`` (the plan), ``curves/TASK/VARIANT/NUMBER.parquet``, ``checkpoints``, ``workers``,
    ``report``, and, if the storage is elsewhere, ``origin``: the token by which it knows the folder.
    One that is published is read from its `archive` instead, and goes on nowhere.
    """

    def __init__(
        self, folder: Path, plan: Plan, engine: Engine, batch: int | None = None, archive: Archive | None = None
    ):
        self.folder, self.plan, self.engine, self.archive = folder, plan, engine, archive
        self.leases = Leases(engine, plan.study, plan.task["name"], batch)

    @staticmethod
    def open(folder: Path, storage: str | None = None) -> "StudyReader":
        """An existing study.

        Args:
            folder: of the study.
            storage: see `storage_url`.

        Raises:
            UserError: there is none in `folder`, its plan or its storage cannot be read, or the two are not of one
                study.
        """
        layout, plan = read(folder)
        if storage is None and (archive := Archive.of(folder)):
            return StudyReader(folder, plan, archive.engine(plan.study, plan.task["name"]), archive=archive)
        study = StudyReader(folder, plan, reader(storage_url(folder, plan, storage)))
        if entry := register.find(study.engine, plan.study):
            study._follow(entry)
        else:
            expect(layout < REGISTERED, "study", plan.study, f"a storage that has it; {LOST}")
        return study

    def counts(self) -> dict[str, dict[str, int]]:
        """For each variant the number of trials by status."""
        found = self.leases.counts()
        table = {}
        for variant in self.plan.variants:
            states = found.get(self._name(variant), {})
            row: dict[str, int] = {status: states.get(state, 0) for state, status in STATUS.items()}
            row[Status.WAITING] += max(0, self.plan.trials - sum(row.values()))
            table[variant] = row
        return table

    def best(self) -> dict[str, float]:
        """The validation score of the best trial that has finished, by variant where there is one."""
        found = self.leases.best()
        return {v: found[self._name(v)] for v in self.plan.variants if self._name(v) in found}

    def failures(self) -> list[tuple[str, int, str, str]]:
        """Of each failed trial its variant, its number, what it said, and the traceback if there is one."""
        found = self.leases.records((TrialState.FAIL,))
        failed = [(variant, trial) for variant in self.plan.variants for trial in found.get(self._name(variant), [])]
        return [
            (
                variant,
                trial.number,
                trial.attributes.get("result", {}).get("error", "no record of an error"),
                trial.attributes.get("traceback", ""),
            )
            for variant, trial in failed
        ]

    def trials(self) -> dict[tuple[str, str], list[Record]]:
        """The trials in the storage by task and variant."""
        found = {}
        for name, trials in self.leases.records().items():
            study, task, variant = name.rsplit("/", 2)
            if study == self.plan.study:
                found[task, variant] = trials
        return found

    def close(self) -> None:
        """Lets go of the storage."""
        self.engine.dispose()

    def curve(self, task: str, variant: str, trial: Record) -> "pa.Table | None":
        """As of `search.study.curves.read`."""
        if self.archive:
            return self.archive.curve(task, variant, trial)
        return curves.read(curves.path_of(self.folder, task, variant, trial.number), trial)

    def curves(self, trials: Trials) -> Iterator[tuple[str, str, int, "pa.Table"]]:
        """The curves of some of its trials, given as `trials` does: see `search.study.curves.read_all`."""
        return curves.read_all(self.folder, trials, self.curve)

    def check_curves(self) -> None:
        """Reads the curves of all trials that have ended; logs and raises as `curves`."""
        own = self.plan.task["name"]
        for _ in self.curves({key: found for key, found in self.trials().items() if key[0] == own}):
            pass

    def _follow(self, entry: register.Entry) -> register.Entry:
        """Agrees if the storage holds this plan, which may have grown meanwhile."""
        stored = self._stored(entry)
        refuse_unless_grown(self.plan, stored)
        self.plan = stored
        return entry

    def _stored(self, entry: register.Entry) -> Plan:
        where = f"study={self.plan.study} in {self._where}"
        return checked(where, {"layout": entry.layout, "storage": self.plan.storage, **entry.plan})[1]

    @property
    def _where(self) -> str:
        return masked(self.plan.storage or default_url(self.folder))

    def _name(self, variant: str) -> str:
        return study_name(self.plan.study, self.plan.task["name"], variant)
