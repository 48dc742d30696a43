"""Where a trial stands."""

from enum import StrEnum


class Status(StrEnum):
    """Its name is what records, tables and pages have. *Diverged* is a loss or a score that is not finite: a result,
    and not what Optuna calls pruned, a trial that somebody stopped for being worse than others."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    DIVERGED = "diverged"
    FAILED = "failed"


ENDED = (Status.FINISHED, Status.DIVERGED, Status.FAILED)
