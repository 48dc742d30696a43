"""Processes that go on from where this one stands, for not all that they compute with can be pickled."""

import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def pool(processes: int, inherit: Callable[..., None], *given: Any) -> ProcessPoolExecutor:
    """Forked when the first work is given to them. In each `inherit` is called first, with what is `given`."""
    return ProcessPoolExecutor(processes, multiprocessing.get_context("fork"), _begin, (inherit, given))


def _begin(inherit: Callable[..., None], given: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the process that waits
    inherit(*given)
