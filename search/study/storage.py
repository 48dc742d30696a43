"""The Optuna storage behind a study: how it is opened, and what stands in it."""

import importlib.util
import os
import random
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import Connection, Engine
from sqlalchemy.pool import ConnectionPoolEntry

from search.errors import UserError, expect, masked, one_line
from search.study.tables import OPTUNA, REVISION
from search.training.status import Status

STATUS = {
    TrialState.WAITING: Status.WAITING,
    TrialState.RUNNING: Status.RUNNING,
    TrialState.COMPLETE: Status.FINISHED,
    TrialState.PRUNED: Status.DIVERGED,  # Optuna's word for a trial that was stopped early
    TrialState.FAIL: Status.FAILED,
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
# PostgreSQL's codes.
_DUPLICATE_TABLE = "42P07"
_NO_TABLE = "42P01"
_DAMAGED = ("no such table", "malformed", "not a database")  # SQLite's words
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
        raise UserError(f"{masked(f'storage={url}')}: expected {expected}") from None
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
            return _optuna(*_postgresql(where), make)
        path = _file(where, make)
        storage = _optuna(*_sqlite(path, "rw"), make)
        sqlalchemy.event.listen(storage.engine, "connect", _write_ahead)
        sqlalchemy.event.listen(storage.engine, "begin", _begin)
        storage.engine.dispose()  # of connections made before
        _watch_file(storage.engine, path)
        return storage

    storage = _explained(url, opened)
    sqlalchemy.event.listen(storage.engine, "handle_error", partial(_explain_damage, masked(url)))
    return storage


def reader(url: str) -> Engine:
    """Opens a storage to be read, without the right to write: what is missing, broken or no storage stays what it is.

    Raises:
        UserError: as `connect` does.
    """

    def opened(where: sqlalchemy.URL) -> Engine:
        if where.get_backend_name() == "postgresql":
            url, options = _postgresql(where)
            options["connect_args"] |= {"options": "-c default_transaction_read_only=on"}
            return _checked(url, options)
        path = _file(where, make=False)
        try:
            return _checked(*_sqlite(path, "ro"))
        except sqlalchemy.exc.OperationalError as error:
            if "readonly" not in str(error):
                raise
            # A writer was killed; before anyone can read, what it had begun must be tidied up in the file.
            return _checked(*_sqlite(path, "rw"))

    engine = _explained(url, opened)
    sqlalchemy.event.listen(engine, "handle_error", partial(_explain_damage, masked(url)))
    return engine


def _explained(url: str, opened: Callable[[sqlalchemy.URL], T]) -> T:
    """What `opened` makes of a URL, its errors as a user's."""
    try:
        return opened(parsed(url))
    except UserError:
        raise
    except Exception as error:  # SQLAlchemy, its drivers and alembic each have exceptions of their own
        raise UserError(f"storage={masked(url)}: expected a readable Optuna storage ({one_line(error)})") from error


def _file(where: sqlalchemy.URL, make: bool) -> Path:
    path = Path(str(where.database))
    if make and not path.exists():
        path.touch()
    expect(path.is_file(), "storage", path, "a file; it does not exist")
    expect(make or path.stat().st_size > 0, "storage", path, "an Optuna storage; the file is empty")
    return path


def check_sound(engine: Engine) -> None:
    """Raises UserError if a database of SQLite is damaged; PostgreSQL looks after itself."""
    if engine.dialect.name == "sqlite":
        with engine.connect() as db:
            said = db.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        expect(said == "ok", "storage", engine.url.database, f"a sound database ({said})")


def _sqlite(path: Path, mode: str) -> tuple[sqlalchemy.URL, dict[str, Any]]:
    """URL, by which SQLite makes no file if there is none, and options of the engine."""
    absolute = quote(os.path.abspath(path).lstrip("/"))
    url = sqlalchemy.URL.create("sqlite", database=f"file:/{absolute}", query={"mode": mode, "uri": "true"})
    return url, {"connect_args": {"timeout": SQLITE_TIMEOUT}}


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


def _explain_damage(url: str, context: sqlalchemy.engine.ExceptionContext) -> None:
    """Turns a database's errors about what is no longer in it into a user's."""
    error = context.original_exception
    said, code = str(error), getattr(error, "sqlstate", "")
    if code == _NO_TABLE or any(words in said for words in _DAMAGED):
        raise UserError(f"storage={url}: is damaged, or has lost its tables ({one_line(error)})") from error


def _postgresql(where: sqlalchemy.URL) -> tuple[sqlalchemy.URL, dict[str, Any]]:
    """URL and options of the engine."""
    if importlib.util.find_spec("psycopg") is None:
        raise UserError("storage=postgresql://...: expected the package psycopg; pip install 'odyssey[postgres]'")
    # A connection that a restart of the server has cut is noticed, and replaced, before it is used.
    return where.set(drivername="postgresql+psycopg"), {"pool_pre_ping": True, "connect_args": dict(_POSTGRESQL)}


def _optuna(url: sqlalchemy.URL, options: dict[str, Any], make: bool) -> RDBStorage:
    """Optuna's storage. Of many processes that make a new one at once each finds, sooner or later, what one has made:
    Optuna looks for its tables and its version before it writes them, and does not wait in between."""
    text = url.render_as_string(hide_password=False)
    if not make:
        _checked(url, options).dispose()
        return RDBStorage(text, engine_kwargs=options, skip_compatibility_check=True, skip_table_creation=True)

    def made_by_another(error: Exception) -> bool:
        if not isinstance(error, sqlalchemy.exc.DBAPIError):
            return False
        said, code = str(error.orig), getattr(error.orig, "sqlstate", "")
        duplicate = isinstance(error, sqlalchemy.exc.IntegrityError) or code == _DUPLICATE_TABLE
        return duplicate or "already exists" in said or "locked" in said

    return patiently(lambda: RDBStorage(text, engine_kwargs=options), made_by_another)


def _checked(url: sqlalchemy.URL, options: dict[str, Any]) -> Engine:
    """An engine for a database that has Optuna's tables, of the revision that is read here. Optuna itself would make
    them, and takes a second to look at their revision."""
    engine, where = sqlalchemy.create_engine(url, **options), masked(str(url.database))
    try:
        with engine.connect() as db:
            missing = OPTUNA - set(sqlalchemy.inspect(db).get_table_names())
            expect(not missing, "storage", where, f"an Optuna storage; {len(missing)} of its tables are missing")
            found = db.scalar(sqlalchemy.text("SELECT version_num FROM alembic_version"))
        expect(found == REVISION, "storage", where, f"an Optuna storage of revision {REVISION}, not {found}")
    except BaseException:
        engine.dispose()
        raise
    return engine


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
