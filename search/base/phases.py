"""Phases of work that may or may not take long."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SLOW = 1.0  # seconds after which a phase is worth a line


@contextmanager
def said_if_slow(text: str, say: Callable[[str], None]) -> Iterator[None]:
    """Says `text` if what is done inside takes over `SLOW` seconds."""
    timer = threading.Timer(SLOW, say, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
