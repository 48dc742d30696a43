"""The Optuna storage behind a study: where it is, how it is opened to be read, and what stands in it."""

import importlib.util
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import sqlalchemy
from sqlalchemy import Engine

from search.errors import UserError, expect, masked, one_line
from search.study.tables import OPTUNA, REVISION, TrialState
from search.training.status import Status

STATUS = {
    TrialState.WAITING: Status.WAITING,
    TrialState.RUNNING: Status.RUNNING,
    TrialState.COMPLETE: Status.FINISHED,
    TrialState.PRUNED: Status.DIVERGED,
    TrialState.FAIL: Status.FAILED,
}
BACKENDS = ("sqlite", "postgresql")
SQLITE_TIMEOUT = 60  # seconds to wait for another writer
_NO_TABLE = "42P01"  # PostgreSQL's code
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


def study_name(study: str, task: str, variant: str) -> str:
    """Name in the storage of the Optuna study of one task and variant."""
    return f"{study}/{task}/{variant}"


def sweep_name(study: str, task: str) -> str:
    """What a study on a task is called in the storage's own tables."""
    return f"{study}/{task}"


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


def reader(url: str) -> Engine:
    """Opens a storage to be read, without the right to write: what is missing, broken or no storage stays what it is.

    Raises:
        UserError: names the URL, without user and password. The same later, wherever the storage is used, if the
            database turns out to be damaged, or is deleted or emptied.
    """

    def opened(where: sqlalchemy.URL) -> Engine:
        if where.get_backend_name() == "postgresql":
            url, options = postgresql_options(where)
            options["connect_args"] |= {"options": "-c default_transaction_read_only=on"}
            return checked_engine(url, options)
        path = file_of(where, make=False)
        try:
            return checked_engine(*sqlite_options(path, "ro"))
        except sqlalchemy.exc.OperationalError as error:
            if "readonly" not in str(error):
                raise
            # A writer was killed; before anyone can read, what it had begun must be tidied up in the file.
            return checked_engine(*sqlite_options(path, "rw"))

    engine = explained(url, opened)
    sqlalchemy.event.listen(engine, "handle_error", partial(explain_damage, masked(url)))
    return engine


def explained(url: str, opened: Callable[[sqlalchemy.URL], T]) -> T:
    """What `opened` makes of a URL, its errors as a user's."""
    try:
        return opened(parsed(url))
    except UserError:
        raise
    except Exception as error:  # SQLAlchemy, its drivers and alembic each have exceptions of their own
        raise UserError(f"storage={masked(url)}: expected a readable Optuna storage ({one_line(error)})") from error


def file_of(where: sqlalchemy.URL, make: bool) -> Path:
    """The file of SQLite, made if there is none and it is to be."""
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


def sqlite_options(path: Path, mode: str) -> tuple[sqlalchemy.URL, dict[str, Any]]:
    """URL, by which SQLite makes no file if there is none, and options of the engine."""
    absolute = quote(os.path.abspath(path).lstrip("/"))
    url = sqlalchemy.URL.create("sqlite", database=f"file:/{absolute}", query={"mode": mode, "uri": "true"})
    return url, {"connect_args": {"timeout": SQLITE_TIMEOUT}}


def explain_damage(url: str, context: sqlalchemy.engine.ExceptionContext) -> None:
    """Turns a database's errors about what is no longer in it into a user's."""
    error = context.original_exception
    said, code = str(error), getattr(error, "sqlstate", "")
    if code == _NO_TABLE or any(words in said for words in _DAMAGED):
        raise UserError(f"storage={url}: is damaged, or has lost its tables ({one_line(error)})") from error


def postgresql_options(where: sqlalchemy.URL) -> tuple[sqlalchemy.URL, dict[str, Any]]:
    """URL and options of the engine."""
    if importlib.util.find_spec("psycopg") is None:
        raise UserError("storage=postgresql://...: expected the package psycopg; pip install 'odyssey[postgres]'")
    # A connection that a restart of the server has cut is noticed, and replaced, before it is used.
    return where.set(drivername="postgresql+psycopg"), {"pool_pre_ping": True, "connect_args": dict(_POSTGRESQL)}


def checked_engine(url: sqlalchemy.URL, options: dict[str, Any]) -> Engine:
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
