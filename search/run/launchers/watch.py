"""Watching a study that workers elsewhere train."""

import socket
import time

from search.errors import UserError, one_line
from search.run.launchers import Workers
from search.study.progress import Progress, Standing
from search.study.study import Study
from search.study.sweep import stopped_by_signals
from search.study.working import TROUBLE
from search.training.status import Status

INTERVAL = 1.0  # seconds
GRACE = 60.0  # seconds for workers to end once the study is complete, or once they are told to


def watch(study: Study, workers: Workers, progress: Progress) -> bool:
    """Shows how far a study is until it is complete or a signal comes, which is passed on to the workers.

    Returns:
        whether the study is complete.

    Raises:
        UserError: all workers have ended before it was.
    """
    asked: list[bool] = []
    causes: dict[int, str] = {}
    trouble = ""

    def look() -> bool:
        """Shows how the study stands; whether it is complete."""
        nonlocal trouble
        left = workers.alive()  # before the counts: what a worker did last is then among them
        try:
            standing = Standing(study.counts(), study.best(), left)
        except TROUBLE as error:
            if one_line(error) != trouble:
                trouble = one_line(error)
                progress.note(f"trouble with the study's storage, trying again: {trouble}")
            return False
        trouble = ""
        progress.show(standing)
        return not standing.sum(Status.WAITING, Status.RUNNING)

    with stopped_by_signals(progress.stop, lambda: asked.append(True), leave=progress.abandon):
        while True:
            left = workers.alive()
            complete = look()
            for line in workers.last_words():
                progress.note(line)
            if not complete and not asked:
                causes |= (revived := workers.revive())
                left += len(revived)
            causes = {pid: cause for pid, cause in causes.items() if not _explained(study, pid, cause)}
            if asked and not complete:
                progress.note(workers.stopped)
                workers.stop()
            if complete or asked:
                end = time.monotonic() + GRACE
                while workers.alive() and time.monotonic() < end and (complete or workers.stopping):
                    time.sleep(0.1)
                complete = look() or complete
                if complete:
                    study.check_complete()
                return complete
            if not left:
                raise UserError(f"{study.folder}: expected a worker to complete it, but all have ended; see their logs")
            time.sleep(INTERVAL)


def _explained(study: Study, pid: int, cause: str) -> bool:
    """Whether the deaths of a process of this machine have been counted by now, and are explained by its cause."""
    try:
        return study.leases.explain(socket.gethostname(), pid, cause)
    except TROUBLE:
        return False
