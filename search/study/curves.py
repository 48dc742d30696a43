"""Learning curves on disk: a Parquet file a trial, of which the storage knows the SHA-256.

A curve is written before its trial is recorded, so that every trial that has ended has one.
"""

import hashlib
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search.errors import UserError, one_line
from search.study.claims import Record
from search.study.tables import TrialState

if TYPE_CHECKING:
    import pyarrow as pa  # else only where it is needed: `odyssey status` does without

COLUMNS = {"epoch": "int64", "train_loss": "float64", "valid_score": "float64"}
CHECKSUM = "curve_sha256"  # the attribute of a trial in the storage; trials of before there was one have none
_NAMED = 5  # of the trials without a curve, at most
_REMEDY = "restore it from a copy, or delete it to go on without"
log = logging.getLogger(__name__)


def path_of(folder: Path, task: str, variant: str, number: int) -> Path:
    """Where the curve of a trial is kept in the folder of a study."""
    return folder / "curves" / task / variant / f"{number:04}.parquet"


def encoded(curve: Sequence[tuple[float, float]]) -> bytes:
    """The file of a curve: a row an epoch, from (training loss, validation score)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [range(1, len(curve) + 1), [loss for loss, _ in curve], [score for _, score in curve]]
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=pa.schema(COLUMNS)), buffer)
    return buffer.getvalue()


def checksum(content: bytes) -> str:
    """What the storage keeps of a curve's file, and a published study's record of each of its own."""
    return hashlib.sha256(content).hexdigest()


def table_of(content: bytes) -> "pa.Table":
    """The table of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # A thread of Arrow's that still held the buffer while the interpreter ends would abort the process.
    return pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)


def has_one(trial: Record) -> bool:
    """Whether a trial has a curve: one that is finished or has diverged."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def length(trial: Record) -> int:
    """The epochs that are in the curve of a trial that is finished or has diverged."""
    epochs: int = trial.attributes["result"]["epochs"]
    return epochs - (trial.state == TrialState.PRUNED)  # the last one diverged


def empty() -> "pa.Table":
    """A curve without an epoch."""
    import pyarrow as pa

    return pa.schema(COLUMNS).empty_table()


def read(path: Path, trial: Record) -> "pa.Table | None":
    """The curve of a trial that is finished or has diverged, of `COLUMNS`; None if there is no file.

    Raises:
        UserError: it is not what the trial recorded, or cannot be read.
    """
    import pyarrow as pa

    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: expected a trial's curve ({one_line(error)})") from error
    if checksum(content) != trial.attributes.get(CHECKSUM, checksum(content)):
        raise UserError(f"{path}: expected the curve that its trial has recorded, by its SHA-256; {_REMEDY}")
    try:
        table = table_of(content)
        same = table.schema.equals(pa.schema(COLUMNS))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path}: expected a trial's curve ({one_line(error)}); {_REMEDY}") from error
    n_epochs = length(trial)
    if not same or table.num_rows != n_epochs:
        raise UserError(f"{path}: expected the curve of its trial, {n_epochs} rows of {', '.join(COLUMNS)}; {_REMEDY}")
    return table


def read_all(
    where: Path,
    trials: Mapping[tuple[str, str], Sequence[Record]],
    read: Callable[[str, str, Record], "pa.Table | None"],
) -> Iterator[tuple[str, str, int, "pa.Table"]]:
    """The curves of trials that are finished or have diverged: task, variant, number, curve.

    Trials without one are left out, and the log names them in one line.

    Args:
        where: they are, for the log.
        trials: by task and variant.
        read: gives the curve of a task's and variant's trial, or None if there is none.
    """
    missing = []
    for (task, variant), each in trials.items():
        for trial in each:
            if has_one(trial):
                curve = read(task, variant, trial)
                if curve is None:
                    missing.append(path_of(Path(), task, variant, trial.number))
                else:
                    yield task, variant, trial.number, curve
    if missing:
        names = ", ".join(map(str, missing[:_NAMED]))
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        trials_that = "trial that has" if len(missing) == 1 else "trials that have"
        what = f"no learning curve is left of {len(missing)} {trials_that} ended"
        log.warning("%s: %s: %s%s; restore the files from a copy", where, what, names, more)
