"""The tables that studies keep in a storage beside Optuna's, and those of Optuna's that are read and written past it.

Optuna's stand here once more, for to load Optuna takes as long as all else that `odyssey status` does.
"""

import enum
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    DateTime,
    Engine,
    Enum,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

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
# Optuna's schema is its own to change; tests hold that it is still the one that stands here.
REVISION = "v3.2.0.a"
OPTUNA = frozenset(
    (
        *("alembic_version", "version_info", "studies", "study_directions", "study_system_attributes"),
        *("study_user_attributes", "trials", "trial_heartbeats", "trial_intermediate_values", "trial_params"),
        *("trial_system_attributes", "trial_user_attributes", "trial_values"),
    )
)


class TrialState(enum.IntEnum):
    """Where a trial stands, as Optuna has it."""

    RUNNING = 0
    COMPLETE = 1
    PRUNED = 2  # Optuna's word for a trial that was stopped early
    FAIL = 3
    WAITING = 4


FINITE = "FINITE"  # the kind of all values that there are: of others none is stored
_OF_OPTUNA = MetaData()
STUDIES = Table(
    "studies",
    _OF_OPTUNA,
    Column("study_id", Integer, primary_key=True),
    Column("study_name", String(512), nullable=False),
)
TRIALS = Table(
    "trials",
    _OF_OPTUNA,
    Column("trial_id", Integer, primary_key=True),
    Column("number", Integer),
    Column("study_id", Integer),
    Column("state", Enum(TrialState), nullable=False),
    Column("datetime_start", DateTime),
    Column("datetime_complete", DateTime),
)
ATTRIBUTES = Table(
    "trial_user_attributes",
    _OF_OPTUNA,
    Column("trial_user_attribute_id", Integer, primary_key=True),
    Column("trial_id", Integer),
    Column("key", String(512)),
    Column("value_json", Text),
)
PARAMS = Table(
    "trial_params",
    _OF_OPTUNA,
    Column("param_id", Integer, primary_key=True),
    Column("trial_id", Integer),
    Column("param_name", String(512)),
    Column("param_value", Float(53)),
    Column("distribution_json", Text),
)
VALUES = Table(
    "trial_values",
    _OF_OPTUNA,
    Column("trial_value_id", Integer, primary_key=True),
    Column("trial_id", Integer, nullable=False),
    Column("objective", Integer, nullable=False),
    Column("value", Float(53)),
    Column("value_type", Enum(FINITE, "INF_POS", "INF_NEG", name="trialvaluetype"), nullable=False),
)
_IDLE = "idle"  # a column of layout 1


def create_all(engine: Engine) -> None:
    """Makes our tables, and of Optuna's those that are read, in an empty database that nothing else will use."""
    _OF_OPTUNA.create_all(engine)
    _METADATA.create_all(engine)


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


def put_results(db: Connection, ended: Sequence[tuple[int, Mapping[str, Any], float | None]]) -> None:
    """Writes what has come of trials: of each its row's id, its attributes, and the score that Optuna is told."""
    attributes = [
        {"trial_id": i, "key": key, "value_json": json.dumps(value, allow_nan=False)}
        for i, own, _ in ended
        for key, value in own.items()
    ]
    db.execute(sqlalchemy.insert(ATTRIBUTES), attributes)
    one = {"objective": 0, "value_type": FINITE}
    if values := [one | {"trial_id": i, "value": score} for i, _, score in ended if score is not None]:
        db.execute(sqlalchemy.insert(VALUES), values)


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that may write. SQLite is told so at its start, and then waits for its turn instead of failing
    when it comes to write."""
    with engine.connect().execution_options(immediate=True) as db, db.begin():
        yield db
