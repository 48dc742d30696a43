"""A study: its plan, its folder, its storage, and the trials in it."""

import dataclasses
import fcntl
import hashlib
import itertools
import math
import os
import secrets
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.distributions import distribution_to_json
from optuna.trial import TrialState
from sqlalchemy import Engine

from search import cells, rules
from search.base import files
from search.base.keys import KINDS, NAME_EXPECTED, is_name, shown
from search.base.provenance import git_revision, versions
from search.base.randomness import derive_seed
from search.cells import Cell
from search.errors import UserError, expect, expect_whole, masked, one_line
from search.study import checkpoint, curves, register, tables
from search.study.leases import ENDED, Claim, Leases, Outcome, Planned, Record
from search.study.space import BATCH, LAYERS, REQUIRED, NumberedSampler, Past, Space, learned, n_grid_points, parse
from search.study.storage import (
    STATUS,
    TROUBLE,
    check_sound,
    connect,
    default_url,
    kept,
    parsed,
    patiently,
    reader,
    study_name,
)
from search.tasks.task import Task
from search.training.trial import Trial

PLAN_FILE = "study.yaml"
_EXAMPLES = {
    "variants": "a cell and its toggles, e.g. {cell: lstm, forget_gate: coupled}",
    "space": "a distribution, e.g. {distribution: uniform, low: 0, high: 1}, of which equal bounds fix the value",
}
ORIGIN_FILE = "origin"
REGISTERED = 3  # the first layout in which the storage knows the plan
_LOST = "this one has lost it, and its trials with it, unless you restore them; a new study=NAME begins anew"
_FOREIGN = "what is there was made from another folder, or its plan is lost; use another study=NAME"


@dataclass(frozen=True)
class Plan:
    """What a study is to compute. Two runs of one plan give the same results.

    Attributes:
        study: its name.
        task: the task's name and options.
        score: what the task's score is, with its unit.
        variants: definition of each variant by name, ``{"cell": ..., toggle: value}``.
        trials: per task and variant.
        epochs, patience: docs/protocol.md, 3.
        seed: of the study; every other random number derives from it.
        sampler: one of `search.base.keys.SAMPLERS`.
        space: distribution of each setting by name.
        dtype: ``float32`` or ``float64``.
        data_hash: SHA-256 of the task's data.
        paired: whether trial k of every variant has the same settings and the same seed, wherever the sampler does not
            learn. Plans of before there was this key are of studies whose variants were drawn apart.
        optimizer: definition of the update rule, as `search.rules.update` takes it. Plans of before there was this key
            are of studies of the rule that there was.
        storage: an Optuna storage URL without a password, or None for ``study.db`` in the study's folder.
        cells: of each variant the SHA-256 of its equations, and of ``rule:PATH`` that of an update rule of the user's
            own; empty in plans of before there was this key.
    """

    study: str
    task: dict[str, Any]
    score: str
    variants: dict[str, dict[str, Any]]
    trials: int
    epochs: int
    patience: int
    seed: int
    sampler: str
    space: dict[str, dict[str, Any]]
    dtype: str
    data_hash: str
    paired: bool = False
    optimizer: dict[str, Any] = dataclasses.field(default_factory=lambda: dict(rules.DEFAULT))
    storage: str | None = None
    cells: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("task", "variants", "space", "cells", "optimizer"):
            expect(isinstance(getattr(self, key), dict), key, shown(getattr(self, key)), "a mapping")
        for key, names in (
            ("study", [self.study]),
            ("task.name", [self.task.get("name")]),
            ("variants", self.variants),
        ):
            for name in names:  # of folders and of rows of the storage
                expect(is_name(name), key, shown(name), NAME_EXPECTED)
        for key in ("variants", "space"):
            for name, value in getattr(self, key).items():
                expect(isinstance(value, dict), f"{key}.{name}", shown(value), _EXAMPLES[key])
        for key in ("trials", "epochs", "patience", "seed", "sampler", "paired", "dtype", "storage"):
            KINDS[key].check(key, getattr(self, key))
        expect(
            isinstance(self.optimizer.get("rule"), str), "optimizer.rule", shown(self.optimizer.get("rule")), "a text"
        )
        for key in ("score", "data_hash"):
            expect(isinstance(getattr(self, key), str), key, shown(getattr(self, key)), "a text")
        expect(bool(self.variants), "variants", "[]", "at least one variant")

    def with_fingerprints(self) -> "Plan":
        """The plan with the fingerprints of its cells as they are now; see `check` for what it raises."""
        self.check()
        found = {name: self._fingerprint(name) for name in self.variants}
        if rules.is_own(self.optimizer):  # ours do not change
            equations = rules.rule(self.optimizer).program.signature
            found[f"rule:{self.optimizer['rule']}"] = hashlib.sha256(equations.encode()).hexdigest()
        return dataclasses.replace(self, cells=found)

    def _fingerprint(self, variant: str) -> str:
        """SHA-256 of the equations of a variant's cell, with every combination of what the space samples of it."""
        sampled = {d.name: d.values for d in self.space_of(variant) if d.name not in self._trained_by and d.values}
        combinations = [dict(zip(sampled, values, strict=True)) for values in itertools.product(*sampled.values())]
        text = [cells.define(self.variants[variant] | own).fingerprint for own in combinations]
        return hashlib.sha256("\n".join(text).encode()).hexdigest()

    def check(self) -> None:
        """Raises UserError unless every cell and every distribution of the plan can be made.

        Apart from the rest, because it loads the modules of users' cells: reading a study never does.
        """
        for name, definition in self.variants.items():
            cells.define(definition)
            if self.sampler == "grid":
                points = n_grid_points(self.space_of(name))
                expect(self.trials <= points, "trials", self.trials, f"at most {points}, the points of the grid")
            for dimension in self.space_of(name):
                if dimension.name not in self._trained_by:
                    for value in dimension.values or (dimension.value(dimension.low), dimension.value(dimension.high)):
                        cells.define(definition | {dimension.name: value})

    def space_of(self, variant: str) -> Space:
        """The search space, checked against the toggles of a variant's cell and the settings of the update rule."""
        rule = rules.rule(self.optimizer)
        legal = (*self._trained_by, *cells.toggles(cells.define(self.variants[variant])))
        required = (*REQUIRED, *rules.needed(self.optimizer))
        return parse(self.space, legal, required, lambda key, name, value: rules.check_value(rule, key, name, value))

    @property
    def _trained_by(self) -> tuple[str, ...]:
        """Names of the settings that are not the cell's."""
        return (*REQUIRED, *LAYERS, *rules.legal(rules.rule(self.optimizer)))

    def toggles(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Those settings of a trial that are toggles of its cell."""
        return {name: value for name, value in settings.items() if name not in self._trained_by}

    @property
    def learns(self) -> bool:
        """Whether the sampler is led by the scores of earlier trials."""
        return self.sampler == "tpe"

    @property
    def draws(self) -> str:
        """In words, how the settings of different variants belong together."""
        if self.paired and not self.learns:
            return "paired: trial k of every variant has the same settings and the same seed"
        seeds = ", with the same seeds" if self.paired else ""
        return f"unpaired: the settings of every variant are drawn apart{seeds}"

    def draw_seed(self, variant: str) -> int:
        """The seed of the sampler of one variant; the same for all where draws are paired.

        A setting's draws depend on this, on its own name and on the number of the trial, so that studies of one seed
        and task are paired with each other too, in all settings that they have in common (not with ``sampler=qmc``,
        whose points depend on the number of dimensions).
        """
        own = () if self.paired and not self.learns else (variant,)
        return derive_seed(self.seed, self.task["name"], *own)

    def trial_seed(self, variant: str, number: int) -> int:
        """The seed of a trial's weights and noise."""
        own = () if self.paired else (variant,)
        return derive_seed(self.seed, self.task["name"], *own, number)

    @property
    def total(self) -> int:
        """Planned trials over all variants."""
        return self.trials * len(self.variants)

    def changes(self, other: "Plan") -> dict[tuple[str, ...], tuple[Any, Any]]:
        """{path of a setting: (value here, value in `other`)} where they differ; "(absent)" where there is none."""
        mine, theirs = _flat(dataclasses.asdict(self)), _flat(dataclasses.asdict(other))
        both = {k: (mine.get(k, _ABSENT), theirs.get(k, _ABSENT)) for k in dict.fromkeys([*mine, *theirs])}
        return {key: values for key, values in both.items() if values[0] != values[1]}


_ABSENT = "(absent)"


def _flat(values: Mapping[str, Any], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    flat: dict[tuple[str, ...], Any] = {}
    for key, value in values.items():
        path = (*above, str(key))
        flat |= _flat(value, path) if isinstance(value, Mapping) else {path: value}
    return flat


@dataclass(frozen=True)
class Key:
    """Which trial of a study: its variant, its number, and its row in the storage."""

    variant: str
    number: int
    trial_id: int


class Study:
    """A study on disk and in its storage.

    In the storage there is one Optuna study for each task and variant, named ``STUDY/TASK/VARIANT``, with all planned
    trials: WAITING, RUNNING, COMPLETE (finished), PRUNED (diverged) or FAIL, with the attributes ``result`` and
    ``curve_sha256`` once they have ended; beside them the queue of `search.study.leases`, and the plan once more
    (`search.study.register`).
    In the folder are ``study.yaml`` (the plan), ``curves/TASK/VARIANT/NUMBER.parquet``, ``checkpoints``, ``workers``,
    ``report``, and, if the storage is elsewhere, ``origin``: the token by which it knows the folder.
    """

    def __init__(self, folder: Path, plan: Plan, storage: optuna.storages.RDBStorage | Engine):
        self.folder, self.plan, self._opened = folder, plan, storage
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
        known = layout, plan = _read(folder)
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
        plan.check()
        known = _read(folder) if (folder / PLAN_FILE).exists() else None
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
        origin = _origin(self.folder, make=not registered) if self.plan.storage else ""
        name = self.plan.study

        def decide(entry: register.Entry | None, has_trials: bool) -> register.Entry:
            if entry is None:
                expect(not registered, "study", name, f"a storage that has it; {_LOST}")
                foreign = known is None and (has_trials or (self.folder / "curves").exists())
                expect(not foreign, "study", name, f"a name without trials in {self._where}; {_FOREIGN}")
                return register.Entry.new(_registered(self.plan), origin)
            if entry.origin != origin:
                if known is None:
                    _forget_origin(self.folder)
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
        return dataclasses.replace(entry, plan=_registered(self.plan))

    def _stored(self, entry: register.Entry) -> Plan:
        where = f"study={self.plan.study} in {self._where}"
        return _checked(where, {"layout": entry.layout, "storage": self.plan.storage, **entry.plan})[1]

    @property
    def _where(self) -> str:
        return masked(self.plan.storage or default_url(self.folder))

    def _put_plan(self) -> None:
        present = {study.study_name: study for study in self._storage.get_all_studies()}
        for variant in self.plan.variants:
            known = present.get(self._name(variant))
            if known is None or not known.user_attrs:
                self._create_optuna_study(variant)
        self.leases.plan(self._planned())

    def counts(self) -> dict[str, dict[str, int]]:
        """For each variant the number of trials by status."""
        found = self.leases.counts()
        table = {}
        for variant in self.plan.variants:
            states = found.get(self._name(variant), {})
            row = {status: states.get(state, 0) for state, status in STATUS.items()}
            row["waiting"] += max(0, self.plan.trials - sum(row.values()))
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
            past = [Past(r, r["valid_score"] if r["status"] == "finished" else None) for r in results]
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

    def check_curves(self) -> None:
        """Reads the curves of all trials that have ended; logs and raises what `search.study.curves.read_all` does."""
        own = self.plan.task["name"]
        trials = {key: found for key, found in self.trials().items() if key[0] == own}
        for _ in curves.read_all(self.folder, trials):
            pass

    def outcome(self, trial: Trial, engine: str, device: str) -> Outcome:
        """What is to be recorded of a trial that has ended."""
        result = result_of(trial, self.plan.dtype, self.plan.data_hash, engine, device)
        attributes = {"result": result, curves.CHECKSUM: curves.checksum(curves.encoded(trial.curve))}
        state = {"finished": TrialState.COMPLETE, "diverged": TrialState.PRUNED}[trial.status]
        return Outcome(trial.key.trial_id, state, result["valid_score"], attributes)

    def failure(self, key: Key, error: Exception, settings: Mapping[str, Any] | None = None) -> Outcome:
        """What is to be recorded of a trial that raised. Bad input would raise again; all else is tried once more."""
        result = dict(settings or {}) | {
            "seed": self.plan.trial_seed(key.variant, key.number),
            "status": "failed",
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

    def _planned(self) -> Iterator[Planned]:
        """All trials, the variants in turn."""
        spaces = {variant: self.plan.space_of(variant) for variant in self.plan.variants}
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


def result_of(trial: Trial, dtype: str, data_hash: str, engine: str, device: str) -> dict[str, Any]:
    """All that is kept of a trial, by the names of the columns of `analysis.load`; JSON has no NaN, so None is none."""
    result = dict(trial.settings) | {
        "seed": trial.member.seed,
        "status": trial.status,
        "valid_score": trial.valid_score,
        "test_score": trial.test_score,
        "best_epoch": trial.best_epoch,
        "epochs": trial.member.epoch,
        "last_valid_score": trial.curve[-1][1] if trial.curve else math.nan,
        "train_seconds": trial.train_seconds,
        "n_parameters": trial.member.network.n_parameters,
        "engine": engine,
        "device": device,
        "dtype": dtype,
        "data_hash": data_hash,
        "git_revision": git_revision(),
        "versions": versions(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in result.items()}


def find(study: str | Path, runs: str | Path) -> Path:
    """The folder of a study, given as a name under `runs` or as a path.

    Raises:
        UserError: there is no such study; the text lists those that there are.
    """
    for folder in (Path(runs) / study, Path(study)):
        if (folder / PLAN_FILE).is_file():
            return folder
    known = sorted(path.parent.name for path in Path(runs).glob(f"*/{PLAN_FILE}"))
    names = f"one of {', '.join(known)}" if known else f"none in {runs} yet; run odyssey sweep first"
    raise UserError(f"study={study}: no study in {Path(runs) / study}; expected {names}")


def read_plan(folder: Path) -> Plan:
    """The plan of an existing study.

    Raises:
        UserError: it cannot be read.
    """
    return _read(folder)[1]


def _read(folder: Path) -> tuple[int, Plan]:
    """The layout and the plan of an existing study."""
    path = folder / PLAN_FILE
    try:
        return _checked(str(path), yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, OSError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected the plan of a study ({one_line(error)})") from error


def _checked(where: str, values: Any) -> tuple[int, Plan]:
    """The layout and the plan that are kept in `where`. Before there was a key for it, the layout was 1 or 2."""
    try:
        expect(isinstance(values, dict), "it", shown(values), "a mapping")
        layout = values.pop("layout", REGISTERED - 1)
        expect_whole("layout", layout, 1)
        newer = layout > tables.LAYOUT
        if not newer:
            return layout, Plan(**values)
    except (TypeError, ValueError, UserError) as error:
        raise UserError(f"{where}: expected the plan of a study ({one_line(error)})") from error
    raise UserError(f"{where}: of layout {layout}, from a newer odyssey; this one reads up to {tables.LAYOUT}")


def _registered(plan: Plan) -> dict[str, Any]:
    """What a storage keeps of a plan: all but its own URL."""
    return {key: value for key, value in dataclasses.asdict(plan).items() if key != "storage"}


def _origin(folder: Path, make: bool) -> str:
    """What a study's folder calls itself in a storage that others may share. The token moves and is copied with it."""
    path = folder / ORIGIN_FILE
    if not make and not path.exists():
        return ""
    with open(path, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        token = file.read()
        if not token:
            token = secrets.token_hex(16)
            file.write(token)
            file.flush()
            os.fsync(file.fileno())
    return token


def _forget_origin(folder: Path) -> None:
    """Undoes what `_origin` has made in a folder that turned out to be no study's."""
    (folder / ORIGIN_FILE).unlink(missing_ok=True)
    with suppress(OSError):  # there is more in it
        folder.rmdir()


def storage_url(folder: Path, plan: Plan, named: str | None) -> str:
    """URL of the storage of a study.

    A plan may come from anyone. It opens no file but one in its own folder, and no server: what else it names must be
    named by the user too, who thereby trusts it with a password.

    Args:
        folder: of the study.
        plan: of the study.
        named: the storage that the user named, or None.

    Raises:
        UserError: the plan keeps the study elsewhere than in its folder, and the user did not name that place.
    """
    if plan.storage is None and named is None:
        return default_url(folder)
    planned = parsed(plan.storage or default_url(folder))
    inside = planned.get_backend_name() == "sqlite" and Path(str(planned.database)).is_relative_to(folder.resolve())
    own = masked(planned.render_as_string())
    if named is None:
        if not inside:
            raise UserError(f"{folder}: its plan says that it is kept in {own}; expected storage=URL, to open that")
    else:
        expect(parsed(kept(named)) == planned, "storage", masked(named), f"that of the study's plan, {own}")
    return planned.render_as_string()


def refuse_unless_grown(old: Plan, new: Plan) -> None:
    """Lets a study grow by trials and by variants, in which those that it has are as they were.

    Raises:
        UserError: `new` differs in more; the text says in what.
    """

    def sound(path: tuple[str, ...]) -> bool:
        match path:
            case ("trials",):
                return new.trials > old.trials
            case ("variants", name, *_):
                return name not in old.variants
            case ("cells", name):
                return name not in old.cells
            case ("storage",):
                return bool(old.storage and new.storage) and parsed(str(old.storage)) == parsed(str(new.storage))
        return False

    changes = {path: values for path, values in old.changes(new).items() if not sound(path)}
    if changes:
        texts = [
            f"the equations of {path[1]} have been edited"
            if path[0] == "cells"
            else f"{'.'.join(path)}: {was} -> {now}"
            for path, (was, now) in changes.items()
        ]
        hint = "use another study=NAME, or the old settings (a study may only grow: more trials, more variants)"
        raise UserError(f"study={new.study}: exists with another plan: {'; '.join(texts)}; {hint}")
