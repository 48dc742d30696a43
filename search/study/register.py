"""Which plan a storage holds under the name of a study, and which folder that study belongs to."""

import dataclasses
import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, Engine, select

from search.study.tables import LAYOUT, PLANS, STUDIES, writing

ORIGIN_FILE = "origin"
GROWING = "trials"  # the one setting that may change


@dataclass(frozen=True)
class Entry:
    """What a storage knows of a study.

    Attributes:
        plan: its settings, without the storage's own URL.
        origin: the token of the study's folder, empty if the storage is in that folder.
        layout: see `search.study.tables.LAYOUT`.
        hash: SHA-256 of those settings that may never change, as they were when the study was made.
    """

    plan: Mapping[str, Any]
    origin: str
    layout: int
    hash: str

    @staticmethod
    def new(plan: Mapping[str, Any], origin: str) -> "Entry":
        fixed = {key: value for key, value in plan.items() if key != GROWING}
        digest = hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()
        return Entry(plan, origin, LAYOUT, digest)


def find(engine: Engine, study: str) -> Entry | None:
    """What the storage knows of a study; None also if it was last used by an older version."""
    with engine.connect() as db:
        return _find(db, study) if sqlalchemy.inspect(db).has_table(PLANS.name) else None


def settle(engine: Engine, study: str, decide: Callable[[Entry | None, bool], Entry]) -> Entry:
    """Puts a study into the storage, or changes what is there, in one transaction.

    Args:
        engine: of the storage, which has our tables.
        study: its name.
        decide: given what the storage knows of the study, and whether Optuna knows it, returns what it
            is to know, or raises.
    """
    try:
        return _settled(engine, study, decide)
    except sqlalchemy.exc.IntegrityError:  # PostgreSQL: another process has put it there at this moment
        return _settled(engine, study, decide)


def _settled(engine: Engine, study: str, decide: Callable[[Entry | None, bool], Entry]) -> Entry:
    with writing(engine) as db:
        known = _find(db, study, changing=True)
        new = decide(known, _is_known(db, study))
        values = dataclasses.asdict(new) | {"plan": json.dumps(dict(new.plan))}
        if known is None:
            db.execute(sqlalchemy.insert(PLANS).values(study=study, **values))
        elif new != known:
            db.execute(sqlalchemy.update(PLANS).where(PLANS.c.study == study).values(values))
        return new


def _find(db: Connection, study: str, changing: bool = False) -> Entry | None:
    query = select(PLANS.c.plan, PLANS.c.origin, PLANS.c.layout, PLANS.c.hash).where(PLANS.c.study == study)
    # PostgreSQL: of two that would change it the second waits, and sees what the first has made of it.
    row = db.execute(query.with_for_update() if changing else query).one_or_none()
    return Entry(json.loads(row.plan), row.origin, row.layout, row.hash) if row else None


def _is_known(db: Connection, study: str) -> bool:
    own = sqlalchemy.func.substr(STUDIES.c.study_name, 1, len(study) + 1) == f"{study}/"
    return db.execute(select(STUDIES.c.study_id).where(own).limit(1)).first() is not None


def origin(folder: Path, make: bool) -> str:
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


def forget_origin(folder: Path) -> None:
    """Undoes what `origin` has made in a folder that turned out to be no study's."""
    (folder / ORIGIN_FILE).unlink(missing_ok=True)
    with suppress(OSError):  # there is more in it
        folder.rmdir()
