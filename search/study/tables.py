"""The tables that studies keep in a storage beside Optuna's, and which of Optuna's are read and written past it."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy
from optuna.storages._rdb import models
from sqlalchemy import Boolean, Column, Connection, DateTime, Engine, Float, Integer, MetaData, String, Table, Text

# The layout of a study's tables and folder: 1 has another table of workers, 2 has neither plans nor deaths.
LAYOUT = 3

_METADATA = MetaData()
# What each study of the storage is to compute, and which folder it belongs to; see `search.study.register`.
PLANS = Table(
    "odyssey_plans",
    _METADATA,
    Column("study", String(512), primary_key=True),
    Column("layout", Integer, nullable=False),
    Column("origin", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Column("plan", Text, nullable=False),  # JSON
)
# The trials that have not ended, in the order in which they are begun; `worker` is who holds them.
QUEUE = Table(
    "odyssey_queue",
    _METADATA,
    Column("trial_id", Integer, primary_key=True, autoincrement=False),
    Column("sweep", String(512), nullable=False, index=True),
    Column("place", Integer, nullable=False),
    Column("worker", String(128), index=True),
    Column("failures", Integer, nullable=False),
    # Of workers that had begun it, since its checkpoint came to `epoch`; `died` is the last of them, of `cause`.
    Column("deaths", Integer, nullable=False, server_default="0"),
    Column("epoch", Integer, nullable=False, server_default="0"),
    Column("died", String(128)),
    Column("cause", String(256)),
)
WORKERS = Table(
    "odyssey_workers",
    _METADATA,
    Column("worker", String(128), primary_key=True),
    Column("sweep", String(512), nullable=False, index=True),
    Column("host", String(256), nullable=False),
    Column("boot", String(64), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("device", String(256), nullable=False),
    Column("beat", Integer, nullable=False),
    Column("ended", Integer, nullable=False),
    Column("joined", DateTime, nullable=False),  # by the database's clock, and for people only
    Column("seen", DateTime, nullable=False),
)
# What workers did that have gone, one row each time that one had a lease.
STINTS = Table(
    "odyssey_stints",
    _METADATA,
    Column("stint", Integer, primary_key=True),
    Column("sweep", String(512), nullable=False, index=True),
    Column("device", String(256), nullable=False),
    Column("left", DateTime, nullable=False),  # its last sign of life, UTC
    Column("seconds", Float, nullable=False),
    Column("ended", Integer, nullable=False),  # trials that ended with it
    Column("held", Integer, nullable=False),  # trials that it left unfinished: it was interrupted
    Column("died", Boolean, nullable=False),  # without a word, or by a trial
)
# Optuna's schema is its own to change; a test holds that it is still the one that is written past it.
REVISION = "v3.2.0.a"
OPTUNA = frozenset(models.BaseModel.metadata.tables) | {"alembic_version"}
STUDIES: Table = models.StudyModel.__table__
TRIALS: Table = models.TrialModel.__table__
ATTRIBUTES: Table = models.TrialUserAttributeModel.__table__
PARAMS: Table = models.TrialParamModel.__table__
VALUES: Table = models.TrialValueModel.__table__
_IDLE = "idle"  # a column of layout 1


def create(engine: Engine) -> None:
    """Makes our tables where there are none, and brings those of an older layout to this one.

    An older program may go on with its studies in a storage of layout 2 that was brought to 3.
    """
    for last in (False, True):
        try:
            with writing(engine) as db:
                _METADATA.create_all(db)
                _add_columns(db)
            return
        except sqlalchemy.exc.DatabaseError:  # PostgreSQL: another process has made them at this moment
            if last:
                raise


def _add_columns(db: Connection) -> None:
    inspector = sqlalchemy.inspect(db)
    present = {column["name"] for column in inspector.get_columns(QUEUE.name)}
    for column in QUEUE.columns:
        if column.name not in present:
            definition = sqlalchemy.schema.CreateColumn(column).compile(dialect=db.dialect)
            db.exec_driver_sql(f"ALTER TABLE {QUEUE.name} ADD COLUMN {definition}")
    if _IDLE in {column["name"] for column in inspector.get_columns(WORKERS.name)}:
        db.exec_driver_sql(f"ALTER TABLE {WORKERS.name} DROP COLUMN {_IDLE}")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that may write. SQLite is told so at its start, and then waits for its turn instead of failing
    when it comes to write."""
    with engine.connect().execution_options(immediate=True) as db, db.begin():
        yield db
