"""The storage behind a study, opened by Optuna to work with."""

import random
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy import Connection, Engine
from sqlalchemy.pool import ConnectionPoolEntry

from search.errors import UserError, masked
from search.study.storage import (
    checked_engine,
    explain_damage,
    explained,
    file_of,
    postgresql_options,
    sqlite_options,
)

# Errors of a storage or a disk that may pass: no connection, a lock, a full disk.
TROUBLE = (
    sqlalchemy.exc.OperationalError,
    sqlalchemy.exc.InterfaceError,
    optuna.exceptions.StorageInternalError,
    OSError,
)
PREPARING = 60.0  # seconds of trying to put what is missing into a storage
_DUPLICATE_TABLE = "42P07"  # PostgreSQL's code
T = TypeVar("T")
optuna.logging.set_verbosity(optuna.logging.WARNING)


def connect(url: str, make: bool = True) -> RDBStorage:
    """Opens a storage to work with.

    Args:
        url: of SQLite or PostgreSQL, as SQLAlchemy takes it.
        make: whether to make the file and Optuna's tables where there are none.

    Raises:
        UserError: names the URL, without user and password. The same later, wherever the storage is used, if the
            database turns out to be damaged, or is deleted or emptied.
    """

    def opened(where: sqlalchemy.URL) -> RDBStorage:
        if where.get_backend_name() == "postgresql":
            return _optuna(*postgresql_options(where), make)
        path = file_of(where, make)
        storage = _optuna(*sqlite_options(path, "rw"), make)
        sqlalchemy.event.listen(storage.engine, "connect", _write_ahead)
        sqlalchemy.event.listen(storage.engine, "begin", _begin)
        storage.engine.dispose()  # of connections made before
        _watch_file(storage.engine, path)
        return storage

    storage = explained(url, opened)
    sqlalchemy.event.listen(storage.engine, "handle_error", partial(explain_damage, masked(url)))
    return storage


def _optuna(url: sqlalchemy.URL, options: dict[str, Any], make: bool) -> RDBStorage:
    """Optuna's storage. Of many processes that make a new one at once each finds, sooner or later, what one has made:
    Optuna looks for its tables and its version before it writes them, and does not wait in between."""
    text = url.render_as_string(hide_password=False)
    if not make:
        checked_engine(url, options).dispose()
        return RDBStorage(text, engine_kwargs=options, skip_compatibility_check=True, skip_table_creation=True)

    def made_by_another(error: Exception) -> bool:
        if not isinstance(error, sqlalchemy.exc.DBAPIError):
            return False
        said, code = str(error.orig), getattr(error.orig, "sqlstate", "")
        duplicate = isinstance(error, sqlalchemy.exc.IntegrityError) or code == _DUPLICATE_TABLE
        return duplicate or "already exists" in said or "locked" in said

    return patiently(lambda: RDBStorage(text, engine_kwargs=options), made_by_another)


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


def _watch_file(engine: Engine, path: Path) -> None:
    """A process that has a file open may write to it long after it was deleted: before each use of a connection, the
    file of that name must still be the one that was opened."""

    def opened(_: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        record.info["file"] = same()

    def used(_: sqlite3.Connection, record: ConnectionPoolEntry, __: object) -> None:
        if same() != record.info["file"]:
            raise sqlalchemy.exc.DisconnectionError  # another was put in its place, which is opened instead

    def same() -> tuple[int, int]:
        if not path.exists() and path.parent.exists():  # else it is its file system that is away, and may come back
            raise UserError(f"storage={path}: was deleted; the trials that it held are lost, unless you restore it")
        found = path.stat()
        if not found.st_size:
            raise UserError(f"storage={path}: was emptied; the trials that it held are lost, unless you restore it")
        return found.st_dev, found.st_ino

    sqlalchemy.event.listen(engine, "connect", opened)
    sqlalchemy.event.listen(engine, "checkout", used)
