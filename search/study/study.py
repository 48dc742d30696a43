"""A study to be worked on: how it is made, how it grows, and its trials on their way through training."""

import dataclasses
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.distributions import distribution_to_json

from search import cells
from search.base import files
from search.cells import Cell
from search.errors import UserError, expect, masked, one_line
from search.study import checkpoint, curves, planning, register, tables
from search.study.archive import refuse_published
from search.study.claims import ENDED, Claim, Key, Outcome, Planned
from search.study.plan import PLAN_FILE, REGISTERED, Plan, read, refuse_unless_grown, storage_url
from search.study.reader import LOST, StudyReader
from search.study.record import result_of
from search.study.space import BATCH, NumberedSampler, Past, learned
from search.study.storage import STATUS, check_sound, default_url
from search.study.tables import TrialState
from search.study.working import TROUBLE, connect, patiently
from search.tasks.task import Task
from search.training.status import Status
from search.training.trial import Trial

_FOREIGN = "what is there was made from another folder, or its plan is lost; use another study=NAME"


class Study(StudyReader):
    """A study to be worked on."""

    def __init__(self, folder: Path, plan: Plan, storage: optuna.storages.RDBStorage):
        super().__init__(folder, plan, storage.engine, batch=BATCH if plan.learns else None)
        self._storage = storage
        self._batches: dict[tuple[str, int], list[dict[str, Any]]] = {}

    @staticmethod
    def open(folder: Path, storage: str | None = None) -> "Study":
        """An existing study, to be worked on.

        Args, raises: see `StudyReader.open`.
        """
        known = _, plan = read(folder)
        refuse_published(folder)
        study = Study(folder, plan, connect(storage_url(folder, plan, storage), make=False))
        study._put(known, study._follow)
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
        planning.check(plan)
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
                expect(not registered, "study", name, f"a storage that has it; {LOST}")
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

    def _grow(self, entry: register.Entry) -> register.Entry:
        """Agrees if this plan is the one that the storage holds, or has grown from it."""
        refuse_unless_grown(self._stored(entry), self.plan)
        return dataclasses.replace(entry, plan=self.plan.registered)

    def _put_plan(self) -> None:
        present = {study.study_name: study for study in self._storage.get_all_studies()}
        for variant in self.plan.variants:
            known = present.get(self._name(variant))
            if known is None or not known.user_attrs:
                self._create_optuna_study(variant)
        self.leases.plan(self._planned())

    def check_complete(self) -> None:
        """Raises UserError unless all planned trials have ended and are in the storage, as one finds it who comes
        anew."""
        self.engine.dispose()
        check_sound(self.engine)
        ended = sum(row[STATUS[state]] for row in self.counts().values() for state in ENDED)
        whole = ended >= self.plan.total
        expect(whole, "study", self.plan.study, f"{self.plan.total} trials in {self._where}, not {ended}; {LOST}")

    def key(self, claim: Claim) -> Key:
        """What a claimed trial is."""
        if claim.study_id not in self._variants:  # the study has grown since this process opened it
            entry = register.find(self.engine, self.plan.study)
            expect(entry is not None, "study", self.plan.study, f"a storage that has it; {LOST}")
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
            planning.trial_seed(self.plan, key.variant, key.number),
            task,
            self.plan.dtype,
            self.plan.optimizer,
        )
        path = self._checkpoint(key)
        if not path.exists():
            return trial
        return checkpoint.load(path, trial) or trial

    def _settings(self, key: Key) -> dict[str, Any]:
        space = planning.space_of(self.plan, key.variant)
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
            self._batches[batch] = learned(
                planning.space_of(self.plan, key.variant), planning.draw_seed(self.plan, key.variant), past
            )
        return self._batches[batch]

    def cell(self, variant: str, settings: Mapping[str, Any]) -> Cell:
        """The cell of a trial: that of its variant, with the toggles among its settings."""
        return cells.define(self.plan.variants[variant] | planning.toggles(self.plan, settings))

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

    def outcome(self, trial: Trial, engine: str, device: str) -> Outcome:
        """What is to be recorded of a trial that has ended."""
        result = result_of(trial, self.plan.dtype, self.plan.data_hash, engine, device)
        attributes = {"result": result, curves.CHECKSUM: curves.checksum(curves.encoded(trial.curve))}
        state = {Status.FINISHED: TrialState.COMPLETE, Status.DIVERGED: TrialState.PRUNED}[trial.status]
        return Outcome(trial.key.trial_id, state, result["valid_score"], attributes)

    def failure(self, key: Key, error: Exception, settings: Mapping[str, Any] | None = None) -> Outcome:
        """What is to be recorded of a trial that raised. Bad input would raise again; all else is tried once more."""
        result = dict(settings or {}) | {
            "seed": planning.trial_seed(self.plan, key.variant, key.number),
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
        states = [optuna.trial.TrialState(state) for state in ENDED]
        for variant in self.plan.variants:
            if left := set((self._checkpoints / variant).glob("*.npz")):
                study_id = self._storage.get_study_id_from_name(self._name(variant))
                for trial in self._storage.get_all_trials(study_id, deepcopy=False, states=states):
                    if (path := self._checkpoint(Key(variant, trial.number, trial._trial_id))) in left:
                        path.unlink(missing_ok=True)
        for part in ("checkpoints", "curves"):
            files.forget_unfinished(self.folder / part)

    def _planned(self) -> Iterator[Planned]:
        """All trials, the variants in turn."""
        spaces = {variant: planning.space_of(self.plan, variant) for variant in self.plan.variants}
        ids = {variant: study_id for study_id, variant in self._variants.items()}
        stored = {
            variant: [(d, d.stored, distribution_to_json(d.stored)) for d in space] for variant, space in spaces.items()
        }

        def drawn(variant: str, number: int) -> dict[str, tuple[float, str]]:
            if self.plan.learns:
                return {}
            own = self._samplers[variant]
            draws = [
                (own.draw(number, d.stored_name), d, distribution, text) for d, distribution, text in stored[variant]
            ]
            return {d.stored_name: (distribution.to_internal_repr(v), text) for v, d, distribution, text in draws}

        for number in range(self.plan.trials):
            for index, variant in enumerate(spaces):
                yield Planned(ids[variant], number, number * len(spaces) + index, partial(drawn, variant, number))

    def _create_optuna_study(self, variant: str) -> None:
        study = optuna.create_study(
            storage=self._storage, study_name=self._name(variant), direction="minimize", load_if_exists=True
        )
        if not study.user_attrs:
            with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
                study.set_metric_names([self.plan.score])
            study.set_user_attr("variant", self.plan.variants[variant])

    @cached_property
    def _variants(self) -> dict[int, str]:
        """The variants by the id of their Optuna study."""
        return {self._storage.get_study_id_from_name(self._name(variant)): variant for variant in self.plan.variants}

    @cached_property
    def _samplers(self) -> dict[str, NumberedSampler]:
        plan = self.plan
        return {
            v: NumberedSampler(plan.sampler, planning.space_of(plan, v), planning.draw_seed(plan, v))
            for v in plan.variants
        }

    def _checkpoint(self, key: Key) -> Path:
        return self._checkpoints / key.variant / f"{key.number:04}.npz"

    @property
    def _checkpoints(self) -> Path:
        return self.folder / "checkpoints" / self.plan.task["name"]
