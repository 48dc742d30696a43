"""The Optuna storage behind a study: how it is opened, and what stands in it."""

import importlib.util
import os
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import Connection

from search.errors import UserError, expect, masked, one_line

STATUS = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "diverged",  # Optuna's word for a trial that was stopped early
    TrialState.FAIL: "failed",
}
BACKENDS = ("sqlite", "postgresql")
# Errors of a storage or a disk that may pass: no connection, a lock, a full disk.
TROUBLE = (
    sqlalchemy.exc.OperationalError,
    sqlalchemy.exc.InterfaceError,
    optuna.exceptions.StorageInternalError,
    OSError,
)
SQLITE_TIMEOUT = 60  # seconds to wait for another writer
PREPARING = 60.0  # seconds of trying to put what is missing into a storage
_DUPLICATE_TABLE = "42P07"  # PostgreSQL's code
T = TypeVar("T")
# A server that is gone without a word is noticed within half a minute.
_POSTGRESQL = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "application_name": "odyssey",
}
optuna.logging.set_verbosity(optuna.logging.WARNING)


def study_name(study: str, task: str, variant: str) -> str:
    """Name in the storage of the Optuna study of one task and variant."""
    return f"{study}/{task}/{variant}"


def default_url(folder: Path) -> str:
    """URL of the storage in a study's folder."""
    return sqlalchemy.URL.create("sqlite", database=str((folder / "study.db").resolve())).render_as_string()


def parsed(url: str) -> sqlalchemy.URL:
    """A storage's URL in its parts, the file of SQLite as an absolute path.

    Raises:
        UserError: it is no URL of a storage that can be used.
    """
    expected = "sqlite:///FILE or postgresql://USER@HOST/DATABASE"
    try:
        found = sqlalchemy.make_url(url)
        backend = found.get_backend_name()
    except (sqlalchemy.exc.ArgumentError, sqlalchemy.exc.NoSuchModuleError, ValueError):
        raise UserError(f"storage={masked(url)}: expected {expected}") from None
    expect(backend in BACKENDS and bool(found.database), "storage", masked(url), expected)
    if backend == "postgresql":
        return found
    expect(found.database != ":memory:", "storage", url, "a file, as a study outlives its process")
    return found.set(database=os.path.realpath(str(found.database)))


def kept(url: str) -> str:
    """A storage URL fit to be kept: its password, if it has one, goes to PGPASSWORD, where the driver looks for it.

    Raises:
        UserError: as of `parsed`.
    """
    found = parsed(url)
    query = dict(found.query)
    password = query.pop("password", None) or found.password
    if password is not None:
        os.environ["PGPASSWORD"] = str(password)
    where = {name: getattr(found, name) for name in ("drivername", "username", "host", "port", "database")}
    return sqlalchemy.URL.create(**where, query=query).render_as_string()


def connect(url: str, read_only: bool = False) -> RDBStorage:
    """Opens a storage.

    Args:
        url: of SQLite or PostgreSQL, as SQLAlchemy takes it.
        read_only: opens SQLite without the right to write, so that a missing or broken file stays what it is.

    Raises:
        UserError: names the URL, without user and password.
    """
    try:
        where = parsed(url)
        if where.get_backend_name() == "postgresql":
            return _postgresql(where)
        if read_only:
            path = str(where.database)
            expect(Path(path).is_file(), "storage", path, "a file; it does not exist")
            try:
                return _sqlite(_existing(path, "ro"))
            except sqlalchemy.exc.OperationalError as error:
                if "readonly" not in str(error):
                    raise
                # A writer was killed; before anyone can read, what it had begun must be tidied up in the file.
                return _sqlite(_existing(path, "rw"))
        storage = _sqlite(where)
        if not read_only:
            sqlalchemy.event.listen(storage.engine, "connect", _write_ahead)
            sqlalchemy.event.listen(storage.engine, "begin", _begin)
            storage.engine.dispose()  # of connections made before
        return storage
    except UserError:
        raise
    except Exception as error:  # SQLAlchemy, its drivers and alembic each have exceptions of their own
        raise UserError(f"storage={masked(url)}: expected a readable Optuna storage ({one_line(error)})") from error


def _existing(path: str, mode: str) -> sqlalchemy.URL:
    """URL of an SQLite file that is not made if there is none."""
    return sqlalchemy.URL.create("sqlite", database=f"file:{quote(path)}", query={"mode": mode, "uri": "true"})


def _sqlite(url: sqlalchemy.URL) -> RDBStorage:
    return _optuna(url, connect_args={"timeout": SQLITE_TIMEOUT})


def _postgresql(where: sqlalchemy.URL) -> RDBStorage:
    if importlib.util.find_spec("psycopg") is None:
        raise UserError("storage=postgresql://...: expected the package psycopg; pip install 'odyssey[postgres]'")
    # A connection that a restart of the server has cut is noticed, and replaced, before it is used.
    url = where.set(drivername="postgresql+psycopg")
    return _optuna(url, pool_pre_ping=True, connect_args=_POSTGRESQL)


def _optuna(url: sqlalchemy.URL, **options: Any) -> RDBStorage:
    """Optuna's storage. Of many processes that open a new one at once each finds, sooner or later, what one has made:
    Optuna looks for its tables and its version before it writes them, and does not wait in between."""

    def made_by_another(error: Exception) -> bool:
        if not isinstance(error, sqlalchemy.exc.DBAPIError):
            return False
        said, code = str(error.orig), getattr(error.orig, "sqlstate", "")
        duplicate = isinstance(error, sqlalchemy.exc.IntegrityError) or code == _DUPLICATE_TABLE
        return duplicate or "already exists" in said or "locked" in said

    return patiently(
        lambda: RDBStorage(url.render_as_string(hide_password=False), engine_kwargs=options), made_by_another
    )


def patiently(act: Callable[[], T], passes: Callable[[Exception], bool]) -> T:
    """What `act` returns, tried again for a while if it raises an error that `passes`, since another process is in
    its way."""
    end = time.monotonic() + PREPARING
    while True:
        try:
            return act()
        except Exception as error:
            if not passes(error) or time.monotonic() > end:
                raise
        time.sleep(random.uniform(0.05, 0.2))


def _write_ahead(connection: sqlite3.Connection, _: object) -> None:
    """Readers and the writer do not wait for each other, and a commit not for the disk.

    The file stays sound whatever dies; a machine that loses power may lose the last commits, whose trials are then
    trained again.
    """
    connection.isolation_level = None  # transactions begin where SQLAlchemy begins them, see `_begin`
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin(connection: Connection) -> None:
    """SQLite refuses at once to turn a reading transaction into a writing one while another process writes; one that
    says at its start that it will write waits for its turn."""
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
