"""The Optuna storage behind a study: how it is opened, and what stands in it."""

import re
import sqlite3
from pathlib import Path
from urllib.parse import quote

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from search.errors import UserError, expect

STATUS = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "diverged",  # Optuna's word for a trial that was stopped early
    TrialState.FAIL: "failed",
}
optuna.logging.set_verbosity(optuna.logging.WARNING)


def study_name(study: str, task: str, variant: str) -> str:
    """Name in the storage of the Optuna study of one task and variant."""
    return f"{study}/{task}/{variant}"


def default_url(folder: Path) -> str:
    """URL of the storage in a study's folder."""
    return f"sqlite:///{(folder / 'study.db').resolve()}"


def connect(url: str, read_only: bool = False) -> RDBStorage:
    """Opens a storage.

    Args:
        url: as Optuna (SQLAlchemy) takes it.
        read_only: opens SQLite without the right to write, so that a missing or broken file stays what it is.

    Raises:
        UserError: names the URL, without user and password.
    """
    try:
        parsed = sqlalchemy.make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return RDBStorage(url)
        if read_only and parsed.database:
            expect(Path(parsed.database).is_file(), "storage", parsed.database, "a file; it does not exist")
            query = {"mode": "ro", "uri": "true"}
            parsed = sqlalchemy.URL.create("sqlite", database=f"file:{quote(parsed.database)}", query=query)
        # A reader (the dashboard, a report) may hold SQLite's lock for a moment.
        options = {"connect_args": {"timeout": 60}}
        storage = RDBStorage(parsed.render_as_string(hide_password=False), engine_kwargs=options)
        if not read_only:
            sqlalchemy.event.listen(storage.engine, "connect", _write_ahead)
            storage.engine.dispose()  # of connections made before
        return storage
    except UserError:
        raise
    except Exception as error:  # SQLAlchemy, its drivers and alembic each have exceptions of their own
        raise UserError(f"storage={masked(url)}: expected a readable Optuna storage ({one_line(error)})") from error


def _write_ahead(connection: sqlite3.Connection, _: object) -> None:
    """Readers and the writer do not wait for each other, and a commit not for the disk.

    The file stays sound whatever dies; a machine that loses power may lose the last commits, whose trials are then
    trained again.
    """
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def masked(text: str) -> str:
    """`text` with user names and passwords of URLs replaced by ``***``."""
    text = re.sub(r"(?<=://)[^\s'\"]*@", "***@", text)
    return re.sub(r"(?i)((?:user|\w*passw\w*|pwd|token|secret)=)[^&\s'\"]+", r"\1***", text)


def one_line(error: BaseException) -> str:
    """An error in one line, without secrets."""
    text = str(getattr(error, "orig", None) or error) or type(error).__name__
    return masked(" ".join(text.split()))[:200]
