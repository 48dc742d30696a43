"""A study: its plan, its folder, its storage, and the trials in it."""

import dataclasses
import fcntl
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import yaml
from optuna.trial import TrialState

from search import cells, checkpoint, files
from search.cells import Cell
from search.errors import UserError, expect
from search.provenance import git_revision, versions
from search.randomness import derive_seed
from search.space import REQUIRED, SAMPLERS, Space, n_grid_points, parse, sampler
from search.storage import STATUS, connect, default_url, one_line, study_name
from search.tasks.task import Task
from search.training import Trial

PLAN_FILE = "study.yaml"
DTYPES = ("float32", "float64")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a study is to compute. Two runs of one plan give the same results.

    Attributes:
        study: its name.
        task: the task's name and options.
        score: what the task's score is, with its unit.
        variants: definition of each variant by name, ``{"cell": ..., toggle: value}``.
        trials: per task and variant.
        epochs, patience: PROTOCOL section 3.
        seed: of the study; every other random number derives from it.
        sampler: one of `search.space.SAMPLERS`.
        space: distribution of each setting by name.
        dtype: ``float32`` or ``float64``.
        data_hash: SHA-256 of the task's data.
        storage: an Optuna storage URL, or None for ``study.db`` in the study's folder.
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
    storage: str | None = None

    def __post_init__(self) -> None:
        for key in ("trials", "epochs", "patience"):
            value = getattr(self, key)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            expect(whole, key, value, "a whole number of at least 1")
        expect(isinstance(self.seed, int) and self.seed >= 0, "seed", self.seed, "a whole number of at least 0")
        expect(self.sampler in SAMPLERS, "sampler", self.sampler, f"one of {', '.join(SAMPLERS)}")
        expect(self.dtype in DTYPES, "dtype", self.dtype, f"one of {', '.join(DTYPES)}")
        expect(bool(self.variants), "variants", "[]", "at least one variant")

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
                for value in dimension.values if dimension.name not in REQUIRED else ():
                    cells.define(definition | {dimension.name: value})

    def space_of(self, variant: str) -> Space:
        """The search space, checked against the toggles of a variant's cell."""
        return parse(self.space, (*REQUIRED, *cells.toggles(cells.define(self.variants[variant]))))

    @property
    def total(self) -> int:
        """Planned trials over all variants."""
        return self.trials * len(self.variants)

    def differences(self, other: "Plan") -> list[str]:
        """``key: old -> new`` for each setting in which `other` differs."""
        mine, theirs = _flat(dataclasses.asdict(self)), _flat(dataclasses.asdict(other))
        keys = dict.fromkeys([*mine, *theirs])
        absent = "(absent)"
        return [
            f"{k}: {mine.get(k, absent)} -> {theirs.get(k, absent)}"
            for k in keys
            if mine.get(k, absent) != theirs.get(k, absent)
        ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


@dataclass(frozen=True)
class Key:
    """Which trial of a study: its variant, its number, and its row in the storage."""

    variant: str
    number: int
    trial_id: int


class Study:
    """A study on disk and in its storage.

    In the storage there is one Optuna study for each task and variant, named ``STUDY/TASK/VARIANT``, whose trials
    are RUNNING, COMPLETE (finished), PRUNED (diverged) or FAIL, and have the attribute ``result`` once they have ended.
    In the folder are ``study.yaml`` (the plan), ``curves/TASK/VARIANT/NUMBER.parquet``, ``checkpoints`` and ``report``.
    """

    def __init__(self, folder: Path, plan: Plan, storage: optuna.storages.RDBStorage):
        self.folder, self.plan, self._storage = folder, plan, storage

    @staticmethod
    def open(folder: Path) -> "Study":
        """An existing study, to be read.

        Raises:
            UserError: there is none in `folder`, or its plan or storage cannot be read.
        """
        plan = read_plan(folder)
        return Study(folder, plan, connect(plan.storage or default_url(folder), read_only=True))

    @staticmethod
    def create(folder: Path, plan: Plan, extend: bool = False) -> "Study":
        """A new study, or the existing one of the same plan.

        Args:
            folder: of the study.
            plan: what it is to compute.
            extend: whether the plan may raise the number of trials.

        Raises:
            UserError: the plan is impossible, or the folder holds a study of another plan; the text lists the
                differences.
        """
        plan.check()
        storage = connect(plan.storage) if plan.storage else None  # before anything is written
        try:
            if (folder / PLAN_FILE).exists():
                _check_same(read_plan(folder), plan, extend)
            folder.mkdir(parents=True, exist_ok=True)
            study = Study(folder, plan, storage or connect(plan.storage or default_url(folder)))
            files.write(folder / PLAN_FILE, yaml.safe_dump(dataclasses.asdict(plan), sort_keys=False))
        except OSError as error:
            raise UserError(f"{folder}: expected a folder that can be written to ({error.strerror})") from error
        for variant in plan.variants:
            study._create_optuna_study(variant)
        return study

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the study against a second run of it in another process.

        Raises:
            UserError: another process holds it.
        """
        with open(self._lock, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{self.folder}: expected no other run of this study, but one is going on") from None
            yield

    def in_use(self) -> bool:
        """Whether a process is running this study now."""
        if not self._lock.exists():
            return False
        with open(self._lock) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    @property
    def _lock(self) -> Path:
        return self.folder / ".lock"

    def counts(self) -> dict[str, dict[str, int]]:
        """For each variant the number of trials by status; those not begun are ``waiting``."""
        table = {}
        for variant in self.plan.variants:
            states = [STATUS[trial.state] for trial in self._trials(variant)]
            row = {status: states.count(status) for status in STATUS.values()}
            row["waiting"] += max(0, self.plan.trials - len(states))
            table[variant] = row
        return table

    def trials(self, task: Task) -> Iterator[Trial]:
        """The trials still to be trained: interrupted ones where they stood, then new ones, the variants in turn."""
        studies = {variant: self._sampled(variant) for variant in self.plan.variants}
        begun = {variant: self._trials(variant) for variant in studies}
        for variant, study in studies.items():
            for frozen in begun[variant]:
                if frozen.state == TrialState.RUNNING:
                    yield from self._resumed(variant, study, frozen, task)
        for number in range(self.plan.trials):
            for variant, study in studies.items():
                if len(begun[variant]) <= number:
                    yield from self._prepared(variant, study.ask(), task)

    def _resumed(
        self, variant: str, study: optuna.Study, frozen: optuna.trial.FrozenTrial, task: Task
    ) -> Iterator[Trial]:
        if "result" in frozen.user_attrs:  # killed between writing the result and closing the trial
            self._close(Key(variant, frozen.number, frozen._trial_id), frozen.user_attrs["result"])
            return
        for trial in self._prepared(variant, optuna.trial.Trial(study, frozen._trial_id), task):
            path = self._checkpoint(trial.key)
            saved = checkpoint.load(path, trial)
            if saved is None and path.with_suffix(".broken").exists():
                log.warning("%s: not a sound checkpoint; set aside, trial %d starts again", path, trial.key.number)
            yield saved or trial

    def _prepared(self, variant: str, asked: optuna.trial.Trial, task: Task) -> Iterator[Trial]:
        """The trial with its settings drawn; nothing if its settings make no cell, which closes it as failed."""
        key = Key(variant, asked.number, asked._trial_id)
        settings = {}
        for dimension in self.plan.space_of(variant):
            settings[dimension.name] = dimension.suggest(asked)
        seed = derive_seed(self.plan.seed, self.plan.task["name"], variant, key.number)
        try:
            yield Trial.new(key, self.cell(variant, settings), settings, seed, task, self.plan.dtype)
        except UserError as error:
            self._close(key, settings | {"seed": seed, "status": "failed", "error": str(error)})

    def cell(self, variant: str, settings: Mapping[str, Any]) -> Cell:
        """The cell of a trial: that of its variant, with the toggles among its settings."""
        own = {name: value for name, value in settings.items() if name not in REQUIRED}
        return cells.define(self.plan.variants[variant] | own)

    def save(self, trials: list[Trial]) -> None:
        """Writes checkpoints of trials under way."""
        for trial in trials:
            if trial.curve:
                checkpoint.save(self._checkpoint(trial.key), trial)

    def finish(self, trial: Trial, engine: str, device: str) -> None:
        """Records a trial that has ended: first its curve, then its result; then its checkpoint goes."""
        columns = pd.DataFrame(trial.curve, columns=["train_loss", "valid_score"])
        columns.insert(0, "epoch", range(1, len(columns) + 1))
        buffer = BytesIO()
        columns.to_parquet(buffer, index=False)
        files.write(self.curve_path(trial.key), buffer.getvalue())
        result = result_of(trial, self.plan.dtype, self.plan.data_hash, engine, device)
        self._close(trial.key, result)
        self._checkpoint(trial.key).unlink(missing_ok=True)

    def _close(self, key: Key, result: dict[str, Any]) -> None:
        self._storage.set_trial_user_attr(key.trial_id, "result", result)
        state = {"finished": TrialState.COMPLETE, "diverged": TrialState.PRUNED, "failed": TrialState.FAIL}
        score = result.get("valid_score")
        # A diverged trial keeps its score in Optuna too, except that none means none.
        values = [score] if score is not None and result["status"] != "failed" else None
        self._storage.set_trial_state_values(key.trial_id, state[result["status"]], values)

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

    def _trials(self, variant: str) -> list[optuna.trial.FrozenTrial]:
        return self._storage.get_all_trials(self._storage.get_study_id_from_name(self._name(variant)), deepcopy=False)

    def _sampled(self, variant: str) -> optuna.Study:
        """The Optuna study of a variant, with the plan's sampler."""
        plan = self.plan
        seed = derive_seed(plan.seed, plan.task["name"], variant)
        return optuna.load_study(
            study_name=self._name(variant),
            storage=self._storage,
            sampler=sampler(plan.sampler, plan.space_of(variant), seed),
        )

    def _checkpoint(self, key: Key) -> Path:
        return self.folder / "checkpoints" / self.plan.task["name"] / key.variant / f"{key.number:04}.npz"

    def curve_path(self, key: Key) -> Path:
        """Where the learning curve of a trial is kept."""
        return self.folder / "curves" / self.plan.task["name"] / key.variant / f"{key.number:04}.parquet"


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
    path = folder / PLAN_FILE
    try:
        return Plan(**yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, OSError, TypeError, ValueError, UserError) as error:
        raise UserError(f"{path}: expected the plan of a study ({one_line(error)})") from error


def _check_same(old: Plan, new: Plan, extend: bool) -> None:
    grown = dataclasses.replace(old, trials=new.trials) if extend and new.trials >= old.trials else old
    differences = grown.differences(new)
    if differences:
        hint = "use another study=NAME, or the old settings" + ("" if extend else " (extend=true may raise trials)")
        raise UserError(f"study={new.study}: exists with another plan: {'; '.join(differences)}; {hint}")
