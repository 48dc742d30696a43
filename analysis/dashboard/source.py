"""Studies as they stand, read again by what is new in them, through connections that cannot write."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy

from analysis import evolution
from analysis.dashboard.figure import plain
from analysis.evolution import Evolution
from analysis.load import CURVE, Studies, expect_different, folders_of, rows, tidy
from search.errors import UserError, expect, masked, one_line
from search.evolve import lineage
from search.evolve import settings as kept_settings
from search.run.status import ENDED, ENOUGH, RECENT
from search.study.archive import RECORD_FILE, Archive
from search.study.claims import Record
from search.study.curves import has_one
from search.study.news import News
from search.study.plan import PLAN_FILE, Plan, storage_url
from search.study.reader import StudyReader
from search.study.storage import parsed

Key = tuple[str, str, str, int]  # study, task, variant, number


@dataclass(frozen=True)
class Opened:
    """One study, and what of it is known."""

    folder: Path
    study: StudyReader
    news: News
    files: tuple[int, ...]

    @property
    def plan(self) -> Plan:
        return self.study.plan


@dataclass(frozen=True)
class Evolved:
    """The evolutions that studies are of.

    Attributes:
        of: the folder of an evolution, by the name of a study of it.
        found: by folder.
        written: when their records were.
    """

    of: Mapping[str, Path]
    found: Mapping[Path, Evolution]
    written: Sequence[int]


class Source:
    """One or more studies. Every method may be called from any thread.

    Attributes:
        version: rises with every look that finds something new.
        edition: rises where that is more than trials: a study that has grown or begun, a generation that is complete.
        trouble: what kept the last look from reading the storage; empty if nothing did.
    """

    def __init__(self, study: Studies, runs: str | Path = "runs", storage: str | None = None):
        """Opens and reads them; raises UserError as `analysis.load` does.

        Args:
            study, runs, storage: as of `analysis.load`; an evolution is all of its studies, those to come too.
        """
        self._given, self._runs, self._storage = study, runs, storage
        self._lock = threading.RLock()
        self._opened: list[Opened] = []
        self._curves: dict[Key, np.ndarray] = {}
        self._frame: tuple[int, pd.DataFrame] | None = None
        self.version, self.edition, self.trouble = 0, 0, ""
        self._evolved = Evolved({}, {}, [])
        self._changed: dict[Key, int] = {}
        self._open()

    @property
    def plans(self) -> dict[str, Plan]:
        """By the name of the study."""
        return {one.plan.study: one.plan for one in self._opened}

    @property
    def folders(self) -> dict[str, Path]:
        """By the name of the study."""
        return {one.plan.study: one.folder for one in self._opened}

    @property
    def evolutions(self) -> list[Evolution]:
        """Those that the studies are of."""
        return list(self._evolved.found.values())

    def evolution(self, study: str) -> Evolution | None:
        """That which a study is of, if any."""
        own = self._evolved  # once, for another thread may put another in its place
        place = own.of.get(study)
        return own.found[place] if place else None

    @property
    def frame(self) -> pd.DataFrame:
        """As of `analysis.load`."""
        with self._lock:
            if self._frame is None or self._frame[0] != self.version:
                studies = [(one.plan, _listed(one.news.trials)) for one in self._opened]
                self._frame = self.version, tidy(studies)
            return self._frame[1]

    def look(self) -> int:
        """Reads what is new; returns the version. One that cannot be read leaves all as it was, with `trouble`."""
        with self._lock:
            try:
                stood = all(map(self._stands, self._opened))
                if not stood or (self._evolved.found and self._places() != [one.folder for one in self._opened]):
                    self._open()
                elif _records(self._evolved.found) != self._evolved.written:
                    self._take(_evolved(self._opened))
                    self.version += 1
                changed = [(one.plan.study, *key) for one in self._opened for key in one.news.look()]
                self.trouble = ""
            except (UserError, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
                self.trouble = one_line(error) if not isinstance(error, UserError) else str(error)
                return self.version
            if changed:
                self.version += 1
                self._changed |= dict.fromkeys(changed, self.version)
            return self.version

    def rows(self, since: int) -> list[dict[str, Any]]:
        """The trials that are not as they were at a version, each as a row of `analysis.load`, in JSON; what is
        missing of one is not in it."""
        with self._lock:
            found = []
            for study, task, variant, number in (key for key, version in self._changed.items() if version > since):
                one = next(each for each in self._opened if each.plan.study == study)
                record = one.news.trials.get((task, variant), {}).get(number)
                waits = range(number, number + 1) if record is None else range(0)
                (row,) = rows(study, task, variant, waits, [record] if record else [])
                found.append(
                    {name: masked(value) if name == "error" and value else plain(value) for name, value in row.items()}
                )
            return found

    def records(self) -> list[tuple[Plan, Mapping[tuple[str, str], Mapping[int, Record]]]]:
        """Of each study its plan and its trials, as of `search.study.news.News`, to be read at once."""
        with self._lock:
            return [(one.plan, {key: dict(trials) for key, trials in one.news.trials.items()}) for one in self._opened]

    def work(self) -> list[dict[str, Any]]:
        """Of each study its pace, the time left, and its workers; nothing of one whose storage cannot be read."""
        found = []
        with self._lock:
            for one in self._opened:
                try:
                    peers = one.study.leases.peers()
                    recent, seconds = one.study.leases.pace(RECENT)
                    ended = sum(
                        row[s]
                        for key, row in one.news.counts().items()
                        for s in ENDED
                        if key[0] == one.plan.task["name"]
                    )
                except (UserError, sqlalchemy.exc.SQLAlchemyError, OSError):
                    continue
                left = max(0, one.plan.total - ended)
                per_hour = 3600 * recent / seconds if recent and peers and seconds >= ENOUGH else None
                found.append(
                    {
                        "study": one.plan.study,
                        "by": "odyssey evolve" if self.evolution(one.plan.study) else "odyssey sweep",
                        "ended": ended,
                        "planned": one.plan.total,
                        "per_hour": per_hour,
                        "seconds_left": 3600 * left / per_hour if per_hour and left else None,
                        "workers": [
                            {
                                "worker": p.worker,
                                "device": p.device,
                                "running": p.held,
                                "ended": p.ended,
                                "seen": p.age,
                                "joined": p.joined,
                            }
                            for p in peers
                        ],
                    }
                )
        return found

    def record(self, key: Key) -> Record | None:
        """What the storage has of a trial; None of one that has not begun."""
        study, task, variant, number = key
        news = next((each.news for each in self._opened if each.plan.study == study), None)
        return news.trials.get((task, variant), {}).get(number) if news else None

    def curves(self, trials: pd.DataFrame) -> pd.DataFrame:
        """As of `analysis.load_curves`, of these trials; those without a file are left out.

        Raises:
            UserError: a curve is not what its trial has recorded.
        """
        parts = []
        for study, task, variant, number in zip(*(trials[name] for name in CURVE[:4]), strict=True):
            curve = self.curve((str(study), str(task), str(variant), int(number)))
            if curve is not None and len(curve):
                parts.append((study, task, variant, int(number), curve))
        if not parts:
            return pd.DataFrame(columns=list(CURVE)).astype({"trial": "int64", "epoch": "int64", "valid_score": float})
        lengths = [len(part[4]) for part in parts]
        frame = pd.DataFrame(
            {name: np.repeat([str(part[i]) for part in parts], lengths) for i, name in enumerate(CURVE[:3])}
        )
        frame["trial"] = np.repeat([part[3] for part in parts], lengths)
        frame["epoch"] = np.concatenate([np.arange(1, length + 1) for length in lengths])
        frame[["train_loss", "valid_score"]] = np.concatenate([part[4] for part in parts])
        return frame.astype({name: trials[name].dtype for name in ("task", "variant")})

    def curve(self, key: Key) -> np.ndarray | None:
        """Training loss and validation score by epoch, [E, 2], of a trial that is finished or has diverged; None if it
        has none.

        Raises:
            UserError: as `curves`.
        """
        if key in self._curves:
            return self._curves[key]
        study, task, variant, _ = key
        record = self.record(key)
        if record is None or not has_one(record):
            return None
        table = next(one.study for one in self._opened if one.plan.study == study).curve(task, variant, record)
        if table is None:
            return None
        self._curves[key] = np.stack([table.column(name).to_numpy() for name in ("train_loss", "valid_score")], axis=1)
        return self._curves[key]

    def close(self) -> None:
        """Lets go of the storages."""
        for one in self._opened:
            one.study.close()

    def _open(self) -> None:
        """Opens what is not open, or not as it was."""
        stand = {one.folder: one for one in self._opened if self._stands(one)}
        with ExitStack() as unless_whole:
            opened = []
            for folder in self._places():
                opened.append(stand.get(folder) or self._read(folder))
                if folder not in stand:
                    unless_whole.callback(opened[-1].study.close)
            expect_different([one.plan.study for one in opened])
            evolved = _evolved(opened)
            unless_whole.pop_all()
        anew = [one for one in opened if one.folder not in stand]
        for one in self._opened:
            if one not in opened:
                one.study.close()
        self._opened, self.version = opened, self.version + 1
        known = {one.plan.study for one in stand.values()}
        self._curves = {key: curve for key, curve in self._curves.items() if key[0] in known}
        self._changed = {key: version for key, version in self._changed.items() if key[0] in known} | {
            (one.plan.study, *key, n): self.version
            for one in anew
            for key, each in one.news.trials.items()
            for n in each
        }
        self._take(evolved)

    def _places(self) -> list[Path]:
        return folders_of(evolution.with_studies(self._given, self._runs), self._runs)

    def _read(self, folder: Path) -> Opened:
        study = StudyReader.open(folder, storage=self._storage)
        with ExitStack() as unless_whole:
            unless_whole.callback(study.close)
            news = News(study)
            try:
                news.look()
            except sqlalchemy.exc.SQLAlchemyError as error:
                text = f"storage of {folder}: expected a readable Optuna storage ({one_line(error)})"
                raise UserError(text) from None
            trials = study.plan.total + sum(map(len, news.trials.values()))
            expect(trials > 0, str(folder), "0 trials", "a plan of at least one trial")
            found = Opened(folder, study, news, self._files(folder, study.plan))
            unless_whole.pop_all()
        return found

    def _take(self, evolved: Evolved) -> None:
        self._evolved, self.edition = evolved, self.edition + 1

    def _stands(self, one: Opened) -> bool:
        """Whether it has neither grown nor had another storage put in its place."""
        return self._files(one.folder, one.plan) == one.files

    def _files(self, folder: Path, plan: Plan) -> tuple[int, ...]:
        """Which files the plan and, with SQLite, the storage are."""
        if Archive.of(folder):
            return ((folder / RECORD_FILE).stat().st_mtime_ns,)
        written = (folder / PLAN_FILE).stat().st_mtime_ns
        where = parsed(storage_url(folder, plan, self._storage))
        if where.get_backend_name() != "sqlite":
            return (written,)
        found = Path(str(where.database)).stat()
        return written, found.st_dev, found.st_ino


def _listed(trials: Mapping[tuple[str, str], Mapping[int, Record]]) -> dict[tuple[str, str], list[Record]]:
    return {key: list(each.values()) for key, each in trials.items()}


def _evolved(opened: Iterable[Opened]) -> Evolved:
    """Reads the records of the evolutions that studies are of."""
    places = {one.plan.study: evolution.of_study(one.folder) for one in opened}
    of = {study: place for study, place in places.items() if place}
    written = _records(dict.fromkeys(of.values()))  # before they are read
    return Evolved(of, {place: evolution.read(place) for place in dict.fromkeys(of.values())}, written)


def _records(evolutions: Iterable[Path]) -> list[int]:
    """When the records of evolutions were written."""
    return [(place / name).stat().st_mtime_ns for place in evolutions for name in (lineage.FILE, kept_settings.FILE)]
