"""A study: its plan, its folder, its storage, and the trials in it."""

import dataclasses
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import yaml
from optuna.trial import TrialState
from sqlalchemy import Engine

from search import cells
from search.base import files
from search.cells import Cell
from search.errors import UserError, expect, masked, one_line
from search.study import checkpoint, curves, register, tables
from search.study.archive import Archive, refuse_published
from search.study.claims import ENDED, Claim, Key, Outcome, Record
from search.study.leases import Leases
from search.study.plan import PLAN_FILE, REGISTERED, Plan, checked, read, refuse_unless_grown, storage_url
from search.study.planned import planned
from search.study.record import result_of
from search.study.space import BATCH, NumberedSampler, Past, learned
from search.study.storage import STATUS, TROUBLE, check_sound, connect, default_url, patiently, reader, study_name
from search.tasks.task import Task
from search.training.status import Status
from search.training.trial import Trial

if TYPE_CHECKING:
    import pyarrow as pa

_LOST = "this one has lost it, and its trials with it, unless you restore them; a new study=NAME begins anew"
_FOREIGN = "what is there was made from another folder, or its plan is lost; use another study=NAME"


class Study:
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
        self, folder: Path, plan: Plan, storage: optuna.storages.RDBStorage | Engine, archive: Archive | None = None
    ):
        self.folder, self.plan, self._opened, self.archive = folder, plan, storage, archive
        self.engine = storage if isinstance(storage, Engine) else storage.engine
        self.leases = Leases(self.engine, plan.study, plan.task["name"], batch=BATCH if plan.learns else None)
        self._batches: dict[tuple[str, int], list[dict[str, Any]]] = {}

    @property
    def _storage(self) -> optuna.storages.RDBStorage:
        assert not isinstance(self._opened, Engine), "opened to be read"
        return self._opened

    @staticmethod
    def open(folder: Path, read_only: bool = True, storage: str | None = None) -> "Study":
        """An existing study, to be read, or to be worked on.

        Args:
            folder: of the study.
            read_only: whether nothing is to be written, anywhere.
            storage: see `storage_url`.

        Raises:
            UserError: there is none in `folder`, its plan or its storage cannot be read, or the two are not of one
                study.
        """
        known = layout, plan = read(folder)
        if read_only and storage is None and (archive := Archive.of(folder)):
            return Study(folder, plan, archive.engine(plan.study, plan.registered), archive)
        refuse_published(folder)
        url = storage_url(folder, plan, storage)
        study = Study(folder, plan, reader(url) if read_only else connect(url, make=False))
        if not read_only:
            study._put(known, study._follow)
        elif entry := register.find(study.engine, plan.study):
            study._follow(entry)
        else:
            expect(layout < REGISTERED, "study", plan.study, f"a storage that has it; {_LOST}")
        return study

    @staticmethod
    def create(folder: Path, plan: Plan) -> "Study":
        """A new study, or the existing one of the same plan, which may have grown: see `refuse_unless_grown`.

        Args:
            folder: of the study.
            plan: what it is to compute.

        Raises:
            UserError: the plan is impossible; the folder or the storage holds a study of another plan, and the text
                lists the differences; or the storage has a study of this name from another folder.
        """
        refuse_published(folder)
        plan.check()
        known = read(folder) if (folder / PLAN_FILE).exists() else None
        if known:
            refuse_unless_grown(known[1], plan)
        storage = connect(plan.storage, make=known is None) if plan.storage else None  # before anything is written
        try:
            folder.mkdir(parents=True, exist_ok=True)
            files.forget_unfinished(folder, older=3600.0)  # of those at work none takes so long to write
            study = Study(folder, plan, storage or connect(default_url(folder), make=known is None))
            study._put(known, study._grow)
        except OSError as error:
            raise UserError(f"{folder}: expected a folder that can be written to ({error.strerror})") from error
        return study

    def _put(self, known: tuple[int, Plan] | None, agree: Callable[[register.Entry], register.Entry]) -> None:
        """Puts the study into its storage and its folder, or what is missing of it if a process died in doing so.

        Args:
            known: layout and plan in the folder; None if there is none.
            agree: with what the storage knows of the study; returns what it is to know.
        """
        registered = known is not None and known[0] >= REGISTERED
        origin = register.origin(self.folder, make=not registered) if self.plan.storage else ""
        name = self.plan.study

        def decide(entry: register.Entry | None, has_trials: bool) -> register.Entry:
            if entry is None:
                expect(not registered, "study", name, f"a storage that has it; {_LOST}")
                foreign = known is None and (has_trials or (self.folder / "curves").exists())
                expect(not foreign, "study", name, f"a name without trials in {self._where}; {_FOREIGN}")
                return register.Entry.new(self.plan.registered, origin)
            if entry.origin != origin:
                if known is None:
                    register.forget_origin(self.folder)
                expect(False, "study", name, f"a name that is not in {self._where} yet; {_FOREIGN}")
            return agree(entry)

        try:
            tables.create(self.engine)
            self.leases.hash = register.settle(self.engine, name, decide).hash
            # Optuna reads before it writes, which SQLite refuses at once where another process has just written.
            patiently(self._put_plan, lambda error: isinstance(error, optuna.exceptions.StorageInternalError))
        except TROUBLE as error:
            text = f"storage of {self.folder}: expected one that can be written to ({one_line(error)})"
            raise UserError(text) from error
        if known != (tables.LAYOUT, self.plan):  # last: it says that all else is there
            values = {"layout": tables.LAYOUT} | dataclasses.asdict(self.plan)
            files.write(self.folder / PLAN_FILE, yaml.safe_dump(values, sort_keys=False))

    def _follow(self, entry: register.Entry) -> register.Entry:
        """Agrees if the storage holds this plan, which may have grown meanwhile."""
        stored = self._stored(entry)
        refuse_unless_grown(self.plan, stored)
        self.plan = stored
        return entry

    def _grow(self, entry: register.Entry) -> register.Entry:
        """Agrees if this plan is the one that the storage holds, or has grown from it."""
        refuse_unless_grown(self._stored(entry), self.plan)
        return dataclasses.replace(entry, plan=self.plan.registered)

    def _stored(self, entry: register.Entry) -> Plan:
        where = f"study={self.plan.study} in {self._where}"
        return checked(where, {"layout": entry.layout, "storage": self.plan.storage, **entry.plan})[1]

    @property
    def _where(self) -> str:
        return masked(self.plan.storage or default_url(self.folder))

    def _put_plan(self) -> None:
        present = {study.study_name: study for study in self._storage.get_all_studies()}
        for variant in self.plan.variants:
            known = present.get(self._name(variant))
            if known is None or not known.user_attrs:
                self._create_optuna_study(variant)
        ids = {variant: study_id for study_id, variant in self._variants.items()}
        self.leases.plan(planned(self.plan, ids, self._samplers))

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

    def check_complete(self) -> None:
        """Raises UserError unless all planned trials have ended and are in the storage, as one finds it who comes
        anew."""
        self.engine.dispose()
        check_sound(self.engine)
        ended = sum(row[STATUS[state]] for row in self.counts().values() for state in ENDED)
        whole = ended >= self.plan.total
        expect(whole, "study", self.plan.study, f"{self.plan.total} trials in {self._where}, not {ended}; {_LOST}")

    def key(self, claim: Claim) -> Key:
        """What a claimed trial is."""
        if claim.study_id not in self._variants:  # the study has grown since this process opened it
            entry = register.find(self.engine, self.plan.study)
            expect(entry is not None, "study", self.plan.study, f"a storage that has it; {_LOST}")
            assert entry
            self._follow(entry)
            for name in ("_variants", "_samplers"):
                self.__dict__.pop(name, None)
        return Key(self._variants[claim.study_id], claim.number, claim.trial_id)

    def prepare(self, key: Key, task: Task) -> Trial:
        """A claimed trial, as it stands in its checkpoint if there is a sound one, or else at its beginning.

        Raises:
            UserError: its settings make no cell.
        """
        settings = self._settings(key)
        trial = Trial.new(
            key,
            self.cell(key.variant, settings),
            settings,
            self.plan.trial_seed(key.variant, key.number),
            task,
            self.plan.dtype,
            self.plan.optimizer,
        )
        path = self._checkpoint(key)
        if not path.exists():
            return trial
        return checkpoint.load(path, trial) or trial

    def _settings(self, key: Key) -> dict[str, Any]:
        space = self.plan.space_of(key.variant)
        if not self.plan.learns:
            own = self._samplers[key.variant]
            return {d.name: d.value(own.draw(key.number, d.stored_name)) for d in space}
        drawn = self._learned(key)[key.number % BATCH]
        for d in space:  # for Optuna to show
            internal = d.stored.to_internal_repr(drawn[d.stored_name])
            self._storage.set_trial_param(key.trial_id, d.stored_name, internal, d.stored)
        return {d.name: d.value(drawn[d.stored_name]) for d in space}

    def _learned(self, key: Key) -> list[dict[str, Any]]:
        """The stored values of a trial's batch, of which the batches before have ended."""
        batch = key.variant, key.number // BATCH
        if batch not in self._batches:
            trials = self.trials()[self.plan.task["name"], key.variant]
            before = [trial for trial in trials if trial.number < batch[1] * BATCH and trial.state != TrialState.FAIL]
            assert all(trial.state in ENDED for trial in before)
            results = [trial.attributes["result"] for trial in before]
            past = [Past(r, r["valid_score"] if r["status"] == Status.FINISHED else None) for r in results]
            self._batches[batch] = learned(self.plan.space_of(key.variant), self.plan.draw_seed(key.variant), past)
        return self._batches[batch]

    def cell(self, variant: str, settings: Mapping[str, Any]) -> Cell:
        """The cell of a trial: that of its variant, with the toggles among its settings."""
        return cells.define(self.plan.variants[variant] | self.plan.toggles(settings))

    def save(self, trials: list[Trial]) -> None:
        """Writes checkpoints of trials under way."""
        for trial in trials:
            if trial.curve:
                checkpoint.save(self._checkpoint(trial.key), trial)

    def write_curve(self, trial: Trial) -> None:
        """Writes the learning curve of a trial that has ended."""
        key = trial.key
        path = curves.path_of(self.folder, self.plan.task["name"], key.variant, key.number)
        files.write(path, curves.encoded(trial.curve))

    def curve(self, task: str, variant: str, trial: Record) -> "pa.Table | None":
        """As of `search.study.curves.read`."""
        if self.archive:
            return self.archive.curve(task, variant, trial)
        return curves.read(curves.path_of(self.folder, task, variant, trial.number), trial)

    def curves(self, trials: Mapping[tuple[str, str], Sequence[Record]]) -> Iterator[tuple[str, str, int, "pa.Table"]]:
        """The curves of some of its trials, given as `trials` does: see `search.study.curves.read_all`."""
        return curves.read_all(self.folder, trials, self.curve)

    def check_curves(self) -> None:
        """Reads the curves of all trials that have ended; logs and raises as `curves`."""
        own = self.plan.task["name"]
        for _ in self.curves({key: found for key, found in self.trials().items() if key[0] == own}):
            pass

    def outcome(self, trial: Trial, engine: str, device: str) -> Outcome:
        """What is to be recorded of a trial that has ended."""
        result = result_of(trial, self.plan.dtype, self.plan.data_hash, engine, device)
        attributes = {"result": result, curves.CHECKSUM: curves.checksum(curves.encoded(trial.curve))}
        state = {Status.FINISHED: TrialState.COMPLETE, Status.DIVERGED: TrialState.PRUNED}[trial.status]
        return Outcome(trial.key.trial_id, state, result["valid_score"], attributes)

    def failure(self, key: Key, error: Exception, settings: Mapping[str, Any] | None = None) -> Outcome:
        """What is to be recorded of a trial that raised. Bad input would raise again; all else is tried once more."""
        result = dict(settings or {}) | {
            "seed": self.plan.trial_seed(key.variant, key.number),
            "status": Status.FAILED,
            "error": one_line(error),
        }
        lines = masked("".join(traceback.format_exception(error)))
        final = TrialState.FAIL if isinstance(error, UserError) else None
        return Outcome(key.trial_id, final, None, {"result": result, "traceback": lines})

    def death(self, claim: Claim) -> Outcome:
        """What is to be recorded of a trial that is held to have killed its workers."""
        key = self.key(claim)
        cause = claim.cause or "of no known cause, as where memory runs out"
        error = UserError(
            f"its worker died {claim.deaths} times in a row, the last time with this trial alone ({cause})"
        )
        return self.failure(key, error, self._settings(key))

    def forget_checkpoint(self, key: Key) -> None:
        """Removes the checkpoint of a trial that has ended."""
        self._checkpoint(key).unlink(missing_ok=True)

    def forget_ended(self) -> None:
        """Removes what workers leave behind that die at the wrong moment: checkpoints of trials that have ended, and
        half-written files."""
        for variant in self.plan.variants:
            if left := set((self._checkpoints / variant).glob("*.npz")):
                study_id = self._storage.get_study_id_from_name(self._name(variant))
                for trial in self._storage.get_all_trials(study_id, deepcopy=False, states=ENDED):
                    if (path := self._checkpoint(Key(variant, trial.number, trial._trial_id))) in left:
                        path.unlink(missing_ok=True)
        for part in ("checkpoints", "curves"):
            files.forget_unfinished(self.folder / part)

    def _create_optuna_study(self, variant: str) -> None:
        study = optuna.create_study(
            storage=self._storage, study_name=self._name(variant), direction="minimize", load_if_exists=True
        )
        if not study.user_attrs:
            with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
                study.set_metric_names([self.plan.score])
            study.set_user_attr("variant", self.plan.variants[variant])

    def _name(self, variant: str) -> str:
        return study_name(self.plan.study, self.plan.task["name"], variant)

    @cached_property
    def _variants(self) -> dict[int, str]:
        """The variants by the id of their Optuna study."""
        return {self._storage.get_study_id_from_name(self._name(variant)): variant for variant in self.plan.variants}

    @cached_property
    def _samplers(self) -> dict[str, NumberedSampler]:
        plan = self.plan
        return {v: NumberedSampler(plan.sampler, plan.space_of(v), plan.draw_seed(v)) for v in plan.variants}

    def _checkpoint(self, key: Key) -> Path:
        return self._checkpoints / key.variant / f"{key.number:04}.npz"

    @property
    def _checkpoints(self) -> Path:
        return self.folder / "checkpoints" / self.plan.task["name"]
