"""Preparing data on all cores, in processes that Ctrl-C ends and that do not outlive the one that started them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from search.tasks._progress import progress

Result = TypeVar("Result")
# ``mapped(function, items, chunksize)``: results in order, as they come.
Mapped = Callable[[Callable[[Any], Any], Sequence[Any], int], Iterator[Any]]


def on_all_cores(
    function: Callable[[Any], Result], items: Sequence[Any], label: str, show_progress: bool
) -> list[Result]:
    """`function` of each item, in order; what it raises, this raises. Neither depends on how many cores there are."""
    done = []
    with progress(label, len(items), show_progress) as advance, processes(len(items)) as mapped:
        for result in mapped(function, items, 4):
            done.append(result)
            advance()
    return done


@contextmanager
def processes(n_items: int) -> Iterator[Mapped]:
    """A map over processes, as many as are of use for that many items."""
    workers = max(1, min(os.cpu_count() or 1, 16, n_items))  # more would take longer to start than they save
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_end_with_parent)

    def mapped(function: Callable[[Any], Any], items: Sequence[Any], chunksize: int) -> Iterator[Any]:
        with _interrupts_held():
            return executor.map(function, items, chunksize=chunksize)

    try:
        yield mapped
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes started inside never see Ctrl-C, so that only the main one answers it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """Without it, workers of a killed process would wait for work for ever."""

    def end() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()
