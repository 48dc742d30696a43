"""A study as it is kept with a paper: one Parquet file of its trials and one of their curves, and what it took.

Whoever reads studies reads an archive in the same way, through a database in memory that is filled from its files.
`search.study.publish` makes archives, and studies of them that go on.
"""

import io
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy
import yaml
from sqlalchemy import Connection, Engine
from sqlalchemy.pool import StaticPool

from search.errors import UserError, expect, one_line
from search.study import curves, tables
from search.study.claims import VERSION, Record, Stint
from search.study.storage import STATUS, study_name, sweep_name
from search.study.tables import TrialState
from search.training.status import Status

if TYPE_CHECKING:
    import pyarrow as pa  # else only where it is needed: `odyssey status` does without

RECORD_FILE, TRIALS_FILE, CURVES_FILE = "record.yaml", "trials.parquet", "curves.parquet"
_KEY = ("task", "variant", "trial")
_JSON = b"json"  # names of the columns whose values are JSON, in the file's metadata
_OPEN = ("valid_score", "test_score", "last_valid_score", "git_revision")  # of a result, where there may be none
_STATES = {status: state for state, status in STATUS.items()}
Trials = Mapping[tuple[str, str], Sequence[Record]]


class Archive:
    """The files of a published study. Each is read once, when it is first needed.

    Args:
        folder: of the archive.

    Raises:
        UserError: `record`, `trials` and `curve`, if a file is missing, cannot be read, or is not the one that was
            published, by its SHA-256.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    @staticmethod
    def of(folder: Path) -> "Archive | None":
        """The archive in a folder, if there is one."""
        return Archive(folder) if (folder / RECORD_FILE).is_file() else None

    @cached_property
    def record(self) -> Mapping[str, Any]:
        """What the study took, as of `summary`, with the SHA-256 of the files."""
        path = self._folder / RECORD_FILE
        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
            whole = isinstance(found, dict) and {"sha256", "stints", "ended"} <= found.keys()
            whole = whole and all(isinstance(n, int) for n in dict(found["ended"]).values())
        except (OSError, ValueError, TypeError, yaml.YAMLError, RecursionError) as error:
            raise UserError(f"{path}: expected the record of a published study ({one_line(error)})") from error
        expect(whole, str(path), "it", "the record of a published study, with sha256, stints and ended")
        return dict(found)

    @cached_property
    def trials(self) -> Trials:
        """All trials that have ended, by task and variant, as of `search.study.reader.StudyReader.trials`."""
        table = self._read(TRIALS_FILE)
        coded = json.loads((table.schema.metadata or {}).get(_JSON, b"[]"))
        found: dict[tuple[str, str], list[Record]] = {}
        try:
            for row in table.to_pylist():
                values = {k: json.loads(v) if k in coded and v is not None else v for k, v in row.items()}
                task, variant, number = (values.pop(name) for name in _KEY)
                found.setdefault((task, variant), []).append(_recorded(number, values))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{self._folder / TRIALS_FILE}: expected trials ({one_line(error)})") from error
        return found

    @cached_property
    def stints(self) -> list[Stint]:
        """As of `search.study.leases.Leases.stints`."""
        try:
            return [Stint(**values) for values in self.record["stints"]]
        except TypeError as error:
            raise UserError(f"{self._folder / RECORD_FILE}: expected stints ({one_line(error)})") from error

    @cached_property
    def curves(self) -> Mapping[tuple[str, str, int], "pa.Table"]:
        """Those that are not empty, by task, variant and trial."""
        table = self._read(CURVES_FILE)
        keys = list(zip(*(table.column(name).to_pylist() for name in _KEY), strict=True))
        columns = table.select(list(curves.COLUMNS))
        begins = [k for k in range(len(keys)) if k == 0 or keys[k] != keys[k - 1]]
        ends = [*begins[1:], len(keys)] if begins else []
        return {keys[b]: columns.slice(b, e - b) for b, e in zip(begins, ends, strict=True)}

    def curve(self, task: str, variant: str, trial: Record) -> "pa.Table | None":
        """As of `search.study.curves.read`."""
        table = self.curves.get((task, variant, trial.number))
        expected = curves.length(trial)
        if table is None:
            return curves.empty() if expected == 0 else None
        where = f"{self._folder / CURVES_FILE}: {variant} {trial.number}"
        expect(table.num_rows == expected, where, f"{table.num_rows} epochs", f"{expected}, as its trial says")
        return table

    def engine(self, study: str, task: str) -> Engine:
        """A database in memory with the trials, as the storage of a study of this name on this task has them."""
        engine = sqlalchemy.create_engine(
            "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False, "isolation_level": None}
        )
        tables.create_all(engine)
        with engine.begin() as db:
            for (task, variant), records in self.trials.items():
                made = sqlalchemy.insert(tables.STUDIES).values(study_name=study_name(study, task, variant))
                study_id = db.scalar(made.returning(tables.STUDIES.c.study_id))
                insert = sqlalchemy.insert(tables.TRIALS).returning(
                    tables.TRIALS.c.trial_id, sort_by_parameter_order=True
                )
                rows = [{"study_id": study_id, "number": r.number, "state": TrialState.WAITING} for r in records]
                settle(db, list(db.scalars(insert, rows)), records)
            put_stints(db, sweep_name(study, task), self.stints)
        return engine

    def _read(self, name: str) -> "pa.Table":
        import pyarrow as pa

        path = self._folder / name
        try:
            content = path.read_bytes()
            if curves.checksum(content) != self.record["sha256"].get(name):
                raise UserError(f"{path}: expected the file that was published, by the SHA-256 in {RECORD_FILE}")
            return curves.table_of(content)
        except (pa.ArrowException, OSError, AttributeError, ValueError) as error:
            raise UserError(f"{path}: expected a published study's {name} ({one_line(error)})") from error


def refuse_published(folder: Path) -> None:
    """Raises UserError if a folder holds a published study, for such a one is only read."""
    if Archive.of(folder):
        hint = f"odyssey restore study={shlex.quote(str(folder))} makes a study of it that goes on"
        raise UserError(f"{folder}: is a published study, which is only read; {hint}")


def encoded_trials(trials: Trials) -> bytes:
    """The file of trials that have ended: a row each, with status, start, and its result, of which versions are
    columns ``..._version``."""
    import pyarrow as pa

    rows = [
        dict(zip(_KEY, (task, variant, trial.number), strict=True))
        | trial.flat
        | {"status": str(STATUS[trial.state]), "started": trial.started}
        for (task, variant), records in trials.items()
        for trial in records
    ]
    columns: dict[str, pa.Array] = {}
    coded = []
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except pa.ArrowException:  # of several kinds, as a setting that is a number or a word
            columns[name] = pa.array([None if value is None else json.dumps(value) for value in values])
            coded.append(name)
    table = pa.table(columns)
    return _written(table.replace_schema_metadata({_JSON: json.dumps(coded)}))


def encoded_curves(found: Iterable[tuple[str, str, int, "pa.Table"]]) -> bytes:
    """The file of the curves, given as `search.study.curves.read_all` does."""
    import pyarrow as pa

    schema = pa.schema({"task": pa.string(), "variant": pa.string(), "trial": pa.int64()} | curves.COLUMNS)
    parts = []
    for task, variant, number, curve in found:
        own = [pa.repeat(value, curve.num_rows) for value in (task, variant, pa.scalar(number, pa.int64()))]
        parts.append(pa.table([*own, *curve.columns], schema=schema))
    return _written(pa.concat_tables(parts) if parts else schema.empty_table())


def summary(trials: Trials, stints: Sequence[Stint], planned: int) -> dict[str, Any]:
    """What a study came to and what it took, for people and for the record.

    Wall time is that in which at least one worker was there; an interruption is a worker's end that left trials
    unfinished. Of studies whose storage is older than its notes on workers these are of the later part alone.
    """
    ended = [trial for records in trials.values() for trial in records]
    results = [trial.attributes.get("result") or {} for trial in ended]

    def count(name: str) -> dict[str, int]:
        return dict(Counter(str(result.get(name)) for result in results if name in result).most_common())

    return {
        "planned": planned,
        "ended": dict(Counter(str(STATUS[trial.state]) for trial in ended)),
        "devices": count("device"),
        "git_revisions": count("git_revision"),
        "data_hash": count("data_hash"),
        "train_seconds": round(sum(result.get("train_seconds") or 0.0 for result in results), 1),
        "wall_seconds": round(_covered(stints), 1),
        "interruptions": sum(stint.held > 0 for stint in stints),
        "stints": [asdict(stint) for stint in stints],
    }


def put_stints(db: Connection, sweep: str, stints: Sequence[Stint]) -> None:
    """Writes stints into a storage."""
    rows = [
        {"sweep": sweep, "device": s.device, "left": s.left.replace(tzinfo=None), "ended": s.ended, "held": s.held}
        | {"seconds": (s.left - s.joined).total_seconds(), "died": s.died}
        for s in stints
    ]
    if rows:
        db.execute(sqlalchemy.insert(tables.STINTS), rows)


def _covered(stints: Sequence[Stint]) -> float:
    """Seconds in which at least one worker was there."""
    total, until = timedelta(), datetime.min.replace(tzinfo=UTC)
    for stint in sorted(stints, key=lambda stint: stint.joined):
        total += max(timedelta(), stint.left - max(stint.joined, until))
        until = max(until, stint.left)
    return total.total_seconds()


def settle(db: Connection, ids: Sequence[int], records: Sequence[Record]) -> None:
    """Puts what has come of trials into a storage in which they wait.

    Args:
        db: a transaction.
        ids: of their rows.
        records: of each.
    """
    rows = list(zip(ids, records, strict=True))
    if not rows:
        return
    begun = sqlalchemy.update(tables.TRIALS).where(tables.TRIALS.c.trial_id == sqlalchemy.bindparam("id"))
    db.execute(begun, [{"id": i, "state": record.state, **_times(record)} for i, record in rows])
    tables.put_results(db, [(i, r.attributes, r.attributes["result"].get("valid_score")) for i, r in rows])
    db.execute(sqlalchemy.delete(tables.QUEUE).where(tables.QUEUE.c.trial_id.in_(ids)))


def _times(record: Record) -> dict[str, datetime | None]:
    """When a trial was begun and ended, as Optuna stores it."""
    finished = record.attributes["result"].get("finished")
    return {
        "datetime_start": record.started and record.started.replace(tzinfo=None),
        "datetime_complete": finished and datetime.fromisoformat(finished).astimezone(UTC).replace(tzinfo=None),
    }


def _recorded(number: int, values: Mapping[str, Any]) -> Record:
    """The record of a trial of a row of `encoded_trials`."""
    state = _STATES[Status(values["status"])]
    keep = _OPEN if state != TrialState.FAIL else ()
    result = {k: v for k, v in values.items() if k != "started" and (v is not None or k in keep)}
    versions = {name: result.pop(name) for name in list(result) if name.endswith(VERSION)}
    if versions:
        result["versions"] = {name.removesuffix(VERSION): value for name, value in versions.items()}
    started = values["started"]
    return Record(number, state, started and started.astimezone(UTC), {"result": result})


def _written(table: "pa.Table") -> bytes:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", compression_level=19)
    return buffer.getvalue()
