"""Ends a process whose training hangs: then no Python code of the main thread runs, that of signal handlers neither."""

import os
import select
import signal
import threading
import time
from collections.abc import Callable
from types import TracebackType

TICK = 1.0  # seconds
PATIENCE = 30.0  # seconds in which a process that was asked to end must have begun to


class Watchdog:
    """Use as a context, on the main thread.

    Args:
        timeout: seconds without a call of `pat` after which the process is held to hang.
        signals: those that ask it to end.
        end: is called, on the watchdog's thread, if it hangs: with None after `timeout`, or with the signal that it
            did not heed. It must not return.
    """

    def __init__(self, timeout: float, signals: tuple[int, ...], end: Callable[[int | None], None]):
        self._timeout, self._signals, self._end = timeout, signals, end
        self._pats = 0
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        self._awake, self._heard = os.pipe()
        os.set_blocking(self._heard, False)
        # The interpreter writes the number of each signal there at once, whatever the main thread is in.
        self._before = signal.set_wakeup_fd(self._heard, warn_on_full_buffer=False)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._before)
        os.write(self._heard, b"\0")
        self._thread.join()
        os.close(self._awake)
        os.close(self._heard)

    def pat(self) -> None:
        """Says that the main thread goes on."""
        self._pats += 1

    def _watch(self) -> None:
        seen, idle, asked = self._pats, 0.0, None
        moment = time.monotonic()
        while True:
            heard = os.read(self._awake, 64) if select.select([self._awake], [], [], TICK)[0] else b""
            if 0 in heard:
                return
            now = time.monotonic()
            # A process that was suspended has not hung for all that time.
            idle, moment = idle + min(now - moment, 2 * TICK), now
            if seen != self._pats:
                seen, idle = self._pats, 0.0
            for number in heard:
                if asked is None and number in self._signals:
                    asked, idle = number, 0.0
            if idle >= (self._timeout if asked is None else min(PATIENCE, self._timeout)):
                self._end(asked)
