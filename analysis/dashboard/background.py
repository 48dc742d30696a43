"""Digests of studies under way, computed beside the server by a process that gives way to all others."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from analysis.dashboard.chosen import Chosen
from analysis.dashboard.digest import Digest, of_trials
from search.errors import UserError, one_line


class Background:
    """Digests that are begun when they are first asked for, and again only on demand: a study that is being trained
    needs the cores for itself.

    Args:
        findings: the file of findings to judge.
    """

    def __init__(self, findings: str | Path):
        self._findings = str(findings)
        self._pool: ProcessPoolExecutor | None = None
        self._running: dict[str, Future[Digest]] = {}
        self._made: dict[str, Digest] = {}
        self._lock = threading.Lock()

    def get(self, part: Chosen, renew: bool) -> Digest | str:
        """See `chosen.Digests`; raises UserError if it cannot be computed."""
        with self._lock:
            running = self._running.get(part.key)
            if running is not None and running.done():
                del self._running[part.key]
                if error := running.exception():
                    raise UserError(f"importance: {one_line(error)}")
                self._made[part.key] = running.result()
            elif running is None and (renew or part.key not in self._made):
                self._begin(part)
            if part.key in self._running:
                return "Forests are being grown and findings judged, at low priority; this takes a minute or more."
            return self._made[part.key]

    def close(self) -> None:
        """Ends what is being computed."""
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self, part: Chosen) -> None:
        with _safe_path():  # for the pool's process, and the one that multiprocessing starts to keep count of locks
            if self._pool is None:  # spawned, not forked, for the server has threads
                self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _prepare)
            self._running[part.key] = self._pool.submit(of_trials, part.trials, part.plan, self._findings, part.label)


@contextmanager
def _safe_path() -> Iterator[None]:
    """Within it, Python processes that are started import nothing from the current folder."""
    name = "PYTHONSAFEPATH"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _prepare() -> None:
    """Ctrl-C is for the server, with which this process ends however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_server, daemon=True).start()


def _end_with_server() -> None:
    server = multiprocessing.parent_process()
    assert server
    server.join()
    os._exit(0)
